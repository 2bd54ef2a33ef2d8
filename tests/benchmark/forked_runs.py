"""Runs of `python -m benchmark`, each in a process forked from this one, which has imported what they need.

A line on standard input is a run to start: a JSON object with ``arguments`` for the command, ``printed`` and
``errors``, the files that are its standard output and error, and ``most_bytes``: where the kernel ends it, in the
middle of a write, once a file reaches that size, or null. Answered with its process id, and at its end with its status
as wait4 gives it and the processor seconds that it took. Importing torch and transformers takes seconds, which a
hundred runs need not repeat; nothing else is shared: this process has one thread, has loaded no model and calls none of
torch's functions.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import threading
from typing import Any

IMPORTED = ("torch", "transformers.models.llama.modeling_llama", "transformers.models.auto.tokenization_auto",
            "benchmark.engine", "benchmark.session", "benchmark.__main__")  # fmt: skip


def run(order: dict[str, Any]) -> int:
    """In the forked process: the command itself. Returns its status."""
    os.setsid()
    for path, descriptor in ((os.devnull, 0), (order["printed"], 1), (order["errors"], 2)):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    if order["most_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["most_bytes"], order["most_bytes"]))
    main: Any = importlib.import_module("benchmark.__main__").main
    return int(main(order["arguments"]))


def serve() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    quantised: Any = importlib.import_module("benchmark.quantised")
    quantised.version()  # imports bitsandbytes, where it is installed
    gc.freeze()  # or every run's collections would go through, and so copy, all that was imported
    assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1, (
        "a process with threads cannot be forked"
    )
    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                status = run(json.loads(line))
                sys.stdout.flush()
            finally:
                os._exit(status)
        print(process, flush=True)
        _, status, used = os.wait4(process, 0)
        print(status, used.ru_utime + used.ru_stime, flush=True)


if __name__ == "__main__":
    serve()
