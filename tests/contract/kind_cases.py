"""Cases of the kinds of records that a source may write, and what `headgate decode` makes of each.

A case is a folder of tests/fixtures/kinds, see its README.md. What is expected there was written down from the
documentation of the source, not from what was seen here.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.cli import main as entry

FOLDER = Path(__file__).parents[1] / "fixtures" / "kinds"
Line = dict[str, Any]

KINDS: dict[int, str] = {
    1: "insert, update, delete and read of PostgreSQL, with schema blocks and without",
    2: "a tombstone behind a delete",
    3: "a change of a key: delete, tombstone, insert, and headers",
    4: "a truncate, which has no key",
    5: "logical messages, in a transaction or not",
    6: "deletes by replica identity DEFAULT and FULL",
    7: "values that were not sent: text, bytea, arrays, uuid, hstore, jsonb",
    8: "rows of an incremental snapshot amid changes",
    9: "ways to mark a row of a snapshot",
    10: "sequences without a first part",
    11: "interleaved transactions",
    12: "changes that share a position",
    13: "several rows in one event of MySQL",
    14: "a binary log that rolls over",
    15: "another server within a binary log",
    16: "a change of a key in SQL Server",
    17: "change numbers of Oracle, up to 20 digits",
    18: "documents of MongoDB, whole and as deltas",
    19: "keys of MongoDB, five types",
    20: "every type",
    21: "decimals, five ways, NaN and infinities",
    22: "dates and times that are infinite",
    23: "a null that may have become a default",
    24: "Avro: framed by Confluent, Apicurio and AWS Glue, by number, GUID and header",
    25: "flattened records, five ways to delete",
    26: "transactions, whose begin and end have different ids",
    27: "heartbeats, schema changes, signals, notifications",
    28: "CloudEvents",
    29: "AWS DMS",
    30: "Maxwell",
    31: "Canal",
    32: "Oracle GoldenGate",
    33: "DynamoDB, by its stream and by Kinesis",
    34: "notifications of S3",
    35: "what nobody can read",
    36: "references to large values on S3",
}


@dataclass(frozen=True)
class KindCase:
    """A folder with records and what they come to."""

    folder: Path

    @property
    def name(self) -> str:
        """Its name, which begins with the number of the kind."""
        return self.folder.name

    @property
    def kind(self) -> int:
        """The number of the kind."""
        return int(self.name[:2])

    def lines(self, name: str) -> list[Line]:
        """Return the objects of one of its files; none where it has no such file."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def arguments(self) -> list[str]:
        """Return what `headgate decode` is told beside the records."""
        given = {"--spec": "spec.yaml", "--schemas": "schemas.json"}
        return [
            text
            for option, name in given.items()
            if (self.folder / name).exists()
            for text in (option, str(self.folder / name))
        ]

    def wrong(self) -> list[str]:
        """Return all that is not as it should be."""
        return self._wrong_lines() + self._wrong_format() + self._wrong_rows()

    def _wrong_lines(self) -> list[str]:
        found = decode(self.folder / "events.jsonl", *self.arguments())[1]
        expected = self.lines("expected.jsonl")
        if len(found) != len(expected):
            return [f"{len(found)} lines, not {len(expected)}"]
        return [said for one, other in zip(expected, found, strict=True) for said in unlike(one, other)]

    def _wrong_format(self) -> list[str]:
        """Tell whether the format is recognised, and makes no difference where it is named."""
        path = self.folder / "format"
        if not path.exists():
            return []
        name, events = path.read_text().strip(), self.folder / "events.jsonl"
        _, auto, said = decode(events, *self.arguments())
        _, given, _ = decode(events, *self.arguments(), "--format", name)
        wrong = [] if f": {name}" in said else [f"not recognised as {name}: {said}"]
        return wrong if auto == given else [*wrong, f"--format {name} makes a difference"]

    def _wrong_rows(self) -> list[str]:
        if not (self.folder / "rows.jsonl").exists():
            return []
        expected = sorted(self.lines("rows.jsonl"), key=json.dumps)
        wrong = []
        for way, arranged in WAYS.items():
            lines = arranged(self.lines("events.jsonl"), random.Random(self.name))
            found = sorted(decode_lines(lines, "--rows", *self.arguments())[1], key=json.dumps)
            if found != expected:
                wrong.append(f"rows {way}: {found}, not {expected}")
        return wrong


def cases() -> list[KindCase]:
    """Return all cases by name."""
    return [KindCase(path) for path in sorted(FOLDER.iterdir()) if path.is_dir()]


def unlike(expected: Line, found: Line) -> list[str]:
    """Return how a line of `headgate decode` differs in what is expected of it; what is not named may be anything."""
    place = found["origin"][3:]
    ours = {"at": place, "kind": found["kind"], "table": found["table"], "change": found["change"]}
    ours["error"] = found["error"] and found["error"]["kind"]
    wrong = [
        f"{place}: {name} is {ours[name]}, not {value}"
        for name, value in expected.items()
        if name != "change" and ours[name] != value
    ]
    if "change" not in expected:
        return wrong if found["change"] is None or expected["kind"] == "change" else [*wrong, f"{place}: a change"]
    if found["change"] is None:
        return [*wrong, f"{place}: {found['error']}"]
    return wrong + [
        f"{place}: {name} is {found['change'][name]}, not {value}"
        for name, value in expected["change"].items()
        if name != "source" and found["change"][name] != value
    ] + [
        f"{place}: source.{name} is {found['change']['source'][name]}, not {value}"
        for name, value in expected["change"].get("source", {}).items()
        if found["change"]["source"][name] != value
    ]  # fmt: skip


def decode(*arguments: str | Path) -> tuple[int, list[Any], str]:
    """Run `headgate decode`; return its exit code, what it printed, and what it said beside that."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = entry.run(["decode", *map(str, arguments)])
    printed: bytes = out.buffer.getvalue()
    return code, [json.loads(line) for line in printed.splitlines()], err.getvalue()


def decode_lines(lines: list[Line], *arguments: str) -> tuple[int, list[Any], str]:
    """Run `headgate decode` on records that stand in no file yet."""
    with tempfile.TemporaryDirectory(prefix="headgate-kinds-") as name:
        events = Path(name) / "events.jsonl"
        events.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return decode(events, *arguments)


def in_order(lines: list[Line], _chance: random.Random) -> list[Line]:
    """Return them as they are."""
    return lines


def shuffled(lines: list[Line], chance: random.Random) -> list[Line]:
    """Return them in any order across keys; those of one key, and those without a key, keep theirs."""
    places: dict[Any, list[Line]] = {}
    for line in lines:
        places.setdefault((line["topic"], line["partition"], line["key"]), []).append(line)
    turns = [place for place, some in places.items() for _ in some]
    chance.shuffle(turns)
    rest = {place: iter(some) for place, some in places.items()}
    return [next(rest[place]) for place in turns]


def doubled(lines: list[Line], _chance: random.Random) -> list[Line]:
    """Return them twice, one behind the other."""
    return lines + lines


def prefix_again(lines: list[Line], chance: random.Random) -> list[Line]:
    """Return them with some beginning of them once more in the middle of the rest, as after a crash."""
    cut = chance.randint(1, len(lines))
    return lines[:cut] + lines[: chance.randint(1, cut)] + lines[cut:]


WAYS: dict[str, Callable[[list[Line], random.Random], list[Line]]] = {
    "in order": in_order,
    "shuffled": shuffled,
    "doubled": doubled,
    "prefix again": prefix_again,
}
