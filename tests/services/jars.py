"""The jars of Kafka, Connect, Debezium, Apicurio and Avro: fetched once by Maven, kept in the user's cache folder.

A folder is named after its list of requirements, so that a changed version is a new folder, and appears by one rename,
so that an interrupted fetch leaves nothing half.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.services.system import require_program

POMS = Path(__file__).parent / "poms"
PLUGINS = ("debezium", "debezium-mariadb", "debezium-jdbc")  # one folder each below a worker's plugin path
SETS = ("kafka", "connect", *PLUGINS, "apicurio", "avro")
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
FETCH_SECONDS = 600


def cache_folder() -> Path:
    """Where fetched jars stay between runs: the user's cache folder, by the XDG rules."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "headgate" / "jars"


def version(name: str) -> str:
    """The version of "kafka", "apicurio", "avro" or a plugin that the tests run."""
    pom = POMS / f"{name}.xml"
    found = ET.parse(pom).find(f".//{{*}}{name}.version")  # noqa: S314  a file of ours
    assert found is not None, f"{pom} names a version"
    assert found.text is not None, f"{pom} names a version"
    return found.text


def jars(name: str) -> Path:
    """The folder with the jars of one set, fetched first if they are not there; what comes packed is unpacked.

    Raises:
        MissingProgram: Maven is not installed.
        RuntimeError: Maven could not fetch them; the message ends with what it said.
    """
    pom = POMS / f"{name}.xml"
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{digest}"
    if not folder.exists():
        _fetch(pom, folder)
    return folder


def _fetch(pom: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        libs = Path(scratch) / "libs"
        command = [require_program("mvn"), "-q", "-B", "-f", str(pom), COPY, "-DincludeScope=runtime"]
        run = subprocess.run(
            [*command, f"-DoutputDirectory={libs}"],
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
        if run.returncode or not libs.exists():
            said = (run.stdout + run.stderr)[-2000:]
            raise RuntimeError(f"Maven could not fetch the jars of {pom.name}; is its repository reachable?\n{said}")
        for archive in libs.glob("*.tar.gz"):
            with tarfile.open(archive) as packed:
                packed.extractall(libs, filter="data")
            archive.unlink()
        if not folder.exists():  # another test process may have been faster
            shutil.move(libs, folder)
