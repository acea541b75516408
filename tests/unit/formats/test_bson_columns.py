"""Columns of MongoDB's values, of times and of documents: what is quick for many is what each of them is alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from connectors.formats.encodings import form_of
from connectors.formats.forms import Conversion
from schemas.types import parse_type

NUMBERS = [
    "5", '"5"', '{"$numberLong": "5"}', '{"$numberLong":"5"}', '{"$numberInt": "-7"}', '{"$numberDouble": "1.5"}',
    '{"$numberDecimal": "12.50"}', '{"$numberDecimal": "1E+3"}', '{"$numberLong": 5}', '{"$numberLong": null}',
    '{"$numberLong": {"$numberLong": 5}}', '{"$numberLong":{"$numberLong":5} }',
    '{"$numberLong":  {"$numberLong": 5}}', '{"$numberLong": "1,2"}', '{"$numberLong": " 5"}',
    '{"$numberLong": "5" }', '{"$numberLong": ""}', '{"$numberLong": "5", "$numberInt": "6"}',
    '{"$numberLong": "5", "$numberLong": "6"}', '{"$undefined": true}', '{"$numberLong": "9223372036854775808"}',
    '{"$numberLong": [5]}', "{}", "[]", '{"a": 5}', "null", "true", "1e2", '{"$numberDouble": "NaN"}',
    '{"$numberDouble": "Infinity"}', '{"a":{"$numberLong":"5"}}', '{"$numberLong": "007"}',
]  # fmt: skip
DATES = [
    '{"$date": 1709164800000}', '{"$date": -86400000}', '{"$date": 1709164800001}',
    '{"$date": "2024-02-29T00:00:00Z"}', '{"$date": "2024-02-29T01:00:00+01:00"}',
    '{"$date": {"$numberLong": "1709164800000"}}', '{"$date": "1709164800000"}', '{"$date": {"$numberLong": "-1"}}',
    '{"$date": {"$numberLong": "1E3"}}', '{"$date": {"$numberLong": 5}}', '{"$date": 1e3}',
    '{"$date": 99999999999999999}', '{"$date": 9223372036854775807}', '{"$date": null}', '{"$date": true}',
    "1709164800000", '"2024-02-29"', '"2024-02-29T00:00:00Z"', '"2024-02-29T12:00:00"', '{"$date": 0, "a": 1}',
    "null", '{"$timestamp": {"t": 5, "i": 1}}', '{"$undefined": true}', '{"$date": -62135596800001}',
    '{"$date": " "}',
]  # fmt: skip
BYTES = [
    '{"$binary": "toQNRwetNbOvKq5G7bRUWg==", "$type": "04"}',
    '{"$type": "03", "$binary": "toQNRwetNbOvKq5G7bRUWg=="}',
    '{"$binary": {"base64": "toQNRwetNbOvKq5G7bRUWg==", "subType": "4"}}', '{"$binary": "AAEC", "$type": "00"}',
    '{"$binary": {"base64": "toQNRwetNbOvKq5G7bRUWg==", "subType": "00"}}', '{"$binary": "AAE", "$type": "04"}',
    '{"$binary": {"base64": "AA=A", "subType": "04"}}', '{"$binary": {"base64": "AB==", "subType": "04"}}',
    '{"$binary": {"base64": "A A=", "subType": "04"}}', '{"$binary": {"base64": "_-8=", "subType": "00"}}',
    '{"$binary": {"base64": 5, "subType": "04"}}', '{"$binary": "AAEC", "$type": 4}', '{"$binary": "AAEC"}',
    '{"$oid": "596e275826f08b2730779e1f"}', '{"$oid": "x"}', '{"$uuid": "b6840d47-07ad-35b3-af2a-ae46edb4545a"}',
    '{"$uuid": "B6840D47-07AD-35B3-AF2A-AE46EDB4545A"}', '"b6840d47-07ad-35b3-af2a-ae46edb4545a"', '"AAEC"', '"AA=A"',
    "null",
]  # fmt: skip
TEXTS = [
    '"a"', '"$5"', '"{\\"$oid\\": 1}"', '{"$symbol": "a"}', '{"$code": "f()"}', '{"$code": "f()", "$scope": {}}', "5",
    "true", '{"$oid": null}', '{"a": "$b"}', '{"": "$b"}', "{}", "[1, 2]", '{"$regex": "a", "$options": ""}',
    '{"$minKey": 1}', '""',
]  # fmt: skip
DOCUMENTS = [
    '"{}"', '"{"', '"1,2"', '"[1"', '"2]"', '"\\"a\\""', '""', "{}", "[1]", "null", "5", '"5"', '"1\\n2"', '"null"',
]  # fmt: skip
TIMES = [
    '"10:00"', '"10:00:01"', '"10:00:01.5"', '"10:00:01.123456789"', '"10"', '"24:00:00"', '"23:59:60"', '"10:00Z"',
    '"1:00"', '"10:00:01+02:00"', '" 10:00"', '"10:00 "', '"25:00"', '"10:61"', '"2024-02-29T10:00:00"', "null", "5",
    '"10:00:"', '"T10:00"', '"10:00:01."', '"1000"', '"100000"', '"10:0001"',
]  # fmt: skip
CASES = [
    *((type_, "bson", NUMBERS) for type_ in ("int", "long", "float", "double", "decimal(20,3)", "decimal(9,8)")),
    ("string", "bson", NUMBERS),
    *((type_, "bson", DATES) for type_ in ("date", "timestamp", "timestamptz", "string", "long")),
    *((type_, "bson", BYTES) for type_ in ("binary", "uuid", "string")),
    *((type_, "bson", TEXTS + NUMBERS) for type_ in ("string", "json", "boolean")),
    *(("json", encoding, DOCUMENTS) for encoding in ("plain", "bson")),
    ("string", "plain", TEXTS + DOCUMENTS),
    ("time", "plain", TIMES),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "encoding", "odd"), CASES)
def test_a_value_is_the_same_alone_and_beside_others(type_: str, encoding: str, odd: list[str]) -> None:
    """Whatever the column's shortcut makes of wrappers of any kind, and of any two beside each other."""
    conversion = form_of(parse_type(type_), encoding).conversion
    assert conversion is not None
    each = Conversion(conversion.each)
    for one in odd:
        for other in odd:
            raws: list[Any] = [msgspec.Raw(text.encode()) for text in (other, one, other)]
            alone, refused = each.apply(raws)
            together, faults = conversion.apply(raws)

            assert (alone, refused.keys()) == (together, faults.keys()), (other, one)


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("long", '{"$numberLong": "5"}', "5"),
        ("decimal(10,2)", '{"$numberDecimal": "12.5"}', "12.50"),
        ("timestamptz", '{"$date": 1709164800000}', "2024-02-29T00:00:00.000000Z"),
        ("timestamp", '{"$date": {"$numberLong": "1709164800000"}}', "2024-02-29T00:00:00.000000"),
        ("date", '{"$date": -86400000}', "1969-12-31"),
        ("string", '{"$oid": "596e275826f08b2730779e1f"}', "596e275826f08b2730779e1f"),
        ("uuid", '{"$binary": "toQNRwetNbOvKq5G7bRUWg==", "$type": "04"}', "b6840d47-07ad-35b3-af2a-ae46edb4545a"),
        ("binary", '{"$binary": {"base64": "AAEC", "subType": "00"}}', b"\0\1\2"),
        ("json", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_what_a_collection_has_is_quick(type_: str, text: str, expected: Any) -> None:
    """No value of these goes one by one, also where some are null."""
    conversion = form_of(parse_type(type_), "bson").conversion
    assert conversion is not None
    assert conversion.column is not None
    raws: list[Any] = [msgspec.Raw(one) for one in (text.encode(), b"null", text.encode())]

    assert [expected, None, expected] == conversion.column(raws)
