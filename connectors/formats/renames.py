"""Columns that an ALTER TABLE of MySQL or MariaDB renames, read from the statement that a table's topic tells.

Two clauses rename: `RENAME COLUMN a TO b` and `CHANGE [COLUMN] a b …`
(https://dev.mysql.com/doc/refman/8.4/en/alter-table.html). Nothing else of a statement is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

STATEMENT_CHARACTERS_MAX = 100_000
# A name in backticks or in quotes, a text, a comment, a word, or any one character else.
_TOKEN = re.compile(
    r"`(?:[^`]|``)*`|\"(?:[^\"\\]|\"\"|\\.)*\"|'(?:[^'\\]|''|\\.)*'|/\*.*?\*/|--[^\n]*|#[^\n]*|[\w$]+|[^\s\w]",
    re.DOTALL,
)
_COMMENTS = ("/*", "--", "#")


def renames_of(statement: str) -> dict[str, str]:
    """Return the new names of columns by their old ones; empty where the statement renames none, or is too long.

    Renames of one statement go at once, so `CHANGE a b int, CHANGE b a int` swaps two.
    """
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        return {}
    found: dict[str, str] = {}
    for clause in _clauses([token for token in _TOKEN.findall(statement) if not token.startswith(_COMMENTS)]):
        match [token.upper() for token in clause[:2]]:
            case ["CHANGE", "COLUMN"]:
                names = clause[2:4]
            case ["CHANGE", _]:
                names = clause[1:3]
            case ["RENAME", "COLUMN"] if len(clause) == 5 and clause[3].upper() == "TO":  # noqa: PLR2004 - a TO b
                names = [clause[2], clause[4]]
            case _:
                continue
        if len(names) == 2 and all(map(_is_name, names)):  # noqa: PLR2004 - an old one and a new one
            old, new = map(_bare, names)
            if old != new:
                found[old] = new
    return found


def _clauses(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Yield what an ALTER TABLE does, clause by clause; nothing of any other statement."""
    words = [token.upper() for token in tokens]
    if "ALTER" not in words[:1] or "TABLE" not in words[:4]:
        return
    at = words.index("TABLE") + 1
    at += 2 if words[at : at + 2] == ["IF", "EXISTS"] else 0
    at += 1
    while words[at : at + 1] == ["."]:
        at += 2
    clause: list[str] = []
    depth = 0
    for part in tokens[at:]:
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part in {",", ";"} and depth == 0:
            yield clause
            clause = []
        else:
            clause.append(part)
    yield clause


def _is_name(token: str) -> bool:
    return token[0] in '`"' or re.fullmatch(r"[\w$]+", token) is not None


def _bare(token: str) -> str:
    quote = token[0]
    return token[1:-1].replace(quote * 2, quote) if quote in '`"' else token
