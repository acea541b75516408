"""A real Redis behind one that answers as it is told: what is refused, lost, held and passed on is exactly that."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.faults import RedisAnswers
from tests.faults.manners import Manner
from tests.faults.redis_answers import BUSY, ERRORS, LOADING, OOM, READONLY, name_of, read_frame
from tests.services import RedisServer
from tests.services.waiting import wait_until


@pytest.fixture
def answers(empty_redis: RedisServer) -> Iterator[RedisAnswers]:
    """In front of the Redis that tests share."""
    with RedisAnswers(f"{empty_redis.host}:{empty_redis.port}") as running:
        yield running


@pytest.fixture
def client(answers: RedisAnswers) -> Iterator[redis.Redis]:
    """A client that connects through it and repeats nothing by itself."""
    with redis.Redis(port=answers.port, socket_timeout=20, retry=Retry(NoBackoff(), 0)) as made:
        yield made


async def frames_of(data: bytes) -> list[bytes]:
    """Return the values that a stream consists of."""
    reader, found = asyncio.StreamReader(), []
    reader.feed_data(data)
    reader.feed_eof()
    while not reader.at_eof():
        found.append(await read_frame(reader))
    return found


def encoded(value: object) -> bytes:
    """Return what a server sends for a value."""
    match value:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(encoded(part) for part in value)
    raise AssertionError(value)


VALUES = st.recursive(st.none() | st.integers() | st.binary(max_size=20), lambda part: st.lists(part, max_size=4))


@given(st.lists(VALUES, max_size=6))
def test_a_stream_is_cut_into_the_values_that_it_has(values: list[object]) -> None:
    """Nested ones, empty ones, and those that hold line ends."""
    frames = [encoded(value) for value in values]

    assert frames == asyncio.run(frames_of(b"".join(frames)))


def test_names_of_commands_are_found_in_both_forms() -> None:
    """As clients send them, and as people type them."""
    assert name_of(encoded([b"hset", b"k", b"f", b"v"])) == "HSET"
    assert name_of(b"ping\r\n") == "PING"


def test_what_is_taken_is_as_without_it(answers: RedisAnswers, client: redis.Redis, empty_redis: RedisServer) -> None:
    """Scripts, pipelines, large values, empty answers."""
    large = bytes(range(256)) * 8_000
    with client.pipeline(transaction=True) as pipeline:
        pipeline.hset("h", mapping={"a": large, "b": 1})
        pipeline.hgetall("h")
        pipeline.get("nothing")
        pipeline.eval("return {1, {2, false}}", 0)
        replies = pipeline.execute()

    assert [2, {b"a": large, b"b": b"1"}, None, [1, [2, None]]] == replies
    assert not answers.did
    with empty_redis.client() as direct:
        assert direct.hget("h", "a") == large


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.partition(" ")[0])
def test_a_refused_command_does_nothing_and_its_place_is_kept(answers: RedisAnswers, error: str) -> None:
    """In a pipeline, what may pass is answered as ever; once it is over, the same connection works."""
    answers.put(Manner.REJECT, error=error, commands={"SET"})
    with socket.create_connection(("127.0.0.1", answers.port), timeout=20) as raw, raw.makefile("rb") as replies:
        raw.sendall(b"SET a 1\r\nGET a\r\n" + encoded([b"set", b"b", b"1"]) + b"INCR c\r\n")
        refused = f"-{error}\r\n".encode()

        assert [refused, b"$-1\r\n", refused, b":1\r\n"] == [replies.readline() for _ in range(4)]
        answers.put(Manner.TAKE)
        raw.sendall(b"SET a 1\r\n")
        assert b"+OK\r\n" == replies.readline()
    assert 2 == answers.did[Manner.REJECT]


@pytest.mark.parametrize(
    ("error", "refused", "passed"),
    [
        (OOM, ["HSET", "EVALSHA"], ["HGETALL", "INFO"]),
        (READONLY, ["DEL", "EVALSHA"], ["HMGET", "PING"]),
        (LOADING, ["HGETALL", "EVALSHA", "PING"], ["INFO", "HELLO"]),
        (BUSY, ["HGETALL", "EVALSHA", "INFO"], ["HELLO", "AUTH"]),
    ],
)
def test_an_error_is_given_to_the_commands_that_a_server_gives_it_to(
    answers: RedisAnswers, error: str, refused: list[str], passed: list[str]
) -> None:
    """A server that loads says how far it is; one that is busy says nothing."""
    answers.put(Manner.REJECT, error=error)
    chooses = answers.chooses

    assert [True] * len(refused) == [chooses(name) for name in refused]
    assert [False] * len(passed) == [chooses(name) for name in passed]


def test_the_words_are_those_of_the_real_server(empty_redis: RedisServer, answers: RedisAnswers) -> None:
    """Out of memory, brought about for real, reads the same."""
    with empty_redis.client() as real:
        was = real.config_get("maxmemory")["maxmemory"]
        real.config_set("maxmemory", 1)
        try:
            with pytest.raises(redis.exceptions.OutOfMemoryError) as theirs:
                real.set("a", 1)
        finally:
            real.config_set("maxmemory", was)
    answers.put(Manner.REJECT, error=OOM)
    with redis.Redis(port=answers.port) as client, pytest.raises(redis.exceptions.OutOfMemoryError) as ours:
        client.set("a", 1)

    assert str(theirs.value) == str(ours.value)


def test_a_lost_answer_is_lost_behind_the_deed(
    answers: RedisAnswers, client: redis.Redis, empty_redis: RedisServer
) -> None:
    """The client sees its connection end; Redis has it."""
    answers.put(Manner.FAIL_AFTER_WRITE)
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert client.get("n") == b"1"  # what only reads is answered
    with empty_redis.client() as direct:
        assert direct.get("n") == b"1"


def test_an_answer_that_is_held_comes_when_it_is_let_go(
    answers: RedisAnswers, client: redis.Redis, empty_redis: RedisServer
) -> None:
    """It is done at once, and said later."""
    answers.put(Manner.HOLD)
    replies: list[object] = []
    thread = threading.Thread(target=lambda: replies.append(client.incr("n")))
    thread.start()
    with empty_redis.client() as direct:
        wait_until(lambda: direct.get("n") == b"1", "it is done")
    assert replies == []
    answers.put(Manner.TAKE)
    thread.join(20)

    assert replies == [1]


def test_a_slow_one_loses_nothing(answers: RedisAnswers, client: redis.Redis) -> None:
    """Each command that writes takes its time."""
    answers.put(Manner.SLOW)
    answers.slow_seconds = 0.001

    assert [1, 2, 3] == [client.incr("n") for _ in range(3)]
    assert 3 == answers.did[Manner.SLOW]


def test_another_server_takes_its_place(
    answers: RedisAnswers, client: redis.Redis, private_redis: Callable[[], RedisServer]
) -> None:
    """As where a replica is promoted: no connection to the one before is left."""
    client.set("who", "first")
    other = private_redis()
    with other.client() as direct:
        direct.set("who", "second")
    answers.switch(f"{other.host}:{other.port}")

    assert client.get("who") == b"second"
