"""The names of the topics that we own; all begin with the installation's prefix."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import ConfigurationError

TOPIC_NAME_MAX = 249  # Apache Kafka, org.apache.kafka.common.internals.Topic


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Our topics under one prefix."""

    prefix: str = "headgate"

    def changes(self, table: str) -> str:
        """Return the output topic of a table.

        Raises:
            ConfigurationError: the name would be longer than Kafka takes.
        """
        name = f"{self.prefix}.changes.{table}"
        if len(name) > TOPIC_NAME_MAX:
            raise ConfigurationError(
                f"{name} is longer than {TOPIC_NAME_MAX} characters", hint="shorten the table's name"
            )
        return name

    def table_of(self, topic: str) -> str:
        """Return the table whose output topic `topic` is."""
        start = f"{self.prefix}.changes."
        assert topic.startswith(start), f"{topic} is not an output topic"
        return topic[len(start) :]

    @property
    def tables(self) -> str:
        """The registered tables, compacted."""
        return f"{self.prefix}.tables"

    @property
    def quarantine(self) -> str:
        """Records that could not be processed."""
        return f"{self.prefix}.quarantine"

    @property
    def alerts(self) -> str:
        """Alerts, as rules fired."""
        return f"{self.prefix}.alerts"

    @property
    def alerts_retry(self) -> str:
        """Alerts whose delivery is due later."""
        return f"{self.prefix}.notify.retry"

    @property
    def alerts_dead(self) -> str:
        """Alerts that could not be delivered."""
        return f"{self.prefix}.notify.dead"

    @property
    def status(self) -> str:
        """What each worker says of itself, compacted."""
        return f"{self.prefix}.status"
