"""Joules per token by hand, from measurements and from the law; and the law's interval against its own data."""

from __future__ import annotations

import csv
import math
from dataclasses import fields, replace
from pathlib import Path
from statistics import quantiles

import pytest

from ecoroute_mcp.catalogue import Catalogue, EnergyLaw, MeasuredEnergy, Model, Precision
from ecoroute_mcp.energy import Method, UnknownEnergy, devices_needed, features, middle, predict
from ecoroute_mcp.sci import EcoRouteError, Estimate

DATA = Path(__file__).resolve().parents[1] / "data"
BYTES = {"bfloat16": 2.0, "fp8": 1.0}


def exact(value: float) -> Estimate:
    return Estimate.exact(value, basis="published", source="mlenergy-v3")


def model(total_b: float | None, active_b: float | None) -> Model:
    return Model(
        id="m",
        provider="meta",
        family="f",
        sources=("mlenergy-v3",),
        params_total_b=None if total_b is None else exact(total_b),
        params_active_b=None if active_b is None else exact(active_b),
    )


def hosted(catalogue: Catalogue) -> EnergyLaw:
    return next(law for law in catalogue.energy_laws if law.hosted)


def test_features_of_a_dense_model_by_hand() -> None:
    terms = features(params_total_b=8, params_active_b=8, bytes_per_param=2, devices=1, batch=4)
    assert terms == (0.25, 4.0, 8, 1.0)


def test_a_mixture_of_experts_reads_the_share_its_batch_touches() -> None:
    # 3 of 30 active: one sequence touches a tenth, two touch 1 - 0.9^2 = 0.19 of the weights.
    one = features(params_total_b=30, params_active_b=3, bytes_per_param=1, devices=1, batch=1)
    two = features(params_total_b=30, params_active_b=3, bytes_per_param=1, devices=1, batch=2)
    assert one[1] == pytest.approx(3.0, rel=1e-12)
    assert two[1] == pytest.approx(30 * 0.19 / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("weights_gb", "devices"), [(16, 1), (64, 1), (65, 2), (140, 4), (235, 4), (600, 16), (513, 16)]
)
def test_devices_are_the_fewest_that_hold_the_weights(weights_gb: float, devices: int) -> None:
    assert devices_needed(weights_gb, memory_gb=80, weights_share_max=0.8) == devices


def test_the_law_by_hand(catalogue: Catalogue) -> None:
    # 8e9 parameters in FP8 at batch 64 on one H100: 0.445/64 + 0.215*8/64 + 0.00326*8 + 0.0448 = 0.104708125 J.
    joules = predict(hosted(catalogue), params_total_b=8, params_active_b=8, bytes_per_param=1, devices=1, batch=64)
    assert joules == pytest.approx(0.104708125, rel=1e-12)
    footprint = Method(catalogue).footprint(model(8, 8))
    assert footprint.decode_j.mid == pytest.approx(0.104708125, rel=1e-12)
    assert footprint.prefill_j.mid == pytest.approx(0.00326 * 8, rel=1e-12)
    assert footprint.decode_device_s.mid == pytest.approx(0.104708125 / (0.753 * 700), rel=1e-12)
    assert footprint.basis == "estimated"


def test_the_interval_of_the_law_is_the_quadrature_of_its_doubts(catalogue: Catalogue) -> None:
    law, mid = hosted(catalogue), 0.104708125

    def joules(bytes_: float, batch: float) -> float:
        return predict(law, params_total_b=8, params_active_b=8, bytes_per_param=bytes_, devices=1, batch=batch)

    up = [law.residual_factor.high, joules(2, 64) / mid, joules(1, 16) / mid, 1.6]
    down = [1 / law.residual_factor.low, mid / joules(0.5, 64), mid / joules(1, 256)]
    footprint = Method(catalogue).footprint(model(8, 8))
    assert footprint.decode_j.high == pytest.approx(mid * math.exp(math.hypot(*map(math.log, up))), rel=1e-12)
    assert footprint.decode_j.low == pytest.approx(mid / math.exp(math.hypot(*map(math.log, down))), rel=1e-12)


def test_what_models_share_drops_out_of_their_own_interval(catalogue: Catalogue) -> None:
    shared, own = Method(catalogue).footprint(model(8, 8)), Method(catalogue, shared=False).footprint(model(8, 8))
    assert own.decode_j.mid == shared.decode_j.mid
    assert own.decode_j.high < shared.decode_j.high
    assert own.prefill_j == middle(own.prefill_j)


def measured(batch: float, joules: float, *, precision: Precision = "fp8", device: str = "H100 SXM") -> MeasuredEnergy:
    return MeasuredEnergy(
        model="m",
        device=device,
        devices=1,
        precision=precision,
        batch=batch,
        decode_j_per_token=exact(joules),
        tokens_per_s=1000.0,
        workload="w",
        stack="s",
    )


def test_a_measurement_at_the_reference_deployment_is_the_figure(catalogue: Catalogue) -> None:
    footprint = Method(replace(catalogue, measured_energy=(measured(64, 0.2),))).footprint(model(8, 8))
    assert footprint.decode_j.mid == pytest.approx(0.2, rel=1e-12)
    assert footprint.decode_device_s.mid == pytest.approx(1 / 1000, rel=1e-12)
    assert footprint.basis == "published"
    assert footprint.how == ("1 measurements (fp8, H100 SXM) over the energy law, served on 1 x H100 SXM at batch 64")


