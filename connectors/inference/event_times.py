"""Which column says when something happened: told by type and name; a view's `event_time` may be that."""

from __future__ import annotations

import re
from collections.abc import Mapping

from schemas.types import ColumnType, Kind

_TIMES = (Kind.TIMESTAMPTZ, Kind.TIMESTAMP)
# The first of these that a name has; what happened goes before what was written down.
_NAMES = (
    r"event_?(?:time|ts|at|date)|occurred|happened",
    r"(?:taken|measured|observed|recorded|sampled|admitted|ordered|paid|sent|received|visited|started)_?(?:at|on|time)?$",
    r"^(?:ts|time|timestamp|datetime|at)$",
    r"updated|modified|changed|last_",
    r"created|inserted|entered|registered",
    r"_(?:at|ts|time|timestamp)$|(?:At|Time|Timestamp)$",
)
_PATTERNS = tuple(re.compile(name, re.IGNORECASE) for name in _NAMES)
_LATER = re.compile(r"(?:^|_)(?:due|until|expir\w*|valid|deleted|end|ends|ended|born|birth\w*)(?:_|$)", re.IGNORECASE)


def event_time(types: Mapping[str, ColumnType]) -> str | None:
    """Return the column that most likely says when a row's event was, None where none looks so."""
    names = [name for name, type_ in types.items() if type_.kind in _TIMES and not _LATER.search(name)]
    for pattern in _PATTERNS:
        for kind in _TIMES:
            for name in names:
                if types[name].kind is kind and pattern.search(name):
                    return name
    return None
