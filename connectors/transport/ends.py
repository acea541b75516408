"""Where the logs of partitions end, as the client last heard it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.transport.partition import Partition

_AT_ONCE = 500  # the client finds a topic by looking through all that it has


class Ends:
    """Asks the client for the ends of so many partitions at a time, in turn; it makes no request for them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._left: Sequence[Partition] = ()  # not heard yet in this round

    def hear(self, consumer: Consumer, partitions: Sequence[Partition]) -> None:
        """Note some ends; of all of `partitions` once each has had its turn."""
        self._left = self._left or partitions
        some, self._left = self._left[:_AT_ONCE], self._left[_AT_ONCE:]
        for partition in some:
            try:
                heard: Any = consumer.get_watermark_offsets(TopicPartition(*partition.key), cached=True)
            except KafkaException:  # it is gone; the rebalance that says so follows
                continue
            if heard is not None and heard[1] >= 0:
                partition.end = heard[1]
