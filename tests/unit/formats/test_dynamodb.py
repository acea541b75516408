"""DynamoDB: what is noted, what is unavailable, and what is refused; records themselves in the fixtures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.formats.dynamodb import looks_like, table_of
from schemas.errors import ConfigurationError
from tests.unit.formats.envelopes import changes, decode, records, spec_of


def shown(shows: str) -> Any:
    """Return the value of a record of the fixtures."""
    return next(record["value"] for record in records("dynamodb") if record["shows"] == shows)


def encoded(document: Any) -> bytes:
    """Return a record's bytes."""
    return json.dumps(document).encode()


def test_deletes_by_time_to_live_are_noted() -> None:
    """They are no work of the application, and are deletes all the same."""
    values = [encoded(shown(name)) for name in ("REMOVE with NEW_IMAGE", "a delete by time to live")]
    decoded = decode(spec_of("dynamodb"), [*values, values[1]])

    assert ({"ttl_delete": 2}, ["delete"] * 3) == (decoded.noted, decoded.batch.operations)


def test_the_item_before_is_given_where_the_spec_trusts_it() -> None:
    """A view with old images has it."""
    decoded = decode(spec_of("dynamodb", before="full"), [encoded(shown("REMOVE with NEW_AND_OLD_IMAGES"))])

    assert [False] == [change["before"]["paid"] for change in changes(decoded)]


def test_what_a_view_does_not_send_is_never_null() -> None:
    """Whatever absent columns mean for the table."""
    decoded = decode(spec_of("dynamodb", absent="null"), [encoded(shown("INSERT with KEYS_ONLY"))])

    assert [{"pk": "user:1", "sk": "7"}] == [change["after"] for change in changes(decoded)]
    assert 9 == len(decoded.batch.unavailable[0])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"111111111111111111111111100"', "9" * 5_000, "not_a_change"),
        ('"111111111111111111111111100"', f'"{"9" * 5_000}"', "bad_position"),
        ("1700000000,", "1e300,", "bad_time"),
        ("1700000000,", "-1,", None),
        ('{"NULL": true}', '{"L": [' * 150 + "]}" * 150, "too_deep"),
        ('{"NULL": true}', '{"L": 5}', "bad_type"),
        ('{"NULL": true}', "7", "no_row"),
        ('{"N": "123456789012345678.0000000001"}', '{"N": "1e9999"}', "out_of_range"),
    ],
)
def test_odd_values_are_refused_and_harm_no_neighbour(old: str, new: str, reason: str | None) -> None:
    """Numbers beyond all bounds, and shapes that DynamoDB does not write."""
    good = encoded(shown("INSERT with NEW_IMAGE"))
    bad = good.replace(old.encode(), new.encode(), 1)
    decoded = decode(spec_of("dynamodb"), [good, bad, good])

    assert bad != good
    found = [(one.index, one.error.reason) for one in decoded.rejected]  # type: ignore[attr-defined]
    assert ([] if reason is None else [(1, reason)]) == found
    assert (2 if reason else 3) == len(decoded.batch)


def test_records_are_known_by_their_shape_and_tell_their_table() -> None:
    """Streams name it in an ARN, Kinesis by itself."""
    stream, kinesis = shown("INSERT with KEYS_ONLY"), shown("Kinesis in microseconds")

    assert (True, "orders", True, "orders") == (
        looks_like(stream), table_of(stream), looks_like(kinesis), table_of(kinesis)
    )  # fmt: skip
    assert (False, None) == (looks_like({"eventName": "x"}), table_of({"eventSourceARN": "arn:aws:s3:::x"}))


def test_there_are_no_options() -> None:
    """One that nobody reads would be taken for one that works."""
    with pytest.raises(ConfigurationError, match="unknown key 'view'"):
        decode(spec_of("dynamodb", options={"view": "x"}), [])
