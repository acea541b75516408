"""Clients of the administration end on a thread of ours: the process outlives the garbage that holds them."""

import subprocess
import sys
import textwrap
import threading
import time

from connectors.transport.answers import Administrator
from connectors.transport.settings import ClientSettings

NOBODY = ClientSettings(bootstrap="127.0.0.1:9")


def test_garbage_collected_on_a_thread_of_librdkafka_ends_no_process() -> None:
    """An administrator in a cycle of its own, found when an answer to it arrives."""
    program = """
        import gc, sys, threading
        from connectors.transport.answers import Administrator
        from connectors.transport.settings import ClientSettings

        def collect(_):
            collected.append(threading.current_thread() is not threading.main_thread() and gc.collect() > 0)
            done.set()

        collected, done = [], threading.Event()
        gc.disable()
        for _ in range(5):
            done.clear()
            cycle = [Administrator(ClientSettings(bootstrap="127.0.0.1:9"))]
            cycle.append(cycle)
            cycle[0].client.list_consumer_groups(request_timeout=0.1).add_done_callback(collect)
            del cycle
            assert done.wait(10)
        sys.exit(collected != [True] * 5)
    """

    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr


def test_a_client_that_nobody_needs_ends_soon() -> None:
    """Its threads with it, also where an error that was told still holds it."""
    before = threading.active_count()
    administrator = Administrator(NOBODY)
    held = administrator.client

    del administrator

    deadline = time.monotonic() + 10
    while (said := _asked(held)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "closed" in str(said)
    assert threading.active_count() <= before + 1


def _asked(client: object) -> RuntimeError | None:
    try:
        client.poll(0)  # type: ignore[attr-defined]
    except RuntimeError as error:
        return error
    return None
