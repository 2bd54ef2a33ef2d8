"""kill -9 at fifty moments of real runs of SmolLM2 on the CPU: what was completed is kept, and a rerun completes it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark.sweep import grid
from benchmark.trial import Measured, TrialConfig, read
from tests.benchmark import forked_runs

pytestmark = pytest.mark.slow

KILLS = 50
SEED = 20240229
BATCHES = (1, 2, 3)
PROMPTS = (4,)
PATIENCE_S = 240.0
POLL_S = 0.002
TEXT = "A trial is a configuration and its outcome: a failed trial is a row, never a zero.\n" * 3


class Runs:
    """Runs of the command, one after the other, in processes of their own."""

    def __init__(self, model: Path, folder: Path) -> None:
        text = folder / "text.txt"
        text.write_text(TEXT, "utf-8")
        self._printed, self._errors = folder / "printed.jsonl", folder / "errors.txt"
        self._options = ["run", "--device", "cpu", "--model", str(model), "--precision", "bf16", "--text", str(text),
                         "--batch", *map(str, BATCHES), "--prompt", *map(str, PROMPTS), "--generated", "3",
                         "--repeats", "2", "--window", "0.01s", "--no-tasks", "--no-publish", "--json"]  # fmt: skip
        self.plan: list[TrialConfig] = grid(
            models=[str(model)], precisions=["bf16"], batches=BATCHES, prompts=PROMPTS, generated_tokens=3, repeats=2,
            window_s=0.01, occasion=1, device="cpu",
        )  # fmt: skip
        self._server = subprocess.Popen(
            [sys.executable, forked_runs.__file__],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._line(PATIENCE_S) == b"ready"

    def close(self) -> None:
        with self._server as server:
            server.kill()

    def _line(self, patience_s: float) -> bytes | None:
        """The server's next line, None if none comes in time. It writes whole lines, one at a time."""
        assert self._server.stdout is not None
        pipe = self._server.stdout.fileno()
        if not select.select([pipe], [], [], patience_s)[0]:
            return None
        line = bytearray()
        while not line.endswith(b"\n"):
            line += os.read(pipe, 1) or pytest.fail("the process that forks the runs has ended")
        return bytes(line[:-1])

    def start(self, output: Path, most_bytes: int | None = None) -> int:
        self._printed.write_bytes(b"")
        self._errors.write_bytes(b"")
        order = {"arguments": [*self._options, "--output", str(output)], "printed": str(self._printed),
                 "errors": str(self._errors), "most_bytes": most_bytes}  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        process = self._line(PATIENCE_S)
        assert process is not None
        return int(process)

    def ended(self, patience_s: float = PATIENCE_S) -> int | None:
        """How the run ended: its exit status, or the negative signal. None if it goes on for longer than that."""
        line = self._line(patience_s)
        if line is None:
            return None
        status, used_s = line.split()
        self.used_s = float(used_s)
        return os.waitstatus_to_exitcode(int(status))

    def ended_before(self, moment: Callable[[], bool]) -> int | None:
        """Wait until ``moment`` is true. How the run ended, if it ended before, else None."""
        until = time.monotonic() + PATIENCE_S
        while not moment():
            assert time.monotonic() < until, self._errors.read_text(errors="replace")
            if (ended := self.ended(POLL_S)) is not None:
                return ended
        return None

    def ended_before_work(self, process: int, used_s: float) -> int | None:
        """Until the run has used so many processor seconds."""
        return self.ended_before(lambda: processor_s(process) >= used_s)

    def ended_before_trial(self, number: int) -> int | None:
        """Until the run has begun its trial of that number."""
        return self.ended_before(lambda: self.begun() >= number)

    def ended_before_growth(self, output: Path) -> int | None:
        """Until the file has grown."""
        before = size(output)
        return self.ended_before(lambda: size(output) > before)

    def completed(self) -> list[bytes]:
        """The rows that the run has said it completed."""
        whole, _, _ = self._printed.read_bytes().rpartition(b"\n")
        return whole.split(b"\n") if whole else []

    def begun(self) -> int:
        """How many trials the run has said it begins."""
        return len(re.findall(r"^\d+/\d+ ", self._errors.read_text(errors="replace"), re.MULTILINE))

    def place(self, written: int) -> str:
        """Where a run was when it was killed, from the rows that it had written and from what it had said."""
        told, begun = len(self.completed()), self.begun()
        if written > told:
            return "row written, not yet told"
        if begun == told:
            return "between trials" if begun else "before any trial"
        return "in a later trial" if begun > 1 else "loading, or in the first trial"


def processor_s(process: int) -> float:
    """The processor seconds that a process has used, which do not go on while others have the processor.

    Endless for a process that is gone."""
    try:
        return time.clock_gettime(~process << 3 | 2)  # Linux's number for the clock of a process
    except OSError:
        return math.inf


