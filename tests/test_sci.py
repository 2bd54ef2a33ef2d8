"""The equation and the arithmetic of intervals, against values worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoroute_mcp.sci import BASES, EcoRouteError, Estimate, sci_g, shown, weakest


def estimate(low: float, mid: float, high: float, basis: str = "measured", source: str = "a") -> Estimate:
    return Estimate(low=low, mid=mid, high=high, basis=basis, sources=(source,))  # type: ignore[arg-type]


positive = st.floats(min_value=1e-9, max_value=1e9)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, mid, high = sorted(draw(st.tuples(positive, positive, positive)))
    return estimate(low, mid, high)


def test_a_product_of_intervals_combines_half_widths_in_quadrature() -> None:
    # Factors 2 and 2: the combined factor is exp(sqrt(2) ln 2) = 2^1.41421..., not 4.
    product = estimate(5, 10, 20) * estimate(1.5, 3, 6)
    assert product.mid == 30
    assert product.low == pytest.approx(30 / 2 ** math.sqrt(2), rel=1e-12)
    assert product.high == pytest.approx(30 * 2 ** math.sqrt(2), rel=1e-12)


def test_a_sum_adds_end_to_end() -> None:
    assert estimate(1, 2, 4) + estimate(10, 20, 30) == estimate(11, 22, 34)


def test_a_result_has_the_weakest_basis_and_all_sources() -> None:
    result = estimate(1, 1, 1, "published", "a") * estimate(1, 1, 1, "estimated", "b") + estimate(1, 1, 1, "given", "a")
    assert (result.basis, result.sources) == ("estimated", ("a", "b"))
    assert weakest(*BASES) == "estimated"
    assert weakest("given", "measured") == "measured"


def test_a_quotient_swaps_the_ends_and_refuses_zero() -> None:
    quotient = estimate(10, 10, 10) / estimate(2, 4, 5)
    assert (quotient.low, quotient.mid, quotient.high) == pytest.approx((2, 2.5, 5), rel=1e-12)
    with pytest.raises(EcoRouteError, match="touches zero"):
        estimate(1, 1, 1) / estimate(0, 1, 2)


def test_a_zero_low_end_stays_zero_and_a_zero_middle_keeps_its_high_end() -> None:
    assert estimate(0, 2, 4) * estimate(1, 1, 1) == estimate(0, 2, 4)
    assert estimate(0, 0, 3) * estimate(1, 2, 4) == estimate(0, 0, 12)


@pytest.mark.parametrize(
    ("low", "mid", "high"),
    [(2, 1, 3), (-1, 0, 1), (1, 3, 2), (0, 1, math.inf), (math.nan, 1, 2), (0, math.nan, 2)],
)
def test_an_estimate_that_is_no_interval_is_refused(low: float, mid: float, high: float) -> None:
    with pytest.raises(EcoRouteError, match="0 <= low <= mid <= high"):
        estimate(low, mid, high)


def test_an_estimate_without_a_source_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="at least one source"):
        Estimate(low=1, mid=1, high=1, basis="measured", sources=())


@given(estimates(), estimates())
def test_products_commute_and_hold_both_middles(a: Estimate, b: Estimate) -> None:
    first, second = a * b, b * a
    assert first.mid == second.mid == a.mid * b.mid
    assert first.low == pytest.approx(second.low, rel=1e-9)
    # Never narrower than either factor, never wider than the product of all extremes.
    assert first.high / first.mid >= max(a.high / a.mid, b.high / b.mid) * (1 - 1e-9)
    assert first.high <= a.high * b.high * (1 + 1e-9)


def test_sci_is_energy_times_intensity_plus_embodied() -> None:
    assert sci_g(energy_kwh=0.002, intensity_g_per_kwh=400.0, embodied_g=0.05) == pytest.approx(0.85, rel=1e-12)
    whole = sci_g(
        energy_kwh=estimate(0.001, 0.002, 0.004),
        intensity_g_per_kwh=estimate(400, 400, 400),
        embodied_g=estimate(0.01, 0.05, 0.2),
    )
    assert (whole.low, whole.mid, whole.high) == pytest.approx((0.41, 0.85, 1.8), rel=1e-12)


def test_echo_is_cut_to_sixty_printable_characters() -> None:
    assert shown("\x00ab\ud800c" + "d" * 100) == "abc" + "d" * 57
