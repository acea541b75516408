"""The subjects of a schema registry, by Confluent's API: what is asked of a schema before it is written, and its id.

A subject of ours is FULL_TRANSITIVE: each of its schemas reads what each other one has written. The registry judges
that itself, at `refusal` without writing anything, and again at `register`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from connectors.registry.http import CONFLICT, DENIED, OK, Answer, Client, strange
from schemas.config import RegistryConfig
from schemas.contract_avro import COLUMN, TYPE
from schemas.errors import ConfigurationError, TableStopped

COMPATIBILITY = "FULL_TRANSITIVE"
REASON = "schema_incompatible"
_REASONS_SHOWN = 3
_NO_SUBJECT = range(40400, 40500)
_JAVA_CLASS = re.compile(r"^(?:\w+\.)+\w+: ")  # what Apicurio's messages begin with


class Subjects:
    """The subjects of one registry. It blocks: call it where decoding runs."""

    def __init__(self, config: RegistryConfig) -> None:
        """Prepare to ask; nothing is asked yet.

        Raises:
            ConfigurationError: the registry has another API, or a certificate or key cannot be read.
        """
        if config.api != "confluent":
            raise ConfigurationError(
                "registry.api: only Confluent's API takes the schemas of outputs",
                hint="Apicurio has it, too: `api: confluent` with urls that end in /apis/ccompat/v7",
            )
        self._client = Client(config)

    def refusal(self, subject: str, schema: dict[str, Any]) -> str | None:
        """Return why a subject would not take a schema, None where it would, also where it is not there yet.

        Raises:
            RegistryUnavailable: it does not answer.
        """
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions?verbose=true"
        answer = self._client.send("POST", path, {"schema": _text(schema)})
        document = answer.document()
        if answer.status == DENIED and _code(document) in _NO_SUBJECT:
            return None
        compatible = document.get("is_compatible") if isinstance(document, dict) else None
        if answer.status != OK or not isinstance(compatible, bool):
            raise strange(answer.url, f"asked whether {subject} takes a schema it answers {answer.status}")
        return None if compatible else self._why(subject, schema, document)

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Have a subject hold a schema, and return the schema's id; one that is there already has the id that it had.

        Raises:
            TableStopped: it is not compatible with those that the subject holds.
            RegistryUnavailable: it does not answer; do it again.
        """
        name = quote(subject, safe="")
        told = self._client.send("PUT", f"/config/{name}", {"compatibility": COMPATIBILITY})
        if told.status != OK:
            raise strange(told.url, f"asked to keep {subject} {COMPATIBILITY} it answers {told.status}")
        answer = self._client.send("POST", f"/subjects/{name}/versions", {"schema": _text(schema)})
        if answer.status == CONFLICT:
            raise incompatible(subject, self._why(subject, schema, answer.document()))
        return _id(answer, subject)

    def _why(self, subject: str, schema: dict[str, Any], said: Any) -> str:
        """Return why a subject does not take a schema: the columns that became others, and what the registry says.

        Apicurio says it of fields by their numbers, and its version 3 says nothing to who only asks.
        """
        answer = self._client.get(f"/subjects/{quote(subject, safe='')}/versions/latest")
        document = answer.document()
        text = document.get("schema") if answer.status == OK and isinstance(document, dict) else None
        there, here = dict(_columns(_schema(text))), dict(_columns(schema))
        others = [name for name in here if name in there and there[name][0] != here[name][0]]
        columns = [f"column {name} is {there[name][1]} there and {here[name][1]} here" for name in others]
        return "; ".join([*columns[:_REASONS_SHOWN], *_told(said)]) or "it does not say why"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def incompatible(subject: str, why: str) -> TableStopped:
    """Return what a schema means that a subject does not take."""
    return TableStopped(
        REASON,
        f"subject {subject} does not take the schema of this table's columns: {why}",
        hint="give the table another name for its new form, or take the change back, or have the subject deleted once "
        "nobody reads what was written by it",
    )


def _text(schema: dict[str, Any]) -> str:
    return msgspec.json.encode(schema).decode()


def _code(document: Any) -> int:
    code = document.get("error_code") if isinstance(document, dict) else None
    return code if isinstance(code, int) else 0


def _id(answer: Answer, subject: str) -> int:
    document = answer.document()
    found = document.get("id") if isinstance(document, dict) else None
    if answer.status != OK or not isinstance(found, int):
        raise strange(answer.url, f"asked to register a schema of {subject} it answers {answer.status}")
    return found


def _told(document: Any) -> list[str]:
    """Return what a registry says of two schemas, which holds names and types and no value."""
    found = document if isinstance(document, dict) else {}
    messages = found.get("messages") or [found.get("message") or found.get("reason")]
    return [_JAVA_CLASS.sub("", str(each))[:300] for each in messages[:_REASONS_SHOWN] if each]


def _schema(text: Any) -> Any:
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):  # a subject may hold what others registered
        return None


def _columns(schema: Any) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Return the columns of one of our schemas, each with its type in Avro and its own."""
    if isinstance(schema, list):
        for each in schema:
            yield from _columns(each)
    elif isinstance(schema, dict) and isinstance(schema.get("fields"), list):
        for field in schema["fields"]:
            if isinstance(field, dict):
                if TYPE in field:
                    yield str(field.get(COLUMN, field.get("name"))), (field.get("type"), str(field[TYPE]))
                yield from _columns(field.get("type"))
