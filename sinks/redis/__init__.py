"""Features in Redis: a ledger per entity and view, where an older change never wins."""
