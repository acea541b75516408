"""Chaos: Headgate under load while faults are planted, and every oracle asked afterwards. `python -m tests.chaos`."""
