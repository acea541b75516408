"""Specs proposed from the topics of a real broker, written, linted and proposed again."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from connectors.transport import sampling
from connectors.transport.sampling import SampleBounds, Sampling
from connectors.transport.settings import ClientSettings
from connectors.transport.topics import TopicAdmin, TopicSettings
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from schemas.config import Config, read_config
from schemas.errors import ConfigurationError
from streams.apply import apply_folder
from streams.registration import load_tables
from streams.specs import read_specs
from tests.proof.many_topics import ManyTopic, avro_schemas, fill_topics, many_topics
from tests.services import Kafka
from tests.unit.docs.pages import ROOT, blocks_of, shell_words
from tests.unit.streams.spec_mistakes import MISTAKES

RECORDS = 120
Lines = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def prefix() -> str:
    """What the topics of this file begin with."""
    return f"i{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="module")
def topics(kafka: Kafka, prefix: str) -> list[ManyTopic]:
    """A topic of each family, and an empty one."""
    found = many_topics(20, prefix)
    fill_topics(kafka.address, found, RECORDS, partitions=2)
    TopicAdmin(ClientSettings(bootstrap=kafka.address)).create(f"{prefix}.empty", TopicSettings(partitions=1))
    return found


@pytest.fixture
def verb(kafka: Kafka, tmp_path: Path) -> Callable[..., int]:
    """Runs `headgate tables …` against the broker."""
    (tmp_path / "headgate.yaml").write_text(f"kafka: {{bootstrap: '{kafka.address}'}}\n")
    (tmp_path / "schemas.json").write_text(json.dumps(avro_schemas()))
    return lambda *words: entry.run(["tables", *words, "--config", str(tmp_path / "headgate.yaml")])


def test_topics_of_all_formats_become_specs_that_refuse_no_record(
    verb: Callable[..., int], topics: list[ManyTopic], prefix: str, tmp_path: Path, capfd: Lines
) -> None:
    """Inferred with no hint of format, written, and held against the topics; a second time there is nothing to do."""
    out, schemas = str(tmp_path / "tables"), ("--schemas", str(tmp_path / "schemas.json"))

    assert verb("infer", f"^{prefix}", "--out", out, *schemas, "--json") == ExitCode.OK
    told = json.loads(capfd.readouterr().out)

    specs = {spec.topics[0]: spec for spec in read_specs(Path(out)).values()}
    assert {each.topic: (each.spec.format, each.spec.key) for each in topics} == {
        topic: (spec.format, spec.key) for topic, spec in specs.items()
    }
    states = {each["topic"]: each["state"] for each in told["topics"]}
    assert "empty" == states[f"{prefix}.empty"]
    assert "says what tables are" in states.values()
    assert {"schema", "definition", "values"} == {each["types_from"] for each in told["tables"]}
    assert verb("lint", out, "--topic-samples", *schemas, "--json") == ExitCode.FOUND
    risks = json.loads(capfd.readouterr().out)["risks"]
    assert [] == [risk for risk in risks if risk["risk"] in {"refused_records", "unknown_columns", "no_topic"}]
    before = {file: file.read_bytes() for file in Path(out).iterdir()}
    assert verb("infer", f"^{prefix}", "--out", out, *schemas) == ExitCode.OK
    assert f"{len(topics)} topics are read by specs that are there already" in capfd.readouterr().err
    assert before == {file: file.read_bytes() for file in Path(out).iterdir()}


def test_what_is_named_and_has_nothing_to_tell_from_is_said(
    verb: Callable[..., int], topics: list[ManyTopic], prefix: str, capfd: Lines
) -> None:
    """An empty topic, one that is not there, a pattern that catches none, and one of ours."""
    assert verb("infer", f"{prefix}.empty") == ExitCode.FOUND
    assert f"{prefix}.empty: empty" in capfd.readouterr().err
    assert verb("infer", topics[0].topic[:-1]) == ExitCode.CONFIGURATION
    assert f"did you mean {topics[0].topic}?" in capfd.readouterr().err
    assert verb("infer", "^nothing[.]begins[.]so") == ExitCode.CONFIGURATION
    assert "no topic matches" in capfd.readouterr().err
    assert verb("infer", "^(") == ExitCode.CONFIGURATION
    assert "is no regular expression" in capfd.readouterr().err


def test_a_list_says_names_and_keys_and_no_file_is_written_over(
    verb: Callable[..., int], topics: list[ManyTopic], tmp_path: Path, capfd: Lines
) -> None:
    """Unless it is asked for; a key that no record has is named with its line."""
    topic, out = topics[0].topic, tmp_path / "tables"
    (tmp_path / "list.csv").write_text(f"topic,table,key\n{topic},results,patient_id code\n")
    assert verb("infer", "--list", str(tmp_path / "list.csv"), "--out", str(out)) == ExitCode.OK
    assert ["patient_id", "code"] == read_specs(out)["results"].key

    (out / "results.yaml").write_text("table: other\ntopics: [t]\ncolumns: {id: long}\n")
    assert verb("infer", "--list", str(tmp_path / "list.csv"), "--out", str(out)) == ExitCode.FOUND
    assert "was left as it is; --overwrite replaces it" in capfd.readouterr().err
    assert ["other"] == list(read_specs(out))
    assert verb("infer", "--list", str(tmp_path / "list.csv"), "--out", str(out), "--overwrite") == ExitCode.OK
    assert ["results"] == list(read_specs(out))

    (tmp_path / "list.csv").write_text(f"topic,key\n{topic},patient\n")
    assert verb("infer", "--list", str(tmp_path / "list.csv")) == ExitCode.CONFIGURATION
    said = capfd.readouterr().err
    assert "list.csv:2: key: " in said
    assert "did you mean 'patient_id'?" in said


def test_the_oldest_and_the_newest_records_are_read_and_no_more_than_wanted(
    kafka: Kafka, topics: list[ManyTopic]
) -> None:
    """Of each partition, in the order of its offsets; a topic with little in it whole."""
    client = ClientSettings(bootstrap=kafka.address)
    admin = TopicAdmin(client)
    topic = topics[0].topic
    ends = {number: high for (_, number), (_, high) in admin.watermarks_now([(topic, 0), (topic, 1)]).items()}
    sampling = Sampling([topic, "nowhere"], client, admin, SampleBounds(records_max=20))

    found: dict[int, list[int]] = {0: [], 1: []}
    for record in sampling:
        found[record.partition].append(record.offset)

    assert {number: [*range(5), *range(end - 5, end)] for number, end in ends.items()} == found
    assert (20, True) == (sampling.topics[topic].records, sampling.topics[topic].is_complete)
    assert sum(ends.values()) == sampling.topics[topic].held == RECORDS
    assert 0 == sampling.topics["nowhere"].records
    whole = Sampling([topic], client, admin, SampleBounds(records_max=10_000))
    assert RECORDS == len(list(whole))
    few = Sampling([topic], client, admin, SampleBounds(records_max=10_000, bytes_max=10_000))
    assert 0 < len(list(few)) < RECORDS


def test_the_page_is_right_as_it_is_written(
    kafka: Kafka, topics: list[ManyTopic], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Lines
) -> None:
    """Its commands one after the other, but for the names of topics; nobody is there whom the last one could ask."""
    monkeypatch.chdir(tmp_path)
    own = topics[0].topic.removesuffix(".public.results")
    Path("headgate.yaml").write_text(f"kafka: {{bootstrap: '{kafka.address}', topic_prefix: own-{own}}}\n")
    block = next(block for block in blocks_of(ROOT / "docs" / "tables.md") if block.language == "sh")
    infer, lint, plan, apply = (shell_words(line.replace("clinic", own))[0] for line in block.text.splitlines())

    assert entry.run(infer[1:]) == ExitCode.OK
    assert entry.run(lint[1:]) == ExitCode.FOUND
    assert "integer_may_be_time (entered_at" in capfd.readouterr().out
    assert entry.run(plan[1:]) == ExitCode.OK
    assert "results: added" in capfd.readouterr().out
    assert entry.run([*apply[1:], "--yes"]) == ExitCode.OK
    assert ["results"] == list(load_tables(config_in(tmp_path)))


def test_nothing_is_applied_while_one_spec_has_a_mistake(kafka: Kafka, prefix: str, tmp_path: Path) -> None:
    """Each of the mistakes that the unit tests know, beside a table that is right."""
    (tmp_path / "headgate.yaml").write_text(f"kafka: {{bootstrap: '{kafka.address}', topic_prefix: none-{prefix}}}\n")
    config, tables = config_in(tmp_path), tmp_path / "tables"
    tables.mkdir()
    (tables / "right.yaml").write_text("table: right\ntopics: [clinic.right]\ncolumns: {id: long}\n")
    # Topics of ours have another prefix here.
    for mistake in (each for each in MISTAKES if "ours" not in each.name or "column" in each.name):
        (tables / "visits.yaml").write_text(mistake.text)
        with pytest.raises(ConfigurationError) as raised:
            apply_folder(config, tables)
        assert f"{tables / 'visits.yaml'}:{mistake.line}: " in raised.value.message, mistake.name

    assert {} == dict(load_tables(config))
    (tables / "visits.yaml").unlink()
    assert ["added"] == [change.action for change in apply_folder(config, tables)]


def config_in(folder: Path) -> Config:
    """Return the configuration in a folder."""
    return read_config((folder / "headgate.yaml").read_text(), name="headgate.yaml")


class Interrupted(Consumer):
    """A consumer at whose reading somebody presses Ctrl-C."""

    closed = 0

    def consume(self, *arguments: Any) -> Any:
        """Be interrupted."""
        signal.raise_signal(signal.SIGINT)
        return super().consume(*arguments)

    def close(self) -> None:
        """Count it."""
        Interrupted.closed += 1
        super().close()


def test_an_interrupt_leaves_nothing_behind(
    verb: Callable[..., int],
    topics: list[ManyTopic],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Lines,
) -> None:
    """No traceback, no file of a part of the tables, no client that still reads."""
    monkeypatch.setattr(sampling, "Consumer", Interrupted)

    assert verb("infer", topics[0].topic, "--out", str(tmp_path / "tables")) == ExitCode.INTERRUPTED
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "tables").exists()
    assert 1 == Interrupted.closed
