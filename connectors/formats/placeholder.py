"""The placeholder for values that the source did not send (TOAST, LOB), in each form it takes on the wire.

A reference stands for one as well: Debezium's post-processor of large values puts them on S3, and says where.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

import msgspec

from schemas.errors import ConfigurationError
from schemas.types import ColumnType, Kind

_HEX = "hex:"
REFERENCE = "__debezium:s3:ref:v1:"  # then bucket, a bar and the object's key
_NEVER = frozenset(
    {Kind.BOOLEAN, Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}
)


class Placeholder:
    """One spec's placeholder: what it looks like as a value of each wire type, and as bytes of a record.

    `hex:ff00ff` is what Debezium takes as bytes; it decodes them as UTF-8, replacing what is none, to get the text.
    """

    def __init__(self, setting: str) -> None:
        """Take the connector's setting.

        Raises:
            ConfigurationError: it stands for no bytes.
        """
        try:
            raw = bytes.fromhex(setting[len(_HEX) :]) if setting.startswith(_HEX) else setting.encode()
        except ValueError:
            raw = b""
        if not raw:
            raise ConfigurationError(
                "unavailable_placeholder is empty, or hex: without pairs of hexadecimal digits",
                hint="write what unavailable.value.placeholder of the connector says, or leave it out",
            )
        self._raw = raw
        self.text = raw.decode("utf-8", "replace")
        self._plain = self.text.isascii() and self.text.isprintable() and not set('"\\/<>&') & set(self.text)

    def values(self, type_: ColumnType, wire: Any, encoding: str) -> tuple[Any, ...]:
        """Return every decoded value that stands for `unavailable` in a column; empty if there is none."""
        if type_.kind is Kind.LIST:
            assert type_.element is not None, "a list has an element type"
            return self._lists(type_.element, wire)
        if type_.kind in _NEVER:
            return ()
        if wire is bytes:  # unscaled bytes of a decimal come as null instead
            return () if type_.kind is Kind.DECIMAL else (self._raw, self.text.encode())
        if wire is str:
            return (self.text, *self._binary_texts(encoding), self._document())
        return ()

    @staticmethod
    def references(type_: ColumnType, wire: Any, encoding: str) -> tuple[Any, ...]:
        """Return how decoded values begin that are a reference instead; empty if there are none in such a column."""
        raw = REFERENCE.encode()
        if wire is bytes:
            return () if type_.kind is Kind.DECIMAL else (raw,)
        if wire is not str or type_.kind in _NEVER:
            return ()
        match encoding:
            case "hex":
                return REFERENCE, raw.hex()
            case "base64" | "base64url" | "data.Bits":
                return REFERENCE, base64.b64encode(raw).decode()  # of as many bytes as make whole groups
            case _:
                return (REFERENCE,)

    def needles(self, wires: set[Any], encodings: set[str]) -> tuple[bytes, ...] | None:
        """Return bytes of which a record with a placeholder holds one at least; None: such bytes cannot be named."""
        if not self._plain:
            return None
        found = [self.text.encode(), REFERENCE.encode()]
        if bytes in wires:
            found += [base64.b64encode(self._raw).rstrip(b"=")[:-1], base64.b64encode(REFERENCE.encode())]
        if encodings & {"base64", "base64url", "data.Bits"}:
            found += [text.rstrip("=").encode() for text in self._binary_texts("base64url")]
            found.append(base64.b64encode(REFERENCE.encode()))
        if "hex" in encodings:
            found += [self._raw.hex().encode(), REFERENCE.encode().hex().encode()]
        if int in wires:
            found.append(",".join(map(str, self._codes()[:8])).encode())
        if uuid.UUID in wires:
            found.append(self._uuid().encode())
        return tuple(found)

    def is_document(self, raw: bytes) -> bool:
        """Tell whether raw JSON, such as a map (hstore), is the placeholder."""
        forms = ({self.text: self.text}, self.text, [self.text])
        return len(raw) < 8 * len(self._raw) + 64 and _loaded(raw) in forms

    def _lists(self, element: ColumnType, wire: Any) -> tuple[Any, ...]:
        codes = self._codes()
        match element.kind:
            case Kind.BINARY:
                return tuple([text] for text in (self._raw, self.text, *self._binary_texts("base64")))
            case Kind.UUID:
                return ([self._uuid()],)
            case Kind.INT | Kind.LONG | Kind.DATE | Kind.TIME | Kind.TIMESTAMP:
                return (codes,)
            case _:
                return ([self.text], codes, [self._uuid()])

    def _binary_texts(self, encoding: str) -> tuple[str, ...]:
        match encoding:
            case "hex":
                return (self._raw.hex(),)
            case "base64" | "base64url" | "data.Bits":
                return (base64.b64encode(self._raw).decode(), base64.urlsafe_b64encode(self._raw).decode())
            case _:
                return ()

    def _document(self) -> str:
        """Return the text of an hstore in the JSON mode."""
        return msgspec.json.encode({self.text: self.text}).decode()

    def _codes(self) -> list[int]:
        return [code - 256 if code > 127 else code for code in self._raw]  # noqa: PLR2004 - signed bytes, as Java's

    def _uuid(self) -> str:
        """Return Java's `UUID.nameUUIDFromBytes`: MD5 with the version and variant bits of RFC 4122."""
        digest = bytearray(hashlib.md5(self._raw, usedforsecurity=False).digest())
        digest[6] = digest[6] & 0x0F | 0x30
        digest[8] = digest[8] & 0x3F | 0x80
        return str(uuid.UUID(bytes=bytes(digest)))


def _loaded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
