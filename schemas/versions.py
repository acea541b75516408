"""The versions of what we persist: which this release writes, and which it reads. docs/upgrade.md is its page.

A version is raised when a reader of before would misread what is written now. A field that such a reader may pass over
raises none. What was written before its form had a version is of version 1: no form has changed since. Of the two
forms of the lake the newer version is written only where a record has made several changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.errors import VersionRefused


class _Head(msgspec.Struct):
    v: Any = 1


_HEAD = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of thing that outlives a process: its name, where it lies, where its version stands in it."""

    name: str
    where: str
    stands_in: str
    writes: int = 1
    reads: tuple[int, ...] = (1,)

    def check(self, found: object, what: str) -> int:
        """Return the version `found` in `what`, a number or its text.

        Raises:
            VersionRefused: this release does not read it; the hint says what to do.
        """
        version = _number(found)
        if version in self.reads:
            return version
        known = " and ".join(map(str, self.reads))
        message = f"{what} has version {shown(found)}, this release reads {known} ({self.name})"
        if version > max(self.reads):
            hint = "a newer Headgate wrote it: upgrade this one, docs/upgrade.md says in which order"
        elif version > 0:
            hint = "it is too old for this release: upgrade by a release in between, docs/upgrade.md says which"
        else:
            hint = "no Headgate wrote it, or it was edited"
        raise VersionRefused(message, hint=hint)

    def check_json(self, value: bytes | str, what: str) -> int:
        """Return the version of a JSON object, which stands in its field `v`; one without it is of version 1.

        Raises:
            VersionRefused: this release does not read it.
            msgspec.MsgspecError: the value is no JSON object.
        """
        return self.check(_HEAD.decode(value).v, what)


def _number(found: object) -> int:
    """Return a version as a number, -1 for what is none."""
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10:  # noqa: PLR2004  no version has so many
        return int(found)
    return -1


def shown(found: object) -> str:
    """Return what stands for a version: a number or a short word; anything else could be somebody's value."""
    return str(found) if _number(found) >= 0 else "none" if found is None else "of no known kind"


REDIS_LAYOUT = Form("features in Redis", "`<redis.key_prefix>:layout`", "`layout` of its JSON", writes=2, reads=(1, 2))
LAKE_LAYOUT = Form(
    "a table of the lake", "the Iceberg table's properties", "`headgate.layout-version`", writes=2, reads=(1, 2)
)
LAKE_STAND = Form(
    "where the lake stands", "the property `headgate.partition.<n>`", "`v` of its JSON", writes=2, reads=(1, 2)
)
COMMIT_METADATA = Form("where a stage stands", "the metadata of its group's offsets", "its first word, `v1`")
TABLE_ENTRY = Form("a registered table", "`headgate.tables`", "`v` of the value")
EVOLVED = Form("columns that a worker found", "`headgate.tables`, beside the table", "`v` of the value")
STATUS = Form("a worker's state", "`headgate.status`", "`v` of the value")
QUARANTINED = Form("a quarantined record", "`headgate.quarantine`", "`v` of the value")
SETTLED = Form("what became of a quarantined record", "`headgate.quarantine.settled`", "`v` of the value")
PREVIOUS = Form("the change before, by table", "`headgate.normalize.previous`", "`v` of the value")
WAITING = Form("an alert that waits", "`headgate.notify.retry.…`", "`v` of the value")
DEAD_LETTER = Form("a dead letter", "`headgate.notify.dead`", "`v` of the value")
ALERTS_STATE = Form("what rules remember", "`headgate.alerts.state.<view>`", "`v` of the value")
CLIENT_PLACE = Form(
    "where a subscriber stands", "the metadata of its group's offsets (`headgate.client`)", "its first word, `v1`"
)
CONTRACT_FILE = Form("a table's contract", "`x-headgate` of `<table>.value.schema.json`", "`v` of the JSON")
STATE_FILE = Form("a worker's address", "`<web.state_folder>/<slot>.json`", "`v` of the JSON")

FORMS = (
    REDIS_LAYOUT,
    LAKE_LAYOUT,
    LAKE_STAND,
    COMMIT_METADATA,
    TABLE_ENTRY,
    EVOLVED,
    STATUS,
    QUARANTINED,
    SETTLED,
    PREVIOUS,
    WAITING,
    DEAD_LETTER,
    ALERTS_STATE,
    STATE_FILE,
    CONTRACT_FILE,
    CLIENT_PLACE,
)
