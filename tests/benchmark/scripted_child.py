"""A process that speaks as `python -m benchmark.bench` does and comes to the ends that the name of a model asks for.

Its rows are rejected trials whose reason is its process id; with `--measuring`, measured ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def act(config: dict[str, Any]) -> None:
    ending, _, detail = str(config["model"]).partition(":")
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif ending == "exit":
        print("CUDA error: an illegal\rProgress 10 %\rProgress 20 %\nmemory access\nwas encountered", file=sys.stderr)
        sys.exit(3)
    elif ending == "hang":
        sleeper = subprocess.Popen(["sleep", "600"])
        Path(detail).write_text(f"{os.getpid()} {sleeper.pid}")
        signal.pause()
    elif ending == "wait":
        Path(detail).read_bytes()  # of a pipe with a name: until somebody has opened and closed it
    elif ending == "garbage":
        print("Loading weights: 100 %", flush=True)
    elif ending == "list":
        print("[1, 2]", flush=True)
    elif ending == "other":
        config = {**config, "batch": 999}
    elif ending == "interrupt":
        os.kill(os.getppid(), signal.SIGINT)
        signal.pause()
    elif ending == "interrupt-twice":
        os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()
    elif ending == "load":
        say(event="loaded", seconds=float(detail))
    elif ending == "leave":
        say(event="leaving")
    elif ending == "interrupt-and-answer":
        os.kill(os.getppid(), signal.SIGINT)
    if "--measuring" in sys.argv and ending != "reject":
        from benchmark.trial import TrialConfig, dump
        from tests.benchmark.test_trial import measured

        row = replace(measured(TrialConfig(**config)), gates_failed=())
        print(dump(row).decode(), end="", flush=True)
        return
    say(outcome="rejected", config=config, at="2026-11-21T10:00:00Z", reason=str(os.getpid()))
    if ending == "die-later":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if "--never-ready" in sys.argv:
        print("error: NVML finds no NVIDIA device", file=sys.stderr)
        sys.exit(2)
    say(event="ready")
    for line in sys.stdin:
        act(json.loads(line))
