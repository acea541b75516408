"""The verbs that speak to Kafka and Redis, against real ones."""

import base64
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from connectors.transport.chunk import Headers
from connectors.transport.producer import plain_outbox
from connectors.transport.topics import TopicSettings
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from headgate.demo.folder import example_specs
from schemas.config import Config, read_config
from schemas.errors import PoisonRecord
from schemas.topics import TopicNames
from sinks.quarantine import Suspect, quarantine_value
from streams.apply import apply_folder
from streams.registration import ensure_own_topics, load_tables, open_admin, write_entry
from streams.settings import client_settings
from tests.services import Kafka, RedisServer, wait_until

Verb = Callable[..., int]


@pytest.fixture
def installation(tmp_path: Path, kafka: Kafka, redis_server: RedisServer) -> Path:
    """A configuration with a topic prefix of its own and the demo's tables applied."""
    file = tmp_path / "headgate.yaml"
    prefix = f"cli-{uuid.uuid4().hex[:8]}"
    file.write_text(
        f"kafka: {{bootstrap: '{kafka.address}', topic_prefix: {prefix}}}\n"
        f"redis: {{url: '{redis_server.address}', key_prefix: {prefix}}}\n"
        f"lake: {{warehouse: {tmp_path / 'lake'}}}\nweb: {{state_folder: {tmp_path / 'state'}}}\n"
    )
    tables = tmp_path / "tables"
    tables.mkdir()
    for name, text in example_specs().items():
        (tables / name).write_text(text.replace("topics: [town.", f"topics: [{prefix}-town."))
    apply_folder(config_of(file), tables)
    return file


@pytest.fixture
def verb(installation: Path) -> Verb:
    """Runs a verb with the configuration, and returns its exit code."""
    return lambda *arguments: entry.run([*arguments, "--config", str(installation)])


def config_of(file: Path) -> Config:
    """Return the configuration in a file."""
    return read_config(file.read_text(), name=str(file))


