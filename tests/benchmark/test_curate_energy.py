"""Which of the project's trials reach measured_energy.csv, and that the others are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import curate, trial
from benchmark.curate import energy
from benchmark.trial import Measured
from ecoroute_mcp import refresh
from ecoroute_mcp.energy import Deployment, Method, predict

DATA = Path(__file__).resolve().parents[2] / "data"
H100 = trial.read(DATA / "measurements" / "h100-80gb-hbm3.jsonl").measured
SOURCE = "ecoroute-h100-2026-11"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The project's inputs without its trials."""
    shutil.copytree(DATA / "upstream", tmp_path / "upstream")
    for name in ("devices.csv", "sources.csv"):
        shutil.copy(DATA / name, tmp_path)
    (tmp_path / "measurements").mkdir()
    return tmp_path


def recorded(model: str, batch: int) -> Measured:
    """A real trial of that model."""
    return next(row for row in H100 if (row.config.model, row.config.batch, row.config.occasion) == (model, batch, 1))


def put(data: Path, *trials: Measured, file: str = "h100-80gb-hbm3.jsonl") -> None:
    (data / "measurements" / file).write_bytes(b"".join(trial.dump(row) for row in trials))


def own(data: Path) -> list[dict[str, str]]:
    rows = energy.tables(data / "upstream")["measured_energy.csv"]
    return [row for row in rows if row["decode_j_per_token.sources"] != "mlenergy-v3"]


def left_out(data: Path) -> list[str]:
    published, *own = energy.notes(data / "upstream")["measured_energy.csv"]
    assert published == "ML.ENERGY rows left out, the host held the device up: 22"
    return own


def test_without_trials_the_table_is_the_published_one(data: Path) -> None:
    assert own(data) == []
    assert left_out(data) == []
    (data / "measurements").rmdir()
    assert own(data) == []


def test_a_model_that_no_published_row_covers_is_carried_as_measured(data: Path) -> None:
    put(data, recorded("Qwen3-30B-A3B", 32), recorded("Qwen3-8B", 1))
    assert own(data) == [
        {
            "model": "qwen3-30b-a3b",
            "device": "H100 SXM",
            "devices": "1",
            "precision": "bf16",
            "batch": "32",
            "context_tokens": "384",
            "prompt_per_output": "0",
            "decode_j_per_token.low": "0.463196",
            "decode_j_per_token.mid": "0.46359",
            "decode_j_per_token.high": "0.463983",
            "decode_j_per_token.sources": SOURCE,
            "tokens_per_s": "1172.95",
            "workload": "256+256 tokens, random weights of the true shape",
            "stack": "EcoRoute benchmark, transformers 5.17.0, fused kernels, CUDA graphs",
        }
    ]
    assert left_out(data) == ["trials left out, ML.ENERGY has the model: 1 of Qwen3-8B"]


def test_a_stack_is_never_pooled_with_another_for_one_model() -> None:
    stacks: dict[str, set[bool]] = {}
    for row in refresh.read(DATA).measured_energy:
        stacks.setdefault(row.model, set()).add(row.stack.startswith("EcoRoute"))
    assert all(len(kinds) == 1 for kinds in stacks.values())


def test_every_reason_to_leave_a_trial_out_is_said(data: Path) -> None:
    good = recorded("Qwen3-30B-A3B", 32)
    config = good.config
    put(
        data,
        good,
        replace(good, config=replace(config, occasion=2)),
        replace(good, config=replace(config, precision="nf4")),
        replace(good, config=replace(config, precision="fp16"), gates_failed=("decode energy CV 4.0% > 3%",)),
        replace(good, config=replace(config, batch=2, eager=True)),
        replace(good, config=replace(config, batch=4), decode=replace(good.decode, j_per_token=None)),
        replace(good, config=replace(config, batch=8), machine=replace(good.machine, name="NVIDIA H200")),
        replace(good, config=replace(config, model="Qwen3-0.6B")),
    )
    put(data, replace(good, config=replace(config, batch=16)), file="elsewhere.jsonl")
    assert len(own(data)) == 1
    assert left_out(data) == [
        "trials left out, a gate failed: 1 of Qwen3-30B-A3B",
        "trials left out, nf4 is no precision of the law: 1 of Qwen3-30B-A3B",
        "trials left out, no energy: 1 of Qwen3-30B-A3B",
        "trials left out, no energy law was validated for NVIDIA H200: 1 of Qwen3-30B-A3B",
        "trials left out, no row of sources.csv has data/measurements/elsewhere.jsonl: 1 of Qwen3-30B-A3B",
        "trials left out, not in the catalogue: 1 of Qwen3-0.6B",
        "trials left out, the same on another occasion: 1 of Qwen3-30B-A3B",
        "trials left out, without CUDA graphs, as nobody serves: 1 of Qwen3-30B-A3B",
    ]


def test_the_table_with_its_comments_follows_from_the_inputs_and_is_read(data: Path) -> None:
    put(data, recorded("Qwen3-30B-A3B", 32), recorded("Qwen3-8B", 1))
    assert "measured_energy.csv" in curate.check(data)
    curate.write(data)
    assert curate.check(data) == []
    lines = (data / "measured_energy.csv").read_text("utf-8").splitlines()
    assert lines[2] == "# trials left out, ML.ENERGY has the model: 1 of Qwen3-8B"


def test_the_router_carries_the_trial_by_the_laws_ratio(data: Path) -> None:
    put(data, recorded("Qwen3-30B-A3B", 32))
    catalogue = refresh.read(DATA)
    (row,) = own(data)
    model = next(model for model in catalogue.models if model.id == "qwen3-30b-a3b")
    measured = next(
        one for one in catalogue.measured_energy if (one.model, one.batch, one.precision) == (model.id, 32.0, "bf16")
    )
    assert f"{measured.decode_j_per_token.mid:.6g}" == row["decode_j_per_token.mid"]
    assert measured.decode_j_per_token.basis == "measured"
    only = replace(catalogue, measured_energy=(measured,))
    law = next(law for law in catalogue.energy_laws if law.hosted)
    assert model.params_total_b is not None
    assert model.params_active_b is not None
    total_b, active_b = model.params_total_b.mid, model.params_active_b.mid

    here = Deployment(
        device=next(device for device in catalogue.devices if device.id == "H100 SXM"),
        params_total_b=total_b,
        params_active_b=active_b,
        bytes_per_param=2,
        batch=32,
        context_tokens=256 + 128,
    )
    served = replace(here, bytes_per_param=1, batch=64, context_tokens=0)
    expected = measured.decode_j_per_token.mid / predict(law, here) * predict(law, served)
    assert Method(only).footprint(model).decode_j.mid == pytest.approx(expected, rel=1e-12)
