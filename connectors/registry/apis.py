"""The two APIs of registries: Confluent's, which most others speak too, and Apicurio's own, of versions 2 and 3."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any
from urllib.parse import quote

from connectors.formats.reasons import Rejection
from connectors.registry.http import DENIED, Answer, Client, strange
from connectors.registry.known import kind_of
from connectors.wire import IdKind, Registered, SchemaId
from schemas.config import RegistryConfig

REFERENCES_MAX = 500
_DENIALS = range(40400, 40500)  # Confluent's codes of what is not there; a plain 404 is a path that is not there


def confluent(client: Client, schema_id: SchemaId, config: RegistryConfig) -> Registered:
    """Return a schema by Confluent's API.

    Raises:
        Rejection: `unknown_schema`.
        RegistryUnavailable: there is no answer, or none of a registry.
    """
    del config
    paths = {IdKind.NUMBER: "/schemas/ids/", IdKind.GUID: "/schemas/guids/"}
    if schema_id.kind not in paths:
        raise _of_another(schema_id, "confluent")
    main = _of_confluent(client, f"{paths[schema_id.kind]}{schema_id.value}", str(schema_id))

    def needs(document: dict[str, Any]) -> Iterable[tuple[Hashable, str]]:
        for reference in document.get("references") or ():
            subject, version = reference["subject"], reference["version"]
            yield (subject, version), f"/subjects/{quote(str(subject), safe='')}/versions/{int(version)}"

    def ask(path: str) -> dict[str, Any]:
        return _of_confluent(client, path, f"a schema that {schema_id} refers to")

    others = _in_order(main, needs, ask, client.urls[0])
    return Registered(
        str(main.get("schemaType") or "AVRO").upper(), main["schema"], tuple(other["schema"] for other in others)
    )


def _of_confluent(client: Client, path: str, what: str) -> dict[str, Any]:
    answer = client.get(path)
    document = answer.document()
    code = document.get("error_code") if isinstance(document, dict) else None
    if answer.status == DENIED:
        if code in _DENIALS:
            raise _unknown(what, answer)
        raise strange(answer.url, "it answers 404, and not as a registry does that has no such schema")
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise strange(answer.url, "its answer holds no schema")
    return document


def apicurio(client: Client, schema_id: SchemaId, config: RegistryConfig) -> Registered:
    """Return a schema by Apicurio's API; a number in a payload is what `registry.ids` says.

    Raises:
        Rejection: `unknown_schema`.
        RegistryUnavailable: there is no answer, or none of a registry.
    """
    kind = IdKind(config.ids) if schema_id.kind is IdKind.NUMBER else schema_id.kind
    paths = {IdKind.GLOBAL: "/ids/globalIds/", IdKind.CONTENT: "/ids/contentIds/"}
    if kind not in paths:
        raise _of_another(schema_id, "apicurio")
    main = _of_apicurio(client, f"{paths[kind]}{schema_id.value}", "", f"{kind} {schema_id.value}")

    def needs(document: dict[str, Any]) -> Iterable[tuple[Hashable, str]]:
        for reference in document["references"]:
            place = (reference.get("groupId") or "default", reference["artifactId"], reference["version"])
            group, artifact, version = (quote(str(name), safe="") for name in place)
            yield place, f"/groups/{group}/artifacts/{artifact}/versions/{version}"

    def ask(path: str) -> dict[str, Any]:
        content = "" if client.urls[0].endswith("/v2") else "/content"
        return _of_apicurio(client, path, content, f"a schema that {schema_id} refers to")

    others = _in_order(main, needs, ask, client.urls[0])
    return Registered(
        main["kind"] or kind_of(main["schema"]), main["schema"], tuple(other["schema"] for other in others)
    )


def _of_apicurio(client: Client, path: str, content: str, what: str) -> dict[str, Any]:
    answer = client.get(path + content)
    if answer.status == DENIED:
        raise _apicurio_denial(answer, what)
    listed = client.get(f"{path}/references")
    references = listed.document() if listed.status != DENIED else []
    if not isinstance(references, list):
        raise strange(listed.url, "its list of references is none")
    try:
        text = answer.body.decode()
    except UnicodeDecodeError:
        raise strange(answer.url, "its schema is not UTF-8") from None
    return {"schema": text, "kind": answer.kind.upper(), "references": references}


def _apicurio_denial(answer: Answer, what: str) -> Exception:
    """Tell an id that is not there from a path that is not: the first names what was not found."""
    document = answer.document()
    name = document.get("name") if isinstance(document, dict) else None
    if isinstance(name, str) and name.endswith("NotFoundException") and name != "NotFoundException":
        return _unknown(what, answer)
    return strange(answer.url, "it answers 404, and not as a registry does that has no such schema")


def _in_order(
    main: dict[str, Any],
    needs: Callable[[dict[str, Any]], Iterable[tuple[Hashable, str]]],
    ask: Callable[[str], dict[str, Any]],
    url: str,
) -> list[dict[str, Any]]:
    """Return all that a schema refers to, each behind what it needs, and once."""
    done: dict[Hashable, dict[str, Any]] = {}
    begun: set[Hashable] = set()

    def follow(document: dict[str, Any]) -> None:
        for place, path in needs(document):
            if place in begun:
                continue
            begun.add(place)
            if len(begun) > REFERENCES_MAX:
                raise Rejection("bad_registered_schema", f"the schema refers to more than {REFERENCES_MAX} others")
            found = ask(path)
            follow(found)
            done[place] = found

    try:
        follow(main)
    except RecursionError:
        raise Rejection("bad_registered_schema", "the schema's references lead too far") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise strange(url, "its list of references is none") from None
    return list(done.values())


def _unknown(what: str, answer: Answer) -> Rejection:
    return Rejection("unknown_schema", f"the registry at {answer.url} has no schema of {what}")


def _of_another(schema_id: SchemaId, api: str) -> Rejection:
    return Rejection("unknown_schema", f"a {schema_id.kind} id names no schema of a registry with registry.api: {api}")
