"""A worker of a shared study whose trials take a moment and nothing else: python -m tests.benchmark.shared_worker.

Prints a line for each trial begun and each one told. SIGTERM lets the trial in hand end, as a search does."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from benchmark.search import Search
from benchmark.trial import Log
from tests.benchmark.test_search import AXES, configs, point
from tests.benchmark.test_trial import measured

BATCHES = list(range(1, 69))
TRIAL_S = 0.25


def main(url: str, worker: str, output: str) -> None:
    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: leave.set())

    def say(text: str) -> None:
        print(text, flush=True)

    candidates = configs(
        batches=[each for each in BATCHES if each != 7], models=["Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-8B"]
    )
    with (
        Log(Path(output)) as log,
        Search(
            candidates[:200], AXES, point, name="shared", storage=url, worker=worker, strategy="random",
            seed=len(worker), say=say, stop=leave.is_set, heartbeat_s=1, grace_s=4,
        ) as study,
    ):  # fmt: skip
        while not leave.is_set():
            asked = study.ask()
            if asked is None:
                if not study.waiting_for:
                    break
                leave.wait(0.5)
                continue
            say(f"begun {asked.number} {asked.strategy}")
            threading.Event().wait(TRIAL_S)
            row = measured(asked.config)
            log.append(row)
            study.tell(asked, row)
            say(f"told {asked.number}")
    say("left" if leave.is_set() else "nothing left")


if __name__ == "__main__":
    main(*sys.argv[1:])