def test_a_measurement_made_otherwise_is_carried_by_the_laws_ratio(catalogue: Catalogue) -> None:
    # bf16 at batch 16 on a B200, measured at 1.5 times what that device's law says there.
    law = next(law for law in catalogue.energy_laws if law.device == "B200 SXM")
    there = predict(law, params_total_b=8, params_active_b=8, bytes_per_param=2, devices=1, batch=16)
    row = measured(16, 1.5 * there, precision="bf16", device="B200 SXM")
    footprint = Method(replace(catalogue, measured_energy=(row,))).footprint(model(8, 8))
    assert footprint.decode_j.mid == pytest.approx(1.5 * 0.104708125, rel=1e-12)


def test_a_measurement_on_a_device_without_a_law_is_refused(catalogue: Catalogue) -> None:
    tables = {table.name: getattr(catalogue, table.name) for table in fields(catalogue)}
    row = replace(catalogue.measured_energy[0], device="GB10")
    with pytest.raises(EcoRouteError, match="measured_energy: device 'GB10' is not in energy_laws"):
        Catalogue.checked(**{**tables, "measured_energy": (row,)})


def test_several_measurements_give_their_mean_ratio_and_range(catalogue: Catalogue) -> None:
    law = hosted(catalogue)

    def at(batch: float, ratio: float) -> MeasuredEnergy:
        here = predict(law, params_total_b=8, params_active_b=8, bytes_per_param=1, devices=1, batch=batch)
        return measured(batch, ratio * here)

    rows = (at(32, 0.5), at(128, 2.0), at(500, 9.0), measured(64, 7.0, precision="bf16"))
    footprint = Method(replace(catalogue, measured_energy=rows), shared=False).footprint(model(8, 8))
    # Batch 500 lies outside the span, bf16 beside the reference precision: neither counts. 0.5 and 2 have mean 1.
    assert footprint.decode_j.mid == pytest.approx(0.104708125, rel=1e-12)
    assert footprint.how.startswith("2 measurements")
    precision = predict(law, params_total_b=8, params_active_b=8, bytes_per_param=2, devices=1, batch=64) / 0.104708125
    expected = 0.104708125 * math.exp(math.hypot(math.log(2), math.log(precision)))
    assert footprint.decode_j.high == pytest.approx(expected, rel=1e-12)


def test_a_model_of_unknown_size_has_no_figure_and_says_why(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownEnergy, match="m has no measurement, and the law needs its parameters"):
        Method(catalogue).footprint(model(None, None))
    with pytest.raises(UnknownEnergy):
        Method(catalogue).footprint(model(500, None))


def test_embodied_grams_per_device_second_by_hand(catalogue: Catalogue) -> None:
    # (273 + 336) kg over 4.5 years at 70 % use.
    grams = Method(catalogue).embodied_g_per_device_s("H100 SXM")
    assert grams.mid == pytest.approx(609_000 / (4.5 * 31_557_600 * 0.7), rel=1e-12)
    assert set(grams.sources) >= {"nvidia-pcf-hgx-h100", "ademe-2026-gpu", "boaviztapi-2.5.0"}
    with pytest.raises(EcoRouteError, match="no embodied carbon is known for MI325X"):
        Method(catalogue).embodied_g_per_device_s("MI325X")


def test_reading_a_token_may_use_other_parameters_than_writing_one(catalogue: Catalogue) -> None:
    row = next(row for row in catalogue.models if row.id == "deepseek-v4.1-flash")
    footprint = Method(catalogue).footprint(row)
    assert footprint.prefill_j.mid == pytest.approx(8 * 0.00326, rel=1e-12)


def upstream(gpu: str) -> list[dict[str, str]]:
    with (DATA / "upstream" / "mlenergy_v3.csv").open(encoding="utf-8", newline="") as file:
        texts = ("lm-arena-chat", "gpqa", "sourcegraph-fim")
        return [row for row in csv.DictReader(file) if row["gpu"] == gpu and row["task"] in texts]


@pytest.mark.parametrize(("device", "gpu"), [("H100 SXM", "H100"), ("B200 SXM", "B200")])
def test_the_shipped_interval_holds_nine_tenths_of_the_measurements(
    catalogue: Catalogue, device: str, gpu: str
) -> None:
    law = next(law for law in catalogue.energy_laws if law.device == device)
    rows = upstream(gpu)
    ratios = [
        float(row["j_per_output_token"])
        / predict(
            law,
            params_total_b=float(row["total_params_b"]),
            params_active_b=float(row["active_params_b"]),
            bytes_per_param=BYTES[row["precision"]],
            devices=int(row["n_gpus"]),
            batch=float(row["avg_batch"]),
        )
        for row in rows
    ]
    inside = sum(law.residual_factor.low <= ratio <= law.residual_factor.high for ratio in ratios) / len(ratios)
    assert len(rows) == law.n
    assert 0.88 <= inside <= 0.96


def test_the_power_share_is_that_of_the_measurements(catalogue: Catalogue) -> None:
    rows = [row for row in upstream("H100") if 16 < float(row["avg_batch"]) < 300]
    shares = [float(row["avg_power_w"]) / int(row["n_gpus"]) / 700 for row in rows]
    cuts = quantiles(shares, n=20, method="inclusive")
    value = next(row.value for row in catalogue.parameters if row.name == "power_share_of_tdp")
    assert (value.low, value.mid, value.high) == pytest.approx((cuts[0], cuts[9], cuts[18]), abs=0.0005)
