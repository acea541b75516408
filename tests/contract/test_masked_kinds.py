"""Masks over every kind of record: what is written is the mask of what would have been, and nothing else changed."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from headgate.cli import main as entry
from schemas.types import Kind, parse_type
from streams.mask_values import Cipher, permuted
from tests.contract.kind_cases import KindCase, cases, decode

SECRET = b"k" * 32
OF_COLUMNS = ("hash", "null", "encrypt", "drop", "token")
OF_KEYS = ("token", "hash")
ROWS = ("key", "old_key", "new_key", "before", "after")
WITHOUT_ROWS = {"05-messages", "27-side-topics", "27-signal-table-flattened", "35-poison-alone"}
CASES = [case for case in cases() if case.name not in WITHOUT_ROWS]

Line = dict[str, Any]


def specs_of(case: KindCase) -> dict[str, Any]:
    """Return the specs of a case by table: its own, else those that its records propose."""
    own = case.folder / "spec.yaml"
    text = own.read_text() if own.exists() else printed_specs(case)
    documents = [document for document in yaml.safe_load_all(text) if document]
    return {document["table"]: document for document in documents if document["columns"]}


def printed_specs(case: KindCase) -> str:
    """Return what `--print-spec` prints."""
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        entry.run(["decode", str(case.folder / "events.jsonl"), "--print-spec", *case.arguments()])
    return written.getvalue().decode()


def masked(spec: dict[str, Any]) -> dict[str, str]:
    """Put a mask on each column of a spec, of its columns and of its key in turn; return them by column."""
    chosen: dict[str, str] = {}
    for number, (name, column) in enumerate(spec["columns"].items()):
        whole = column if isinstance(column, dict) else {"type": column}
        is_rest = str(whole.get("encoding", "")).startswith("rest_of(")
        some = OF_KEYS if name in spec.get("key", []) else OF_COLUMNS
        if not is_rest:
            chosen[name] = some[number % len(some)]
            spec["columns"][name] = {**whole, "mask": chosen[name]}
    if set(chosen.values()) == {"drop"}:
        chosen[name] = spec["columns"][name]["mask"] = "hash"
    return chosen


def expanded(use: str) -> bytes:
    """Derive a key without our code."""
    return hmac.new(SECRET, f"headgate {use}\x01".encode(), hashlib.sha256).digest()


def mask(how: str, type_: str, value: Any) -> Any:
    """Return what must stand for a value of the contract."""
    if value is None or how == "null":
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    kind = parse_type(type_).kind
    if how == "hash":
        return hmac.new(expanded("hash"), text.encode(), hashlib.sha256).hexdigest()
    if how == "encrypt":
        return Cipher(SECRET).encrypted(text)
    if kind in {Kind.INT, Kind.LONG}:
        return str(permuted(expanded("token"), int(text)))
    digest = hmac.new(expanded("token"), text.encode(), hashlib.sha256).digest()
    if kind is Kind.UUID:
        number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) & ~(0b11 << 62)
        return str(uuid.UUID(int=number | 8 << 76 | 0b10 << 62))
    return digest[:16].hex()


def expected(line: Line, specs: dict[str, Any], masks: dict[str, dict[str, str]]) -> Line:
    """Return a line as it must be behind the masks of its table."""
    change, table = line["change"], line["table"]
    if change is None or table not in masks:
        return line
    types = {name: column["type"] for name, column in specs[table]["columns"].items()}
    of = masks[table]

    def row(values: Line | None) -> Line | None:
        return values and {
            name: mask(of[name], types[name], value) for name, value in values.items() if of[name] != "drop"
        }

    rows = {name: row(change[name]) for name in ROWS}
    unavailable = [name for name in change["unavailable"] if of[name] != "drop"]
    return line | {"change": change | rows | {"unavailable": unavailable}}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_masked_table_says_the_same_changes_behind_its_masks(case: KindCase, tmp_path: Path) -> None:
    """Null, absent and unavailable stay what they are; so do order, kinds and what is wrong with a record."""
    events = case.folder / "events.jsonl"
    specs = specs_of(case)
    clear, behind = tmp_path / "clear.yaml", tmp_path / "masked.yaml"
    clear.write_text(yaml.safe_dump_all(specs.values(), allow_unicode=True))
    masks = {table: masked(spec) for table, spec in specs.items()}
    behind.write_text(yaml.safe_dump_all(specs.values(), allow_unicode=True))
    config = tmp_path / "headgate.yaml"
    config.write_text(f"masks: {{keys: {{default: 'file:{tmp_path / 'key'}'}}}}")
    (tmp_path / "key").write_bytes(SECRET + b"\n")
    schemas = [] if not (case.folder / "schemas.json").exists() else ["--schemas", str(case.folder / "schemas.json")]
    assert specs, "its records are of a table"

    code, lines, _ = decode(events, "--spec", str(clear), *schemas)
    other, found, _ = decode(events, "--spec", str(behind), "--config", str(config), *schemas)

    assert code == other
    assert [expected(line, specs, masks) for line in lines] == found
