"""The words: types, positions, alert ids, specs and configuration, and what they say of mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import read_config
from schemas.document import read_document
from schemas.errors import POLICY, ConfigurationError, ErrorKind, PoisonRecord, kind_of
from schemas.position import (
    DB2_COMMIT_END,
    ORACLE_COMMIT_END,
    SQLSERVER_COMMIT_END,
    db2_position,
    just_below,
    mysql_position,
    oracle_position,
    postgresql_position,
    sqlserver_position,
)
from schemas.rule import alert_id
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from schemas.types import parse_type

PATIENTS = """
table: patients
topics: [clinic.public.patients]
key: [id]
columns:
  id: long
  name: string
  balance: decimal(12,2)
  born: {type: date, encoding: time.Date}
features:
  - {view: patient, entity: patient, columns: [name]}
rules:
  - {rule: poor, when: after.balance < 0}
"""


@pytest.mark.parametrize(
    "text", ["int", "long", "decimal(12,2)", "list<int>", "list<decimal(38,0)>", "timestamptz", "json"]
)
def test_a_type_is_read_back_from_its_own_text(text: str) -> None:
    """Specs are exported as they were written."""
    assert text == str(parse_type(text))


@pytest.mark.parametrize(
    "text", ["", "integer", "decimal", "decimal(39,0)", "decimal(2,3)", "list<>", "list<nope>", "list"]
)
def test_what_is_no_type_is_refused_with_a_hint(text: str) -> None:
    """The hint lists what there is."""
    with pytest.raises(ConfigurationError) as caught:
        parse_type(text)

    assert caught.value.hint


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans(), st.integers(0, 2**64 - 1)), min_size=2, max_size=2))
def test_postgresql_positions_compare_as_their_parts_do(parts: list[tuple[int, bool, int]]) -> None:
    """Redis and the lake compare text, sources count in numbers."""
    texts = [postgresql_position(3, commit, lsn, streamed=streamed) for commit, streamed, lsn in parts]

    assert {45} == {len(text) for text in texts}
    assert (parts[0] < parts[1]) == (texts[0] < texts[1])


def test_what_stands_just_below_a_position_keeps_its_width() -> None:
    """Over all the digits that it borrows from, and the lowest of all stays."""
    assert "0000999" == just_below("0001000")
    assert f"{10**44 - 1:045d}" == just_below(f"{10**44:045d}")
    assert "0000" == just_below("0000")


def test_mysql_positions_compare_the_number_of_the_file() -> None:
    """As text, mysql-bin.999999 would stand above mysql-bin.1000000."""
    before = mysql_position(0, "mysql-bin.999999", 900, 3, streamed=True)
    after = mysql_position(0, "mysql-bin.1000000", 4, 0, streamed=True)

    assert before < after
    assert len(before) == len(after) == 45


_U32, _U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
_SHORT, _LONG = st.tuples(_U32, _U32, st.integers(0, 2**16 - 1)), st.tuples(_U32, _U32, _U64)


def _hexadecimal(parts: tuple[int, int, int]) -> str:
    return ":".join(f"{part:x}" for part in parts)


@given(st.lists(st.tuples(_SHORT, st.booleans(), _SHORT, _U64), min_size=2, max_size=2))
def test_sqlserver_positions_compare_as_their_parts_do(parts: list[tuple[Any, bool, Any, int]]) -> None:
    """A log sequence number is three numbers, written in hexadecimal digits."""
    texts = [
        sqlserver_position(3, _hexadecimal(commit), _hexadecimal(change), last, streamed=streamed)
        for commit, streamed, change, last in parts
    ]

    assert {75} == {len(text) for text in texts}
    assert (parts[0] < parts[1]) == (texts[0] < texts[1])
    assert (parts[0][0] < parts[1][0]) == (texts[0][:SQLSERVER_COMMIT_END] < texts[1][:SQLSERVER_COMMIT_END])


@given(st.lists(st.tuples(_LONG, st.booleans(), _LONG, _U64), min_size=2, max_size=2))
def test_db2_positions_compare_as_their_parts_do(parts: list[tuple[Any, bool, Any, int]]) -> None:
    """Its log sequence numbers have sixteen bytes."""
    texts = [
        db2_position(3, _hexadecimal(commit), _hexadecimal(change), last, streamed=streamed)
        for commit, streamed, change, last in parts
    ]

    assert {105} == {len(text) for text in texts}
    assert (parts[0] < parts[1]) == (texts[0] < texts[1])
    assert (parts[0][0] < parts[1][0]) == (texts[0][:DB2_COMMIT_END] < texts[1][:DB2_COMMIT_END])


@given(st.lists(st.tuples(st.integers(0, 10**20 - 1), st.booleans(), _U64, _U64), min_size=2, max_size=2))
def test_oracle_positions_compare_as_their_parts_do(parts: list[tuple[int, bool, int, int]]) -> None:
    """System change numbers have up to twenty digits."""
    texts = [oracle_position(3, commit, scn, last, streamed=streamed) for commit, streamed, scn, last in parts]

    assert {65} == {len(text) for text in texts}
    assert (parts[0] < parts[1]) == (texts[0] < texts[1])
    assert (parts[0][0] < parts[1][0]) == (texts[0][:ORACLE_COMMIT_END] < texts[1][:ORACLE_COMMIT_END])


def test_an_epoch_stands_above_every_older_position() -> None:
    """A resync raises the epoch, so that positions may start anew."""
    assert postgresql_position(0, 2**64 - 1, 2**64 - 1, streamed=True) < postgresql_position(1, 0, 0, streamed=False)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: postgresql_position(0, -1, 0, streamed=True),
        lambda: postgresql_position(0, 0, 2**64, streamed=True),
        lambda: postgresql_position(10_000, 0, 0, streamed=True),
        lambda: mysql_position(0, "binlog", 0, 0, streamed=True),
        lambda: mysql_position(0, "binlog.", 0, 0, streamed=True),
        lambda: mysql_position(0, "binlog.1", -4, 0, streamed=True),
        lambda: sqlserver_position(0, "1:2", None, 0, streamed=True),
        lambda: sqlserver_position(0, None, "1:2:10000", 0, streamed=True),
        lambda: sqlserver_position(0, None, None, 2**64, streamed=True),
        lambda: db2_position(0, "1:100000000:1", None, 0, streamed=True),
        lambda: db2_position(-1, None, None, 0, streamed=True),
        lambda: oracle_position(0, 10**20, 0, 0, streamed=True),
        lambda: oracle_position(0, 0, 0, -1, streamed=True),
    ],
)
def test_a_position_out_of_range_is_a_bad_record(bad: object) -> None:
    """A wrong width would silently break the order of everything behind it."""
    with pytest.raises(PoisonRecord) as caught:
        bad()  # type: ignore[operator]

    assert caught.value.reason == "bad_position"


def test_an_alert_keeps_its_id_and_shares_it_with_no_other() -> None:
    """Receivers drop repeats by the id, so replays must not change it and firings must not share it."""
    ids = {
        alert_id(rule, version, table, key, position)
        for rule in ("a", "b")
        for version in (1, 2)
        for table in ("t", "u")
        for key in ({"id": 1}, {"id": "1"})
        for position in ("0", "1")
    }

    assert len(ids) == 32
    assert alert_id("a", 1, "t", {"x": 1, "y": 2}, "0") == alert_id("a", 1, "t", {"y": 2, "x": 1}, "0")


def test_an_entry_of_the_tables_topic_is_read_back_as_written() -> None:
    """The topic is the only truth at run time."""
    entry = TableEntry(spec=read_document(PATIENTS, TableSpec, name="patients.yaml"), schema_version=2)

    assert entry == TableEntry.model_validate_json(entry.model_dump_json())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("key: [id]", "kye: [id]", "did you mean 'key'"),
        ("key: [id]", "key: [idd]", "no such column: idd"),
        ("key: [id]", "key: [id, name, id]", "key column named twice: id"),
        ("id: long", "id: lng", "'lng' is not a type"),
        ("columns: [name]", "columns: [nmae]", "no such column: nmae"),
        ("when: after.balance < 0", "wen: after.balance < 0", "did you mean 'when'"),
        ("table: patients", "table: Patients!", "write 'patients_'"),
        ("name: string", "_hg_op: string", "are ours"),
        ("topics: [clinic.public.patients]", "topics: []", "at least one is wanted"),
        ("key: [id]", "key: [id]\nkey: [name]", "stands here again, first in line 4"),
        ("key: [id]", "key: [id", "not YAML"),
        ("key: [id]", "key: *id", "found undefined alias 'id'"),
        ("key: [id]", "key: !ours [id]", "could not determine a constructor for the tag '!ours'"),
        ("key: [id]", "? [key]\n: [id]", "patients.yaml:4: a key is one word"),
        ("key: [id]", "key: [\x01]", "patients.yaml:4: not YAML: special characters"),
        ("key: [id]", "key: 2026-13-45", "looks like a date or number and is none"),
        ("key: [id]", "key: [id]\nlake: {time_zone: Europe/Berln}", "is no time zone"),
    ],
)
def test_a_mistake_in_a_spec_is_named_with_file_and_line(old: str, new: str, said: str) -> None:
    """People fix what they can find."""
    with pytest.raises(ConfigurationError) as caught:
        read_document(PATIENTS.replace(old, new), TableSpec, name="patients.yaml")

    assert said in str(caught.value)
    assert "patients.yaml:" in str(caught.value)


def test_an_unknown_key_of_the_configuration_names_its_line_and_the_nearest() -> None:
    """A typing error must not silently leave a default in force."""
    with pytest.raises(
        ConfigurationError, match=r"c.yaml:3: kafka.bootstrp: unknown key 'bootstrp'; did you mean 'bootstrap'"
    ):
        read_config("\nkafka:\n  bootstrp: x:9092\n", name="c.yaml")


def _bomb() -> str:
    """Return a small document in which each line stands for nine of the line above."""
    lines = ["a0: &a0 [x]", *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 12))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_bomb(), "f:7: stands for more than 1000000 values"),
        ("kafka: &a\n  bootstrap: *a", "f:1: an alias here leads back to itself"),
        ("a: &a [*a]", "f:1: an alias here leads back to itself"),
        ("kafka: " + "[" * 5_000 + "]" * 5_000, "f: nested too deep"),
        ("kafka: " + "{a: " * 3_000 + "1" + "}" * 3_000, "f: nested too deep"),
        ("kafka: " + "[" * 100_000, "f: nested too deep"),
        ("kafka:\n" + "- " * 100_000, "f: nested too deep"),
        ("kafka: !!bool maybe", "f:1: a value looks like a date or number and is none"),
        ("kafka: !!timestamp soon", "f:1: a value looks like a date or number and is none"),
        ("kafka: !!int ''", "f:1: a value looks like a date or number and is none"),
    ],
)
def test_a_hostile_document_is_refused_at_once(text: str, said: str) -> None:
    """Aliases that multiply or go round, depth, tags that do not fit: a message, never hours or a fault of ours."""
    with pytest.raises(ConfigurationError) as raised:
        read_config(text, name="f")

    assert said == raised.value.message


def test_an_alias_stands_for_what_it_names() -> None:
    """What is written once may be meant twice."""
    config = read_config("lake: {namespace: &name clinic}\nredis: {key_prefix: *name}", name="f")

    assert ("clinic", "clinic") == (config.lake.namespace, config.redis.key_prefix)


@pytest.mark.parametrize(
    "url", ["cache:6379", "http://cache:6379", "redis://:pa/ss@cache:6379", "redis://:pass@[cache", "redis://:p℀@cache"]
)
def test_what_is_no_address_of_a_redis_is_refused_without_repeating_it(url: str) -> None:
    """It is a mistake of the configuration, with its line, and may hold a password."""
    with pytest.raises(ConfigurationError) as raised:
        read_config(f"redis:\n  url: {json.dumps(url)}\n", name="f")

    assert raised.value.message.startswith("f:2: redis.url: ")
    assert "pa" not in str(raised.value).partition("write ")[0]


def test_secrets_do_not_show() -> None:
    """A configuration is printed, logged and pasted into tickets."""
    config = read_config(
        "redis: {url: 'redis://:hunter2@h/0'}\nkafka: {sasl: {mechanism: PLAIN, password: hunter2}}", name="c"
    )

    assert "hunter2" not in repr(config)
    assert "hunter2" not in config.model_dump_json()


@pytest.mark.parametrize("key", ["tls", "sasl"])
def test_a_key_of_security_with_nothing_behind_it_is_refused(key: str) -> None:
    """`tls:` alone would be plain text to us, and TLS to its writer."""
    with pytest.raises(ConfigurationError, match=rf"c.yaml:2: kafka.{key}: .*nothing stands behind it; write {{}}"):
        read_config(f"kafka:\n  {key}:\n", name="c.yaml")

    assert read_config("kafka: {tls: {}}", name="c.yaml").kafka.tls is not None


def test_an_empty_configuration_is_a_local_installation() -> None:
    """Sensible defaults: nothing has to be written to begin."""
    assert read_config("", name="c.yaml").kafka.bootstrap == "127.0.0.1:9092"


def test_every_kind_of_error_has_a_policy() -> None:
    """One table says what is done about each kind."""
    assert set(ErrorKind) == set(POLICY)
    assert kind_of(ValueError("x")) is ErrorKind.BUG


def test_names_of_topics_lead_back_to_their_tables() -> None:
    """FEATURES, ALERTS and LAKE know a table by its output topic."""
    names = TopicNames("clinic")

    assert names.table_of(names.changes("a.b-c")) == "a.b-c"
    with pytest.raises(ConfigurationError):
        names.changes("x" * 250)
