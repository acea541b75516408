"""How a Java server of the tests is called."""

from pathlib import Path

from tests.services.system import require_program

LOGGING = Path(__file__).parent / "log4j2.properties"


# What a server of some minutes costs is mostly its being compiled well: without that it takes half of the processor.
BRIEF = ["-XX:TieredStopAtLevel=1"]


def java_command(libs: Path, *, heap: str, brief: bool) -> list[str]:
    """A Java command up to the name of the class: a small heap, the collector with the smallest footprint, our log.

    A `brief` one is soon at its full speed, which is lower: for what lives as long as a few tests and measures nothing.

    Raises:
        MissingProgram: Java is not installed.
    """
    return [
        require_program("java"),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        *(BRIEF if brief else []),
        "-Djava.net.preferIPv4Stack=true",
        f"-Dlog4j2.configurationFile={LOGGING}",
        "-cp",
        f"{libs}/*",
    ]
