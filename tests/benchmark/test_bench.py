"""Trials in a process of their own: how that may end, what is then said, and that the next one begins afresh."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import bench, trial
from benchmark.bench import NotStarted, ProcessBench
from benchmark.interruption import Interruption
from benchmark.trial import Measured, Rejected, TrialConfig
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark import scripted_child

PATIENCE_S = 60.0


def config(model: str, batch: int = 1) -> TrialConfig:
    return TrialConfig(
        model=model, precision="fp32", batch=batch, prompt_tokens=4, generated_tokens=3, repeats=2, window_s=0.01,
        device="cpu",
    )  # fmt: skip


@pytest.fixture
def scripted() -> Iterator[ProcessBench]:
    with ProcessBench([sys.executable, scripted_child.__file__]) as made:
        yield made


def reason(made: ProcessBench, model: str, timeout_s: float = PATIENCE_S) -> str:
    row = made.measure(config(model), timeout_s)
    assert isinstance(row, Rejected)
    assert row.config == config(model)
    return row.reason


def gone(process: int) -> bool:
    """Whether a process has ended; one that nobody has asked after yet counts as ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(process: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while not gone(process):
        assert time.monotonic() < until, f"process {process} is still there"
        time.sleep(0.01)


# -- a child that comes to every end


def test_a_child_is_kept_from_trial_to_trial_and_ends_with_the_bench(scripted: ProcessBench) -> None:
    first, second = reason(scripted, "a"), reason(scripted, "b")
    assert first == second
    assert not gone(int(first))
    scripted.close()
    assert gone(int(first))


def test_starting_and_loading_are_told_apart_from_the_trial(scripted: ProcessBench) -> None:
    begin = time.monotonic()
    reason(scripted, "load:0.00001")
    took = time.monotonic() - begin
    timing = scripted.timing
    assert timing.load_s == 0.00001
    assert timing.start_s > 0.005
    assert 0 < timing.trial_s < took - timing.start_s
    reason(scripted, "a")
    assert (scripted.timing.start_s < timing.start_s / 2, scripted.timing.load_s) == (True, 0.0)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("killed", "its process was ended by SIGKILL, as the kernel does where memory runs out"),
        ("exit", "its process ended with status 3 (Progress 20 % / memory access / was encountered)"),
        ("garbage", "its process answered something else than a trial: 'Loading weights: 100 %'"),
        ("list", "its process answered something else than a trial: '[1, 2]'"),
        ("other", "its process answered for another configuration: other fp32, batch 999, 4+3 tokens"),
    ],
)
def test_a_lost_child_costs_one_trial_and_says_why(scripted: ProcessBench, ending: str, said: str) -> None:
    before = reason(scripted, "a")
    assert reason(scripted, ending) == said
    after = reason(scripted, "a")
    assert (before != after, gone(int(before))) == (True, True)


def test_a_hanging_trial_is_ended_with_all_that_it_started(scripted: ProcessBench, tmp_path: Path) -> None:
    note = tmp_path / "processes"
    assert reason(scripted, f"hang:{note}", 1.0) == "not done after 1 s: its processes were killed"
    for process in note.read_text().split():
        wait_until_gone(int(process))
    assert reason(scripted, "a").isdigit()


def test_a_child_that_is_of_no_further_use_is_followed_by_another(scripted: ProcessBench) -> None:
    leaving = reason(scripted, "leave")
    assert gone(int(leaving))
    assert reason(scripted, "a") != leaving


def test_a_child_that_died_between_trials_costs_none(scripted: ProcessBench) -> None:
    dead = reason(scripted, "die-later")
    wait_until_gone(int(dead))
    assert reason(scripted, "a") not in {dead, ""}


def test_without_any_child_no_configuration_is_blamed() -> None:
    command = [sys.executable, scripted_child.__file__, "--never-ready"]
    with ProcessBench(command) as made, pytest.raises(NotStarted) as refused:
        made.measure(config("a"), PATIENCE_S)
    assert str(refused.value) == (
        "the process that measures did not start: its process ended with status 2 (error: NVML finds no NVIDIA device)"
    )


