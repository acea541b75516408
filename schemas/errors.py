"""Every error of ours: what kind of trouble it is, what is done about it, and what its reader can do next.

    HeadgateError
    ├── PoisonRecord          one record cannot be read                    → quarantine
    │   └── RecordTooLarge    one record is above a limit                  → quarantine
    ├── SchemaMismatch        a record contradicts its table's spec        → quarantine
    ├── TableStopped          a table cannot go on without a decision      → pause the table
    │   └── SourceMoved       the topic is not the one we read before      → pause the table
    ├── Unavailable           a service does not answer                    → retry with backoff
    │   ├── SourceUnavailable
    │   ├── RegistryUnavailable
    │   └── SinkUnavailable
    │       └── OutboxFull    feature updates wait for the relay
    ├── TransactionAborted    Kafka aborted; nothing was written           → retry, not counted
    ├── TransportFatal        going on would lose or double records        → stop the worker
    ├── ConfigurationError    what was asked for cannot be                 → stop the worker
    │   └── VersionRefused    what is persisted is of a version that we do not read
    └── BugError              ours                                         → bisect, then quarantine

Messages carry names, counts and positions, never a value of a row.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What an error means for the work in hand."""

    POISON = "poison"
    SCHEMA = "schema"
    LIMIT = "limit"
    TABLE = "table"
    UNAVAILABLE = "unavailable"
    ABORTED = "aborted"
    CONFIGURATION = "configuration"
    FATAL = "fatal"
    BUG = "bug"


class Policy(StrEnum):
    """What a stage does about an error of some kind."""

    QUARANTINE = "quarantine"
    PAUSE_TABLE = "pause the table"
    RETRY = "retry with backoff"
    STOP_WORKER = "stop the worker"
    BISECT = "bisect, then quarantine"


POLICY: dict[ErrorKind, Policy] = {
    ErrorKind.POISON: Policy.QUARANTINE,
    ErrorKind.SCHEMA: Policy.QUARANTINE,
    ErrorKind.LIMIT: Policy.QUARANTINE,
    ErrorKind.TABLE: Policy.PAUSE_TABLE,
    ErrorKind.UNAVAILABLE: Policy.RETRY,
    ErrorKind.ABORTED: Policy.RETRY,
    ErrorKind.CONFIGURATION: Policy.STOP_WORKER,
    ErrorKind.FATAL: Policy.STOP_WORKER,
    ErrorKind.BUG: Policy.BISECT,
}


class HeadgateError(Exception):
    """The root: a message that says what and where, and a hint that says what to do next."""

    kind: ErrorKind = ErrorKind.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep `message` and `hint`; neither holds a value of a row."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Give the message, and the hint behind it."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class PoisonRecord(HeadgateError):
    """One record cannot be read; `reason` is the short name it is counted by."""

    kind = ErrorKind.POISON

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        """Keep `reason`, a word of `connectors/formats` such as `broken_json`."""
        super().__init__(message, hint=hint)
        self.reason = reason


class RecordTooLarge(PoisonRecord):
    """One record is above a limit in bytes, depth or columns."""

    kind = ErrorKind.LIMIT

    def __init__(self, message: str, *, hint: str = "", reason: str = "too_large") -> None:
        """Count it as `too_large` unless told otherwise."""
        super().__init__(reason, message, hint=hint)


class SchemaMismatch(PoisonRecord):
    """A record contradicts the spec of its table."""

    kind = ErrorKind.SCHEMA


class TableStopped(HeadgateError):
    """A table cannot go on without somebody's decision; `reason` is the short name shown in `status`."""

    kind = ErrorKind.TABLE

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        """Keep `reason`, such as `truncate` or `source_read_anew`."""
        super().__init__(message, hint=hint)
        self.reason = reason


def naming(hint: str, table: str) -> str:
    """Return a hint with the table in the place of the word TABLE: who wrote it knew the topic alone."""
    for verb in ("resume", "resync"):
        hint = hint.replace(f"tables {verb} TABLE", f"tables {verb} {table}")
    return hint


class SourceMoved(TableStopped):
    """The topic is not the one we read before: another id, or our offset is outside its log."""


class Unavailable(HeadgateError):
    """A service does not answer; nothing is known of what was sent, send it again."""

    kind = ErrorKind.UNAVAILABLE


class SourceUnavailable(Unavailable):
    """Kafka does not answer, or its client takes no record; `topic` is the one at fault, if it does not pass."""

    def __init__(self, message: str, *, hint: str = "", topic: str | None = None) -> None:
        """Keep `topic`, so that it can be looked for anew."""
        super().__init__(message, hint=hint)
        self.topic = topic


class RegistryUnavailable(Unavailable):
    """The schema registry does not answer, or not as a registry does: what a record says cannot be told now."""


class SinkUnavailable(Unavailable):
    """Redis, the lake or a destination does not answer."""


class OutboxFull(SinkUnavailable):
    """Redis has no room for more feature updates until the relay has written those that wait."""


class TransactionAborted(HeadgateError):
    """Kafka aborted a transaction: nothing of it was written. `topic` is the one at fault, if it was named."""

    kind = ErrorKind.ABORTED

    def __init__(self, message: str, *, hint: str = "", topic: str | None = None) -> None:
        """Keep `topic`, so that its table can be paused and the rest sent again."""
        super().__init__(message, hint=hint)
        self.topic = topic


class TransportFatal(HeadgateError):
    """Going on would lose or double records: the worker ends, and its supervisor starts it anew."""

    kind = ErrorKind.FATAL


class ConfigurationError(HeadgateError):
    """What was asked for cannot be: file, line, key and the nearest right one are in the message."""

    kind = ErrorKind.CONFIGURATION


class TopicRefused(ConfigurationError):
    """The broker does not let a topic be made or enlarged; others may well be."""

    def __init__(self, topic: str, message: str, *, hint: str = "") -> None:
        """Keep `topic`, so that the table can be told that wants it."""
        super().__init__(message, hint=hint)
        self.topic = topic


class VersionRefused(ConfigurationError):
    """What is persisted has a version that this release does not read (`schemas/versions.py`)."""


class BugError(HeadgateError):
    """Something that must hold did not."""


def kind_of(error: BaseException) -> ErrorKind:
    """Return the kind of any error: what is not ours counts as a bug."""
    return error.kind if isinstance(error, HeadgateError) else ErrorKind.BUG
