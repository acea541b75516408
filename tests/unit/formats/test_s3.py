"""Notifications of S3: order per object, columns, and messages of several; records themselves in the fixtures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats.s3 import looks_like, table_of
from schemas.errors import ConfigurationError
from tests.unit.formats.envelopes import changes, decode, records, spec_of


def shown(shows: str) -> Any:
    """Return the value of a record of the fixtures."""
    return next(record["value"] for record in records("s3") if record["shows"] == shows)


def encoded(document: Any) -> bytes:
    """Return a record's bytes."""
    return json.dumps(document).encode()


def test_the_later_of_two_sequencers_is_higher_whatever_their_lengths() -> None:
    """They are filled up at their end, as AWS says: a shorter one is not a smaller number."""
    text = json.dumps(shown("an object created"))
    sequencers = ["0055AED6DCD902", "0055AED6DCD90281E4", "0055aed6dcd90281e5", "0055AED6DCD90281E5F0", "0055AED6DD"]
    values = [text.replace("0055AED6DCD90281E5", one).encode() for one in sequencers]
    positions = decode(spec_of("s3"), list(values)).batch.positions

    assert sorted(set(positions)) == positions


def test_a_message_of_several_goes_out_whole_or_not_at_all() -> None:
    """Each change of it has the offset of the message."""
    several, faulty = encoded(shown("several in one message")), encoded(shown("one of several is at fault"))
    decoded = decode(spec_of("s3"), [several, faulty, several])

    assert [100] * 3 + [102] * 3 == decoded.batch.offsets
    assert [1] == [one.index for one in decoded.rejected]


def test_a_spec_may_name_some_of_the_columns() -> None:
    """The others are not unknown, only unwanted."""
    columns = {"bucket": "string", "key": "string", "size": "int"}
    decoded = decode(spec_of("s3", columns=columns), [encoded(shown("an object created"))])

    assert [{"bucket": "ward-scans", "key": "red flower+one/ä.jpg", "size": 1024}] == [
        change["after"] for change in changes(decoded)
    ]
    assert set() == decoded.unknown_columns


def test_a_column_that_s3_does_not_say_is_refused_with_the_nearest() -> None:
    """It would be absent for ever."""
    columns = {"bucket": "string", "key": "string", "e_tag": "string"}
    with pytest.raises(ConfigurationError) as caught:
        decode(spec_of("s3", columns=columns), [])

    assert "did you mean 'etag'?" == caught.value.hint


def test_a_version_can_be_part_of_the_key() -> None:
    """In a bucket with versions each version is a row, and a delete marker removes none of them."""
    spec = spec_of("s3", key=["bucket", "key", "version_id"])
    found = changes(decode(spec, [encoded(shown("an object removed"))]))

    assert ["096fKKXTRTtl3on89fVO.nfljtsv6qko"] == [change["key"]["version_id"] for change in found]


@pytest.mark.parametrize("shows", ["an object created", "by SNS", "by SQS", "by SNS and SQS", "several in one message"])
def test_messages_are_known_by_their_shape_and_tell_their_bucket(shows: str) -> None:
    """Also those that are wrapped."""
    document = shown(shows)

    assert (True, "ward-scans") == (looks_like(document), table_of(document))


def test_other_messages_are_not_taken_for_notifications() -> None:
    """The test event is one, but tells of no object."""
    assert (True, None) == (looks_like(shown("the test event")), table_of(shown("the test event")))
    others: list[dict[str, Any]] = [
        {}, {"Records": []}, {"Records": [{"eventName": "x"}]}, {"Type": "Notification", "Message": "hello"},
    ]  # fmt: skip
    for other in others:
        assert (False, None) == (looks_like(other), table_of(other))
