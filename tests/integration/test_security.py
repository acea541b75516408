"""Headgate on a Kafka that wants TLS, a password, a token or a certificate, and the rights that a user was given."""

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.transport.answers import ANSWER_SECONDS
from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from headgate.local_stages import ask_local_stages
from schemas.config import Config
from streams.tenant_rights import rights_of
from tests.integration.secured import (
    SECRETS,
    START,
    Running,
    Secured,
    apply_tables,
    changes,
    finish,
    first_answer,
    let_in,
    no_secret_in,
    not_to_be_made,
    produce_patient,
    start_secured,
    token_endpoint,
)
from tests.services import Authority, RedisServer, Services, wait_until

STAGES = ["alerts", "features", "lake", "normalize"]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for all of these tests; it ends with the last of them."""
    own = Services(tmp_path_factory.mktemp("secured"), brief=True)
    try:
        with token_endpoint() as url:
            yield start_secured(own, tmp_path_factory.mktemp("authority"), url)
    finally:
        own.close()


@pytest.fixture
def prefix() -> str:
    """The test's own topics, below what `headgate` may use."""
    return f"headgate.{uuid.uuid4().hex[:8]}"


@pytest.fixture
def write_config(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a configuration; its secrets are in the environment only."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def write(kafka: Mapping[str, Any], redis: RedisServer | None = None) -> Path:
        file = tmp_path / "headgate.yaml"
        document = {
            "kafka": {"topic_prefix": prefix, **kafka},
            "lake": {"warehouse": str(tmp_path / "lake")},
            "web": {"state_folder": str(tmp_path / "state")},
            "redis": {"url": redis.address if redis else "redis://127.0.0.1:9/0", "key_prefix": "secured"},
        }
        file.write_text(yaml.safe_dump(document))
        assert "s3cret" not in file.read_text()
        return file

    return write


@pytest.fixture
def run_headgate(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `headgate run …`; whatever the test does, it ends with it."""
    started: list[Running] = []

    def start(config: Path, *options: str) -> Running:
        started.append(Running(config, tmp_path / f"run-{len(started)}.log", options))
        return started[-1]

    yield start
    for each in started:
        each.end()


def states(config: Path) -> dict[str, str]:
    """Return the state of each stage that answers, as `headgate status` shows it."""
    return {stage.stage: stage.state for stage in asyncio.run(ask_local_stages(config.parent / "state"))}


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"])
def test_verbs_come_in_each_way(
    way: str, secured: Secured, write_config: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Administration, the reader of tables and the scan of the quarantine; no secret is shown by any."""
    config = str(write_config(secured.way(way)))

    codes = [entry.run([*verb, "--json", "--config", config]) for verb in (["tables", "list"], ["quarantine", "list"])]
    checked = entry.run(["check", "--config", config])  # its Redis is not there

    shown = "".join(capfd.readouterr())
    assert [0, 0] == codes
    assert checked == ExitCode.FOUND
    assert f"{secured.way(way)['bootstrap']} answers" in shown
    assert "error: redis" in shown
    assert "error: kafka" not in shown
    assert no_secret_in(shown)


def test_all_stages_run_with_scram(
    secured: Secured,
    redis_server: RedisServer,
    write_config: Callable[..., Path],
    run_headgate: Callable[..., Running],
    tmp_path: Path,
    prefix: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A record becomes a change in a transaction; a table that may not be read is told of, and stops no other."""
    config = write_config(secured.way("SCRAM-SHA-512"), redis_server)
    tables = apply_tables(tmp_path / "tables", patients="town.patients", closed="closed.patients")
    produce_patient(secured, 1)

    running = run_headgate(config, *tables)
    wait_until(lambda: 1 in changes(secured, prefix)[0], "the change", deadline_seconds=60)
    wait_until(lambda: states(config) == dict.fromkeys(STAGES, "running"), "all stages run", deadline_seconds=60)
    wait_until(lambda: '"consumer_refused"' in running.log, "the refused topic is told of", deadline_seconds=20)
    paused = entry.run(["tables", "pause", "patients", "--config", str(config)])
    resumed = entry.run(["tables", "resume", "patients", "--config", str(config)])
    checked = entry.run(["check", "--config", str(config)])
    code = running.end()

    ids, ends = changes(secured, prefix)
    assert code == 0, running.log[-4000:]
    assert [0, 0] == [paused, resumed]
    assert checked == ExitCode.FOUND
    shown = "".join(capfd.readouterr())
    assert "error: kafka: topic closed.patients: the broker refuses" in shown
    assert ends > len(ids), "the end of a transaction takes an offset of its own"
    assert "closed.patients" in running.log
    assert no_secret_in(running.log + shown)


def test_a_plan_names_the_rights_that_are_missing(
    secured: Secured, write_config: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of source topics and of our own, before anything is applied; and nothing of those that are there."""
    apply_tables(tmp_path / "tables", patients="town.patients", closed="closed.patients")
    folder, config = str(tmp_path / "tables"), write_config(secured.way("PLAIN"))

    code = entry.run(["tables", "plan", folder, "--json", "--config", str(config)])
    of_tables = json.loads(capfd.readouterr().out)["tables"]
    config = write_config({**secured.way("PLAIN"), "topic_prefix": "town.own"})
    entry.run(["tables", "plan", folder, "--json", "--config", str(config)])
    elsewhere = json.loads(capfd.readouterr().out)["tables"]

    def said(tables: list[Any]) -> dict[str, list[str]]:
        return {each["table"]: [f"{one['rule']}: {one['what']}" for one in each["notices"]] for each in tables}

    assert code == 0
    assert {
        "patients": [],
        "closed": ["right_missing: closed.patients is hidden from this user, if it is there"],
    } == said(of_tables)
    (refused,) = said(elsewhere)["patients"]
    assert refused.startswith("right_missing: the broker would not make town.own.changes.patients")


def test_normalize_runs_with_tokens(
    secured: Secured,
    write_config: Callable[..., Path],
    run_headgate: Callable[..., Running],
    tmp_path: Path,
    prefix: str,
) -> None:
    """Of an endpoint that its clients ask by themselves: the consumer, the transactional producer, the readers."""
    config = write_config(secured.way("OAUTHBEARER"))
    tables = apply_tables(tmp_path / "tables", patients="town.patients")

    running = run_headgate(config, "--stage", "normalize", *tables)
    produce_patient(secured, 2)
    wait_until(lambda: 2 in changes(secured, prefix)[0], "the change", deadline_seconds=60)
    code = running.end()

    assert code == 0, running.log[-4000:]
    assert no_secret_in(running.log)


def test_an_output_that_may_not_be_made_stops_its_table_alone(
    secured: Secured,
    write_config: Callable[..., Path],
    run_headgate: Callable[..., Running],
    tmp_path: Path,
    prefix: str,
) -> None:
    """NORMALIZE starts and goes on with the others; once it may, and the table is resumed, that goes on, too."""
    admin = AdminClient({"bootstrap.servers": secured.kafka.address})
    finish(admin.create_topics([NewTopic("town.barred", 2)]))
    config = write_config(secured.way("PLAIN"))
    tables = apply_tables(tmp_path / "tables", patients="town.patients", barred="town.barred")

    with not_to_be_made(secured, f"{prefix}.changes.barred"):
        running = run_headgate(config, "--stage", "normalize", *tables)
        produce_patient(secured, 3, "town.barred")
        wait_until(lambda: '"step_failed"' in running.log, "its table stops", deadline_seconds=60)
        produce_patient(secured, 4)
        wait_until(lambda: 4 in changes(secured, prefix)[0], "the other's change", deadline_seconds=60)
    resumed = entry.run(["tables", "resume", "barred", "--config", str(config)])
    wait_until(lambda: 3 in changes(secured, prefix, "barred")[0], "its own change", deadline_seconds=60)
    code = running.end()

    assert (0, 0) == (code, resumed), running.log[-4000:]
    assert '"worker_died"' not in running.log


def wrong_password(secured: Secured, _: Path) -> dict[str, Any]:
    """The broker knows the user by another one."""
    way = secured.way("PLAIN")
    return {**way, "sasl": {**way["sasl"], "password": "${WRONG_PASSWORD}"}}


def wrong_scram_password(secured: Secured, _: Path) -> dict[str, Any]:
    """The same by SCRAM."""
    way = secured.way("SCRAM-SHA-256")
    return {**way, "sasl": {**way["sasl"], "password": "${WRONG_PASSWORD}"}}


def unknown_authority(secured: Secured, folder: Path) -> dict[str, Any]:
    """Another authority than the one that signed the broker's certificate."""
    return {**secured.way("PLAIN"), "tls": {"ca_file": str(Authority(folder / "other").ca_file)}}


def other_host_name(secured: Secured, _: Path) -> dict[str, Any]:
    """The certificate is for an address, not for a name."""
    return {**secured.way("PLAIN"), "bootstrap": f"localhost:{secured.sasl.port}"}


def no_certificate(secured: Secured, _: Path) -> dict[str, Any]:
    """The broker wants one of the client."""
    return {**secured.way("certificate"), "tls": secured.tls()}


def no_authority_file(secured: Secured, _: Path) -> dict[str, Any]:
    """A slip in a path."""
    return {**secured.way("PLAIN"), "tls": {"ca_file": "/nowhere/ca.pem"}}


def wrong_key_password(secured: Secured, _: Path) -> dict[str, Any]:
    """The client's key stays closed."""
    way = secured.way("certificate")
    return {**way, "tls": {**way["tls"], "key_password": "${WRONG_PASSWORD}"}}


def no_rights(secured: Secured, _: Path) -> dict[str, Any]:
    """A user whom the broker lets in and shows nothing."""
    user = {"mechanism": "PLAIN", "username": "stranger", "password": "${STRANGER_PASSWORD}"}
    return {**secured.way("PLAIN"), "sasl": user}


def wrong_client_secret(secured: Secured, _: Path) -> dict[str, Any]:
    """The token endpoint does not know the client."""
    way = secured.way("OAUTHBEARER")
    return {**way, "sasl": {**way["sasl"], "client_secret": "${WRONG_PASSWORD}"}}


MISTAKES: list[tuple[Callable[[Secured, Path], dict[str, Any]], ExitCode, list[str]]] = [
    (wrong_password, ExitCode.CONFIGURATION, ["does not let headgate by PLAIN in", "Invalid username", "kafka.sasl"]),
    (wrong_scram_password, ExitCode.CONFIGURATION, ["does not let headgate by SCRAM-SHA-256 in", "kafka.sasl"]),
    (unknown_authority, ExitCode.CONFIGURATION, ["the certificate of 127.0.0.1:", "kafka.tls.ca_file", "must hold"]),
    (other_host_name, ExitCode.CONFIGURATION, ["the certificate of localhost:", "Hostname mismatch", "bootstrap"]),
    (no_certificate, ExitCode.CONFIGURATION, ["does not take this client's certificate", "certificate_file"]),
    (no_authority_file, ExitCode.CONFIGURATION, ["ssl.ca.location", "kafka.tls.ca_file"]),
    (wrong_key_password, ExitCode.CONFIGURATION, ["ssl.key.location", "kafka.tls.key_password"]),
    (no_rights, ExitCode.CONFIGURATION, ["topic headgate.", ": the broker refuses: ", "docs/operate.md"]),
    (wrong_client_secret, ExitCode.UNAVAILABLE, ["no token from http://127.0.0.1:", "client_secret"]),
]


@pytest.mark.parametrize(("mistake", "code", "told"), MISTAKES, ids=[case[0].__name__ for case in MISTAKES])
def test_a_mistake_is_told_at_once(
    mistake: Callable[[Secured, Path], dict[str, Any]],
    code: ExitCode,
    told: list[str],
    secured: Secured,
    write_config: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With what, where, why and what to do, and never the secret; `check` says the same, as one of its checks."""
    config = str(write_config(mistake(secured, tmp_path)))

    began = time.monotonic()
    listed = entry.run(["tables", "list", "--config", config])
    seconds = time.monotonic() - began
    shown = "".join(capfd.readouterr())
    began = time.monotonic()
    checked = entry.run(["check", "--config", config])
    seconds_of_check = time.monotonic() - began
    shown_by_check = "".join(capfd.readouterr())

    assert code == listed
    assert checked == ExitCode.FOUND
    assert [] == [part for part in ["error: ", "hint: ", *told] if part not in shown]
    assert [] == [part for part in ["error: kafka: ", "hint: ", *told] if part not in shown_by_check]
    assert no_secret_in(shown + shown_by_check)
    assert seconds < ANSWER_SECONDS, "it is told at once, not when the request's time is up"
    assert seconds_of_check < 3 * ANSWER_SECONDS, "so does `check`, which asks for several things"


def test_a_client_that_speaks_no_tls_is_told_so(
    secured: Secured, write_config: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """The broker answers nothing that such a client could read, so it is asked whether it speaks TLS."""
    config = write_config({"bootstrap": secured.sasl.address})

    code = entry.run(["tables", "list", "--config", str(config)])

    assert code == ExitCode.CONFIGURATION
    assert f"error: {secured.sasl.address} speaks TLS, and this client does not" in capfd.readouterr().err


def test_a_stage_without_a_right_ends_and_names_it(
    secured: Secured,
    write_config: Callable[..., Path],
    run_headgate: Callable[..., Running],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its transactional id, its group; both with exit code 3, so that the supervisor tries it seldom. So does apply."""
    _, folder = apply_tables(tmp_path / "tables", patients="town.patients")
    apply = ["tables", "apply", folder, "--yes", "--config"]
    assert entry.run([*apply, str(write_config(secured.way("PLAIN")))]) == ExitCode.OK
    runs = {}
    for prefix in ("noid", "nogroup"):
        config = write_config({**secured.way("PLAIN"), "group_prefix": prefix})
        own = config.rename(tmp_path / f"{prefix}.yaml")
        runs[prefix] = run_headgate(own, "--stage", "normalize", "--instance", prefix)

    codes = [run.process.wait(60) for run in runs.values()]
    capfd.readouterr()
    assert entry.run([*apply, str(tmp_path / "noid.yaml")]) == ExitCode.CONFIGURATION
    assert "error: transactional id noid-tables: " in capfd.readouterr().err

    assert [ExitCode.CONFIGURATION] * 2 == codes, [run.log[-2000:] for run in runs.values()]
    assert "transactional id noid-normalize-noid-0" in runs["noid"].log
    assert "group nogroup-normalize: the broker refuses" in runs["nogroup"].log
    assert all("docs/operate.md" in run.log for run in runs.values())
    assert no_secret_in("".join(run.log for run in runs.values()))


def test_a_run_with_a_wrong_password_ends(secured: Secured, write_config: Callable[..., Path], tmp_path: Path) -> None:
    """`--apply` says why; without it every worker does, and nothing would mend it by itself."""
    config = write_config(wrong_password(secured, tmp_path))
    command = [*START, "run", "--config", str(config)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))

    assert done.returncode == ExitCode.CONFIGURATION
    assert "does not let headgate by PLAIN in" in done.stderr
    assert no_secret_in(done.stdout + done.stderr)


def test_a_tenants_reader_reads_its_own_topics_alone(secured: Secured) -> None:
    """With the rights that `headgate tenants rights` prints: not those of a tenant whose name begins alike."""
    topics = {name: f"headgate.changes.{name}.patients" for name in ("acme", "acme-2")}
    admin = AdminClient({"bootstrap.servers": secured.kafka.address})
    finish(admin.create_topics([NewTopic(topic, 1, 1) for topic in topics.values()]))
    writer = Producer({"bootstrap.servers": secured.kafka.address})
    for name, topic in topics.items():
        writer.produce(topic, name.encode())
    assert writer.flush(30) == 0
    way = let_in(secured, "acme-reader", rights_of("acme", "reader", Config()).kafka)

    answers = {}
    for group, topic in (("acme.app", topics["acme"]), ("acme.app", topics["acme-2"]), ("acme-2.app", topics["acme"])):
        reader = Consumer({**way, "group.id": group, "auto.offset.reset": "earliest"})
        reader.subscribe([topic])
        answers[group, topic] = first_answer(reader)
        reader.close()

    assert ["acme", "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"] == list(answers.values())
