"""What each toxic makes of bytes, without a connection and without waiting."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import Bandwidth, Cut, HalfOpen, Latency, Reset, Slice, Toxic
from tests.faults.toxics import End, Piece, applied

HARMLESS = (Latency(0.5, 0.25), Bandwidth(1_000), Slice(5, 0.25))


def pieces_of(toxics: list[Toxic], data: bytes, *, waited: float = 0.0, seed: int = 1) -> list[Piece]:
    """Return all pieces that are left of `data`."""
    return list(applied(toxics, data, waited, random.Random(seed)))


@given(st.binary(max_size=3_000), st.lists(st.sampled_from(HARMLESS), max_size=3), st.integers())
def test_what_only_delays_passes_every_byte_in_order(data: bytes, toxics: list[Toxic], seed: int) -> None:
    """However they are put behind each other."""
    pieces = pieces_of(toxics, data, seed=seed)

    assert data == b"".join(piece.data for piece in pieces)
    assert not any(piece.lost or piece.ends for piece in pieces)
    assert all(piece.pause_seconds >= 0 for piece in pieces)


def test_a_latency_counts_from_when_bytes_arrived() -> None:
    """So that it delays and does not thin out; what has waited longer goes on at once."""
    assert [Piece(b"x", 0.5)] == pieces_of([Latency(0.75)], b"x", waited=0.25)
    assert [Piece(b"x", 0.0)] == pieces_of([Latency(0.75)], b"x", waited=2.0)


def test_a_jitter_is_between_nothing_and_its_most() -> None:
    """And not always the same."""
    pauses = {pieces_of([Latency(1.0, 0.5)], b"x", seed=seed)[0].pause_seconds for seed in range(50)}

    assert len(pauses) == 50
    assert all(1.0 <= pause <= 1.5 for pause in pauses)


def test_a_bandwidth_takes_the_time_that_its_bytes_take() -> None:
    """In steps, so that it can be switched off in between."""
    pieces = pieces_of([Bandwidth(1_000)], bytes(2_500))

    assert [100] * 25 == [len(piece.data) for piece in pieces]
    assert pytest.approx(2.5) == sum(piece.pause_seconds for piece in pieces)


def test_a_slice_makes_small_pieces_and_no_more_than_its_most() -> None:
    """A read of megabytes would take minutes."""
    pieces = pieces_of([Slice(7, 0.01, pieces_max=20)], bytes(1_000))

    assert 21 == len(pieces)
    assert all(1 <= len(piece.data) <= 7 for piece in pieces[:-1])
    assert 1_000 == sum(len(piece.data) for piece in pieces)


def test_a_cut_tears_a_message_and_a_reset_swallows_it() -> None:
    """Then the connection is over."""
    assert [Piece(b"ab", ends=End(reset=False))] == pieces_of([Cut()], b"abcd")
    assert [Piece(b"", ends=End(reset=True))] == pieces_of([Reset()], b"abcd")


def test_a_half_open_connection_swallows_for_good() -> None:
    """Nothing may ever follow a hole."""
    assert [Piece(b"", lost=True)] == pieces_of([HalfOpen()], b"abcd")


def test_an_end_outlives_the_toxics_behind_it() -> None:
    """A cut message that is also sliced still ends its connection, after its last byte."""
    *passed, last = pieces_of([Cut(), Slice(1, 0.0)], b"abcd")

    assert b"ab" == b"".join(piece.data for piece in passed)
    assert End(reset=False) == last.ends
