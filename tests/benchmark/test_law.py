"""The energy law: what the fit makes of rows whose truth is known, and what it is held to on rows it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from benchmark import law, law_report
from benchmark.__main__ import main
from ecoroute_mcp.catalogue import ANY_DEVICE, Coefficients, Device
from ecoroute_mcp.energy import Deployment, features
from ecoroute_mcp.sci import EcoRouteError

DATA = Path(__file__).resolve().parents[2] / "data"
ONE = Device(id="one", tdp_w=700, memory_gb=80, bandwidth_gb_per_s=3350, bf16_dense_tflops=989, sources=("s",))
TWO = replace(ONE, id="two", tdp_w=1000, bandwidth_gb_per_s=8000, bf16_dense_tflops=2250)
TRUTH = Coefficients(
    step=2.0,
    weights=0.7,
    narrow=0.2,
    cache=1.4,
    state=0.6,
    arithmetic=2.4,
    prefill=1.1,
    sequence=0.3,
    collectives=1.9,
    experts=0.5,
    host=0.4,
)


def world(truth: Coefficients, device: Device, family: str = "f") -> list[law.Row]:
    """Rows of every kind of deployment, which obey the law exactly."""
    rows = []
    for total, active in ((4, 4), (30, 3), (70, 70), (235, 22)):
        for batch in (1, 8, 64, 512):
            for bytes_, recurrent in ((2.0, False), (1.0, True)):
                for devices, prompt, held in ((1, 0.0, True), (4, 2.0, False)):
                    deployment = Deployment(
                        device=device,
                        params_total_b=total,
                        params_active_b=active,
                        bytes_per_param=bytes_,
                        batch=batch,
                        devices=devices,
                        context_tokens=4000 * prompt,
                        prompt_per_output=prompt,
                        recurrent=recurrent,
                        host_bound=held,
                    )
                    ideal = features(deployment, law.STRUCTURE)
                    joules = sum(getattr(truth, term) * ideal[term] for term in law.TERMS)
                    rows.append(law.Row(model=f"{total}", family=family, deployment=deployment, j_per_token=joules))
    return rows


def test_the_fit_finds_the_coefficients_that_made_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "POOLED_PULL", 1e-6)
    monkeypatch.setattr(law, "DEVICE_PULL", 1e-6)
    other = replace(TRUTH, weights=1.1, sequence=0.6)
    fitted = law.fit(world(TRUTH, ONE) + world(other, TWO))
    assert set(fitted) == {"one", "two", ANY_DEVICE}
    for term in law.TERMS:
        assert getattr(fitted["one"], term) == pytest.approx(getattr(TRUTH, term), rel=1e-3)
        assert getattr(fitted["two"], term) == pytest.approx(getattr(other, term), rel=1e-3)
    assert 0.7 < fitted[ANY_DEVICE].weights < 1.1


def test_a_term_that_no_row_shows_stays_at_its_centre() -> None:
    rows = [row for row in world(TRUTH, ONE) if not row.deployment.recurrent and not row.deployment.host_bound]
    fitted = law.fit(rows)["one"]
    assert fitted.state == pytest.approx(law.CENTRE.state, rel=1e-9)
    assert fitted.host == pytest.approx(law.CENTRE.host, rel=1e-9)


def test_a_device_without_rows_is_predicted_from_the_others() -> None:
    rows = world(TRUTH, ONE)
    ask = [replace(row, deployment=replace(row.deployment, device=TWO)) for row in rows]
    coefficients = law.fit(rows)[ANY_DEVICE]
    by_hand = [
        sum(getattr(coefficients, term) * ideal for term, ideal in features(row.deployment, law.STRUCTURE).items())
        for row in ask
    ]
    assert law.physical(rows, ask) == pytest.approx(by_hand, rel=1e-12)


def row(family: str, joules: float, device: Device = ONE, active: float = 8) -> law.Row:
    deployment = Deployment(device=device, params_total_b=active, params_active_b=active, bytes_per_param=2.0, batch=8)
    return law.Row(model=family, family=family, deployment=deployment, j_per_token=joules)


def test_what_is_left_out_is_not_seen() -> None:
    rows = [row("a", 1.0), row("a", 2.0, TWO), row("b", 4.0), row("c", 8.0, TWO)]

    def count(learn: Sequence[law.Row], ask: Sequence[law.Row]) -> np.ndarray[Any, Any]:
        assert not {each.family for each in learn} & {each.family for each in ask}
        return np.full(len(ask), float(len(learn)))

    errors = law.left_out(rows, law.by_family, count)
    assert errors == pytest.approx([math.log(1 / 2), 0.0, math.log(4 / 3), math.log(8 / 3)])


def test_the_interval_by_hand() -> None:
    rows = [row("a", 1.0), row("a", 1.0), row("b", 1.0)]
    half = law.half_width_log(rows, np.array([0.1, 0.3, 0.2]))
    assert half == pytest.approx(stats.t.ppf(0.95, 2) * math.sqrt(((0.01 + 0.09) / 2 + 0.04) / 2), rel=1e-12)


def test_the_other_forms_by_hand() -> None:
    learn = [row("a", 0.5, active=8), row("b", 4.0, active=64)]
    ask = [row("c", 1.0, active=16)]
    assert law.power_law(learn, ask) == pytest.approx([1.0], rel=1e-9)  # joules as active, 1/16 of it
    assert law.constant(learn, ask) == pytest.approx([math.sqrt(2.0)], rel=1e-12)
    wh = 1.1665273170451914e-06 * math.exp(-0.011205921025579175 * 64) * 16 + 4.052928146734005e-05
    assert law.ecologits(DATA)(learn, ask) == pytest.approx([3600 * wh], rel=1e-12)


def test_one_model_moves_a_machine_half_way_and_many_nearly_all_the_way() -> None:
    half = stats.norm.ppf(0.95) * 0.3  # a family not seen errs by 0.3
    alone = law.calibrated([row("a", 2.0)], [1.0], half)
    assert alone.models == 1
    assert alone.factor == pytest.approx(math.sqrt(2.0), rel=1e-9)
    assert alone.half_width_log == pytest.approx(half, rel=1e-12)
    many = law.calibrated([row(str(number), 2.0) for number in range(9)], [1.0] * 9, half)
    # s2 is a ninth of t2, so the machine's own mean weighs 9 / (9 + 1/9) and the spread is 0.3 sqrt(1/9 + 1/82).
    assert many.factor == pytest.approx(2 ** (81 / 82), rel=1e-9)
    expected = stats.t.ppf(0.95, 9) * 0.3 * math.sqrt(1 / 9 + 1 / 82)
    assert many.half_width_log == pytest.approx(expected, rel=1e-9)
    with pytest.raises(EcoRouteError, match="measure a model first"):
        law.calibrated([], [], half)


def test_a_model_of_no_family_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="FAMILIES names no family of 'mistralai/Mixtral-8x7B'"):
        law.family("mistralai/Mixtral-8x7B")


def test_every_measured_model_has_the_family_of_its_siblings() -> None:
    families = {each.model: each.family for each in law.measured_rows(DATA)}
    assert len(families) == 21
    assert families["Qwen/Qwen3-8B"] == "Qwen3 dense"
    assert families["Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8"] == "Qwen3 mixtures"
    assert families["nvidia/NVIDIA-Nemotron-Nano-9B-v2"] == "Nemotron"


def test_the_shipped_law_is_what_the_measurements_give_and_reaches_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--check"]) == 0
    assert "90 % intervals cover left-out families" in capsys.readouterr().out
    bars = yaml.safe_load((DATA / law.VALIDATION).read_text("utf-8"))["bars"]
    assert {name: each["reached"] for name, each in bars.items()} == dict.fromkeys(bars, True)
    assert len(bars) == 6


def test_a_stale_law_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("upstream", "measurements", "devices.csv", "models.csv", law.VALIDATION):
        (tmp_path / name).symlink_to(DATA / name)
    shipped = (DATA / law.LAW).read_text("utf-8")
    old = next(line for line in shipped.splitlines() if "weights:" in line)
    (tmp_path / law.LAW).write_text(shipped.replace(old, "    weights: 0.5"), "utf-8")
    assert main(["fit", "--check", "--json", "--data", str(tmp_path)]) == 2
    assert "error: energy_law.yaml differ from the measurements: run with --write" in capsys.readouterr().err


def test_without_measurements_the_repair_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", str(tmp_path)]) == 2
    assert "mlenergy_v3.csv is missing: the measurements are in a checkout's data/" in capsys.readouterr().err


def test_a_drawing_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "law.svg"
    with pytest.raises(
        EcoRouteError, match=f"^cannot draw to {place} .*: name a file in a folder that can be written$"
    ):
        law_report.plot(DATA, place)
