"""Keeps what a failed run left: logs, configuration, lake, committed offsets, topics and Redis as text."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests.chaos.stand import Stand
from tests.oracles.clients import independent_admin
from tests.oracles.sequence import read_partition

RECORDS_KEPT_MAX = 3_000_000


def keep(stand: Stand, folder: Path, document: dict[str, Any]) -> Path:
    """Move the installation's folder to `folder` and write beside it what lies in the services; return `folder`.

    What cannot be read any more is left out: the run failed, and its services may be what failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(document, indent=1, default=str))
    if stand.folder.exists():
        shutil.move(stand.folder, folder / "installation")
    (folder / "services.log").write_text(stand.kafka.runner.log_tail() + "\n" + stand.redis.runner.log_tail())
    for dump in (_offsets, _topics, _redis):
        with suppress(Exception):
            dump(stand, folder)
    return folder


def _offsets(stand: Stand, folder: Path) -> None:
    """Write what every group has committed, and how far it had come at each moment."""
    found: dict[str, Any] = {}
    with independent_admin(stand.kafka.address) as admin:
        for group, _ in stand.groups().values():
            found[group] = {
                f"{place.topic}[{place.partition}]": [at.offset, at.metadata]
                for place, at in admin.list_group_offsets(group)[group].items()
            }
    times = {"times": stand.watch.times, "timeline": stand.watch.timeline, "kills": [str(kill) for kill in stand.kills]}
    (folder / "offsets.json").write_text(json.dumps({"committed": found, **times}))


def _topics(stand: Stand, folder: Path) -> None:
    """Write every record of the source's topics and of Headgate's, aborted ones among them."""
    (folder / "topics").mkdir()
    places = {place for _, partitions in stand.groups().values() for place in partitions}
    prefix = stand.installation.topic_prefix
    own = [(f"{prefix}.quarantine", 0), (f"{prefix}.tables", 0), (f"{prefix}.notify.dead", 0)]
    for topic, partition in sorted([*places, *own]):
        with gzip.open(folder / "topics" / f"{topic}-{partition}.jsonl.gz", "wt", compresslevel=1) as file:
            _records(stand.kafka.address, topic, partition, file)


def _records(bootstrap: str, topic: str, partition: int, file: IO[str]) -> None:
    for count, record in enumerate(read_partition(bootstrap, topic, partition, uncommitted=True, timeout_ms=5_000)):
        if count >= RECORDS_KEPT_MAX:
            return
        headers = [[name, _text(value)] for name, value in record.headers]
        line = {"offset": record.offset, "key": _text(record.key), "value": _text(record.value), "headers": headers}
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _redis(stand: Stand, folder: Path) -> None:
    """Write every key of the run as redis-cli's RESTORE takes it."""
    with stand.redis.client() as client, gzip.open(folder / "redis.jsonl.gz", "wt", compresslevel=1) as file:
        for key in client.scan_iter(match=f"{stand.installation.key_prefix}:*", count=1_000):
            dump = base64.b64encode(client.dump(key) or b"").decode()
            file.write(json.dumps({"key": key.decode(errors="replace"), "dump": dump}) + "\n")


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")
