"""Joules per token by hand, from measurements and from the law; and the law's interval against its own data."""

from __future__ import annotations

import csv
import math
from dataclasses import fields, replace
from pathlib import Path
from statistics import quantiles

import pytest

from ecoroute_mcp.catalogue import (
    Catalogue,
    Coefficients,
    Device,
    EnergyLaw,
    MeasuredEnergy,
    Model,
    Precision,
    Structure,
)
from ecoroute_mcp.energy import Deployment, Method, UnknownEnergy, devices_needed, features, middle, predict
from ecoroute_mcp.sci import EcoRouteError, Estimate

DATA = Path(__file__).resolve().parents[1] / "data"
COEFFICIENTS = Coefficients(
    step=1.0,
    weights=1.0,
    narrow=0.5,
    cache=5.0,
    state=1.0,
    arithmetic=2.0,
    prefill=4.0,
    sequence=3.0,
    collectives=1.0,
    experts=1.0,
    host=1.0,
)


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


ACCELERATOR = Device(
    id="A", tdp_w=1000, memory_gb=80, bandwidth_gb_per_s=4000, bf16_dense_tflops=1000, sources=("mlenergy-v3",)
)
STRUCTURE = Structure(
    shared_share=0.5,
    cache_gb=0.0001,
    cache_power=1.0,
    recurrent_cache_share=0.25,
    state_gb=0.4,
    layers=10.0,
    layers_power=1.0,
)


def deployment(
    total_b: float, active_b: float, bytes_: float, batch: float, device: Device = ACCELERATOR
) -> Deployment:
    return Deployment(
        device=device, params_total_b=total_b, params_active_b=active_b, bytes_per_param=bytes_, batch=batch
    )


def test_terms_of_a_dense_model_by_hand() -> None:
    one = features(deployment(8, 8, 2, 4), STRUCTURE)
    assert one == pytest.approx(
        {
            "step": 0.25,  # 1000 W for a millisecond, a quarter each
            "weights": 1.0,  # 16 GB at 4000 GB/s: 4 J, a quarter each
            "narrow": 0.0,
            "cache": 0.0,
            "state": 0.0,
            "arithmetic": 0.016,  # 16 GFLOP at 1000 TFLOP/s
            "prefill": 0.0,
            "sequence": 0.1,
            "collectives": 0.0,
            "experts": 0.0,
            "host": 0.0,
        },
        rel=1e-12,
    )


def test_what_each_circumstance_adds() -> None:
    served = replace(
        deployment(8, 8, 1, 4), devices=2, context_tokens=1000, prompt_per_output=3, recurrent=True, host_bound=True
    )
    added = features(served, STRUCTURE)
    assert added["narrow"] == added["weights"] == pytest.approx(0.5, rel=1e-12)
    assert added["cache"] == pytest.approx(1000 * 0.0001 * 8 * 1000 * 0.25 / 4000, rel=1e-12)
    assert added["state"] == pytest.approx(0.1, rel=1e-12)
    assert added["prefill"] == pytest.approx(0.048, rel=1e-12)
    assert (added["step"], added["sequence"]) == pytest.approx((0.5, 0.2), rel=1e-12)
    assert added["collectives"] == pytest.approx(0.5 * 80 / 40, rel=1e-12)
    assert added["host"] == pytest.approx(5.0, rel=1e-12)


