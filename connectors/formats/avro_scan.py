"""A look over the bytes of one Avro value without making anything of them: how many values, and how deep.

For schemas whose bytes can stand for far more values than they are: an array of nulls takes none, whatever its length.
"""

from __future__ import annotations

from connectors.formats.avro_schema import Type
from connectors.formats.reasons import Rejection

VARINT_BYTES_MAX = 10
_FIXED_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_INT_KINDS = frozenset({"int", "long", "enum"})


def scan(root: Type, payload: bytes, *, values_max: int, depth_max: int) -> None:
    """Return if `payload` is exactly one value of the schema, with as many values inside as the limits allow.

    Raises:
        Rejection: `bad_avro`, `too_deep` or `too_many_values`.
    """
    scanner = _Scanner(payload, values_max)
    try:
        scanner.value(root, depth_max)
    except RecursionError:
        raise Rejection("too_deep", "nested deeper than Python reads") from None
    if scanner.at != len(payload):
        raise Rejection("bad_avro", f"{len(payload) - scanner.at} bytes are left behind the value")


class _Scanner:
    """Stands at a place of a payload."""

    def __init__(self, payload: bytes, values_max: int) -> None:
        self._payload, self._left = payload, values_max
        self.at = 0

    def value(self, node: Type, depth_left: int) -> None:
        """Go behind a value."""
        if depth_left < 0:
            raise Rejection("too_deep", "the value nests deeper than limits.record_depth_max")
        kind = node.kind
        if kind == "union":
            index = self._number()
            if not 0 <= index < len(node.branches):
                raise Rejection("bad_avro", f"a union has no branch {index}")
            self.value(node.branches[index], depth_left - 1)
            return
        self._count(1)
        if kind in _INT_KINDS:
            self._number()
        elif kind in _FIXED_SIZES:
            self._skip(_FIXED_SIZES[kind])
        elif kind in {"bytes", "string"}:
            self._skip(self._number())
        elif kind == "fixed":
            self._skip(node.size)
        elif kind in {"record", "error"}:
            for each in node.fields:
                self.value(each.type, depth_left - 1)
        else:
            self._blocks(node, depth_left - 1)

    def _blocks(self, node: Type, depth_left: int) -> None:
        assert node.items is not None, "arrays and maps have items"
        while (count := self._number()) != 0:
            if count < 0:
                count = -count
                if self._number() < 0:
                    raise Rejection("bad_avro", "a block has a size below zero")
            if count > self._left:
                self._count(count)
            for _ in range(count):
                if node.kind == "map":
                    self._count(1)
                    self._skip(self._number())
                self.value(node.items, depth_left)

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise Rejection("too_many_values", "the record holds more values than limits.record_values_max")

    def _skip(self, size: int) -> None:
        if size < 0 or self.at + size > len(self._payload):
            raise Rejection("bad_avro", "a value is longer than what is left of the record")
        self.at += size

    def _number(self) -> int:
        """Return the whole number that stands here, and go behind it."""
        payload, at = self._payload, self.at
        found = shift = 0
        for place in range(at, min(at + VARINT_BYTES_MAX, len(payload))):
            byte = payload[place]
            found |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
                self.at = place + 1
                return (found >> 1) ^ -(found & 1)
            shift += 7
        raise Rejection("bad_avro", "a number does not end where it should")