def test_an_interrupt_ends_the_child_at_once() -> None:
    with Interruption() as interruption, ProcessBench([sys.executable, scripted_child.__file__]) as made:
        process = int(reason(made, "a"))
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            made.measure(config("interrupt"), PATIENCE_S)
        assert gone(process)


# -- the child that measures


def served(port: int) -> TrialConfig:
    return TrialConfig(
        model="qwen3", precision="as-served", batch=1, prompt_tokens=4, generated_tokens=3, device="cpu",
        endpoint=f"http://127.0.0.1:{port}/v1",
    )  # fmt: skip


def test_the_real_child_rejects_what_cannot_be_measured_and_goes_on() -> None:
    with ProcessBench(bench.command(device="cpu")) as made:
        for _ in range(2):
            row = made.measure(served(1), PATIENCE_S)
            assert isinstance(row, Rejected)
            assert row.config == served(1)
            assert "127.0.0.1:1" in row.reason
        assert made.timing.start_s < 0.1  # it was there already


def test_a_busy_child_dies_with_its_parent() -> None:
    """The child waits for a server that accepts and never answers; it reads no standard input meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        port = server.getsockname()[1]
        code = f"""
from benchmark import bench
from tests.benchmark.test_bench import served
made = bench.ProcessBench(bench.command(device="cpu"))
print(made._alive()._process.pid, flush=True)
made.measure(served({port}), 600)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            connection, _ = server.accept()
            with connection:
                assert not gone(child)
                parent.kill()
                wait_until_gone(child)


def test_a_child_without_its_device_says_so() -> None:
    command = bench.command(device="cpu", text=Path("no/such/text"))
    with ProcessBench(command) as made, pytest.raises(NotStarted, match=r"status 2 \(error: .*no/such/text"):
        made.measure(served(1), PATIENCE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_child_runs_can_neither_read_what_is_asked_nor_answer() -> None:
    with ProcessBench(bench.command(device="cpu")) as made:
        made.measure(served(1), PATIENCE_S)
        assert made._child is not None
        open_files = Path(f"/proc/{made._child._process.pid}/fd")
        ends = {number: os.readlink(open_files / str(number)) for number in range(3)}
        pipes = (made._child._process.stdin, made._child._process.stdout, made._child._process.stderr)
        stdin, stdout, stderr = (os.readlink(f"/proc/self/fd/{pipe.fileno()}") for pipe in pipes if pipe is not None)
    assert ends == {0: os.devnull, 1: stderr, 2: stderr}
    assert len({stdin, stdout, stderr}) == 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system keeps no process to cores")
def test_a_child_keeps_to_its_cores() -> None:
    core = max(os.sched_getaffinity(0))
    with ProcessBench(bench.command(device="cpu", own_cores=[core])) as made:
        made.measure(served(1), PATIENCE_S)
        assert made._child is not None
        assert os.sched_getaffinity(made._child._process.pid) == {core}


@pytest.mark.slow
def test_smollm2_is_measured_and_stays_loaded_for_the_next_trial(smollm2_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("An assignment statement evaluates the expression list and assigns the resulting object.", "utf-8")
    with ProcessBench(bench.command(device="cpu", text=text)) as made:
        loads = []
        for batch in (1, 2):
            wanted = replace(config(str(smollm2_folder), batch), precision="bf16")
            row = made.measure(wanted, 4 * PATIENCE_S)
            assert isinstance(row, Measured), row.reason
            assert row.config == wanted
            assert row.quality is not None
            assert row.quality.text == "text.txt"
            assert trial.parse(trial.dump(row)) == row
            loads.append(made.timing.load_s)
        assert (loads[0] > 0.1, loads[1]) == (True, 0.0)


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(EcoRouteError, match=r"^not a configuration \(colour: Unexpected keyword argument\)$"):
        trial.config_of(config("a").key.encode().replace(b"{", b'{"colour": 1, ', 1))
    assert trial.config_of(config("a").key.encode()) == config("a")
