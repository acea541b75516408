"""A rule: a condition over changes. An alert: one firing of it, with an id that never changes on replay."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from schemas.document import Strict

Severity = Literal["info", "warning", "critical"]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
MAX_AGE_SECONDS = 15 * 60
ALERT_ENVELOPE_BYTES = (
    2 * 1024
)  # of a record's limit, beside alert and key: what NOTIFY lays around an alert that waits


class Rule(Strict):
    """A match rule: SQL over `before`, `after`, `op`, `key` and `ts` of one change; `values` are SQL as well."""

    rule: RuleName
    version: Annotated[int, Field(ge=1)] = 1
    when: Annotated[str, Field(min_length=1, max_length=4_000)]
    values: dict[RuleName, Annotated[str, Field(max_length=1_000)]] = {}
    severity: Severity = "warning"
    title: Annotated[str, Field(max_length=200)] = ""
    max_age_seconds: Annotated[int, Field(ge=1)] = MAX_AGE_SECONDS
    destinations: list[str] | None = None  # None: all


class Alert(msgspec.Struct):
    """One firing of a rule, as written to `headgate.alerts` and delivered."""

    id: str
    rule: str
    rule_version: int
    severity: str
    title: str
    table: str
    key: Any
    op: str
    position: str
    ts: str
    values: dict[str, Any]
    origin: tuple[str, int, int, int]
    late: bool
    destinations: list[str] | None = None


def alert_id(rule: str, version: int, table: str, key: Any, position: str) -> str:
    """Return the id of a firing: 32 hexadecimal digits of SHA-256 over what identifies it, the same on every replay."""
    identity = json.dumps(
        [rule, version, table, key, position], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
