"""The command line and masks: keys are listed without secrets, who has a key decrypts, and `decode` masks as well."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from headgate.cli.tables_show import as_yaml, columns_of
from schemas.document import read_document
from schemas.table import TableEntry, TableSpec
from streams.mask_values import Cipher, hashed, id_of
from tests.unit.masks.test_masked_tables import CANARY, COLUMNS, HEAD, SECRET, TOPIC, event, row, spec_of


def run(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run a command line; return its exit code, what it printed and what it said."""
    written, err, before = io.BytesIO(), io.StringIO(), sys.stdin
    out = io.TextIOWrapper(written, write_through=True)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = entry.run([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    return code, written.getvalue().decode(), err.getvalue()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a key, and one that is not there."""
    (tmp_path / "key").write_bytes(SECRET)
    (tmp_path / "old").write_bytes(b"o" * 32)
    file = tmp_path / "headgate.yaml"
    key, old = f"file:{tmp_path / 'key'}", f"file:{tmp_path / 'old'}"
    file.write_text(f"masks: {{keys: {{default: {{secret: '{key}', encrypt: ['{key}', '{old}']}}}}}}\n")
    return file


def events(folder: Path, *values: bytes) -> Path:
    """Write a file of records."""
    lines = [
        {"topic": TOPIC, "partition": 0, "offset": at, "value": base64.b64encode(value).decode()}
        for at, value in enumerate(values)
    ]
    file = folder / "events.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_keys_are_listed_by_their_ids(config: Path) -> None:
    """And what each is for."""
    code, printed, _ = run("masks", "keys", "--json", "--config", config)

    ids = [id_of(SECRET), id_of(b"o" * 32)]
    said = [("default", ids[0], "hashes and tokens, encrypts, decrypts"), ("default", ids[1], "decrypts")]
    assert (ExitCode.OK, said) == (code, [tuple(line.values()) for line in json.loads(printed)])


def test_a_key_that_is_missing_is_told(config: Path) -> None:
    """The others are listed."""
    config.write_text(config.read_text().replace("{keys: {", "{keys: {gone: 'env:HEADGATE_NOT_THERE', "))

    code, printed, said = run("masks", "keys", "--config", config)

    assert ExitCode.FOUND == code
    assert id_of(SECRET) in printed
    assert "mask key 'gone': the variable HEADGATE_NOT_THERE is empty or not there" in said


def test_without_keys_it_says_so(tmp_path: Path) -> None:
    """An empty configuration has none."""
    (tmp_path / "c.yaml").write_text("")

    assert (ExitCode.OK, "") == run("masks", "keys", "--config", tmp_path / "c.yaml")[:2]


def test_who_has_the_key_decrypts(config: Path, tmp_path: Path) -> None:
    """In JSON as JSON, in other lines as it is; by the key of before, too."""
    text = 'a "quoted"\nline'
    new, old = Cipher(SECRET).encrypted(text), Cipher(b"o" * 32).encrypted("x")
    lines = f'{{"note":"{new}","more":["{old}"]}}\nnote {old}\n'

    code, printed, _ = run("masks", "decrypt", "-", "--config", config, stdin=lines.encode())
    (tmp_path / "lines").write_text(lines)

    assert ExitCode.OK == code
    assert {"note": text, "more": ["x"]} == json.loads(printed.splitlines()[0])
    assert "note x" == printed.splitlines()[1]
    assert (code, printed) == run("masks", "decrypt", tmp_path / "lines", "--config", config)[:2]


def test_what_no_key_decrypts_stays_and_is_counted(config: Path) -> None:
    """Another installation's, or one that was cut off."""
    foreign = str(Cipher(b"f" * 32).encrypted("secret"))

    code, printed, said = run("masks", "decrypt", "-", "--config", config, stdin=f"{foreign} {foreign[:-3]}\n".encode())

    assert (ExitCode.FOUND, f"{foreign} {foreign[:-3]}\n") == (code, printed)
    assert "2 encrypted values stay as they are" in said
    assert ExitCode.CONFIGURATION == run("masks", "decrypt", "/nowhere", "--config", config)[0]


def test_decode_masks_what_it_shows(config: Path, tmp_path: Path) -> None:
    """Changes and rows; nothing that a mask takes away is on the screen."""
    spec = tmp_path / "patients.yaml"
    spec.write_text(HEAD + COLUMNS)
    file = events(tmp_path, event(1, row()), event(2, row(ward="x"), op="u", before=row()), b"{" + CANARY.encode())

    code, printed, said = run("decode", file, "--spec", spec, "--config", config)
    (_, rows, _) = run("decode", file, "--spec", spec, "--config", config, "--rows")

    assert ExitCode.CONFIGURATION == code
    assert CANARY not in printed + said + rows
    (final,) = map(json.loads, rows.splitlines())
    key = hashed(SECRET)(f"{CANARY}-id-1")
    assert ({"id": key}, "x", None) == (final["key"], final["row"]["ward"], final["row"]["born"])
    assert "ssn" not in final["row"]


def test_decode_says_which_key_is_missing(tmp_path: Path) -> None:
    """And shows nothing."""
    spec, config = tmp_path / "patients.yaml", tmp_path / "headgate.yaml"
    spec.write_text(HEAD + COLUMNS)
    config.write_text("")

    code, printed, said = run("decode", events(tmp_path, event(1, row())), "--spec", spec, "--config", config)

    assert (ExitCode.CONFIGURATION, "") == (code, printed)
    assert "patients: the configuration has no mask key 'default'" in said


def test_a_column_that_nobody_has_named_comes_behind_the_mask_for_such(config: Path, tmp_path: Path) -> None:
    """With its type that of the mask, also where it becomes a text later."""
    spec = tmp_path / "patients.yaml"
    columns = "columns: {id: {type: string, mask: hash}, age: {type: int, mask: hash}}\n"
    spec.write_text(
        f"{HEAD}{columns}unknown_columns: add\ntype_changes: new_column\nmasks: {{unknown_columns: encrypt}}\n"
    )
    values: list[dict[str, Any]] = [
        {"id": "1", "age": 7},
        {"id": "2", "age": CANARY},
        {"id": "3", "age": 2**40, "diary": CANARY},
    ]
    file = events(tmp_path, *(event(at, value) for at, value in enumerate(values, 1)))

    code, printed, said = run("decode", file, "--spec", spec, "--config", config)

    assert ExitCode.OK == code, said
    assert CANARY not in printed
    after = [json.loads(line)["change"]["after"] for line in printed.splitlines()]
    each = hashed(SECRET)
    assert [each(7), None, None] == [values["age"] for values in after]
    assert [each(CANARY), each(2**40)] == [values["age__text"] for values in after[1:]]
    assert Cipher(SECRET).encrypted(CANARY) == after[2]["diary"]


def test_a_table_is_shown_with_its_masks_and_exported_as_people_wrote_it() -> None:
    """What is written of a column stands beside it."""
    entry_ = TableEntry(spec=spec_of())
    shown: dict[str, Any] = {line["column"]: (line.get("mask"), line.get("written", "")) for line in columns_of(entry_)}

    assert {"id": ("hash", "string"), "ssn": ("drop", None), "born": ("null", "string")}.items() <= shown.items()
    assert (None, "") == shown["ward"]
    assert entry_.spec == read_document(as_yaml(entry_), TableSpec, name="exported")
