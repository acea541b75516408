"""The oracles, tested with planted faults."""
