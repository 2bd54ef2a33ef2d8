"""The metrics of routing against figures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.routing_metrics import (
    PairCurve,
    bootstrap,
    cheapest_blend,
    oracle,
    pair_curve,
    realised,
    static_mix,
)
from ecoroute_mcp.sci import EcoRouteError

QUALITY = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
ENERGY = np.array([[10.0, 2.0]] * 4)


def test_a_router_that_knows_every_outcome_recovers_the_gap_first() -> None:
    strong = np.ones(10)
    weak = np.array([0.0] * 2 + [1.0] * 8)
    curve = pair_curve(-np.arange(10.0), strong, weak)
    assert curve.strong_share[:3].tolist() == [0, 0.1, 0.2]
    assert curve.strong_share[-1] == 1
    assert curve.pgr[curve.strong_share >= 0.2].tolist() == [1.0] * int((curve.strong_share >= 0.2).sum())
    assert curve.apgr() == pytest.approx(0.9)
    assert curve.cpt(0.5) == pytest.approx(10)
    assert curve.cpt(0.8) == pytest.approx(16)


def test_a_router_blind_to_the_outcome_has_half_the_area() -> None:
    weak = np.tile([0.0, 1.0], 500)
    curve = pair_curve(np.repeat(np.arange(500.0), 2), np.ones(1000), weak)
    assert curve.apgr() == pytest.approx(0.5, abs=1e-3)
    assert curve.cpt(0.5) == pytest.approx(50, abs=0.1)
    assert curve.cpt(0.8) == pytest.approx(80, abs=0.1)


def test_cpt_is_interpolated_at_the_first_crossing() -> None:
    curve = PairCurve(np.array([0.0, 0.2, 0.4, 0.6, 1.0]), np.array([0.0, 0.4, 0.9, 0.7, 1.0]))
    assert curve.cpt(0.5) == pytest.approx(24)
    assert curve.cpt(0.8) == pytest.approx(36)
    assert curve.cpt(0.0) == 0
    assert curve.apgr() == pytest.approx(0.04 + 0.13 + 0.16 + 0.34)
    with pytest.raises(EcoRouteError, match="choose a lower one"):
        curve.cpt(1.1)


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    with pytest.raises(EcoRouteError, match="no gap"):
        pair_curve(np.arange(3.0), np.zeros(3), np.ones(3))


def test_the_static_mix_uses_as_much_of_the_cheap_model_as_the_floor_allows() -> None:
    assert static_mix(QUALITY, ENERGY, 0.8).tolist() == pytest.approx([0.6, 0.4])
    assert static_mix(QUALITY, ENERGY, 0.5).tolist() == [0, 1]
    assert static_mix(QUALITY, ENERGY, 1.0).tolist() == [1, 0]
    got = realised(np.tile(static_mix(QUALITY, ENERGY, 0.8), (4, 1)), QUALITY, ENERGY, 0)
    assert (got.quality, got.energy, got.under_served) == pytest.approx((0.8, 6.8, 0.2))
    with pytest.raises(EcoRouteError, match="lower it"):
        static_mix(QUALITY, ENERGY, 1.1)


EXPECTED = np.array([[1.0, 0.9], [1.0, 0.4], [1.0, 0.2], [1.0, 0.1]])


def test_the_router_and_the_oracle_save_beyond_the_mix() -> None:
    # The cheap model is right for the first two; the expectation says so of the first alone.
    blend = cheapest_blend(EXPECTED, QUALITY, ENERGY, 1.0)
    assert blend is not None
    got = realised(blend.shares(EXPECTED, ENERGY), QUALITY, ENERGY, 0)
    assert (got.quality, got.energy, got.under_served) == (1.0, 6.0, 0.0)
    perfect = realised(oracle(QUALITY, ENERGY, 1.0), QUALITY, ENERGY, 0)
    assert (1 - got.energy / 10, 1 - perfect.energy / 10) == pytest.approx((0.4, 0.4))
    assert cheapest_blend(EXPECTED, QUALITY, ENERGY, 1.01) is None


def test_a_router_blends_two_prices_to_stand_on_the_floor() -> None:
    # Quality 1 at 6 J and 0.75 at 4 J: a floor of 0.9 lies two fifths of the way.
    blend = cheapest_blend(EXPECTED, QUALITY, ENERGY, 0.9)
    assert blend is not None
    got = realised(blend.shares(EXPECTED, ENERGY), QUALITY, ENERGY, 0)
    assert (got.quality, got.energy, got.under_served) == pytest.approx((0.9, 5.2, 0.1))
    assert blend.shares(EXPECTED, ENERGY).sum(1).tolist() == pytest.approx([1] * 4)
    assert blend.part == pytest.approx(0.4)
    low = cheapest_blend(EXPECTED, QUALITY, ENERGY, 0.4)
    assert low is not None
    assert low.shares(EXPECTED, ENERGY).tolist() == [[0.0, 1.0]] * 4


def test_the_oracle_gives_quality_up_for_energy_however_large_another_model_is() -> None:
    quality = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    energy = np.tile([10.0, 2.0, 4_000.0], (4, 1))
    # Three quarters of the quality: the second model for the first task and one more.
    got = realised(oracle(quality, energy, 0.75), quality, energy, 0)
    assert (got.quality, got.energy) == pytest.approx((0.75, 6.0))


def test_the_bootstrap_draws_whole_groups() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])
    groups = np.array(["a", "a", "b", "b"])
    assert bootstrap(lambda rows: float(values[rows].mean()), groups) == (0.0, 1.0)
    seen: list[float] = []

    def mean(rows: NDArray[np.int64]) -> float:
        seen.append(float(values[rows].mean()))
        return seen[-1]

    bootstrap(mean, groups, resamples=50)
    assert set(seen) == {0.0, 0.5, 1.0}
    assert bootstrap(lambda rows: float(len(rows)), np.array(["a"] * 5)) == (5.0, 5.0)
