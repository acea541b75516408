"""A real S3 server behind one that answers as it is told: signatures hold, and what is lost was done."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import s3fs

from tests.faults import S3Answers
from tests.faults.manners import Manner
from tests.services import S3


@pytest.fixture
def answers(s3: S3) -> Iterator[S3Answers]:
    """In front of the S3 server that tests share."""
    with S3Answers(s3.endpoint, seed=11) as running:
        yield running


@pytest.fixture
def files(s3: S3, answers: S3Answers) -> Any:
    """A client that goes through it and repeats nothing by itself."""
    options = s3.storage_options()
    config = {**options["config_kwargs"], "retries": {"total_max_attempts": 1}}
    made = s3fs.S3FileSystem(**{**options, "endpoint_url": answers.endpoint, "config_kwargs": config})
    made.retries = 1
    return made


@pytest.fixture
def bucket(s3: S3) -> str:
    """A bucket of this test."""
    name = f"answers-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem(**s3.storage_options()).mkdir(name)
    return name


@pytest.fixture
def direct(s3: S3) -> Any:
    """A client of the real server."""
    return s3fs.S3FileSystem(**s3.storage_options(), use_listings_cache=False)


def test_what_is_taken_is_as_without_it(answers: S3Answers, files: Any, bucket: str) -> None:
    """Names with odd letters, an upload in parts, ranges, lists, deletes, what is not there."""
    odd, large = f"{bucket}/a b/ü=1&+%41.parquet", bytes(range(256)) * 40_000
    files.pipe_file(odd, b"small")
    with files.open(f"{bucket}/large", "wb", block_size=5 * 1024 * 1024) as file:
        file.write(large)

    assert files.cat_file(odd) == b"small"
    assert files.cat_file(f"{bucket}/large", start=1_000, end=2_000) == large[1_000:2_000]
    assert files.info(f"{bucket}/large")["size"] == len(large)
    assert sorted([odd, f"{bucket}/large"]) == sorted(files.find(bucket))
    files.rm_file(odd)
    with pytest.raises(FileNotFoundError):
        files.cat_file(odd)
    assert answers.requests > 8
    assert not answers.did


def test_a_refused_write_does_nothing(answers: S3Answers, files: Any, direct: Any, bucket: str) -> None:
    """It is an error of S3, which says that it may be sent again."""
    answers.put(Manner.REJECT, methods={"PUT"})
    with pytest.raises(OSError, match=r"(?i)try later|unavailable|reduce|internal"):
        files.pipe_file(f"{bucket}/a", b"never")

    assert answers.did[Manner.REJECT] >= 1
    assert not direct.exists(f"{bucket}/a")
    answers.put(Manner.TAKE)
    files.pipe_file(f"{bucket}/a", b"now")
    assert direct.cat_file(f"{bucket}/a") == b"now"


def test_a_share_is_refused(answers: S3Answers, files: Any, direct: Any, bucket: str) -> None:
    """About that share, and what was not refused is there."""
    answers.put(Manner.REJECT, share=0.5, methods={"PUT"})
    for number in range(30):
        with suppress(OSError):
            files.pipe_file(f"{bucket}/{number}", b"x")

    assert 5 < answers.did[Manner.REJECT] < 25
    assert len(direct.find(bucket)) == answers.requests - answers.did[Manner.REJECT]


def test_a_lost_answer_is_lost_behind_the_deed(answers: S3Answers, files: Any, direct: Any, bucket: str) -> None:
    """The client sees its connection end; the object is there."""
    answers.put(Manner.FAIL_AFTER_WRITE, methods={"PUT"})
    with pytest.raises(Exception, match=r"(?i)connect|disconnect|closed"):
        files.pipe_file(f"{bucket}/a", b"done")

    assert answers.did[Manner.FAIL_AFTER_WRITE] >= 1
    assert direct.cat_file(f"{bucket}/a") == b"done"


def test_a_slow_one_loses_nothing(answers: S3Answers, files: Any, bucket: str) -> None:
    """Each request takes its time."""
    answers.put(Manner.SLOW)
    answers.slow_seconds = 0.01
    files.pipe_file(f"{bucket}/a", b"x")

    assert files.cat_file(f"{bucket}/a") == b"x"
    assert answers.did[Manner.SLOW] >= 2
