"""Where the secrets of masks come from, what is said when one cannot be had, and that nothing is said of one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.config import MasksConfig, read_config
from schemas.document import read_document
from schemas.errors import ConfigurationError
from schemas.table import TableEntry, TableSpec
from schemas.topics import TopicNames
from streams.apply import check_specs, merge
from streams.mask_keys import AGAIN_SECONDS, MaskKeys, mask_keys_of, pinned_for
from streams.mask_values import Cipher, id_of

NAMES = TopicNames()
SECRET = "a-secret-that-nobody-ever-reads-aloud"
SPEC = (
    "table: t\ntopics: [x]\nkey: [id]\ncolumns: {id: {type: int, mask: token}, note: {type: string, mask: encrypt}}\n"
)


def keys_of(environment: dict[str, str] | None = None, **keys: Any) -> MaskKeys:
    """Return keys by their references."""
    return MaskKeys(MasksConfig.model_validate({"keys": keys}), environment or {})


def printing(text: str) -> str:
    """Return a command that prints a text."""
    return f"command:{shlex.join([sys.executable, '-c', f'print({text!r})'])}"


def spec_of(text: str = SPEC) -> TableSpec:
    """Return a spec."""
    return read_document(text, TableSpec, name="t.yaml")


def test_a_secret_comes_from_the_environment_a_file_or_a_command(tmp_path: Path) -> None:
    """White space around it, as editors leave it, is none of it."""
    (tmp_path / "key").write_text(f"  {SECRET}\n")
    keys = keys_of({"KEY": SECRET}, a="env:KEY", b=f"file:{tmp_path / 'key'}", c=printing(SECRET))

    assert [SECRET.encode()] * 3 == [keys.secret(name) for name in "abc"]
    assert ["a", "b", "c"] == keys.names


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:NOT_THERE", "the variable NOT_THERE is empty or not there"),
        ("env:SHORT", "the variable SHORT has 5 bytes"),
        ("env:LONG", "the variable LONG has 5000 bytes"),
        ("file:/nowhere/key", "/nowhere/key cannot be read: FileNotFoundError"),
        ("file:/", "/ cannot be read: IsADirectoryError"),
        ("command:/nowhere/vault read key", "its command cannot be run: FileNotFoundError"),
        ("command:echo 'unbalanced", "its command cannot be run: ValueError"),
        (f"command:{shlex.join([sys.executable, '-c', 'import sys; sys.exit(7)'])}", "its command ended with 7"),
        (printing("short"), "what its command prints has 5 bytes"),
    ],
)
def test_a_secret_that_cannot_be_had_is_said_with_its_key_and_what_to_do(reference: str, said: str) -> None:
    """And without a word of what was found in its place."""
    keys = keys_of({"SHORT": "short", "LONG": "x" * 5000}, clinic=reference)

    with pytest.raises(ConfigurationError) as caught:
        keys.secret("clinic")

    assert said in caught.value.message
    assert "mask key 'clinic'" in caught.value.message
    assert caught.value.hint
    assert "short" not in str(caught.value)


def test_a_command_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    """A transaction may be open meanwhile."""
    command = f"command:{shlex.join([sys.executable, '-c', 'import time; time.sleep(60)'])}"
    keys = MaskKeys(MasksConfig.model_validate({"keys": {"slow": command}, "timeout_seconds": 0.05}), {})

    with pytest.raises(ConfigurationError, match=r"did not end within 0\.05 seconds"):
        keys.secret("slow")


def test_a_command_is_run_once_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    """For all tables that name its key; a secret that came later is taken up by the next who asks."""
    program = f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); print({SECRET!r})"
    references = {"a": f"command:{shlex.join([sys.executable, '-c', program])}", "b": f"file:{tmp_path / 'late'}"}
    now = [0.0]
    keys = MaskKeys(MasksConfig.model_validate({"keys": references}), {}, clock=lambda: now[0])

    for _ in range(3):
        keys.secret("a")
    assert "x" == (tmp_path / "runs").read_text()
    with pytest.raises(ConfigurationError):
        keys.secret("b")
    (tmp_path / "late").write_text(SECRET)
    with pytest.raises(ConfigurationError, match="late cannot be read"):
        keys.secret("b")
    now[0] += AGAIN_SECONDS
    assert SECRET.encode() == keys.secret("b")


@pytest.mark.parametrize("reference", ["plain-text", "env:", "env:a b", "file:", "command:", "vault:x", ""])
def test_a_reference_says_where_and_never_what(reference: str) -> None:
    """A secret in the place of its reference would stand in the configuration."""
    with pytest.raises(ConfigurationError) as caught:
        read_config(f'masks: {{keys: {{a: "{reference}"}}}}', name="headgate.yaml")

    assert "headgate.yaml:1" in str(caught.value)


def test_older_keys_decrypt_and_only_the_first_encrypts() -> None:
    """Rotation: put the new one in front."""
    old, new = "old-" + SECRET, "new-" + SECRET
    before = keys_of({"OLD": old, "S": SECRET}, a={"secret": "env:S", "encrypt": ["env:OLD"]})
    after = keys_of({"OLD": old, "NEW": new, "S": SECRET}, a={"secret": "env:S", "encrypt": ["env:NEW", "env:OLD"]})
    line = f"{before.cipher('a').encrypted('one')} {after.cipher('a').encrypted('two')}"

    assert "one two" == after.decrypted(line)
    assert f"one {after.cipher('a').encrypted('two')}" == before.decrypted(line)
    assert (2, 1, 0) == tuple(map(after.count_encrypted, (line, before.decrypted(line), after.decrypted(line))))
    assert id_of(SECRET.encode()) == id_of(after.secret("a"))


def test_a_key_that_cannot_be_read_leaves_the_others() -> None:
    """What they encrypted is decrypted all the same."""
    keys = keys_of({"S": SECRET}, a="env:NOT_THERE", b="env:S")

    assert "x" == keys.decrypted(str(Cipher(SECRET.encode()).encrypted("x")))


def test_the_secret_of_hashes_and_tokens_does_not_change_unseen() -> None:
    """An apply under the same name is refused; a key with another name is a change that everybody sees."""
    old = pinned_for(keys_of({"S": SECRET}, default="env:S"), [spec_of()], {})["t"]
    registered = {"t": TableEntry(spec=spec_of(), mask_keys=old)}
    other = keys_of({"S": "new-" + SECRET}, default="env:S", next="env:S")

    assert {"default": id_of(SECRET.encode())} == old
    with pytest.raises(ConfigurationError, match="secret of mask key 'default' is not the one"):
        pinned_for(other, [spec_of()], registered)
    renamed = spec_of(SPEC + "masks: {key: next}\n")
    assert {"next": id_of(b"new-" + SECRET.encode())} == pinned_for(other, [renamed], registered)["t"]


def test_a_secret_that_only_encrypts_may_be_exchanged() -> None:
    """What was encrypted says by which key."""
    only = spec_of("table: t\ntopics: [x]\nkey: [id]\ncolumns: {id: int, n: {type: string, mask: encrypt}}")

    assert {"t": {}} == pinned_for(keys_of({"S": SECRET}, default="env:S"), [only], {})


def test_an_entry_keeps_the_ids_of_its_keys() -> None:
    """And a mask that changes is another version of the table's schema."""
    spec = spec_of()
    (_, entry) = merge({}, {"t": spec}, at="", starts={}, names=NAMES, mask_keys={"t": {"default": "0011aabb"}})["t"]
    other = spec_of(SPEC.replace("mask: encrypt", "mask: hash"))
    (change, after) = merge({"t": entry}, {"t": other}, at="", starts={}, names=NAMES, mask_keys={"t": {"k": "1"}})["t"]

    assert {"default": "0011aabb"} == entry.mask_keys
    assert entry == TableEntry.model_validate_json(entry.model_dump_json())
    assert ("changed", 2, {"k": "1"}) == (change.action, after.schema_version, after.mask_keys)


def test_rules_are_compiled_over_what_the_masks_leave() -> None:
    """A number that is hashed is a text; a column that is dropped is none."""
    text = "table: t\ntopics: [x]\nkey: [id]\ncolumns: {id: int, age: {type: int, mask: MASK}}\n"
    rules = "rules: [{rule: r, when: WHEN}]\n"
    hashed = spec_of(text.replace("MASK", "hash") + rules.replace("WHEN", "after.age = 'abc'"))

    complete = check_specs({"t": hashed}, read_config("", name="c"))
    assert hashed == complete["t"]
    for mask, when in (("hash", "after.age + 1 > 4"), ("drop", "after.age > 4")):
        with pytest.raises(ConfigurationError):
            check_specs(
                {"t": spec_of(text.replace("MASK", mask) + rules.replace("WHEN", when))}, read_config("", name="c")
            )


def test_one_process_reads_the_keys_of_a_configuration_once() -> None:
    """Every decoder, and what seals, has the same."""
    config = MasksConfig.model_validate({"keys": {"a": "env:SOMETHING"}})

    assert mask_keys_of(config) is mask_keys_of(MasksConfig.model_validate({"keys": {"a": "env:SOMETHING"}}))
