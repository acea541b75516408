"""Times as people write them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import typer


def read_moment(option: str, text: str | None) -> datetime | None:
    """Return the moment that the text of an option names; without a zone it is UTC.

    Raises:
        typer.BadParameter: it is no time.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{option} {text} is no time; write 2026-11-20T19:45Z") from exc
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
