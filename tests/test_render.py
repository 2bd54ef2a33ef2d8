"""What a person reads: units that fit, three digits, no exponent, no false certainty, short answers."""

from __future__ import annotations

import pytest

from ecoroute_mcp import render
from ecoroute_mcp.ranking import RankingsRequest, Request, Router
from ecoroute_mcp.sci import Estimate


@pytest.mark.parametrize(
    ("grams", "text"),
    [
        (0.00054, "540 µg"),
        (0.0123, "12.3 mg"),
        (1.0, "1.00 g"),
        (0.9999, "1.00 g"),
        (40.62, "40.6 g"),
        (1234, "1.23 kg"),
        (-0.005, "-5.00 mg"),
        (3e-9, "3.00 ng"),
        (0, "0.00 g"),
    ],
)
def test_grams_in_the_unit_that_reads_best(grams: float, text: str) -> None:
    assert render.quantity(grams) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.000403, "$0.403 ($0.403 to $0.403) per 1,000 such tasks"),
        (2.74, "$2.74 ($2.74 to $2.74)"),
        (1234.5, "$1,230 ($1,230 to $1,230)"),
    ],
)
def test_dollars_have_no_exponent_and_few_zeros(usd: float, text: str) -> None:
    assert render.dollars(Estimate.exact(usd, basis="published", source="a")) == text
    assert render.dollars(None) == "price not known"


@pytest.mark.parametrize(("share", "text"), [(0.9, "90 %"), (0.9949, "99 %"), (0.999, "over 99 %"), (1.0, "100 %")])
def test_a_probability_is_not_rounded_up_to_certainty(share: float, text: str) -> None:
    assert render.percent(share) == text


def test_an_interval_is_in_one_unit_and_a_cost_is_a_saving_turned() -> None:
    estimate = Estimate(low=0.002, mid=0.5, high=2.5, basis="published", sources=("a",))
    assert render.interval(estimate) == "500 mg (2.00 to 2,500)"
    assert render.interval(estimate, sign=-1) == "-500 mg (-2,500 to -2.00)"


def test_a_recommendation_is_short_and_names_what_it_rests_on(router: Router) -> None:
    answer = router.recommend(Request(task="fix the bug", region="FRA", current_model="claude-opus-4-5"))
    text = render.recommendation(answer)
    assert len(text.splitlines()) <= 20
    assert answer.recommended is not None
    for said in (answer.recommended.model, "claude-opus-4-5", "Grid: FRA", "data of", "Left out:", "Assumed:", "saves"):
        assert said in text
    assert "{" not in text


def test_a_league_has_a_row_a_model_under_its_columns(router: Router) -> None:
    text = render.rankings(router.rankings(RankingsRequest(limit=7)))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 9
    assert {line.count("|") for line in table} == {len(render.RANKING_COLUMNS) + 1}


def test_the_methodology_names_every_assumption(router: Router) -> None:
    text = render.methodology(router.catalogue)
    for parameter in router.catalogue.parameters:
        assert f"`{parameter.name}`" in text
    assert "ISO/IEC 21031:2024" in text
