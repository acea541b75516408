"""What a proxy does to the bytes of one direction, as pure functions: bytes in, pieces with pauses out.

The names are those of the field (Toxiproxy); each is a frozen value that `Proxy.put` switches on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

PAUSE_SECONDS_MAX = 0.1  # of a limited bandwidth: so finely is it cut up


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that go on after a pause; `ends` says what becomes of the connection then."""

    data: bytes
    pause_seconds: float = 0.0
    ends: End | None = None
    lost: bool = False  # bytes were swallowed here: the stream has a hole, nothing may ever follow it


@dataclass(frozen=True, slots=True)
class End:
    """The connection ends, towards both of its ends: with a FIN, or with a RST."""

    reset: bool


class Toxic(Protocol):
    """What is done to bytes that arrived `waited` seconds ago."""

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return what goes on of `data`, and when."""
        ...


@dataclass(frozen=True, slots=True)
class Latency:
    """Each read arrives later, by `seconds` and up to `jitter_seconds` more; what follows it waits, order is kept."""

    seconds: float
    jitter_seconds: float = 0.0

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return all of it, once."""
        delay = self.seconds + chance.uniform(0.0, self.jitter_seconds)
        yield Piece(data, max(0.0, delay - waited))


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """No more than so many bytes a second, evenly."""

    bytes_per_second: int

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return all of it, in steps of at most `PAUSE_SECONDS_MAX`."""
        step = max(1, int(self.bytes_per_second * PAUSE_SECONDS_MAX))
        for part in _parts(data, step):
            yield Piece(part, len(part) / self.bytes_per_second)


@dataclass(frozen=True, slots=True)
class Slice:
    """Small pieces with pauses: a reader that counts on whole messages in one read breaks."""

    bytes_max: int = 7
    pause_seconds: float = 0.0005
    pieces_max: int = 200  # of one read: a read of megabytes would take minutes

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return all of it, in pieces of one byte to `bytes_max`, and the rest of a long one at once."""
        start = 0
        for _ in range(self.pieces_max):
            if start >= len(data):
                return
            size = chance.randint(1, self.bytes_max)
            yield Piece(data[start : start + size], self.pause_seconds)
            start += size
        if start < len(data):
            yield Piece(data[start:])


@dataclass(frozen=True, slots=True)
class Cut:
    """Half of the next bytes pass, then the connection ends in good order: a message is torn."""

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return the first half."""
        yield Piece(data[: len(data) // 2], ends=End(reset=False))


@dataclass(frozen=True, slots=True)
class Reset:
    """Nothing of the next bytes passes, and both ends get a RST.

    From the client's side it is a request that never arrived; from the server's, a request that was done and whose
    answer is lost.
    """

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return nothing but the end."""
        yield Piece(b"", ends=End(reset=True))


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """All is swallowed and nothing is closed, as where a machine has lost its power or a firewall its memory."""

    def pieces(self, data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
        """Return nothing, for good: the connection is reset once this toxic is off."""
        yield Piece(b"", lost=True)


def applied(toxics: Iterable[Toxic], data: bytes, waited: float, chance: random.Random) -> Iterator[Piece]:
    """Return the pieces that are left of `data` behind all `toxics`, in their order."""
    pieces: Iterator[Piece] = iter([Piece(data)])
    for toxic in toxics:
        pieces = _behind(toxic, pieces, waited, chance)
    return pieces


def _behind(toxic: Toxic, pieces: Iterator[Piece], waited: float, chance: random.Random) -> Iterator[Piece]:
    """Return what a toxic makes of the pieces before it; the pauses add up, and an end comes last."""
    for piece in pieces:
        if not piece.data:
            yield piece
            continue
        pause = piece.pause_seconds
        for part in toxic.pieces(piece.data, waited, chance):
            yield Piece(part.data, pause + part.pause_seconds, part.ends, part.lost)
            pause = 0.0
        if piece.ends is not None or piece.lost:
            yield Piece(b"", 0.0, piece.ends, piece.lost)


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
