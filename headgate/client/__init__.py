"""For subscribers: the changes of one table, typed, each once.

```
from headgate.client import changes

with changes("patients.value.schema.json", bootstrap="127.0.0.1:9092", group="billing") as stream:
    for change in stream:
        ...              # change.op, change.key, change.after: Decimal, datetime, date, bytes
        stream.commit()  # or after every thousandth
```

The file is the table's contract, which `headgate contract patients --out DIR` writes. Importing this needs
confluent-kafka and msgspec, and loads nothing else of Headgate than its words. Changes in Avro are read with
`registry="https://host:8081"`, which needs fastavro, too.

Promise: what `for` gives is what the subscriber's rule of docs/contract.md leaves. Repeats are dropped; where something
is missing, `on_gap` hears of it, or `GapFound` is raised; floors and tombstones are given as what they are. Nothing is
committed but by `commit()`, and what is committed is both how far was read and the highest origins seen there.

```
HeadgateError
├── GapFound             something is missing before the next change; iterate on to have it all the same
├── ContractMismatch     a value is not what the contract says: take the table's newer contract
├── PlaceLost            where you stood is no longer on the topic
├── CommitRefused        the group has given the partitions to others; what was not committed comes again
├── NotInGroup           without a group there is nowhere to commit to
├── SourceUnavailable    Kafka does not answer
├── RegistryUnavailable  the schema registry does not answer; iterate on once it does
└── ConfigurationError   what was asked for cannot be
```
"""

from __future__ import annotations

from headgate.client.errors import CommitRefused, ContractMismatch, GapFound, NotInGroup, PlaceLost
from headgate.client.events import Change, Event, Floor, Gap, Origin, Tombstone
from headgate.client.stream import Changes, changes
from schemas.contract import Contract, read_contract
from schemas.errors import ConfigurationError, HeadgateError, RegistryUnavailable, SourceUnavailable

__all__ = [
    "Change",
    "Changes",
    "CommitRefused",
    "ConfigurationError",
    "Contract",
    "ContractMismatch",
    "Event",
    "Floor",
    "Gap",
    "GapFound",
    "HeadgateError",
    "NotInGroup",
    "Origin",
    "PlaceLost",
    "RegistryUnavailable",
    "SourceUnavailable",
    "Tombstone",
    "changes",
    "read_contract",
]
