"""Chunks of records from Kafka and transactions back to it, so that no stage sees a client library."""