def test_a_mixture_of_experts_reads_its_shared_part_and_the_experts_its_batch_touches() -> None:
    # 3 of 30 active, 1.5 of them shared: one sequence reads 3, two read 1.5 + 28.5 (1 - (1 - 1.5/28.5)^2).
    one, two = (features(deployment(30, 3, 1, batch), STRUCTURE) for batch in (1, 2))
    assert one["weights"] == pytest.approx(1000 * 3 / 4000, rel=1e-12)
    assert two["weights"] == pytest.approx(1000 * (1.5 + 28.5 * (1 - (1 - 1.5 / 28.5) ** 2)) / 2 / 4000, rel=1e-12)
    assert two["experts"] == pytest.approx(300 / 40 / math.sqrt(2), rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace(deployment(8, 8, 2, 4), device=replace(ACCELERATOR, bf16_dense_tflops=None)), "arithmetic rate of A"),
        (deployment(8, 9, 2, 4), "active parameters <= total parameters"),
        (deployment(8, 0, 2, 4), "0 < active"),
        (deployment(8, 8, 2, 0.5), "a batch of at least 1"),
        (replace(deployment(8, 8, 2, 4), devices=0), "at least 1 device"),
        (replace(deployment(8, 8, 2, 4), context_tokens=-1), "context and a prompt of 0 tokens or more"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(wrong: Deployment, says: str) -> None:
    with pytest.raises(EcoRouteError, match=says):
        features(wrong, STRUCTURE)


@pytest.mark.parametrize(
    ("weights_gb", "devices"), [(16, 1), (64, 1), (65, 2), (140, 4), (235, 4), (600, 16), (513, 16)]
)
def test_devices_are_the_fewest_that_hold_the_weights(weights_gb: float, devices: int) -> None:
    assert devices_needed(weights_gb, memory_gb=80, weights_share_max=0.8) == devices


def served(catalogue: Catalogue, bytes_: float = 1, batch: float = 64, device: str = "H100 SXM") -> Deployment:
    """8e9 dense parameters on one device, FP8 at batch 64 unless said: where the router takes models to be served."""
    return deployment(8, 8, bytes_, batch, next(row for row in catalogue.devices if row.id == device))


def test_the_law_by_hand(catalogue: Catalogue) -> None:
    law = replace(hosted(catalogue), coefficients=COEFFICIENTS)
    # On an H100: 700 W for 1/64 ms, for 8 GB / 3350 GB/s / 64 one and a half times, 16 GFLOP / 989 TFLOP/s, 0.1 ms.
    by_hand = 700 * (0.001 / 64 + 1.5 * 8 / 3350 / 64 + 2 * 16 / 989_000 + 3 * 0.0001)
    assert predict(law, served(catalogue)) == pytest.approx(by_hand, rel=1e-12)
    only = replace(catalogue, energy_laws=(law,), measured_energy=())
    footprint = Method(only).footprint(model(8, 8))
    assert footprint.decode_j.mid == pytest.approx(by_hand, rel=1e-12)
    assert footprint.prefill_j.mid == pytest.approx(700 * 4 * 16 / 989_000, rel=1e-12)
    assert footprint.decode_device_s.mid == pytest.approx(by_hand / (0.753 * 700), rel=1e-12)
    assert footprint.context_share is not None
    cache_gb = law.structure.cache_gb * 8**law.structure.cache_power
    assert footprint.context_share.mid == pytest.approx(700 * 5 * cache_gb / 3350 / by_hand, rel=1e-12)
    assert footprint.basis == "estimated"


def test_the_interval_of_the_law_is_the_quadrature_of_its_doubts(catalogue: Catalogue) -> None:
    law = hosted(catalogue)
    mid = predict(law, served(catalogue))

    def joules(bytes_: float, batch: float) -> float:
        return predict(law, served(catalogue, bytes_, batch))

    up = [law.residual_factor.high, joules(2, 64) / mid, joules(1, 16) / mid, 1.6]
    newer = next(law for law in catalogue.energy_laws if law.device == "B200 SXM")
    down = [1 / law.residual_factor.low, mid / joules(0.5, 64), mid / joules(1, 256)]
    elsewhere = predict(newer, served(catalogue, device="B200 SXM")) / mid
    (up if elsewhere > 1 else down).append(max(elsewhere, 1 / elsewhere))
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
        context_tokens=0.0,
        prompt_per_output=0.0,
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
    there = predict(law, served(catalogue, 2, 16, "B200 SXM"))
    row = measured(16, 1.5 * there, precision="bf16", device="B200 SXM")
    footprint = Method(replace(catalogue, measured_energy=(row,))).footprint(model(8, 8))
    assert footprint.decode_j.mid == pytest.approx(1.5 * predict(hosted(catalogue), served(catalogue)), rel=1e-12)


def test_a_measurement_on_a_device_without_a_law_is_refused(catalogue: Catalogue) -> None:
    tables = {table.name: getattr(catalogue, table.name) for table in fields(catalogue)}
    row = replace(catalogue.measured_energy[0], device="GB10")
    with pytest.raises(EcoRouteError, match="measured_energy: device 'GB10' is not in energy_laws"):
        Catalogue.checked(**{**tables, "measured_energy": (row,)})


def test_several_measurements_give_their_mean_ratio_and_range(catalogue: Catalogue) -> None:
    law = hosted(catalogue)

    def at(batch: float, ratio: float) -> MeasuredEnergy:
        return measured(batch, ratio * predict(law, served(catalogue, batch=batch)))

    rows = (at(32, 0.5), at(128, 2.0), at(500, 9.0), measured(64, 7.0, precision="bf16"))
    footprint = Method(replace(catalogue, measured_energy=rows), shared=False).footprint(model(8, 8))
    # Batch 500 lies outside the span, bf16 beside the reference precision: neither counts. 0.5 and 2 have mean 1.
    mid = predict(law, served(catalogue))
    assert footprint.decode_j.mid == pytest.approx(mid, rel=1e-12)
    assert footprint.how.startswith("2 measurements")
    precision = predict(law, served(catalogue, bytes_=2)) / mid
    expected = mid * math.exp(math.hypot(math.log(2), math.log(precision)))
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
    one = Method(catalogue).footprint(model(1, 1)).prefill_j.mid
    assert Method(catalogue).footprint(row).prefill_j.mid == pytest.approx(8 * one, rel=1e-12)


def upstream(gpu: str) -> list[dict[str, str]]:
    with (DATA / "upstream" / "mlenergy_v3.csv").open(encoding="utf-8", newline="") as file:
        texts = ("lm-arena-chat", "gpqa", "sourcegraph-fim")
        return [row for row in csv.DictReader(file) if row["gpu"] == gpu and row["task"] in texts]


def test_the_power_share_is_that_of_the_measurements(catalogue: Catalogue) -> None:
    rows = [row for row in upstream("H100") if 16 < float(row["avg_batch"]) < 300]
    shares = [float(row["avg_power_w"]) / int(row["n_gpus"]) / 700 for row in rows]
    cuts = quantiles(shares, n=20, method="inclusive")
    value = next(row.value for row in catalogue.parameters if row.name == "power_share_of_tdp")
    assert (value.low, value.mid, value.high) == pytest.approx((cuts[0], cuts[9], cuts[18]), abs=0.0005)
