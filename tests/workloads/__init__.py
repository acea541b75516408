"""Workloads: seeded histories of a small database, played on a real PostgreSQL, or as Debezium's records."""
