"""What `tables plan`, `apply` and `remove` print, and what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli import main as entry
from headgate.cli.codes import ExitCode
from headgate.cli.tables_plan import lines_of, this_user
from headgate.cli.tables_remove import lines_of as lines_of_removal
from schemas.compatibility import WHY, CompatibilityRule, Difference
from streams.plan import Plan, TablePlan
from streams.remove import Left
from streams.source_topics import Notice


def test_a_plan_is_read_line_by_line() -> None:
    """What breaks readers stands out, what is to be looked at has its hint, and tables of no file are named."""
    visits = TablePlan(
        "visits", "changed", 4, "a", "b",
        contract=[
            Difference(CompatibilityRule.COLUMN_REMOVED, "age", "int", None),
            Difference(CompatibilityRule.COLUMN_ADDED, "note", None, "string"),
        ],
        made={"headgate.changes.visits": 3}, lake={"note": "is added as string", "": "is made"},
        views={"visit.2": "is filled anew"}, rules={"old": "goes"},
        notices=[Notice("visits", "topic_missing", "there is no topic t", "did you mean s?")],
    )  # fmt: skip
    plan = Plan({"visits": visits, "wards": TablePlan("wards", "unchanged", 1, "a", "a")}, ["older"])

    assert [
        "visits: changed, schema version 4",
        "    topic     headgate.changes.visits is made with 3 partitions",
        "    lake      note is added as string",
        "    lake      the table is made",
        "    redis     visit.2 is filled anew",
        "    rule      old goes",
        f"    BREAKS    column_removed: age int: {WHY[CompatibilityRule.COLUMN_REMOVED]}",
        f"    contract  column_added: note string: {WHY[CompatibilityRule.COLUMN_ADDED]}",
        "    look at   topic_missing: there is no topic t (did you mean s?)",
        "0 added, 1 changed, 1 unchanged",
        "in no file, and staying: older; `headgate tables remove` ends one",
    ] == list(lines_of(plan))


@pytest.mark.parametrize(("done", "last"), [(True, "beside it, and going on: visits_v2"), (False, "nothing was done")])
def test_a_removal_says_what_goes_and_what_stays(*, done: bool, last: str) -> None:
    """Before and after."""
    left = Left(
        "visits",
        ("visit.1",),
        ("headgate.latest.visits",),
        ("headgate.changes.visits", "headgate.parked.visits"),
        "l.visits",
        ("headgate.changes.visits-key", "headgate.changes.visits-value"),
        ("visits_v2",),
    )

    lines = lines_of_removal(left, ["redis"], done=done)

    goes, stays = ("is removed", "stays") if done else ("would be removed", "would stay")
    assert [f"visits {goes}: workers read it no more", f"redis: visit.1 {goes}"] == lines[:2]
    assert [f"topic: headgate.{each}" for each in (f"latest.visits {goes}", f"changes.visits {stays}")] == lines[2:4]
    assert f"topic: headgate.parked.visits {stays}" == lines[4]
    assert f"registry: headgate.changes.visits-key, headgate.changes.visits-value {stays}" == lines[6]
    assert lines[-1].startswith(last)


@pytest.mark.parametrize("content", ["", "[]", "{", '"plan"'])
def test_a_file_that_is_no_plan_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is asked of Kafka."""
    (tmp_path / "headgate.yaml").write_text("kafka: {bootstrap: '127.0.0.1:9'}\n")
    (tmp_path / "plan.json").write_text(content)
    options = ["--plan", str(tmp_path / "plan.json"), "--config", str(tmp_path / "headgate.yaml")]

    assert ExitCode.CONFIGURATION == entry.run(["tables", "apply", str(tmp_path), *options])

    assert "plan" in capsys.readouterr().err.partition("error: ")[2].splitlines()[0]


def test_who_applies_is_a_short_word_without_odd_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine has a strange name, or the user has none."""
    monkeypatch.setattr("headgate.cli.tables_plan.getpass.getuser", lambda: "ann\n\u202e")
    monkeypatch.setattr("headgate.cli.tables_plan.socket.gethostname", lambda: "w" * 500)

    assert "ann??@www" == this_user()[:9]
    assert len(this_user()) == 200

    def nobody() -> str:
        raise OSError

    monkeypatch.setattr("headgate.cli.tables_plan.getpass.getuser", nobody)
    assert this_user().partition("@")[0].isdigit()
