"""NOTIFY: the webhook, its addresses, and the stage."""
