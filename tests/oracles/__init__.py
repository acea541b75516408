"""Oracles: what must be true of the four ends, computed anew from the source, by code that is not the product's.

Promise: nothing here imports `streams`, `sinks`, `connectors` or `schemas`; what these modules know of the contract,
the lake's columns and the layout in Redis stands in docs/. An oracle compares multisets, reports the first five
differences and their number, and fails where less moved than had to: a check of nothing is no check.
"""

from tests.oracles.alerts import AlertKey, Delivery, check_deliveries, expected_alerts, expected_comparisons
from tests.oracles.features import ViewShape, check_all_views, check_view, read_stored
from tests.oracles.history import RowEvent, check_history, expected_rows
from tests.oracles.lake import LakeChange, check_latest, check_origins, latest_rows, read_lake
from tests.oracles.shape import Shape
from tests.oracles.topic import Change, check_conservation, check_streams, read_records, to_change
from tests.oracles.updates import check_updates
from tests.oracles.verdict import Verdict, compare, require

__all__ = [
    "AlertKey",
    "Change",
    "Delivery",
    "LakeChange",
    "RowEvent",
    "Shape",
    "Verdict",
    "ViewShape",
    "check_all_views",
    "check_conservation",
    "check_deliveries",
    "check_history",
    "check_latest",
    "check_origins",
    "check_streams",
    "check_updates",
    "check_view",
    "compare",
    "expected_alerts",
    "expected_comparisons",
    "expected_rows",
    "latest_rows",
    "read_lake",
    "read_records",
    "read_stored",
    "require",
    "to_change",
]