def test_registered_tables_are_listed(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    """With views, rules and state."""
    assert verb("tables", "list", "--json") == 0

    rows = {row["table"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"customers", "lab_results", "meter_readings", "patients"} == rows.keys()
    assert ["critical_glucose"] == rows["lab_results"]["rules"]
    assert rows["patients"]["paused"] is None


def test_a_table_is_paused_with_a_reason_and_resumed(verb: Verb, installation: Path) -> None:
    """The topic says so, and no other table changes."""
    before = dict(load_tables(config_of(installation)))

    assert verb("tables", "pause", "patients", "--reason", "moving house") == 0
    paused = load_tables(config_of(installation))
    assert verb("tables", "resume", "patients") == 0

    assert paused["patients"].paused == "moving house"
    resumed = before["patients"].model_copy(update={"resumed": 1})
    assert {**before, "patients": paused["patients"]} == dict(paused)
    assert {**before, "patients": resumed} == dict(load_tables(config_of(installation)))


def test_a_table_that_needs_a_resync_stays_paused(
    verb: Verb, installation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Going on would mix two lives of its source."""
    config = config_of(installation)
    reason = "source_read_anew: a snapshot row came after streamed ones"
    write_entry(config, load_tables(config)["patients"].model_copy(update={"paused": reason}))

    assert verb("tables", "resume", "patients") == ExitCode.FOUND

    assert f"error: patients stays paused: {reason}" in capsys.readouterr().err
    assert load_tables(config)["patients"].paused == reason


def test_an_unknown_table_brings_the_nearest_name(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1."""
    assert verb("tables", "pause", "patient") == ExitCode.FOUND

    assert "hint: did you mean patients?" in capsys.readouterr().err


def test_the_contract_of_a_registered_table_is_generated_and_compared(
    verb: Verb, installation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the spec in force, for the installation's own topic and broker; what was applied differs in nothing."""
    config, folder = config_of(installation).kafka, tmp_path / "contracts"
    spec, taken = str(tmp_path / "tables" / "patients.yaml"), folder / "patients.value.schema.json"

    assert verb("contract", "patients", "--out", str(folder)) == 0

    assert f"{config.topic_prefix}.changes.patients" == json.loads(taken.read_text())["x-headgate"]["topic"]
    assert f'"{config.bootstrap}"' in (folder / "patients.Subscriber.java").read_text()
    assert verb("contract", "diff", "patients", spec) == 0
    assert verb("contract", "diff", str(taken), "patients") == 0
    assert verb("contract", "diff", "patients", str(tmp_path / "tables" / "customers.yaml")) == ExitCode.FOUND
    assert "table_renamed" in capsys.readouterr().out
    assert verb("contract", "patience") == ExitCode.FOUND
    assert "hint: did you mean patients?" in capsys.readouterr().err


def test_check_tries_everything_and_names_what_fails(
    verb: Verb, installation: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """First all is well; then Redis is somewhere else, and the secret of a mask nowhere."""
    assert verb("check", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert not (installation.parent / "lake").exists()
    elsewhere = installation.read_text().replace(redis_server.address, "redis://127.0.0.1:9/0")
    installation.write_text(elsewhere + "masks: {keys: {gone: 'env:HEADGATE_NOT_THERE'}}\n")
    code = verb("check", "--json")

    assert ["configuration", "kafka", "topics", "masks", "redis", "lake", "destinations", "views"] == [
        result["what"] for result in results if result["ok"]
    ]
    assert code == ExitCode.FOUND
    assert ["masks", "redis"] == [result["what"] for result in json.loads(capsys.readouterr().out) if not result["ok"]]


def test_check_tells_of_a_topic_that_would_lose_something(
    verb: Verb, installation: Path, kafka: Kafka, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made by somebody else, or altered since: what is lost by it, and what to alter."""
    names = TopicNames(config_of(installation).kafka.topic_prefix)
    admin = open_admin(config_of(installation))
    admin.delete([names.tables])
    wait_until(lambda: not admin.describe([names.tables]), "the topic is gone")
    admin.create(names.tables, TopicSettings(partitions=1, retention_seconds=3_600))
    admin.create(names.alerts, TopicSettings(partitions=4, compacted=True, message_bytes_max=10_000_000))

    code = verb("check", "--json")

    shown = capsys.readouterr()
    (failed,) = (result for result in json.loads(shown.out) if not result["ok"])
    assert code == ExitCode.FOUND
    assert "topics" == failed["what"]
    assert f"{names.alerts}: it is compacted: of records with one key all but the last are deleted" in failed["seen"]
    assert f"{names.tables}: it is not compacted: entries that nobody writes anew are deleted" in failed["seen"]
    assert f"--topic {names.alerts} --add-config cleanup.policy=delete" in failed["hint"]


def quarantine(config: Config, offsets: list[int]) -> None:
    """Put records of the patients' topic into quarantine, broken in two ways."""
    topic = TopicNames(config.kafka.topic_prefix).quarantine
    ensure_own_topics(config, [topic])
    with plain_outbox(client_settings(config)) as outbox:
        for offset in offsets:
            reason = "broken_json" if offset % 2 else "no_op"
            record = Suspect(("town.patients", 0, 3, offset), b"{}", b'{"secret of patient %d"' % offset, [])
            error = PoisonRecord(reason, "it is broken", hint="mend it")
            value = quarantine_value(
                error, record, stage="normalize", table="patients", at=1.0 + offset, message_bytes_max=1_000_000
            )
            outbox.produce(topic, None, None, value)


def test_quarantine_counts_by_reason_and_never_shows_contents(
    verb: Verb, installation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The latest first, as many as asked for."""
    quarantine(config_of(installation), list(range(25)))

    assert verb("quarantine", "list", "--latest", "3", "--json") == 0

    shown = capsys.readouterr().out
    document: dict[str, Any] = json.loads(shown)
    assert [("broken_json", 12), ("no_op", 13)] == [(row["reason"], row["count"]) for row in document["counts"]]
    assert [24, 23, 22] == [entry["offset"] for entry in document["latest"]]
    assert "secret" not in shown
    assert base64.b64encode(b"{").decode()[:2] not in json.dumps(document["latest"])


def test_one_quarantined_record_is_shown_and_its_bytes_only_when_asked_for(
    verb: Verb, installation: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`--bytes` writes just the original value to stdout."""
    quarantine(config_of(installation), [7])

    assert verb("quarantine", "show", "town.patients", "3", "7") == 0
    plain = capfdbinary.readouterr().out
    assert verb("quarantine", "show", "town.patients", "3", "7", "--bytes") == 0
    raw = capfdbinary.readouterr().out
    absent = verb("quarantine", "show", "town.patients", "3", "8")

    assert b"mend it" in plain
    assert b"secret" not in plain
    assert raw == b'{"secret of patient 7"'
    assert absent == ExitCode.FOUND


def test_a_topic_is_decoded_as_its_registered_table_or_as_a_spec_says(
    verb: Verb, installation: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Key changes too, which stand in headers; only the last offsets where that is asked for."""
    config, (patients, others) = config_of(installation), ("patients", "customers")
    spec = load_tables(config)[patients].spec
    open_admin(config).create(spec.topics[0], TopicSettings(partitions=1))
    source = {"connector": "postgresql", "name": "town", "schema": "public", "table": patients, "snapshot": "false",
              "ts_us": 1_795_000_000_000_000, "sequence": '["5","6"]', "lsn": 6, "txId": 1}  # fmt: skip
    value = json.dumps({"before": None, "after": {"id": 2}, "source": source, "op": "c"}).encode()
    headers: Headers = [("__debezium.oldkey", b'{"id":1}')]
    with plain_outbox(client_settings(config)) as outbox:
        outbox.produce(spec.topics[0], 0, b'{"id":2}', b"{", [])
        outbox.produce(spec.topics[0], 0, b'{"id":2}', value, headers)

    whole = verb("decode", "--topic", spec.topics[0])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    latest = verb("decode", "--topic", spec.topics[0], "--last", "1", "--rows")
    (row,) = map(json.loads, capfd.readouterr().out.splitlines())
    gone = verb("decode", "--topic", f"{others}-nowhere")

    assert (ExitCode.CONFIGURATION, ExitCode.OK, ExitCode.CONFIGURATION) == (whole, latest, gone)
    assert ["quarantine", "change"] == [line["kind"] for line in lines]
    assert ({"id": 1}, {"id": 2}) == (lines[1]["change"]["old_key"], lines[1]["change"]["key"])
    assert ({"id": 2}, {"id": 2}) == (row["key"], row["row"])
    assert "there is no topic customers-nowhere" in capfd.readouterr().err


def test_features_of_an_entity_nobody_has_seen(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1; of an entity that no view is about, the views there are."""
    assert verb("features", "get", "patient", "42", "--json") == ExitCode.FOUND
    views = json.loads(capsys.readouterr().out)["views"]
    assert verb("features", "get", "dog", "1") == ExitCode.FOUND

    assert [("patient_latest_result", None), ("patient_stay", None)] == [(view["view"], view["row"]) for view in views]
    assert "hint: there are views about customer, patient" in capsys.readouterr().err


def test_a_newer_layout_in_redis_is_refused_by_who_reads_it(
    verb: Verb, installation: Path, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rows would be misread."""
    with redis.Redis.from_url(redis_server.address) as client:
        client.set(f"{config_of(installation).redis.key_prefix}:layout", '{"layout": 3, "buckets": 64}')
        codes = [verb("features", "get", "patient", "42"), verb("check")]

    assert [ExitCode.CONFIGURATION, ExitCode.FOUND] == codes
    assert 2 == capsys.readouterr().err.count("has version 3, this release reads 1 and 2 (features in Redis)")


def test_kafka_away_is_unavailable(installation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4 within the client's time-out, with a hint."""
    text = installation.read_text()
    installation.write_text(text.replace(text.partition("bootstrap: '")[2].partition("'")[0], "127.0.0.1:9", 1))

    assert entry.run(["tables", "list", "--config", str(installation)]) == ExitCode.UNAVAILABLE

    assert "hint:" in capsys.readouterr().err
