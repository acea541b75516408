"""Large figures: the scenarios of the integration tests at full size (`python -m tests.proof.end_to_end --help`)."""
