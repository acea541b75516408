"""Stock Faust with a no-op agent over the same events, for comparison: `python -m tests.bench.stock_faust`."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time

import faust
import psutil
from faust.types import StreamT

bootstrap, topic_name, total_text = sys.argv[1:4]
total = int(total_text)
app = faust.App(
    f"stock-{os.getpid()}", broker=f"kafka://{bootstrap}", web_enabled=False, topic_disable_leader=True,
    consumer_auto_offset_reset="earliest", datadir=tempfile.mkdtemp(), value_serializer="raw",
)  # fmt: skip
topic = app.topic(topic_name, value_type=bytes, value_serializer="raw")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@app.agent(topic)
async def noop(stream: StreamT[bytes]) -> None:
    """Count, and end the process at the total."""
    seen, started, cpu = 0, 0.0, 0.0
    async for _ in stream:
        if not seen:
            started, cpu = time.monotonic(), _cpu()
        seen += 1
        if seen == total:
            seconds = time.monotonic() - started
            rss = psutil.Process().memory_info().rss
            print(
                json.dumps(
                    {"events_per_second": seen / seconds, "cpu_seconds": _cpu() - cpu, "events": seen, "rss_bytes": rss}
                )
            )
            sys.stdout.flush()
            os._exit(0)


if __name__ == "__main__":
    faust.Worker(app, loglevel="CRITICAL", redirect_stdouts=False).execute_from_commandline()
