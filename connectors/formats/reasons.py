"""Why a record goes to quarantine: words that never change, each with what its reader can do; one table for all."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import PoisonRecord, RecordTooLarge, SchemaMismatch


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason: its name, the kind of its error, and the hint that goes with it."""

    name: str
    error: type[PoisonRecord]
    hint: str


_TABLE = (
    Reason(
        "broken_json",
        PoisonRecord,
        "the bytes are no JSON document: look at the producer or the converter of this topic",
    ),
    Reason("not_utf8", PoisonRecord, "the bytes are no UTF-8: look at the producer of this topic"),
    Reason("too_large", RecordTooLarge, "raise limits.record_bytes_max, or leave the large column out at the source"),
    Reason("too_deep", RecordTooLarge, "raise limits.record_depth_max if such nesting is meant"),
    Reason(
        "duplicate_keys",
        PoisonRecord,
        "one JSON object names a key twice: readers disagree on which one holds; mend the producer",
    ),
    Reason(
        "not_a_change",
        PoisonRecord,
        "the record has not the form that `format` of the table's spec names: compare them; flattened records of "
        "Debezium are debezium-flat",
    ),
    Reason("no_op", PoisonRecord, "the envelope has no `op`; flattened records need another format than debezium-json"),
    Reason("unknown_op", PoisonRecord, "the message says which operations are known: compare the tool and `format`"),
    Reason(
        "no_row",
        PoisonRecord,
        "an insert, update or snapshot row holds its row; a transformation may have taken it away",
    ),
    Reason(
        "partial_field",
        PoisonRecord,
        "let the connector send whole documents (capture.mode=change_streams_update_full) or those before a change "
        "(change_streams_with_pre_image), or make columns of what stands inside by options.paths: docs/formats.md",
    ),
    Reason("no_source", PoisonRecord, "`source` names connector and position; a transformation may have taken it away"),
    Reason(
        "unknown_connector",
        PoisonRecord,
        "positions are known of postgresql, mysql, mariadb, sqlserver, oracle and db2",
    ),
    Reason(
        "bad_position",
        PoisonRecord,
        "look at the fields of the record that say its place (docs/positions.md); without them no order is possible",
    ),
    Reason(
        "bad_time",
        PoisonRecord,
        "look at the field of the record that says its commit time (Debezium: `source`); a converter may drop it",
    ),
    Reason(
        "bad_type",
        SchemaMismatch,
        "the column's type or encoding in the table's spec is not what the source sends: compare them",
    ),
    Reason(
        "out_of_range",
        SchemaMismatch,
        "the value has no form in this type: widen it, or declare the column string (times also long)",
    ),
    Reason(
        "no_table",
        PoisonRecord,
        "the topic feeds tables by the name that their records give, and this one gives none: look at its producer",
    ),
    Reason(
        "schema_change",
        PoisonRecord,
        "it is kept for whoever keeps the spec: compare what was changed, and drop it; it is no row",
    ),
    Reason("message", PoisonRecord, "it is kept for whoever reads such messages: read it, and drop it; it is no row"),
    Reason("unknown_column", SchemaMismatch, "add the column to the spec, or set unknown_columns: ignore"),
    Reason(
        "bad_schema",
        SchemaMismatch,
        "the record's schema block does not fit the spec: compare the column's type and encoding",
    ),
    Reason("no_key", SchemaMismatch, "the table has a key but the record has none, and its row does not give it"),
    Reason(
        "bad_key",
        SchemaMismatch,
        "the record's key has not the columns of the spec's key: compare them, and message.key.columns",
    ),
    Reason(
        "zero_key",
        SchemaMismatch,
        "REPLICA IDENTITY USING INDEX sends zeros for the key of a delete, and the row's own key is lost: set the "
        "identity to DEFAULT, or to FULL with before: full in the spec; then take the rows anew",
    ),
    Reason(
        "key_mismatch",
        SchemaMismatch,
        "the record's key and its row name different rows: look at transformations of the connector",
    ),
    Reason(
        "bad_framing",
        PoisonRecord,
        "the bytes do not begin with the id of a schema: look at the topic's converter, and at registry.id_size",
    ),
    Reason(
        "unknown_schema",
        PoisonRecord,
        "the registry has no schema of the record's id: is it the registry that the topic's converter writes to?",
    ),
    Reason(
        "bad_registered_schema",
        SchemaMismatch,
        "the schema of the record's id is none that this format reads: look it up in the registry",
    ),
    Reason(
        "bad_avro",
        PoisonRecord,
        "the bytes are no Avro of the schema that their id names: look at the producer, and at registry.id_size",
    ),
    Reason("too_many_values", RecordTooLarge, "raise limits.record_values_max if such long arrays are meant"),
    Reason(
        "zip_bomb",
        RecordTooLarge,
        "the value inflates to more than registry.inflated_bytes_max: raise it if such large records are meant",
    ),
)
REASONS: dict[str, Reason] = {reason.name: reason for reason in _TABLE}


class Rejection(Exception):
    """Inside a decoder: a record, or a value of it, cannot be taken. Leaves it as the error of `rejection`."""

    def __init__(self, reason: str, message: str = "") -> None:
        """Keep the name of the reason, and what is wrong, without any value of a row."""
        super().__init__(reason, message)
        assert reason in REASONS, f"{reason} is not in the table of reasons"
        self.reason = reason
        self.message = message


def rejection(reason: str, message: str) -> PoisonRecord:
    """Return the error of a reason; `message` says what and where, without a value of a row."""
    known = REASONS[reason]
    if issubclass(known.error, RecordTooLarge):
        return known.error(message, hint=known.hint, reason=reason)
    return known.error(reason, message, hint=known.hint)
