"""One worker of one stage: its Faust app, put together and run to its end."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import faust
import structlog

from connectors.transport.service import ConsumerService, StageApp
from connectors.transport.tail import CompactedReader
from schemas.config import Config
from schemas.errors import ConfigurationError, ErrorKind, Unavailable, kind_of
from schemas.topics import TopicNames
from streams.host import StageHost
from streams.logs import configure_logs
from streams.patience import telling_soon
from streams.registration import open_admin, open_tables
from streams.settings import consumer_settings
from streams.standstill import watched
from streams.tables import TableDirectory
from streams.wiring import Parts, stage_names, wire

EXIT_SECONDS_MAX = 25.0  # beyond drain, commit and leave: the process is stuck, and its supervisor starts it anew
_EX_TEMPFAIL = 75
_EXIT_OF_KIND = {ErrorKind.CONFIGURATION: 78, ErrorKind.BUG: 70}  # sysexits.h: EX_CONFIG, EX_SOFTWARE
CONNECT_BACKOFF_SECONDS_MAX = 8.0

log = structlog.get_logger("streams.app")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a running worker is made of."""

    app: StageApp
    host: StageHost
    consumer: ConsumerService


def run_stage(stage: str, config: Config, *, instance: str, slot: int) -> int:
    """Run one worker until SIGTERM, SIGINT or a failure.

    Returns the exit code: 0 only if all was finished or given back.
    """
    if stage not in stage_names(config):
        raise ConfigurationError(f"{stage!r} is no stage", hint=f"one of {', '.join(stage_names(config))}")
    configure_logs(stage=stage, slot=slot)
    tables, reader = _read_tables(config)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = build_worker(stage, config, tables=tables, reader=reader, instance=instance, slot=slot)
    with _quiet_collector():
        return _execute(worker, loop)


def build_worker(
    stage: str, config: Config, *, tables: TableDirectory, reader: CompactedReader, instance: str, slot: int
) -> Worker:
    """Put a worker together; nothing is started yet."""
    slot_name = f"{stage}-{instance}-{slot}"
    app = StageApp(f"{config.kafka.group_prefix}-{slot_name}", datadir=f"{config.web.state_folder}/{slot_name}")
    host = StageHost(app, config, stage=stage, instance=instance, slot=slot, tables=tables, reader=reader)
    admin = open_admin(config)
    consumer = ConsumerService(
        app,
        consumer_settings(config, stage, slot_name),
        topic_admin=admin,
        on_event=_log_event,
        exit_seconds_max=EXIT_SECONDS_MAX,
    )
    names = TopicNames(config.kafka.topic_prefix)
    parts = Parts(config, names, tables, consumer, admin, slot_name, host.catch_up)
    host.attach(wire(stage, parts), consumer)
    return Worker(app, host, consumer)


def _read_tables(config: Config) -> tuple[TableDirectory, CompactedReader]:
    """Read the tables' topic to its end, before anything subscribes; a broker that is away is waited for."""
    attempt = 0
    while True:
        try:
            with telling_soon(lambda: _tell_of_waiting(config)):
                return open_tables(config)
        except Unavailable as error:
            seconds = min(0.5 * 2**attempt, CONNECT_BACKOFF_SECONDS_MAX)
            log.warning("waiting_for_kafka", error=error.message, hint=error.hint, again_in_seconds=seconds)
            time.sleep(seconds)
            attempt = min(attempt + 1, 10)


def _tell_of_waiting(config: Config) -> None:
    log.warning("waiting_for_kafka", bootstrap=config.kafka.bootstrap, hint="is it up, and is kafka.bootstrap right?")


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Collect garbage seldom: a chunk makes thousands of short-lived objects without cycles, which counting frees."""
    usual = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()  # else the interpreter's end leaves modules alive, and DuckDB's bindings print each as a leak


def _execute(worker: Worker, loop: asyncio.AbstractEventLoop) -> int:
    faust_worker = faust.Worker(
        worker.app,
        loop=loop,
        quiet=True,
        override_logging=False,
        redirect_stdouts=False,
        stdout=sys.stderr,
        stderr=sys.stderr,
    )
    faust_worker.spinner = None  # it writes to a log what belongs on a terminal
    code: int | str | None = 0
    try:
        with watched(loop):
            faust_worker.execute_from_commandline()
    except SystemExit as exit_:  # how Faust ends, well or not
        code = exit_.code
    return _failure_code(worker) or (code if isinstance(code, int) else int(code is not None))


def _failure_code(worker: Worker) -> int:
    failure = worker.consumer.failure or worker.host.failure
    if failure is None:
        return 0
    return _EXIT_OF_KIND.get(kind_of(failure), _EX_TEMPFAIL)


def _log_event(event: str, fields: Mapping[str, object]) -> None:
    loud = event in {
        "step_failed",
        "quarantined",
        "source_moved",
        "worker_ends",
        "commit_failed",
        "consumer_refused",
        "broker_away",
        "gave_up_unfinished",
        "lost",
    }
    (log.warning if loud else log.info)(event, **fields)
