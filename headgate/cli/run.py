"""`headgate run`: all stages under the supervisor, or one worker of one stage."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.codes import ExitCode, epilog
from headgate.cli.printing import say
from headgate.cli.settings import DEFAULT_FILE, ConfigOption, load_config
from schemas.errors import ConfigurationError
from schemas.failpoints import VARIABLE, arm

if TYPE_CHECKING:
    from schemas.config import Config

EPILOG = epilog(
    [
        "headgate run",
        "headgate run --apply tables/ --workers normalize=2",
        "headgate run --apply tables/ --env prod",
        "headgate run --stage lake            # one worker, for systemd or Kubernetes",
    ],
    {
        ExitCode.OK: "stopped by SIGTERM or Ctrl-C, everything finished or given back",
        ExitCode.FOUND: "stopped, but a worker had failed or had to be ended by force; or --apply was refused",
        ExitCode.CONFIGURATION: "the configuration is not right, or the slot is held by another process",
        ExitCode.UNAVAILABLE: "the stage could not go on without risk, or --apply found no Kafka: start it again",
    },
)


_INSTANCE = r"[A-Za-z0-9._-]{1,60}"  # it is part of file names and of ids in Kafka

# The stages speak sysexits.h.
_OF_SYSEXITS = {70: ExitCode.INTERNAL, 75: ExitCode.UNAVAILABLE, 78: ExitCode.CONFIGURATION}


def run(
    config: ConfigOption = DEFAULT_FILE,
    stage: Annotated[str | None, typer.Option(help="Run one worker of this stage, in this process.")] = None,
    slot: Annotated[
        int | None, typer.Option(min=0, max=255, help="The worker's slot; the first free one if left out.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="This machine's name in slots; the host's name if left out.")
    ] = None,
    workers: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=N", help="How many workers of a stage; repeatable.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option(metavar="DIR", help="First apply the table specs of this folder.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With the overlay of this environment, DIR/env/NAME.yaml.")
    ] = None,
) -> int:
    """Run the stages until SIGTERM or Ctrl-C: one process each, started again when it dies."""
    from headgate.slot import default_instance

    if slot is not None and stage is None:
        raise typer.BadParameter("--slot goes with --stage")
    if workers and stage is not None:
        raise typer.BadParameter("--workers is for all stages; start --stage once per worker")
    if instance and not re.fullmatch(_INSTANCE, instance):
        raise typer.BadParameter("--instance takes letters, digits, dots, dashes and underscores, 60 at most")
    if env is not None and apply is None:
        raise typer.BadParameter("--env goes with --apply")
    settings = load_config(config, os.environ)
    _known_stage(settings, stage)
    if apply is not None:
        _apply(settings, apply, env)
    if stage is not None:
        return _run_worker(settings, stage, slot, instance or default_instance())
    return _supervise(settings, config, instance or default_instance(), worker_counts(settings, workers or []))


def worker_counts(settings: Config, texts: list[str]) -> dict[str, int]:
    """Return how many workers each named stage gets.

    Raises:
        typer.BadParameter: not STAGE=N, or no such stage.
    """
    from headgate.slot import SLOTS_MAX

    counts = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not number.isdecimal() or not 1 <= int(number) <= SLOTS_MAX:
            raise typer.BadParameter(f"--workers {text}: write STAGE=N, N from 1 to {SLOTS_MAX}")
        _known_stage(settings, name)
        counts[name] = int(number)
    return counts


def _known_stage(settings: Config, stage: str | None) -> None:
    from headgate.supervisor import stage_names

    names = stage_names(list(settings.notify))
    if stage is not None and stage not in names:
        raise typer.BadParameter(f"no stage {stage!r} here; there are {', '.join(names)}")


def _apply(settings: Config, folder: Path, env: str | None) -> None:
    from headgate.cli.tables_plan import this_user
    from streams.apply import apply_folder
    from streams.patience import telling_soon

    with telling_soon(lambda: say(f"waiting for Kafka at {settings.kafka.bootstrap}")):
        changes = apply_folder(settings, folder, env=env, by=this_user())
    for change in changes:
        say(f"table {change.table}: {change.action}")


def _run_worker(settings: Config, stage: str, number: int | None, instance: str) -> int:
    """Run one worker; asked to stop before its own handlers of signals are there, it has nothing to finish."""
    from streams.patience import AskedToStop, stoppable

    faulthandler.enable()  # where a library crashes, the log says what each thread was at: names and lines, no values
    try:
        with stoppable():
            return _in_slot(settings, stage, number, instance)
    except AskedToStop:
        say("stopped before it had begun")
        return ExitCode.OK


def _in_slot(settings: Config, stage: str, number: int | None, instance: str) -> int:
    from headgate.leash import follow
    from headgate.slot import Slot, take_first_free

    follow(os.environ)
    arm(os.environ.get(VARIABLE, ""))
    folder = Path(settings.web.state_folder)
    if number is None:
        slot = take_first_free(folder, stage=stage, instance=instance)
    else:
        slot = Slot(folder, stage=stage, instance=instance, number=number).take()
    with slot:
        from streams.app import run_stage

        code = run_stage(stage, settings, instance=instance, slot=slot.number)
        return _OF_SYSEXITS.get(code, code)


def _supervise(settings: Config, config: Path, instance: str, counts: dict[str, int]) -> int:
    from headgate.slot import Slot
    from headgate.supervisor import Supervisor, places, worker_command
    from streams.logs import configure_logs

    configure_logs(instance=instance)
    own = Slot(Path(settings.web.state_folder), stage="supervisor", instance=instance, number=0)
    if not own.try_take():
        raise ConfigurationError(
            f"`headgate run` already runs here as {instance}: process {own.holder()}",
            hint="stop it, or give this one another --instance and web.state_folder",
        )
    with own:
        supervisor = Supervisor(
            places(list(settings.notify), counts),
            lambda place: worker_command(place, config=config, instance=instance),
            on_event=_log_event,
        )
        return asyncio.run(_until_signal(supervisor))


async def _until_signal(supervisor: Any) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup, on purpose
            loop.add_signal_handler(number, supervisor.stop)
    return int(await supervisor.run())


def _log_event(event: str, fields: dict[str, Any]) -> None:
    import structlog

    structlog.get_logger().info(event, **fields)
