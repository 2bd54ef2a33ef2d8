"""Whole trials: a small model on the CPU with a recording of an H100 for a meter: every path but NVML's is real."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from benchmark import measure as measuring
from benchmark.measure import measure
from benchmark.meter import Recording, ReplayMeter
from benchmark.thermal import Guard
from benchmark.trial import Rejected, TrialConfig, read

pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")

from benchmark import engine as engines
from benchmark.__main__ import main
from benchmark.engine import Engine
from tests.benchmark.test_engine import COMMON, SMALL

pytestmark = pytest.mark.filterwarnings("ignore")
RECORDING = Recording.load(Path(__file__).parent / "recordings" / "h100-idle-load-idle.jsonl")
CONFIG = TrialConfig(
    model="small Qwen3",
    precision="fp32",
    batch=2,
    prompt_tokens=16,
    generated_tokens=8,
    repeats=3,
    window_s=0.3,
    device="cpu",
)


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (class_name, fields) in SMALL.items():
        monkeypatch.setitem(engines.SHAPES, name, (class_name, {**COMMON, **fields}))


def test_a_metered_trial_bills_windows_alone_and_counts_exact_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "IDLE_S", 0.5)
    monkeypatch.setattr(measuring, "IDLE_SETTLE_S", 0.3)
    monkeypatch.setattr(measuring, "WARM_S", 0.1)
    engine = Engine(CONFIG)
    begin = time.perf_counter()
    trial = measure(
        CONFIG,
        engine,
        meter=ReplayMeter(RECORDING),
        guard=Guard(),
        software={"torch": "here"},
        copy_gb_per_s=20.0,
        quality=None,
    )
    seconds = time.perf_counter() - begin
    assert trial.energy_source == "counter"
    assert trial.machine.name == "NVIDIA H100 80GB HBM3"
    assert len(trial.prefill.windows) == len(trial.decode.windows) == 3
    for window in trial.prefill.windows:
        assert window.tokens % (2 * 16) == 0
    for window in trial.decode.windows:
        assert window.tokens % (2 * 7) == 0  # the first of eight tokens is the prefill's
    for window in (*trial.prefill.windows, *trial.decode.windows):
        assert window.seconds >= 0.3
        assert window.energy_j is not None
        assert 60 < window.energy_j / window.seconds < 750  # the watts of the recording, idle or loaded
        assert window.updates >= 2
    assert sum(window.seconds for window in (*trial.prefill.windows, *trial.decode.windows)) < seconds
    assert trial.idle_w is not None
    assert 60 < trial.idle_w < 750
    assert trial.step_ms["p50"] <= trial.step_ms["p90"] <= trial.step_ms["p99"] <= trial.step_ms["max"]
    assert trial.step_gb is not None
    assert trial.bandwidth_fraction == pytest.approx(trial.step_gb / 20.0 / (trial.step_ms["mean"] / 1e3))
    throughput = statistics.fmean(window.tokens / window.seconds for window in trial.decode.windows)
    assert trial.decode.tokens_per_s.mean == pytest.approx(throughput)
    assert trial.weights.revision == "random weights"
    assert trial.step == engine.step == "fused torch operations"
    assert any("changes of the reading < 20" in gate for gate in trial.gates_failed)


def run(*options: str) -> int:
    grid = ("--precision", "fp32", "--prompt", "16", "--generated", "8", "--repeats", "2", "--window", "0.05s")
    return main(["run", "--device", "cpu", *grid, *options])


def test_the_command_measures_a_grid_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cpu.jsonl"
    assert run("--model", "small Qwen3", "--batch", "1", "2", "--output", str(path), "--json") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = read(path).measured
    assert [row.config.batch for row in rows] == [1, 2] == [row["config"]["batch"] for row in printed]
    if rows[0].energy_source == "none":  # as on every machine that shows no RAPL to this user
        assert rows[0].decode.j_per_token is None
        assert "energy_uj" in rows[0].unavailable["energy"] or "no RAPL" in rows[0].unavailable["energy"]
    before = path.read_bytes()
    assert run("--model", "small Qwen3", "small Llama 3.1", "--batch", "2", "1", "--output", str(path)) == 0
    after = path.read_bytes()
    assert after.startswith(before)
    assert [(row.config.model, row.config.batch) for row in read(path).measured[2:]] == [
        ("small Llama 3.1", 2),
        ("small Llama 3.1", 1),
    ]
    assert run("--model", "small Qwen3", "small Llama 3.1", "--batch", "2", "1", "--output", str(path)) == 0
    assert path.read_bytes() == after


def test_a_trial_that_cannot_be_made_is_a_row_and_the_next_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "cpu.jsonl"
    assert run("--model", str(tmp_path / "nothing"), "small Qwen3", "--output", str(path)) == 0
    first, second = read(path).trials
    assert isinstance(first, Rejected)
    assert "no shape we know" in first.reason
    assert second.config.model == "small Qwen3"
    assert [trial.config.model for trial in read(path).measured] == ["small Qwen3"]


def test_a_spent_budget_leaves_the_rest_for_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cpu.jsonl"
    assert run("--model", "small Qwen3", "--batch", "1", "2", "--output", str(path), "--budget", "0s") == 0
    assert read(path).trials == ()
    assert "2 trials left" in capsys.readouterr().err


def test_an_interrupt_is_a_row_and_a_rerun_completes_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cpu.jsonl"
    decode = Engine.decode

    def interrupted(self: Any, count: int) -> tuple[float, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "decode", interrupted)
    assert run("--model", "small Qwen3", "--output", str(path)) == 130
    (row,) = read(path).trials
    assert isinstance(row, Rejected)
    assert row.reason == "interrupted"
    monkeypatch.setattr(Engine, "decode", decode)
    assert run("--model", "small Qwen3", "--output", str(path)) == 0
    assert len(read(path).measured) == 1


def test_nothing_to_measure_and_bad_durations_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "name a --model" in capsys.readouterr().err
    assert run("--model", "small Qwen3", "--window", "2 seconds") == 2
    assert "such as 30m" in capsys.readouterr().err
