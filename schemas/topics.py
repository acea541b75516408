"""The names of the topics that we own; all begin with the installation's prefix."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import ConfigurationError

RETRY_DELAYS_SECONDS = (5, 15, 30, 60, 120, 300)  # how long alerts wait: a topic for each, of each destination
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
        return _checked(f"{self.prefix}.changes.{table}", "table")

    def features(self, view: str) -> str:
        """Return the topic of a view's feature updates.

        Raises:
            ConfigurationError: the name would be longer than Kafka takes.
        """
        return _checked(f"{self.prefix}.features.{view}", "view")

    def latest(self, table: str) -> str:
        """Return the compacted topic of a table's rows as they are now.

        Raises:
            ConfigurationError: the name would be longer than Kafka takes.
        """
        return _checked(f"{self.prefix}.latest.{table}", "table")

    def table_of(self, topic: str) -> str:
        """Return the table whose output topic `topic` is."""
        start = f"{self.prefix}.changes."
        assert topic.startswith(start), f"{topic} is not an output topic"
        return topic[len(start) :]

    def alerts_state(self, view: str) -> str:
        """Return what rules remember of a view's entities, compacted."""
        return f"{self.prefix}.alerts.state.{view}"

    @property
    def tables(self) -> str:
        """The registered tables, compacted."""
        return f"{self.prefix}.tables"

    @property
    def quarantine(self) -> str:
        """Records that could not be processed."""
        return f"{self.prefix}.quarantine"

    @property
    def quarantine_settled(self) -> str:
        """Which quarantined records were sent again, or dropped."""
        return f"{self.quarantine}.settled"

    @property
    def redrive(self) -> str:
        """Quarantined records that somebody wants read again."""
        return f"{self.prefix}.redrive"

    def parked(self, table: str) -> str:
        """Return where records of a table wait that is paused beside others of its source topic.

        Raises:
            ConfigurationError: the name would be longer than Kafka takes.
        """
        return _checked(f"{self.prefix}.parked.{table}", "table")

    def parked_table(self, topic: str) -> str | None:
        """Return the table whose parked records `topic` holds, None if it holds none."""
        start = f"{self.prefix}.parked."
        return topic[len(start) :] if topic.startswith(start) else None

    @property
    def normalize_previous(self) -> str:
        """Which change of each table came last in a topic of several, compacted."""
        return f"{self.prefix}.normalize.previous"

    @property
    def alerts(self) -> str:
        """Alerts, as rules fired."""
        return f"{self.prefix}.alerts"

    def alerts_retry(self, destination: str, delay_seconds: int) -> str:
        """Return where the alerts to one destination wait that are tried again after this delay."""
        assert delay_seconds in RETRY_DELAYS_SECONDS, f"nothing waits {delay_seconds} s"
        return f"{self.alerts_retry_prefix}{destination}.{delay_seconds}s"

    def all_alerts_retry(self, destination: str) -> list[str]:
        """Return where the alerts to one destination wait, the shortest delay first."""
        return [self.alerts_retry(destination, delay) for delay in RETRY_DELAYS_SECONDS]

    @property
    def alerts_retry_prefix(self) -> str:
        """How the names of the topics begin in which alerts wait, of all destinations."""
        return f"{self.prefix}.notify.retry."

    @property
    def alerts_redrive(self) -> str:
        """Dead letters that somebody wants sent again."""
        return f"{self.prefix}.notify.redrive"

    @property
    def alerts_dead(self) -> str:
        """Alerts that could not be delivered."""
        return f"{self.prefix}.notify.dead"

    def stage_state(self, stage: str) -> str:
        """What a stage remembers of the partitions it reads where Kafka does not forget it, compacted."""
        return f"{self.prefix}.{stage}.state"

    @property
    def normalize_state(self) -> str:
        """What NORMALIZE remembers of source topics, compacted."""
        return self.stage_state("normalize")

    @property
    def relay(self) -> str:
        """Always empty: who owns a partition relays the feature updates of the buckets of its number."""
        return f"{self.prefix}.relay"

    @property
    def status(self) -> str:
        """What each worker says of itself, compacted."""
        return f"{self.prefix}.status"


def _checked(name: str, what: str) -> str:
    if len(name) > TOPIC_NAME_MAX:
        raise ConfigurationError(
            f"{name} is longer than {TOPIC_NAME_MAX} characters", hint=f"shorten the {what}'s name"
        )
    return name
