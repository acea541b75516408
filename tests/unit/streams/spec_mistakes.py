"""Mistakes that people make in specs, each with the line and the words by which they find it."""

from __future__ import annotations

from dataclasses import dataclass

SPEC = """table: visits
topics: [clinic.public.visits]
format: debezium-json
key: [id]
columns:
  id: long
  patient: string
  fee: decimal(12,2)
  begun_at: timestamptz
before: none
features:
  - view: latest_visit
    entity: visit
    columns: [patient, fee]
    event_time: begun_at
rules:
  - rule: expensive
    when: after.fee > 1000
    severity: critical
  - {rule: changed, kind: change, of: fee, view: latest_visit}
lake:
  time_zone: Europe/Berlin
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is written in place of what, in which line that is found, and what must be said of it."""

    name: str
    old: str
    new: str
    line: int
    said: tuple[str, ...]

    @property
    def text(self) -> str:
        """The spec with the mistake."""
        assert self.old in SPEC, self.name
        return SPEC.replace(self.old, self.new, 1)


def _mistake(name: str, old: str, new: str, line: int, *said: str) -> Mistake:
    return Mistake(name, old, new, line, said)


MISTAKES = (
    _mistake("a tab", "  patient: string", "\tpatient: string", 7, "not YAML", "cannot start any token"),
    _mistake("a bracket that is not closed", "key: [id]", "key: [id", 5, "not YAML"),
    _mistake("a key that stands twice", "before: none", "before: none\nkey: [id]", 11, "'key' stands here again"),
    _mistake("a list in place of a table", "table: visits\n", "- table: visits\n", 2, "not YAML"),
    _mistake("a date that is none", "before: none", "before: 2026-13-45", 10, "looks like a date", "quote it"),
    _mistake("a key that nobody knows", "topics:", "topic:", 2, "unknown key 'topic'", "did you mean 'topics'"),
    _mistake("no columns", "columns:\n  id: long", "colums:\n  id: long", 5, "did you mean 'columns'"),
    _mistake(
        "a key that a column does not have",
        "begun_at: timestamptz",
        "begun_at: {typ: timestamptz}",
        9,
        "did you mean 'type'",
    ),
    _mistake("a key that a rule does not have", "severity:", "serverity:", 19, "did you mean 'severity'"),
    _mistake("a key that a view does not have", "event_time:", "eventtime:", 15, "did you mean 'event_time'"),
    _mistake("no name of a table", "table: visits", "table:", 1, "text is wanted", "this is nothing"),
    _mistake("a name in capitals", "table: visits", "table: Clinic Visits", 1, "write 'clinic_visits'"),
    _mistake("a name that is a number", "table: visits", "table: 2026", 1, "text is wanted", "a number", "quote it"),
    _mistake("a type misspelt", "id: long", "id: lng", 6, "'lng' is not a type", "did you mean 'long'"),
    _mistake("a type of SQL", "patient: string", "patient: varchar(80)", 7, "did you mean 'string'"),
    _mistake("a decimal of SQL", "decimal(12,2)", "numeric(12,2)", 8, "did you mean 'decimal(12,2)'"),
    _mistake("a decimal of too many digits", "decimal(12,2)", "decimal(60,2)", 8, "out of range", "use string"),
    _mistake("a list of what", "patient: string", "patient: string[]", 7, "did you mean 'list<string>'"),
    _mistake("a word misspelt", "before: none", "before: ful", 10, "none, full", "did you mean 'full'"),
    _mistake("a policy misspelt", "before: none", "truncate: applied", 10, "did you mean 'apply'"),
    _mistake("a level misspelt", "severity: critical", "severity: critcal", 19, "did you mean 'critical'"),
    _mistake("a key that is not there", "key: [id]", "key: [idd]", 4, "no such column: idd", "did you mean 'id'"),
    _mistake("a key in capitals", "key: [id]", "key: [ID]", 4, "no such column: ID", "did you mean 'id'"),
    _mistake("a key column twice", "key: [id]", "key: [id, id]", 4, "key column named twice: id"),
    _mistake("a key that is no list", "key: [id]", "key: id", 4, "a list is wanted", "this is text"),
    _mistake("topics that are none", "topics: [clinic.public.visits]", "topics: []", 2, "at least one is wanted"),
    _mistake(
        "a column of a view that is not there",
        "columns: [patient, fee]",
        "columns: [patient,\n              fees]",
        15,
        "view latest_visit: no such column: fees",
        "did you mean 'fee'",
    ),
    _mistake("an event time that is not there", "event_time: begun_at", "event_time: began_at", 15, "'begun_at'"),
    _mistake("features without a key", "key: [id]\n", "", 11, "a table without a key has no features"),
    _mistake("two rules of one name", "rule: changed", "rule: expensive", 20, "rule named twice: expensive"),
    _mistake("a view that is not there", "latest_visit}", "visit}", 20, "did you mean 'latest_visit'"),
    _mistake("a rule without what it is about", "of: fee, ", "", 20, "a change rule has 'of'"),
    _mistake("a column of a rule that is not there", "after.fee >", "after.fe >", 18, "did you mean 'fee'"),
    _mistake("a rule that is no condition", "after.fee > 1000", "after.fee", 18, "not BOOLEAN", "write a comparison"),
    _mistake("a time zone misspelt", "Europe/Berlin", "Europe/Berln", 22, "did you mean 'Europe/Berlin'"),
    _mistake("a format misspelt", "debezium-json", "debezium-jsn", 3, "is no format", "did you mean 'debezium-json'"),
    _mistake(
        "an encoding misspelt",
        "begun_at: timestamptz",
        "begun_at: {type: timestamptz, encoding: time.ZonedTimstamp}",
        9,
        "is no encoding",
        "did you mean 'time.ZonedTimestamp'",
    ),
    _mistake(
        "an encoding of another type",
        "fee: decimal(12,2)",
        "fee: {type: 'decimal(12,2)', encoding: time.Date}",
        8,
        "cannot be read as decimal(12,2)",
    ),
    _mistake("a column of ours", "  patient: string", "  _hg_op: string\n  patient: string", 7, "are ours: _hg_op"),
    _mistake(
        "a key that may become null",
        "id: long",
        "id: {type: long, unrepresentable: null}",
        6,
        "may not become null",
    ),
    _mistake(
        "truncates of several topics",
        "topics: [clinic.public.visits]",
        "topics: [clinic.public.visits, clinic.old.visits]\ntruncate: apply",
        3,
        "is for a table of one topic",
    ),
    _mistake("a pattern of Perl", "[clinic.public.visits]", '["^clinic[.]\\\\d+$"]', 2, "[0-9] for a digit"),
    _mistake("a pattern that is none", "[clinic.public.visits]", '["^clinic(.public"]', 2, "expression"),
    _mistake("a pattern that catches ours", "[clinic.public.visits]", '["^.*visits"]', 2, "a topic of ours"),
    _mistake("a topic of ours", "clinic.public.visits", "headgate.changes.visits", 2, "one of our own topics"),
    _mistake("a start that is not built", "before: none", "start: latest", 10, "not built yet", "leave it out"),
    _mistake(
        "an option that is none",
        "format: debezium-json",
        "format: dms\noptions:\n  before_prefix: OLD_\n  before_imag: old",
        6,
        "did you mean 'before_image'",
    ),
    _mistake(
        "a risk that is none",
        "before: none",
        "accepted_risks: {looks_persnal: it is read by the ward alone}",
        10,
        "did you mean 'looks_personal'",
    ),
    _mistake(
        "a risk of a column that is not there",
        "before: none",
        "accepted_risks:\n  looks_personal: {pateint: by contract}",
        11,
        "did you mean 'patient'",
    ),
)
