"""The placeholder of values that the source did not send, among values whose type is not known yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connectors.formats.placeholder import Placeholder
from schemas.types import ColumnType, Kind

_REFERENCES = ("text", "base64")
_LISTED = (Kind.STRING, Kind.BINARY, Kind.INT, Kind.UUID)


class Unavailable:
    """Knows each form that a placeholder takes on the wire, by a name that says what stands there otherwise."""

    def __init__(self, placeholder: Placeholder) -> None:
        self._texts: dict[str, str] = {placeholder.text: "text"}
        for encoding, form in (("string", "document"), ("base64", "base64")):
            kind = Kind.BINARY if encoding == "base64" else Kind.STRING
            for value in placeholder.values(ColumnType(kind), str, encoding):
                self._texts.setdefault(value, form)
        self._starts: dict[str, str] = dict(
            zip(placeholder.references(ColumnType(Kind.STRING), str, "base64"), _REFERENCES, strict=True)
        )
        self._start = tuple(self._starts)
        self._map = {placeholder.text: placeholder.text}
        self._lists: list[tuple[list[Any], str]] = [([placeholder.text], "list of texts")]
        lists = {kind: placeholder.values(_list_of(kind), list, "") for kind in _LISTED}
        self._lists += [([text], "list of bytes") for text, form in self._texts.items() if form == "base64"]
        self._lists += [(value, "list of integers") for value in lists[Kind.INT]]
        self._lists += [(value, "list of UUIDs") for value in lists[Kind.UUID]]

    def form(self, value: Any) -> str | None:
        """Return the form of a value that is the placeholder, None for any other."""
        if isinstance(value, str):
            return self._texts.get(value) or self._reference(value)
        if isinstance(value, list):
            return next((form for known, form in self._lists if value == known), None)
        return "map" if value == self._map else None

    def _reference(self, value: str) -> str | None:
        if not value.startswith(self._start):
            return None
        return next(form for start, form in self._starts.items() if value.startswith(start))

    def among(self, values: Iterable[Any]) -> dict[str, Any]:
        """Return one value of each form that is among texts, lists or objects; empty, fast, where there is none."""
        found: dict[str, Any] = {}
        for value in values:
            if value.__class__ is str:
                if (value in self._texts or value.startswith(self._start)) and (form := self.form(value)) is not None:
                    found[form] = value
            elif (form := self.form(value)) is not None:
                found[form] = value
        return found


def _list_of(kind: Kind) -> ColumnType:
    return ColumnType(Kind.LIST, element=ColumnType(kind))
