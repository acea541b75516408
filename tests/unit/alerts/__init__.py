"""ALERTS: rules in SQL, and the stage."""
