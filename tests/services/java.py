"""How a Java server of the tests is called."""

from pathlib import Path

from tests.services.system import require_program

LOGGING = Path(__file__).parent / "log4j2.properties"


def java_command(libs: Path, *, heap: str) -> list[str]:
    """A Java command up to the name of the class: a small heap, the collector with the smallest footprint, our log.

    Raises:
        MissingProgram: Java is not installed.
    """
    return [
        require_program("java"),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-Djava.net.preferIPv4Stack=true",
        f"-Dlog4j2.configurationFile={LOGGING}",
        "-cp",
        f"{libs}/*",
    ]
