"""How much a model writes: counted where somebody did, the typical model's with its doubt elsewhere, by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ecoroute_mcp.catalogue import Catalogue, Verbosity
from ecoroute_mcp.choices import answer_tokens
from ecoroute_mcp.ranking import Request, Router
from ecoroute_mcp.sci import Estimate
from tests.test_ranking import a_model, placed, small  # noqa: F401  a fixture

DATA = Path(__file__).resolve().parents[1] / "data"
TERSE = Estimate(low=0.4, mid=0.5, high=0.8, basis="published", sources=("coderouterbench",))
ASSUMED = Request(task="fix the failing test", task_type="debug", region="AAA", candidates=("terse", "other"))


def a_count(model: str, default_effort: str = "none") -> Verbosity:
    return Verbosity(model=model, default_effort=default_effort, answer=TERSE, note="Counted")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def two(small: Catalogue) -> Router:  # noqa: F811
    return Router(
        replace(
            small,
            models=(a_model("terse", 8, reasons=True), a_model("other", 8, reasons=True)),
            quality=(placed("terse", 1.9), placed("other", 1.9), placed("other", 1.9, effort="none")),
            verbosity=(a_count("terse"),),
        )
    )


def test_the_answer_of_a_counted_model_is_shorter_and_bounded_by_its_count(two: Router) -> None:
    answer = two.recommend(replace(ASSUMED, candidates=("terse",)))
    best, usual = answer.recommended, answer.demand.output_tokens
    assert best is not None
    assert best.verbosity == TERSE
    # Seen without reasoning as shipped, so its multiplier is 1 and its answer all that it writes.
    expected = usual * TERSE
    assert (best.output_tokens.low, best.output_tokens.high) == (expected.low, expected.high)
    assert best.output_tokens.mid == pytest.approx(279 / 2)
    cost = best.cost_usd
    assert cost is not None
    assert cost.mid == pytest.approx((answer.demand.input_tokens.mid * 1.0 + 279 / 2 * 2.0) / 1e6)


def test_a_model_nobody_counted_is_the_typical_one_with_the_doubt_of_any(two: Router, small: Catalogue) -> None:  # noqa: F811
    any_model = next(row.value for row in small.parameters if row.name == "verbosity_factor")
    assert any_model.mid == 1
    assert any_model.low < TERSE.low / TERSE.mid < 1 < TERSE.high / TERSE.mid < any_model.high
    assert "verbosity-v1" in any_model.sources
    answer = two.recommend(replace(ASSUMED, candidates=("other",)))
    best, usual = answer.recommended, answer.demand.output_tokens
    assert best is not None
    assert (best.effort, best.verbosity) == ("none", any_model)
    assert best.output_tokens.mid == usual.mid
    assert best.output_tokens.high > usual.high


def test_a_callers_number_wins_over_every_count(two: Router) -> None:
    answer = two.recommend(replace(ASSUMED, output_tokens=100, candidates=("terse",)))
    best = answer.recommended
    assert best is not None
    assert best.verbosity is None
    assert (best.output_tokens.low, best.output_tokens.mid, best.output_tokens.high) == (100, 100, 100)


def test_the_order_is_that_of_the_figures_shown(two: Router) -> None:
    for request in (ASSUMED, replace(ASSUMED, output_tokens=100)):
        demand = two.tasks.demand(request.task, kind="debug", output_tokens=request.output_tokens)
        grid = two.zones.resolve("AAA")
        grams, usd = two._choices.carbon_g(demand, grid), two._choices.cost_usd(demand)
        for index, option in enumerate(two._choices.all):
            shown = two._ranked(option, demand, grid)
            assert shown.carbon_g.mid == pytest.approx(grams[index], rel=1e-12)
            assert shown.cost_usd is not None
            assert shown.cost_usd.mid == pytest.approx(usd[index], rel=1e-12)
            assert answer_tokens(demand, option).mid * option.multiplier.mid == pytest.approx(shown.output_tokens.mid)


def test_how_much_each_model_writes_is_a_doubt_of_its_own_in_a_saving(small: Catalogue) -> None:  # noqa: F811
    request = Request(task="fix the failing test", task_type="debug", region="AAA", current_model="large")
    unknown = Router(small).recommend(request).saving_g
    exactly = Estimate.exact(1.0, basis="published", source="coderouterbench")
    counted = tuple(replace(a_count(model), answer=exactly) for model in ("small", "large"))
    known = Router(replace(small, verbosity=counted)).recommend(request).saving_g
    assert unknown is not None
    assert known is not None
    assert unknown.mid == known.mid
    assert unknown.low < known.low < known.high < unknown.high


def test_a_model_that_reasons_as_shipped_writes_as_much_as_one_that_is_told_to(small: Catalogue) -> None:  # noqa: F811
    models = (a_model("terse", 8, reasons=True),)
    thinks = replace(small, models=models, quality=(placed("terse", 1.9),), verbosity=(a_count("terse", "thinking"),))
    best = Router(thinks).recommend(replace(ASSUMED, output_tokens=100, candidates=("terse",))).recommended
    multiplier = next(row.output_multiplier for row in small.efforts if row.effort == "thinking")
    assert best is not None
    assert best.output_tokens.mid == 100 * multiplier.mid


def test_the_shipped_counts_and_the_parameter_are_of_one_fit(catalogue: Catalogue) -> None:
    head = (DATA / "verbosity.csv").read_text("utf-8").splitlines()[1]
    found = re.search(r"not listed: ([0-9.]+) ([0-9.]+) ([0-9.]+), as verbosity_factor", head)
    assert found is not None
    value = next(row.value for row in catalogue.parameters if row.name == "verbosity_factor")
    assert tuple(map(float, found.groups())) == (value.low, value.mid, value.high)
    rows = {row.model: row for row in catalogue.verbosity}
    assert {name for name, row in rows.items() if row.default_effort == "none"} == {
        "claude-opus-4-6", "claude-sonnet-4-6", "gpt-5.4", "kimi-k2.5"
    }  # fmt: skip
    for name in ("glm-5", "minimax-m2.7", "qwen3.5-plus"):
        answer = rows[name].answer
        assert rows[name].default_effort == "thinking"
        assert (answer.low, answer.mid, answer.high) == (value.low, value.mid, value.high)
