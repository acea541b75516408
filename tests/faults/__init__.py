"""Faults that tests plant: in processes (`processes`), and at the wire (`proxy`, `s3_answers`, `redis_answers`)."""

from tests.faults.processes import armed, freeze, frozen, is_frozen, kill, thaw
from tests.faults.proxy import BOTH, DOWN, UP, Direction, Proxy
from tests.faults.redis_answers import RedisAnswers
from tests.faults.s3_answers import S3Answers
from tests.faults.toxics import Bandwidth, Cut, HalfOpen, Latency, Reset, Slice, Toxic

__all__ = [
    "BOTH",
    "DOWN",
    "UP",
    "Bandwidth",
    "Cut",
    "Direction",
    "HalfOpen",
    "Latency",
    "Proxy",
    "RedisAnswers",
    "Reset",
    "S3Answers",
    "Slice",
    "Toxic",
    "armed",
    "freeze",
    "frozen",
    "is_frozen",
    "kill",
    "thaw",
]
