"""Where services come from on this machine, and the system's packages that native ones need.

Imports the standard library only: `make test` runs it before there is an environment to import from.
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Service to the variable with its address, and to the system's packages that a native one needs.
ADDRESS_VARIABLES = {
    "kafka": "HEADGATE_TEST_KAFKA",
    "redis": "HEADGATE_TEST_REDIS",
    "postgres": "HEADGATE_TEST_POSTGRES",
    "mariadb": "HEADGATE_TEST_MARIADB",
    "connect": "HEADGATE_TEST_CONNECT",
    "s3": "HEADGATE_TEST_S3",
    "registry": "HEADGATE_TEST_REGISTRY",
}
PACKAGES = {
    "kafka": ["default-jre-headless", "maven", "openssl"],  # openssl makes the certificates of a secured broker
    "redis": ["redis-server"],
    "postgres": ["postgresql"],
    "mariadb": ["mariadb-server"],
    "connect": ["default-jre-headless", "maven"],
    "registry": ["default-jre-headless", "maven"],
    "s3": [],  # rclone comes with the test requirements
}


class MissingProgram(Exception):
    """A program that a service needs is not installed; the message says the command that installs it."""


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker daemon would start a container for us."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, timeout=15, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def postgres_program(name: str) -> str | None:
    """The path of a PostgreSQL program: Debian keeps the server's outside the PATH. The newest version wins."""
    versions = sorted(
        (path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")),
        key=lambda path: float(path.parent.parent.name),
    )
    return str(versions[-1]) if versions else shutil.which(name)


def find_program(name: str) -> str | None:
    """The path of a program that a native service needs, or None."""
    if name in {"postgres", "initdb"}:
        return postgres_program(name)
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")  # people's PATH may lack it


def require_program(name: str) -> str:
    """The path of a program.

    Raises:
        MissingProgram: it is not installed.
    """
    path = find_program(name)
    if path is None:
        package = PROGRAMS[name]
        raise MissingProgram(f"{name} is not installed. Run: {install_command([package])} (or `make test` as root)")
    return path


PROGRAMS = {
    "java": "default-jre-headless",
    "mvn": "maven",
    "openssl": "openssl",
    "redis-server": "redis-server",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}


def install_command(packages: list[str]) -> str:
    """What a person types to install them."""
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    return command if os.geteuid() == 0 else f"sudo {command}"


def missing_packages() -> list[str]:
    """The packages to install before all services can start here; none for what the environment or Docker gives."""
    if docker_answers():
        return []
    wanted = {
        package
        for service, packages in PACKAGES.items()
        if ADDRESS_VARIABLES[service] not in os.environ
        for package in packages
    }
    lacking = {package for program, package in PROGRAMS.items() if find_program(program) is None}
    return sorted(wanted & lacking)


def install(packages: list[str]) -> int:
    """Install them with apt; the exit code of the step that failed, or 0."""
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        # Debian would start the servers it installs; the tests start their own.
        "RUNLEVEL": "1",
    }
    steps = [["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]]
    for step in steps:
        code = subprocess.run(step, env=environment, check=False).returncode
        if code:
            return code
    return 0


def main() -> int:
    """Install what is missing, or say the command that does."""
    packages = missing_packages()
    if not packages:
        return 0
    print("The services of the tests need:", " ".join(packages))
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return install(packages)
    print("Run:", install_command(packages), file=sys.stderr)
    print("or give addresses:", " ".join(ADDRESS_VARIABLES.values()), "(CONTRIBUTING.md)", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
