"""`headgate masks keys|decrypt`: which keys of masks there are, and what they encrypted, for who has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import print_json, print_table, say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, JsonOption, load_config
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.mask_keys import MaskKeys

app = typer.Typer(
    help="Masks: the keys there are, and what they encrypted.", no_args_is_help=True, rich_markup_mode=None
)

_HASHES, _ENCRYPTS, _DECRYPTS = "hashes and tokens", "encrypts", "decrypts"


@app.command(
    "keys",
    short_help="List the keys and what they are for.",
    epilog=epilog(
        ["headgate masks keys", "headgate masks keys --json"],
        {
            ExitCode.OK: "every secret can be read",
            ExitCode.FOUND: "one cannot be read; the hint says what to look at",
            ExitCode.CONFIGURATION: "the configuration is not right",
        },
    ),
)
def list_keys(config: ConfigOption = DEFAULT_FILE, as_json: JsonOption = False) -> int:
    """List the keys of the configuration: names, ids and what each is for; never a secret.

    An id is what stands in an encrypted value and with a registered table, and says nothing of the secret.
    """
    from streams.mask_keys import mask_keys_of

    keys = mask_keys_of(load_config(config, os.environ).masks)
    rows, problems = [], []
    for name in keys.names:
        try:
            rows += _uses(keys, name)
        except ConfigurationError as error:
            problems.append(error)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(["key", "id", "used for"], [tuple(row.values()) for row in rows])
    else:
        say("no key is named under masks.keys")
    for problem in problems:
        say(f"error: {problem.message}\nhint: {problem.hint}")
    return ExitCode.FOUND if problems else ExitCode.OK


def _uses(keys: MaskKeys, name: str) -> list[dict[str, Any]]:
    from streams.mask_values import id_of

    uses: dict[str, list[str]] = {id_of(keys.secret(name)): [_HASHES]}
    for number, cipher in enumerate(keys.ciphers(name)):
        uses.setdefault(cipher.id, []).append(_DECRYPTS if number else f"{_ENCRYPTS}, {_DECRYPTS}")
    return [{"key": name, "id": key_id, "used_for": ", ".join(said)} for key_id, said in uses.items()]


@app.command(
    "decrypt",
    short_help="Show what masks encrypted.",
    epilog=epilog(
        [
            "headgate masks decrypt rows.jsonl",
            "headgate lake sql 'SELECT id, note FROM patients_latest' --json | headgate masks decrypt -",
        ],
        {
            ExitCode.OK: "printed; what no key decrypts stays as it is, and is counted",
            ExitCode.FOUND: "some of it no key of the configuration decrypts",
            ExitCode.CONFIGURATION: "the configuration is not right, or a file cannot be read",
        },
    ),
)
def decrypt(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Lines of text or JSON; - is stdin.")],
    config: ConfigOption = DEFAULT_FILE,
) -> int:
    """Print lines with every encrypted value replaced by what it was; in a line of JSON it is written as JSON has it.

    What is printed may be personal: it is for who has the key.
    """
    from streams.mask_keys import mask_keys_of

    keys, left = mask_keys_of(load_config(config, os.environ).masks), 0
    for line in _lines(file):
        clear = keys.decrypted(line, written=_in_json if line.lstrip()[:1] in {"{", "[", '"'} else str)
        left += keys.count_encrypted(clear)
        sys.stdout.write(clear)
    sys.stdout.flush()
    if left:
        say(f"{left} encrypted values stay as they are: `headgate masks keys` shows which keys there are")
    return ExitCode.FOUND if left else ExitCode.OK


def _in_json(text: str) -> str:
    import msgspec

    return msgspec.json.encode(text).decode()[1:-1]


def _lines(file: str) -> Iterator[str]:
    def of(lines: Iterable[bytes]) -> Iterator[str]:
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")

    if file == "-":
        yield from of(sys.stdin.buffer)
        return
    try:
        with Path(file).open("rb") as opened:
            yield from of(opened)
    except OSError as exc:
        raise ConfigurationError(f"{file} cannot be read: {type(exc).__name__}", hint="name a file of text") from exc
