"""`python -m tests.services`: fetch the jars that are not in the cache yet, where native services will need them."""

import os

from tests.services.jars import PLUGINS, SETS, jars, version
from tests.services.system import ADDRESS_VARIABLES, docker_answers


def main() -> None:
    """Fetch each set whose service neither the environment nor Docker gives."""
    for name in SETS:
        service = "kafka" if name == "kafka" else "connect"
        if docker_answers() or os.environ.get(ADDRESS_VARIABLES[service]):
            continue
        folder = jars(name)
        print(f"{name} {version(name if name in PLUGINS else 'kafka')}: {len(list(folder.iterdir()))} jars")


if __name__ == "__main__":
    main()
