"""The configuration file as a verb reads it: secrets may come from the environment as `${NAME}`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from schemas.config import Config

DEFAULT_FILE = Path("headgate.yaml")
_PLACEHOLDER = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)\}")

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="HEADGATE_CONFIG", help="The configuration file.", show_default="headgate.yaml"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def load_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Return the configuration in `path`, with `${NAME}` replaced from `environment` (`$${NAME}` stays as `${NAME}`).

    Raises:
        ConfigurationError: the file is not there, a variable is not set, or a key is wrong; with the line.
    """
    from schemas.config import read_config

    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"no configuration at {path}",
            hint="name it with --config or HEADGATE_CONFIG; an empty file means Kafka and Redis on this machine",
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{path} cannot be read: {type(exc).__name__}", hint="it must be a text file that you may read"
        ) from exc
    return read_config(interpolate(text, environment, name=str(path)), name=str(path))


def interpolate(text: str, environment: Mapping[str, str], *, name: str) -> str:
    """Return `text` with the placeholders of its scalars replaced; lines stay where they are.

    A replaced scalar becomes a quoted one, so no value can end it early, whatever it holds.

    Raises:
        ConfigurationError: it names file, line and every variable that is not set.
    """
    missing: list[str] = []
    pieces: list[str] = []
    end = 0
    for token in _scalars(text):
        if not _PLACEHOLDER.search(token.value):
            continue
        line = token.start_mark.line + 1
        missing += [
            f"{name}:{line}: ${{{n}}} is not set in the environment"
            for n in _names(token.value)
            if n not in environment
        ]
        value = _PLACEHOLDER.sub(lambda m: m[0][1:] if m[1] else environment.get(m[2], ""), token.value)
        replaced = text[token.start_mark.index : token.end_mark.index]
        pieces += [
            text[end : token.start_mark.index],
            _quoted(value),
            "\n" * replaced.count("\n"),
        ]
        end = token.end_mark.index
    if missing:
        raise ConfigurationError("\n".join(missing), hint="export it, or write $${NAME} where the text itself is meant")
    return "".join([*pieces, text[end:]])


def _quoted(value: str) -> str:
    """Return a text as a quoted scalar of one line, with ASCII only: YAML refuses some characters as they are."""
    return re.sub(r"[^ -~]", lambda m: f"\\U{ord(m[0]):08x}", json.dumps(value, ensure_ascii=False))


def _names(value: str) -> list[str]:
    return [match[2] for match in _PLACEHOLDER.finditer(value) if not match[1]]


def _scalars(text: str) -> list[yaml.ScalarToken]:
    """Return the scalars in the order of the text; nothing where it is no YAML, as its reader then says."""
    try:
        return [token for token in yaml.scan(text, Loader=yaml.SafeLoader) if isinstance(token, yaml.ScalarToken)]
    except yaml.YAMLError:
        return []
