"""`python -m tests.services`: fetch the jars that are not in the cache yet, where native services will need them."""

import os

from tests.services.jars import PLUGINS, SETS, jars, version
from tests.services.system import ADDRESS_VARIABLES, docker_answers


def main() -> None:
    """Fetch each set whose service neither the environment nor Docker gives, and what programs of the tests need."""
    for name in SETS:
        service = {"kafka": "kafka", "apicurio": "registry", "avro": None}.get(name, "connect")
        if service and (docker_answers() or os.environ.get(ADDRESS_VARIABLES[service])):
            continue
        folder, own = jars(name), name in {*PLUGINS, "apicurio", "avro"}
        print(f"{name} {version(name if own else 'kafka')}: {len(list(folder.rglob('*.jar')))} jars")


if __name__ == "__main__":
    main()
