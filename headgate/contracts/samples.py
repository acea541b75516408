"""Consumers for subscribers to begin with: small programs in files of their own, filled in for one table.

Promise: each runs as it is, against a broker without TLS, prints every change once as a line of JSON, and says on
stderr where one is missing. `tests/integration/test_contract_samples.py` runs them all.
"""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template

from schemas.contract import Contract

# The file that is written, and the template that it is made of.
SAMPLES = {
    "confluent_kafka.py": "confluent_kafka.py.template",
    "kafka_python.py": "kafka_python.py.template",
    "headgate_client.py": "headgate_client.py.template",
    "Subscriber.java": "Subscriber.java.template",
}


def samples(contract: Contract, bootstrap: str) -> dict[str, str]:
    """Return the programs by their file names, for one table and the broker that clients begin with."""
    folder = files("headgate.contracts") / "samples"
    # The quoted text of JSON in ASCII is one of Python and of Java, whatever stands in it.
    words = {
        "table": contract.table,
        "topic": json.dumps(contract.topic),
        "bootstrap": json.dumps(bootstrap),
        "group": json.dumps(f"{contract.table}-subscriber"),
        "schema": json.dumps(f"{contract.table}.value.schema.json"),
    }
    return {
        name: Template((folder / template).read_text("utf-8")).substitute(words) for name, template in SAMPLES.items()
    }
