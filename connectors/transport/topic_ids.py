"""Ids of topics as the client makes them: once for each topic, however often it is asked for.

confluent-kafka never lets go of the id in a description of a topic: `Admin_c_TopicDescription_to_py` puts it into a
dict, which takes a reference of its own, and does not give up the one that it had (Admin.c, up to 2.16.1 at least). A
worker asks for the ids of all its topics every two seconds: measured are 100 bytes a topic and question, resident. The
class that the client makes ids of is looked up by its name each time. Under that name stands here what gives out the
same object for the same id, so that what is kept for ever is a number in it.
"""

from __future__ import annotations

from functools import cache

import confluent_kafka
from confluent_kafka.cimpl import Uuid


@cache
def shared_id(most_significant_bits: int, least_significant_bits: int) -> Uuid:
    """Return the id of these bits, the same object each time; kept for ever, as the client would."""
    return Uuid(most_significant_bits, least_significant_bits)


def share_ids() -> None:
    """Have the client take `shared_id` for its class; to be called before topics are described, more than once or not.

    The class itself stays what it is, and what an id is an instance of.
    """
    confluent_kafka.Uuid = shared_id  # type: ignore[assignment, misc]  # looked up and called, no more