def send(process: int, number: int) -> None:
    """Send a signal, unless the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def whole_lines(path: Path) -> bytes:
    """A file up to its last line's end. A row is one write, which the kernel may still cut short where a page ends."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


@pytest.fixture(scope="module")
def runs(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(smollm2_folder, tmp_path_factory.mktemp("runs"))
    yield made
    made.close()


def measured(output: Path, plan: list[TrialConfig]) -> int:
    """How many trials a file holds: the plan's first ones, each once and whole. It reads, whatever happened to it."""
    trials = read(output).trials
    assert all(isinstance(trial, Measured) for trial in trials)
    assert [trial.config for trial in trials] == plan[: len(trials)]
    return len(trials)


def check_complete(runs: Runs, output: Path) -> None:
    """The plan is complete, and a further run adds nothing."""
    assert measured(output, runs.plan) == len(runs.plan)
    assert read(output).torn is None
    complete = output.read_bytes()
    runs.start(output)
    assert runs.ended() == 0
    assert output.read_bytes() == complete
    assert runs.completed() == []


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """A run that nothing happens to: its file, and the processor seconds of one trial's run and of a further trial."""
    folder = tmp_path_factory.mktemp("undisturbed")
    output, last = folder / "rows.jsonl", folder / "last.jsonl"
    runs.start(output)
    assert runs.ended() == 0
    all_s = runs.used_s
    last.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:-1]))
    runs.start(last)
    assert runs.ended() == 0
    one_s = runs.used_s
    each_s = max(0.0, all_s - one_s) / (len(runs.plan) - 1)
    check_complete(runs, output)
    for row in read(output).measured:
        assert row.quality is not None
        assert row.quality.bits_per_byte == pytest.approx(0.70, abs=0.05)  # SmolLM2's; random weights need above 3
    print(f"{one_s:.2f} processor seconds for a run of one trial, {each_s:.2f} for each further one")
    return output, one_s, each_s


def test_fifty_kills_lose_nothing_and_repeat_nothing(
    runs: Runs, undisturbed: tuple[Path, float, float], tmp_path: Path
) -> None:
    """Of five moments three are drawn from the work that the rest of the plan takes, one from that of a later trial, if
    the run has one, and one is when the file grows. Goes on beyond fifty until trials of both kinds have been met."""
    _, one_s, each_s = undisturbed
    drawn = random.Random(SEED)
    places: Counter[str] = Counter()
    file = 0
    while places.total() < KILLS or not {"loading, or in the first trial", "in a later trial"} <= set(places):
        assert places.total() < 2 * KILLS, places
        output = tmp_path / f"{file}.jsonl"
        kept = whole_lines(output)
        done = measured(output, runs.plan)
        left = len(runs.plan) - done
        process = runs.start(output)
        turn = places.total() % 5
        if turn == 4:
            ended = runs.ended_before_growth(output)
        elif turn == 3 and left > 1:
            ended = runs.ended_before_trial(2)
            if ended is None:
                ended = runs.ended_before_work(process, processor_s(process) + drawn.uniform(0, each_s))
        else:
            ended = runs.ended_before_work(process, drawn.uniform(0, one_s + (left - 1) * each_s))
        if ended is None:
            send(process, signal.SIGKILL)
            ended = runs.ended()
        whole = whole_lines(output)
        assert whole.startswith(kept)
        assert set(runs.completed()) <= set(whole.splitlines())
        written = measured(output, runs.plan) - done
        if ended == -signal.SIGKILL:
            places[runs.place(written)] += 1
        else:
            assert (ended, written) == (0, left)
        if written == left:
            check_complete(runs, output)
            file += 1
    if written < left:
        runs.start(output)
        assert runs.ended() == 0
        check_complete(runs, output)
    print(f"{places.total()} kills of runs into {file + 1} files: {dict(places.most_common())}")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_row_torn_in_the_middle_is_cut_off_and_measured_again(
    runs: Runs, undisturbed: tuple[Path, float, float], tmp_path: Path, share: float
) -> None:
    """The kernel ends the process within the write of its third row, after a given number of bytes."""
    complete = undisturbed[0].read_bytes().splitlines(keepends=True)
    kept = b"".join(complete[:2])
    written = 1 + int(share * min(map(len, complete)))
    output = tmp_path / "rows.jsonl"
    output.write_bytes(kept)
    runs.start(output, most_bytes=len(kept) + written)
    assert runs.ended() == -signal.SIGXFSZ
    torn = output.read_bytes()
    assert (torn[: len(kept)], len(torn)) == (kept, len(kept) + written)
    assert measured(output, runs.plan) == 2
    assert read(output).torn == torn[len(kept) :].decode()
    runs.start(output)
    assert runs.ended() == 0
    assert output.read_bytes().startswith(kept)
    check_complete(runs, output)
