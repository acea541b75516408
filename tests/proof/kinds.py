"""Kinds of records that a source may write, and captures replayed: tables of what passes, by `headgate decode`.

python -m tests.proof.kinds [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.contract.kind_cases import KINDS, WAYS, cases
from tests.contract.test_formats import LEFT, LOSSY, NOT_COMPARED, NOT_FOLDED, ZERO_DATES
from tests.proof.by_hand import parser_of
from tests.proof.replays import Capture, Excused, captures_of, differences_of
from tests.unit.formats.captures import FOLDER
from tests.unit.formats.event_cases import cases as event_cases

SHOWN = 5
MIDNIGHT = "24:00 arrives as 00:00"
ADDED = "a column added later was never sent for rows that did not change"
NAMED = "a column whose name has a quote or a backslash is left out"
# Beside those of test_formats.py: what is seen only where rows are kept that have a value with no form.
_MORE: dict[str, dict[str, str]] = {
    "mariadb-types": dict.fromkeys(("ts", "ts3", "ts6", "yr", "dtnn", "tsnn"), ZERO_DATES),
    "pg-avro-confluent": {"extra": ADDED},
    "pg-odd-identifiers": dict.fromkeys(('quo"te', "back\\slash"), NAMED),
    "pg-types-time-isostring": dict.fromkeys(("t", "t0", "t3", "t6"), MIDNIGHT),
}
# Tables of which the source itself does not say all rows, with the reason.
_ROWS: dict[tuple[str, str], str] = {
    **NOT_FOLDED,
    ("pg-new-slot-new-snapshot", "public.t"): "the table stops: its source was read anew, and deletes are lost",
}


def excuse(capture: Capture) -> Excused:
    """Return which columns of a capture the source itself loses; of captures with the names of ours, the same."""
    lossy = LOSSY.get(capture.name, {}) | _MORE.get(capture.name, {})

    def excused(table: str, column: str) -> bool:
        sql_type = capture.tables[table]["columns"][column].removesuffix(" not null")
        made = event_cases().get(f"{capture.name} {table}")
        own = made is not None and (column in made.lossy or column in made.written)
        return own or column in lossy or sql_type in NOT_COMPARED or column == "ia2"

    return excused


def lost(capture: Capture) -> int:
    """Return how many columns of a capture are not compared."""
    excused = excuse(capture)
    return sum(excused(table, column) for table in capture.specs() for column in capture.tables[table]["columns"])


def unexplained(capture: Capture, found: list[str]) -> list[str]:
    """Return the differences but for those in the rows that a source does not say."""
    said = []
    for difference in found:
        table, _, rest = difference.partition(": ")
        made = event_cases().get(f"{capture.name} {table}")
        known = (capture.name, table) in _ROWS or (made is not None and "rows" in made.lossy)
        left = any(rest.startswith(f"{key} is gone") for key in LEFT.get((capture.name, table), ()))
        if not known and not left:
            said.append(difference)
    return said


def tell_kinds() -> bool:
    """Print a line for each kind; return whether all cases pass."""
    print(f"{'kind':80} {'cases':>5} {'pass':>5}")
    right = True
    for number, what in KINDS.items():
        mine = [case for case in cases() if case.kind == number]
        wrong = {case.name: found for case in mine if (found := case.wrong())}
        print(f"{number:02d} {what:77} {len(mine):5} {len(mine) - len(wrong):5}", flush=True)
        right = right and not wrong
        for name, found in wrong.items():
            print("".join(f"    {name}: {difference}\n" for difference in found[:SHOWN]), end="")
    return right


def tell_captures(folder: Path, seed: int) -> bool:
    """Print a line for each capture; return whether all are right."""
    right = True
    print(f"{'capture':48} " + " ".join(f"{way:>12}" for way in WAYS) + "   columns that the source loses")
    for capture in captures_of(folder):
        with tempfile.TemporaryDirectory(prefix="headgate-proof-") as name:
            found = differences_of(capture, Path(name), seed=seed, excused=excuse(capture))
        found = {way: unexplained(capture, some) for way, some in found.items()}
        said = " ".join(f"{'no' if some else 'yes':>12}" for some in found.values())
        print(f"{capture.name:48} {said} {lost(capture) or '':>4}", flush=True)
        for way, some in found.items():
            right = right and not some
            print("".join(f"    {way}: {difference}\n" for difference in some[:SHOWN]), end="")
    return right


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables; end with 1 where something is not right."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="captures; those of the repository")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}")
    if not all((tell_kinds(), tell_captures(options.folder, options.seed))):
        sys.exit(1)


if __name__ == "__main__":
    main()
