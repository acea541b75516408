"""Each sample consumer runs as it was generated, and is given each change once, of a topic with repeats and a gap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from headgate.contracts.documents import documents, files
from headgate.contracts.samples import SAMPLES
from schemas.config import KafkaConfig, RegistryConfig
from schemas.contract import Format
from tests.integration.subscribing import PARTITIONS, as_avro, by_partition, contract, plant
from tests.integration.transport_processes import ROOT, Bench
from tests.services import wait_until
from tests.services.jars import jars
from tests.services.java import BRIEF
from tests.services.registry import SchemaRegistry
from tests.services.system import require_program

SECONDS = 90.0


def command(file: Path) -> list[str]:
    """Return how a sample is started; Java compiles it first."""
    if file.suffix == ".java":
        libraries = os.pathsep.join(f"{jars(name)}/*" for name in ("kafka", "avro"))
        return [require_program("java"), "-Xmx128m", *BRIEF, "-cp", libraries, str(file)]
    return [sys.executable, str(file)]


def lines(file: Path) -> list[str]:
    """Return the whole lines of a file."""
    return [line for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """A registry without schemas."""
    with SchemaRegistry() as running:
        yield running


@pytest.mark.parametrize("form", ["json", "avro"])
@pytest.mark.timeout(240)
def test_each_sample_is_given_each_change_once(
    bench: Bench, tmp_path: Path, registry: SchemaRegistry, form: Format
) -> None:
    """In order per partition, with the floors, without what was aborted; and says on stderr what is missing.

    A table whose changes became Avro has JSON first on its topic; the registry is found where the configuration has it.
    """
    topic = bench.topic("changes.patients", PARTITIONS)
    generated(bench, registry, topic, form, tmp_path)
    given = plant(bench.bootstrap, topic, as_avro(registry, topic) if form == "avro" else None)
    count = sum(map(len, given.values()))
    for name in SAMPLES:
        file = tmp_path / f"patients.{name}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "KAFKA_GROUP": f"{bench.group}-{name}"}
        with (tmp_path / f"{name}.out").open("wb") as printed, (tmp_path / f"{name}.err").open("wb") as said:
            bench.workers[name] = subprocess.Popen(
                command(file), env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=printed, stderr=said
            )

    for name, process in bench.workers.items():
        out, err = tmp_path / f"{name}.out", tmp_path / f"{name}.err"

        def enough(out: Path = out, err: Path = err, process: subprocess.Popen[bytes] = process) -> bool:
            assert process.poll() is None, err.read_text("utf-8")
            return len(lines(out)) >= count

        wait_until(enough, f"{name} printed {count} lines", deadline_seconds=SECONDS)
        printed_lines = [json.loads(line) for line in lines(out)]
        assert given == by_partition(line["position"] for line in printed_lines), name
        (missing,) = (line for line in lines(err) if line.startswith("missing: "))
        assert re.search(r"behind .*8.* comes .*12", missing), f"{name}: the change between was never written"
        assert_rows(name, printed_lines)


def generated(bench: Bench, registry: SchemaRegistry, topic: str, form: Format, folder: Path) -> None:
    """Write the files of the table's contract, as `headgate contract` does."""
    kafka, asked = KafkaConfig(bootstrap=bench.bootstrap), RegistryConfig(urls=[registry.url])
    for name, text in files("patients", documents(contract(topic, form), kafka, registry=asked)).items():
        (folder / name).write_text(text, "utf-8")


def assert_rows(name: str, printed: list[dict[str, Any]]) -> None:
    """Compare what was printed of rows: values that every form and language writes alike."""
    rows = [line["after"] for line in printed if line["op"] != "floor"]
    assert {"update"} == {line["op"] for line in printed} - {"floor"}, name
    assert all(row["name"] == row["note"].replace("note", "name") for row in rows), name
    assert {"70.5"} == {str(Decimal(str(row["weight"])).normalize()) for row in rows}, name
    assert all(row["tags"] == ["a", None] for row in rows), name
    assert all(str(line["key"]["id"]) == str(line["after"]["id"]) for line in printed if line["op"] != "floor"), name
