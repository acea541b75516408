"""One installation of Headgate as people run it: a configuration, specs in a folder, `headgate run` as a process.

What it knows of the product is its command line and the state files that each stage leaves (pid, url).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml

from tests.oracles import Shape
from tests.services import reaper, wait_until

ROOT = Path(__file__).parents[2]
SPECS = Path(__file__).parent / "specs"
DESTINATION = "proof"
STAGES = ("normalize", "features", "alerts", "lake", f"notify-{DESTINATION}")
SECRET = "whsec_aGVhZGdhdGUtcHJvb2YtcmVjZWl2ZXItc2VjcmV0"
START_SECONDS = 60.0
LOG_TAIL_LINES = 60
BUCKETS = 16
NAMESPACE = "headgate"


def shapes_for(source_prefix: str, tables: Iterable[str]) -> dict[str, Shape]:
    """Return the shapes of the specs in `specs/`, with the topics of a source's prefix."""
    texts = {table: (SPECS / f"{table}.yaml").read_text().replace("TOPIC.", f"{source_prefix}.") for table in tables}
    return {table: Shape.of(yaml.safe_load(text)) for table, text in texts.items()}


@dataclass(slots=True)
class Installation:
    """Headgate in a folder of its own; `overrides` go over the configuration, section by section."""

    folder: Path
    kafka: str
    redis: str
    webhook_url: str
    shapes: Mapping[str, Shape]
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    kills: list[tuple[str, int]] = field(default_factory=list)
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def warehouse(self) -> Path:
        """Where the lake lies."""
        return self.folder / "lake"

    @property
    def log(self) -> Path:
        """What all its processes write."""
        return self.folder / "headgate.log"

    @property
    def state_folder(self) -> Path:
        """Where running stages leave their addresses."""
        return self.folder / "state"

    @property
    def topic_prefix(self) -> str:
        """What its own topics, groups and keys begin with: nobody else's on a shared server."""
        return f"hg{self.tag}"

    @property
    def key_prefix(self) -> str:
        """What its keys in Redis begin with."""
        return self.topic_prefix

    def views_with_rules(self) -> list[str]:
        """Return the views that rules name."""
        documents = (shape.document for shape in self.shapes.values())
        return sorted({rule["view"] for document in documents for rule in document.get("rules", []) if "view" in rule})

    def changes_topic(self, table: str) -> str:
        """Return the output topic of a table."""
        return f"{self.topic_prefix}.changes.{table}"

    def features_topic(self, view: str) -> str:
        """Return the topic of a view's feature updates."""
        return f"{self.topic_prefix}.features.{view}"

    @property
    def quarantine_topic(self) -> str:
        """Return the topic of what could not be processed."""
        return f"{self.topic_prefix}.quarantine"

    def __enter__(self) -> Self:
        """Write its files; it does not run yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.warehouse.mkdir(exist_ok=True)
        specs = self.folder / "tables"
        specs.mkdir(exist_ok=True)
        for table, shape in self.shapes.items():
            (specs / f"{table}.yaml").write_text(yaml.safe_dump(shape.document, sort_keys=False, allow_unicode=True))
        (self.folder / "headgate.yaml").write_text(yaml.safe_dump(self._config(), sort_keys=False))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind."""
        if kind is not None:
            print(f"--- the end of {self.log}:\n{self.log_tail()}")
        if self.process is not None and self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait(10)
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family, timeout=10)
            reaper.forget(self.process.pid)

    def start(self) -> None:
        """Start all stages and return once each one says that it runs."""
        assert self.process is None or self.process.poll() is not None, "it does not run yet"
        command = [sys.executable, "-P", str(ROOT / "headgate" / "__main__.py"), "run", "--config", "headgate.yaml"]
        command += ["--apply", "tables", "--instance", "proof", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        reaper.watch(self.process.pid)
        for stage in STAGES:
            wait_until(partial(self._runs, stage), f"stage {stage} runs", deadline_seconds=START_SECONDS)

    def stop(self, *, seconds: float = 30.0) -> float:
        """End it by SIGTERM; return how long that took.

        Raises:
            AssertionError: it did not end by itself, or not with exit code 0.
        """
        assert self.process is not None, "it was started"
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        reaper.forget(self.process.pid)
        assert code == 0, f"`headgate run` ended with {code}:\n{self.log_tail()}"
        return time.monotonic() - began

    def works(self, stage: str) -> bool:
        """Say whether a stage that was not killed yet runs and has partitions."""
        status = self.status(stage)
        fresh = status.get("pid") is not None and (stage, status["pid"]) not in self.kills
        return fresh and status.get("state") in {"running", "waiting"} and status.get("assigned", 0) > 0

    def kill_stage(self, stage: str) -> int:
        """SIGKILL the process of a stage, once it runs; return its pid."""
        pid = wait_until(lambda: self._fresh_pid(stage), f"{stage} was started again", deadline_seconds=START_SECONDS)
        return self.kill_worker(stage, pid)

    def kill_worker(self, stage: str, pid: int) -> int:
        """SIGKILL this process of a stage; return its pid."""
        os.kill(pid, signal.SIGKILL)
        self.kills.append((stage, pid))
        return pid

    def pid_of(self, stage: str) -> int | None:
        """Return the process of a stage as its state file says, None if there is none."""
        for path in self.state_folder.glob("*.json"):
            with suppress(OSError, ValueError, KeyError):
                state = json.loads(path.read_bytes())
                if state["stage"] == stage and psutil.pid_exists(state["pid"]):
                    return int(state["pid"])
        return None

    def status(self, stage: str) -> dict[str, Any]:
        """Return what a stage says of itself; {} if it does not answer."""
        return next(iter(self.statuses(stage)), {})

    def statuses(self, stage: str) -> list[dict[str, Any]]:
        """Return what each worker of a stage says of itself; those that do not answer are left out."""
        found: list[dict[str, Any]] = []
        for path in self.state_folder.glob("*.json"):
            with suppress(OSError, ValueError, KeyError):
                state = json.loads(path.read_bytes())
                if state["stage"] == stage:
                    with urllib.request.urlopen(f"{state['url']}/status", timeout=2) as answer:  # noqa: S310  loopback
                        found.append(json.load(answer))
        return found

    def is_running(self) -> bool:
        """Say whether the supervisor has not ended."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self) -> str:
        """Return the last lines that its processes wrote."""
        if not self.log.exists():
            return "no log"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _fresh_pid(self, stage: str) -> int:
        """Return the pid of a stage that has not been killed yet; 0 for none."""
        pid = self.pid_of(stage)
        return 0 if pid is None or (stage, pid) in self.kills else pid

    def _runs(self, stage: str) -> bool:
        assert self.is_running(), f"`headgate run` ended:\n{self.log_tail()}"
        return self.status(stage).get("state") in {"running", "waiting"}

    def _config(self) -> dict[str, Any]:
        config: dict[str, dict[str, Any]] = {
            "kafka": {
                "bootstrap": self.kafka,
                "topic_prefix": self.topic_prefix,
                "group_prefix": self.topic_prefix,
                "session_timeout_seconds": 6.0,
            },
            "redis": {"url": self.redis, "key_prefix": self.key_prefix, "buckets": BUCKETS},
            "lake": {"warehouse": str(self.warehouse), "namespace": NAMESPACE, "commit_age_seconds": 1.0},
            "notify": {
                DESTINATION: {
                    "url": self.webhook_url,
                    "start": "earliest",
                    "secret": SECRET,
                    "allow_private_addresses": True,
                }
            },
            "web": {"state_folder": str(self.state_folder)},
        }
        for section, keys in self.overrides.items():
            config[section] = {**config.get(section, {}), **keys}
        return config
