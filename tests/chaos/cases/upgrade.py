"""Case 18: an older release is stopped half-way, and this one goes on with what it left."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.chaos.plan import Case, Plan, Scale, figure
from tests.chaos.recovery import wait_all_go_on
from tests.chaos.stand import Stand
from tests.workloads.installation import DESTINATION, ROOT

OLD = "b1a80f7"  # the last one without feature updates, rebuilds, generations and versions of what is stored


def before(stand: Stand) -> None:
    """Have the old release's workers start, with a configuration that both know."""
    path = stand.installation.folder / "headgate.yaml"
    document = yaml.safe_load(path.read_text())
    del document["notify"][DESTINATION]["start"]
    path.write_text(yaml.safe_dump(document))
    stand.workers.tree = unpacked(OLD, stand.folder / OLD)


def unpacked(commit: str, folder: Path) -> Path:
    """Return `folder` with the files of a commit.

    Raises:
        RuntimeError: the repository does not have it, as a shallow clone.
    """
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    packed = subprocess.run(command, capture_output=True, check=False)
    if packed.returncode:
        raise RuntimeError(f"no commit {commit} here, fetch all of the history: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def plant(stand: Stand) -> None:
    """Stop the old release under load, have this one go on."""
    wait_all_go_on(stand, "the start of the old release")
    while stand.source.made < stand.plan.changes // 2:
        stand.wait(0.2)
    stand.fault(f"{OLD} is stopped, this release starts")
    stand.troubles += stand.workers.stop()
    stand.workers.tree = ROOT
    stand.workers.start_all()
    wait_all_go_on(stand, "the upgrade")
    stand.sample()


def plans(scale: Scale) -> Sequence[Plan]:
    """Return the figures."""
    changes = figure(scale, tiny=6_000, small=20_000, night=300_000)
    return [Plan("", changes, 1, plant, supervised=False, per_second=2_000.0, before=before)]


CASE = Case(18, "upgrade from the release before, stopped half-way", plans)
