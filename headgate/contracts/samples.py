"""Consumers for subscribers to begin with: small programs in files of their own, filled in for one table.

Promise: each runs as it is, against a broker and a registry without TLS, prints every change once as a line of JSON,
and says on stderr where one is missing. `tests/integration/test_contract_samples.py` runs them all.

Whether changes are JSON or Avro, only how a value is read differs: `forms.toml` has what stands there for either.
"""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from string import Template

from schemas.config import RegistryConfig
from schemas.contract import Contract

# The file that is written, and the template that it is made of.
SAMPLES = {
    "confluent_kafka.py": "confluent_kafka.py.template",
    "kafka_python.py": "kafka_python.py.template",
    "headgate_client.py": "headgate_client.py.template",
    "Subscriber.java": "Subscriber.java.template",
}
REGISTRY_URL = "http://127.0.0.1:8081"  # where the configuration has none, as for a spec that is not applied yet


def samples(contract: Contract, bootstrap: str, registry: RegistryConfig | None = None) -> dict[str, str]:
    """Return the programs by their file names, for one table, the broker that clients begin with, and the registry."""
    address = REGISTRY_URL if registry is None else registry.urls[0].rstrip("/")
    # The quoted text of JSON in ASCII is one of Python and of Java, whatever stands in it.
    words = {
        "table": contract.table,
        "topic": json.dumps(contract.topic),
        "bootstrap": json.dumps(bootstrap),
        "group": json.dumps(f"{contract.table}-subscriber"),
        "schema": json.dumps(f"{contract.table}.value.schema.json"),
        "registry": json.dumps(address),
    }
    words |= {name: Template(text).substitute(words) for name, text in _form(contract).items()}
    return {name: Template(_text(template)).substitute(words) for name, template in SAMPLES.items()}


def _form(contract: Contract) -> dict[str, str]:
    """Return what stands in the templates for the form of a table's changes."""
    forms = tomllib.loads(_text("forms.toml"))
    return {**dict.fromkeys(forms["avro"], ""), **forms[contract.format]}


def _text(name: str) -> str:
    return (files("headgate.contracts") / "samples" / name).read_text("utf-8")
