"""The manners in which a sink may answer: what `RedisAnswers`, `S3Answers` and the webhook of the workloads know."""

from __future__ import annotations

from enum import StrEnum


class Manner(StrEnum):
    """What a sink does with what it is sent, and what it says of it."""

    TAKE = "take"
    REJECT = "reject"  # it says that it cannot, and does nothing
    FAIL_AFTER_WRITE = "fail after write"  # it does it, and its answer is lost
    HOLD = "hold"  # it does it, and says so only once it holds no more
    SLOW = "slow"  # it does it, and takes its time for each


FAULTY = tuple(manner for manner in Manner if manner is not Manner.TAKE)
