"""Slots: one process each, freed by its end."""

import subprocess
import sys
from pathlib import Path

import pytest

import headgate
from headgate.slot import Slot, default_instance, take_first_free
from schemas.errors import ConfigurationError

HOME = Path(headgate.__file__).parents[1]


def slot(folder: Path, number: int = 0) -> Slot:
    """A slot of the lake."""
    return Slot(folder, stage="lake", instance="here", number=number)


def test_a_slot_is_held_once(tmp_path: Path) -> None:
    """The second taker learns who holds it."""
    with slot(tmp_path).take(), pytest.raises(ConfigurationError, match="lake-here-0 is held by process"):
        slot(tmp_path).take()

    assert not slot(tmp_path).is_held()


def test_the_first_free_slot_is_taken(tmp_path: Path) -> None:
    """Several workers of one stage find a slot each."""
    with slot(tmp_path).take(), take_first_free(tmp_path, stage="lake", instance="here") as second:
        assert second.number == 1
    with take_first_free(tmp_path, stage="lake", instance="here") as again:
        assert again.number == 0


def test_a_slot_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    """The lock is the kernel's, so no stale file keeps anybody out."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(HOME)!r})\n"
        "from pathlib import Path\n"
        "from headgate.slot import Slot\n"
        f"Slot(Path({str(tmp_path)!r}), stage='lake', instance='here', number=0).take()\n"
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        assert slot(tmp_path).is_held()
        assert slot(tmp_path).holder() == holder.pid
        holder.kill()

    assert slot(tmp_path).try_take()


def test_a_folder_that_cannot_be_used_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    """The setting that names it is said."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match=r"file/state cannot be used: .*web.state_folder"):
        Slot(tmp_path / "file" / "state", stage="lake", instance="a", number=0).take()


def test_the_instance_of_this_machine_fits_into_an_id() -> None:
    """Lower case, no characters that a transactional id or a file name would mind."""
    assert default_instance() == default_instance().lower()
    assert "/" not in default_instance()
