"""The choice: one case by hand to 1e-9, the grids' ratio, the saving, who is left out, every number traced."""

from __future__ import annotations

import datetime
import itertools
import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from ecoroute_mcp import render
from ecoroute_mcp.catalogue import Catalogue, Grid, Model, Provider, Quality
from ecoroute_mcp.ranking import (
    Defaults,
    Detected,
    Ranked,
    Rankings,
    RankingsRequest,
    Recommendation,
    Request,
    Router,
)
from ecoroute_mcp.sci import EcoRouteError, Estimate

CODE = "write a function that finds the longest palindromic substring"
TASK = "fix the failing pytest in our payment module"


def exact(value: float) -> Estimate:
    return Estimate.exact(value, basis="published", source="mlenergy-v3")


def a_model(name: str, params_b: float | None, **more: Any) -> Model:
    size = None if params_b is None else exact(params_b)
    return Model(
        id=name,
        provider="p",
        family="f",
        sources=("mlenergy-v3",),
        params_total_b=size,
        params_active_b=size,
        **{
            "reasons": False,
            "price_in_usd_per_mtok": 1.0,
            "price_out_usd_per_mtok": 2.0,
            "price_sources": ("mlenergy-v3",),
            "context_tokens": 8000,
            **more,
        },
    )


def placed(name: str, theta: float, se: float = 0.1, effort: str = "default") -> Quality:
    return Quality(
        model=name,
        effort=effort,  # type: ignore[arg-type]
        theta=theta,
        theta_se=se,
        tier=5,
        benchmarks=3,
        basis="published",
        sources=("mlenergy-v3",),
    )


def a_grid(zone: str, intensity: float) -> Grid:
    return Grid(
        zone=zone,
        name=zone,
        region_type="country",
        valid_from=datetime.date(2025, 1, 1),
        intensity_g_per_kwh=exact(intensity),
    )


@pytest.fixture(scope="module")
def small(catalogue: Catalogue) -> Catalogue:
    """The project's method over four models of known size: tiny 1e9, small 8e9, large 70e9, and one without a size."""
    return replace(
        catalogue,
        models=(
            a_model("tiny", 1, open_weights=True),
            a_model("small", 8, open_weights=True),
            a_model("large", 70, context_tokens=200_000),
            a_model("hidden", None, params_note="never published"),
            a_model("gone", 8, availability="retired"),
            a_model("unplaced", 8),
        ),
        aliases=(),
        providers=(Provider(id="p", name="P", pue=exact(1.2), zones=("AAA",), sources=("mlenergy-v3",)),),
        grids=(a_grid("AAA", 500.0), a_grid("BBB", 50.0)),
        zone_aliases=(),
        quality=(placed("tiny", -1.0), placed("small", 0.9), placed("large", 1.9)),
        measured_energy=(),
    )


@pytest.fixture(scope="module")
def over(small: Catalogue) -> Router:
    return Router(small)


def test_one_case_by_hand(over: Router) -> None:
    answer = over.recommend(
        Request(task="abcd" * 10, task_type="debug", context_tokens=990, output_tokens=100, region="AAA")
    )
    best = answer.recommended
    assert best is not None
    assert (best.model, best.adequate) == ("small", True)
    # 1,000 tokens in (40 characters are 10 tokens), 100 out, 8e9 parameters in FP8 at batch 64 on one H100 of 700 W.
    law = next(law for law in over.catalogue.energy_laws if law.hosted)
    by, cache_gb = law.coefficients, law.structure.cache_gb * 8**law.structure.cache_power
    prefill_j = 700 * by.prefill * 16 / 989_000
    weights_s = 8 / 3350 / 64
    alone_s = by.step * 0.001 / 64 + (by.weights + by.narrow) * weights_s + by.arithmetic * 16 / 989_000
    # A written token attends to the 1,000 read and half of the 100 written.
    decode_j = 700 * (alone_s + by.sequence * 0.0001 + by.cache * cache_gb * 1050 / 3350)
    accelerator_j = 1000 * prefill_j + 100 * decode_j
    facility_kwh = accelerator_j * 1.60 * 1.2 / 3_600_000
    embodied_g = accelerator_j / (0.753 * 700) * (273 + 336) * 1000 / (4.5 * 31_557_600 * 0.7)
    assert best.energy_j.mid == pytest.approx(facility_kwh * 3_600_000, rel=1e-9)
    assert best.operational_g.mid == pytest.approx(facility_kwh * 500, rel=1e-9)
    assert best.embodied_g.mid == pytest.approx(embodied_g, rel=1e-9)
    assert best.carbon_g.mid == pytest.approx(facility_kwh * 500 + embodied_g, rel=1e-9)
    assert best.carbon_g_per_token.mid == pytest.approx(best.carbon_g.mid / 1100, rel=1e-9)
    assert best.cost_usd is not None
    assert best.cost_usd.mid == pytest.approx((1000 * 1 + 100 * 2) / 1e6, rel=1e-9)
    assert best.ability is not None
    # Tier 6 begins at 0.20; 0.9 lies 7 standard errors of 0.1 above it.
    assert best.ability.p_adequate == pytest.approx(0.5 * (1 + math.erf(7 / math.sqrt(2))), abs=1e-9)


def test_two_grids_differ_by_their_ratio_on_the_operational_part_only(router: Router) -> None:
    sweden, poland = (
        router.recommend(Request(task=TASK, region=region, candidates=("llama-3.3-70b",), min_tier=1)).recommended
        for region in ("SWE", "POL")
    )
    assert sweden is not None
    assert poland is not None
    ratio = router.zones.resolve("POL").intensity_g_per_kwh.mid / router.zones.resolve("SWE").intensity_g_per_kwh.mid
    assert ratio > 10
    assert poland.operational_g.mid / sweden.operational_g.mid == pytest.approx(ratio, rel=1e-9)
    assert poland.embodied_g == sweden.embodied_g
    assert poland.energy_j == sweden.energy_j
    assert poland.carbon_g.mid - sweden.carbon_g.mid == pytest.approx(
        poland.operational_g.mid - sweden.operational_g.mid, rel=1e-9
    )


def test_the_order_of_all_choices_is_that_of_the_figures_shown(router: Router) -> None:
    rows = router.rankings(RankingsRequest(task_type="chat", limit=500, min_tier=1)).rows
    grams = [row.carbon_g.mid for row in rows]
    assert len(rows) > 100
    assert grams == sorted(grams)
    for row in rows:
        assert row.carbon_g.mid == pytest.approx(row.operational_g.mid + row.embodied_g.mid, rel=1e-12)


def test_the_lower_bound_decides_not_the_rounded_tier(small: Catalogue) -> None:
    # Tier 6 begins at 0.20. 0.32 is above it, but with a standard error of 0.1 only 88 % sure; with 0.09 it is 91 %.
    unsure = Router(replace(small, quality=(placed("small", 0.32, 0.1), placed("large", 1.9))))
    sure = Router(replace(small, quality=(placed("small", 0.32, 0.09), placed("large", 1.9))))
    request = Request(task=TASK, task_type="debug")
    assert _chosen(unsure.recommend(request)).model == "large"
    assert _chosen(sure.recommend(request)).model == "small"


def test_who_was_left_out_and_why(over: Router) -> None:
    answer = over.recommend(Request(task=TASK, task_type="debug", open_weights_only=True))
    assert _chosen(answer).model == "small"
    assert {(row.reason.split(":")[0], row.count, row.models) for row in answer.excluded} == {
        ("weights not known to be open", 2, ("unplaced", "large")),
        ("less than 90% sure to reach tier 6", 1, ("tiny",)),
        ("no energy figure", 1, ("hidden",)),
        ("retired", 1, ("gone",)),
    }


def test_context_and_cost_exclude(over: Router) -> None:
    wide = over.recommend(Request(task=TASK, context_tokens=50_000))
    assert _chosen(wide).model == "large"
    assert any("limit too small for these 50," in row.reason and "small" in row.models for row in wide.excluded)
    cheap = over.recommend(Request(task=TASK, context_tokens=50_000, max_cost_usd=0.01))
    assert cheap.recommended is None
    assert cheap.verdict.startswith("No model passes the conditions. 1 fell to the last one: expected cost above $0.01")
    long = over.recommend(Request(task=TASK, output_tokens=150_000, min_tier=1))
    assert _chosen(long).model == "large"
    capped = replace(over.catalogue, models=(a_model("small", 8, max_output_tokens=50), a_model("large", 70)))
    capped = replace(capped, quality=(placed("small", 0.9), placed("large", 1.9)))
    assert _chosen(Router(capped).recommend(Request(task=TASK, output_tokens=60))).model == "large"


def test_when_nothing_is_able_enough_the_likeliest_is_named(over: Router) -> None:
    answer = over.recommend(Request(task=TASK, min_tier=10))
    assert answer.recommended is None
    assert answer.saving_g is None
    assert "No model is sure enough to reach tier 10" in answer.verdict
    assert "is large, 8.1% sure" in answer.verdict


def test_the_saving_takes_what_both_models_share_at_its_middle(over: Router) -> None:
    request = Request(task=TASK, task_type="debug", context_tokens=1000, output_tokens=100, region="AAA")
    answer = over.recommend(replace(request, current_model="large"))
    assert answer.current is not None
    assert answer.saving_g is not None
    assert answer.saving_g.mid == pytest.approx(answer.current.carbon_g.mid - _chosen(answer).carbon_g.mid, rel=1e-9)
    assert answer.saving_g.high - answer.saving_g.low < answer.current.carbon_g.high - answer.current.carbon_g.low
    assert answer.verdict == "small does it for less carbon than large."


def test_a_current_model_that_is_greenest_already_saves_nothing(over: Router) -> None:
    answer = over.recommend(Request(task=TASK, current_model="small"))
    assert answer.verdict == "Your model is already the greenest adequate one."
    assert answer.saving_g is not None
    assert (answer.saving_g.low, answer.saving_g.mid, answer.saving_g.high) == (0, 0, 0)


def test_a_current_model_that_is_too_weak_costs_carbon_to_replace(over: Router) -> None:
    answer = over.recommend(Request(task=TASK, current_model="tiny"))
    assert answer.saving_g is not None
    assert answer.saving_g.mid < 0
    assert "tiny is 0.0% sure to reach tier 6" in answer.verdict


def test_a_current_model_without_a_figure_is_said(over: Router) -> None:
    answer = over.recommend(Request(task=TASK, current_model="hidden"))
    assert answer.current is None
    assert "hidden: no grams can be given (no energy figure" in answer.current_note


def test_the_editors_model_counts_only_when_none_is_named(over: Router) -> None:
    detected = Detected(spelling="large", where="settings.json")
    said = over.recommend(Request(task=TASK, detected=detected))
    assert said.current is not None
    assert (said.current.model, said.current_note) == ("large", "from settings.json")
    named = over.recommend(Request(task=TASK, current_model="tiny", detected=detected))
    assert named.current is not None
    assert named.current.model == "tiny"
    strange = over.recommend(Request(task=TASK, detected=replace(detected, spelling="gpt-99")))
    assert strange.current is None
    assert "settings.json names 'gpt-99', but" in strange.current_note


def test_an_effort_without_a_benchmark_has_grams_but_no_ability(small: Catalogue) -> None:
    thinking = replace(
        small,
        models=(a_model("thinker-1", 8, reasons=True), a_model("large", 70)),
        quality=(placed("thinker-1", 0.9), placed("large", 1.9)),
    )
    router = Router(thinking)
    request = Request(task=TASK, task_type="debug", context_tokens=0, output_tokens=100)
    shipped, none = (
        router.recommend(replace(request, current_model=name)).current
        for name in ("thinker-1", "thinker-1:non-thinking")
    )
    assert shipped is not None
    assert none is not None
    assert (none.effort, none.output_tokens.mid, none.ability) == ("none", 100, None)
    assert shipped.output_tokens.mid == pytest.approx(244.3, rel=1e-12)


def test_a_model_whose_date_has_come_is_out_unless_its_weights_are_open(small: Catalogue) -> None:
    ended = datetime.date(2026, 8, 31)
    catalogue = replace(
        small,
        models=(
            a_model("closed", 8, retires_on=ended),
            a_model("open", 8, retires_on=ended, open_weights=True),
            a_model("large", 70),
        ),
        quality=(placed("closed", 0.9), placed("open", 0.9), placed("large", 1.9)),
    )
    request = Request(task=TASK, task_type="debug")
    before = _chosen(Router(catalogue, today=datetime.date(2026, 8, 30)).recommend(request))
    assert (before.model, before.notes) == ("closed", ("its provider retires it on 2026-08-31",))
    after = _chosen(Router(catalogue, today=ended).recommend(request))
    assert (after.model, after.cost_usd) == ("open", None)
    assert after.notes == ("its provider ended the API on 2026-08-31: host the open weights, or find a host",)


def test_of_equally_green_models_the_abler_comes_first(small: Catalogue) -> None:
    twins = replace(
        small,
        models=(a_model("twin-a", 8), a_model("twin-b", 8)),
        quality=(placed("twin-a", 0.8), placed("twin-b", 0.9)),
    )
    assert _chosen(Router(twins).recommend(Request(task=TASK, task_type="debug"))).model == "twin-b"


def test_without_a_region_each_model_says_where_it_is_taken_to_be_served(over: Router) -> None:
    best = _chosen(over.recommend(Request(task=TASK, task_type="debug")))
    assert (best.zone.zone, best.zone.intensity_g_per_kwh.mid, best.zone.valid_from) == ("AAA", 500, "2025-01-01")
    assert best.zone.chosen_by == "taken as where P serves from, the first in the middle"


def test_the_interval_per_token_is_that_of_serving_not_of_the_task(over: Router) -> None:
    assumed = over.recommend(Request(task=TASK, task_type="debug"))
    read, written = assumed.demand.input_tokens.mid - len(TASK) / 4, assumed.demand.output_tokens.mid
    sure = Request(task=TASK, task_type="debug", context_tokens=round(read), output_tokens=round(written))
    given = over.recommend(sure)

    def spread(estimate: Estimate) -> float:
        return estimate.high / estimate.low

    assert spread(_chosen(assumed).carbon_g) > 3 * spread(_chosen(given).carbon_g)
    assert spread(_chosen(assumed).carbon_g_per_token) == pytest.approx(
        spread(_chosen(given).carbon_g_per_token), rel=0.01
    )


def test_effort_is_part_of_the_choice(small: Catalogue) -> None:
    thinking = replace(
        small,
        models=(a_model("thinker", 8, reasons=True), a_model("large", 70)),
        quality=(placed("thinker", 0.1, effort="none"), placed("thinker", 0.9, effort="low"), placed("large", 1.9)),
    )
    multiplier = next(row.output_multiplier for row in small.efforts if row.effort == "low")
    request = Request(task=TASK, task_type="debug", context_tokens=0, output_tokens=100)
    best = _chosen(Router(thinking).recommend(request))
    assert (best.model, best.effort) == ("thinker", "low")
    assert best.output_tokens.mid == pytest.approx(100 * multiplier.mid, rel=1e-12)
    low = _chosen(Router(thinking).recommend(replace(request, min_tier=5)))
    assert (low.model, low.effort, low.output_tokens.mid) == ("thinker", "none", 100)


def test_defaults_hold_when_a_request_does_not_say_and_are_named(small: Catalogue) -> None:
    defaults = Defaults(region="BBB", region_where="the house", candidates=("large",), candidates_where="the team")
    router = Router(small).with_defaults(defaults)
    answer = router.recommend(Request(task=TASK))
    assert answer.zone is not None
    assert (answer.zone.zone, answer.zone.chosen_by) == ("BBB", "the house")
    assert _chosen(answer).model == "large"
    assert "region: BBB, from the house" in answer.defaulted
    assert "candidates: large, from the team" in answer.defaulted
    league = router.rankings(RankingsRequest(task_type="debug"))
    assert [row.model for row in league.rows] == ["large"]
    assert "candidates: large, from the team" in league.defaulted
    other = router.recommend(Request(task=TASK, region="AAA", candidates=("small",)))
    assert other.zone is not None
    assert (other.zone.zone, other.zone.chosen_by) == ("AAA", "region argument")
    assert _chosen(other).model == "small"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(task=TASK, region="Atlantis"), "Atlantis"),
        (Request(task=TASK, current_model="claude-sonet-4.5"), "Did you mean"),
        (Request(task=TASK, candidates=()), "candidates is empty"),
        (Request(task=TASK, candidates=("nonsense-model",)), "no model is called 'nonsense-model'"),
        (Request(task=TASK, candidates=("seed-2.0-pro",)), "none of the candidates can be ranked"),
        (Request(task=TASK, candidates=("gpt-5:minimal",)), "was not benchmarked at effort minimal: leave the effort"),
        (Request(task=TASK, max_cost_usd=0.0), "positive number of dollars"),
        (Request(task=TASK, max_cost_usd=math.nan), "positive number of dollars"),
    ],
)
def test_a_request_that_cannot_be_answered_names_the_repair(router: Router, request_: Request, said: str) -> None:
    with pytest.raises(EcoRouteError, match=said):
        router.recommend(request_)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (RankingsRequest(limit=0), "limit must lie between 1 and 500"),
        (RankingsRequest(sort_by="greenness"), "valid values are carbon, cost, quality, energy"),
        (RankingsRequest(provider="openia"), "unknown provider 'openia': valid values are"),
    ],
)
def test_a_league_that_cannot_be_made_names_the_repair(router: Router, request_: RankingsRequest, said: str) -> None:
    with pytest.raises(EcoRouteError, match=said):
        router.rankings(request_)


def test_a_league_puts_the_adequate_first_and_is_ordered_as_asked(router: Router) -> None:
    rows = router.rankings(RankingsRequest(task_type="debug", limit=500)).rows
    adequate = [row.adequate for row in rows]
    assert adequate == sorted(adequate, reverse=True)
    assert len({row.model for row in rows}) == len(rows)
    by_quality = router.rankings(RankingsRequest(task_type="debug", limit=20, sort_by="quality")).rows
    thetas = [row.ability.theta for row in by_quality if row.ability]
    assert thetas == sorted(thetas, reverse=True)
    costs = [row.cost_usd for row in router.rankings(RankingsRequest(limit=50, sort_by="cost", min_tier=5)).rows]
    middles = [cost.mid for cost in costs if cost]
    assert len(middles) == len(costs)
    assert middles == sorted(middles)
    assert {row.provider for row in router.rankings(RankingsRequest(provider="mistral", limit=500)).rows} == {"mistral"}


def test_no_untested_model_is_ranked_or_given_a_tier(router: Router) -> None:
    tested = {row.model for row in router.catalogue.quality}
    answer = router.rankings(RankingsRequest(limit=500))
    assert {row.model for row in answer.rows} <= tested
    assert all(row.ability is not None for row in answer.rows)
    untested = next(row for row in answer.excluded if row.reason.startswith("untested"))
    assert untested.count == len(set(router._choices.model_ids) - tested)


@pytest.mark.parametrize(
    "answer_to",
    [
        lambda router: router.recommend(Request(task=TASK, region="FRA", current_model="claude-opus-4-5")),
        lambda router: router.recommend(Request(task=TASK, context_tokens=10, output_tokens=10, min_tier=3)),
        lambda router: router.rankings(RankingsRequest(task_type="review", limit=30)),
        lambda router: router.recommend(
            Request(task=CODE, task_type="generate", min_success=0.8, current_model="claude-opus-4-5")
        ),
    ],
)
def test_every_number_of_an_answer_has_a_basis_and_sources_that_the_answer_carries(
    router: Router, answer_to: Any
) -> None:
    answer: Recommendation | Rankings = answer_to(router)
    untraced = list(_untraced(answer, "answer", answer.sources))
    assert untraced == []
    assert all(source.url and source.retrieved_on for source in answer.sources.values())
    figures = len(list(_figures(answer)))
    assert figures > 20


@pytest.fixture(scope="module")
def sure(catalogue: Catalogue) -> Router:
    """All the models, as if their abilities were known all but exactly."""
    return Router(replace(catalogue, quality=tuple(replace(row, theta_se=1e-12) for row in catalogue.quality)))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8, 0.9, 0.95])
def test_a_model_is_adequate_if_and_only_if_it_succeeds_so_often(sure: Router, p: float) -> None:
    difficulty = sure.tasks.difficulty
    task = difficulty.predict("generate")
    assert task is not None
    everyone = sure.rankings(RankingsRequest(task_type="generate", limit=500)).rows
    asked = sure.rankings(RankingsRequest(task_type="generate", min_success=p, limit=500))
    able = {row.model for row in sure.catalogue.quality if difficulty.p_success(row.theta, task) >= p} & {
        row.model for row in everyone
    }
    assert {row.model for row in asked.rows} == able
    assert 0 < len(able) <= len(everyone)
    for row in asked.rows:
        assert row.ability is not None
        assert row.ability.p_success is not None
        assert row.ability.p_success.value == difficulty.p_success(row.ability.theta, task) >= p
        assert row.adequate
    left = sum(group.count for group in asked.excluded if group.reason.startswith("less than"))
    assert left == len(everyone) - len(able)


def test_a_higher_probability_leaves_no_model_that_a_lower_one_left_out(router: Router) -> None:
    def adequate(p: float) -> set[str]:
        asked = RankingsRequest(task_type="generate", min_success=p, limit=500)
        return {row.model for row in router.rankings(asked).rows}

    sets = [adequate(p) for p in (0.01, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99)]
    assert all(higher <= lower for lower, higher in itertools.pairwise(sets))
    assert len({len(each) for each in sets}) > 6


def test_when_no_model_succeeds_so_often_the_best_chance_is_named_and_can_be_asked_for(over: Router) -> None:
    request = Request(task=CODE, task_type="generate", min_success=0.98)
    answer = over.recommend(request)
    assert answer.recommended is None
    assert answer.cascade is None
    # Large: θ 1.9 ± 0.1, of which 1.2816 standard errors are taken.
    task = over.tasks.difficulty.predict("generate", CODE, never_easier=True)
    assert task is not None
    least = math.floor(1000 * over.tasks.difficulty.p_success(1.9 - 0.1 * 1.2815515655446004, task)) / 10
    assert answer.verdict == (
        "No model is sure enough to succeed in at least 98 % of such tasks. The best chance that passes the other "
        f"conditions is that of large, at least {least} % with 90% certainty: lower min_success, or allow more models."
    )
    assert "3 less than 90% sure to succeed in at least 98 % of such tasks" in render.recommendation(answer)
    assert _chosen(over.recommend(replace(request, min_success=least / 100))).model == "large"
    assert over.recommend(replace(request, min_success=(least + 0.1) / 100)).recommended is None


def test_a_chance_that_no_ability_gives_is_still_answered(over: Router) -> None:
    answer = over.recommend(Request(task=CODE, task_type="generate", min_success=0.99999, current_model="large"))
    assert answer.demand.requirement.min_success is not None
    assert answer.demand.requirement.min_success.theta_from is None
    assert answer.recommended is None
    assert "that of large" in answer.verdict
    assert answer.current is not None
    assert answer.current.ability is not None
    assert answer.current.ability.p_adequate == 0.0
    assert "no ability on the quality scale is reckoned to do so" in render.recommendation(answer)


def test_what_outcomes_do_not_reach_to_is_said_once(over: Router) -> None:
    asked = Request(task=CODE, task_type="generate", min_success=0.9, current_model="tiny")
    high = over.recommend(asked)
    assert "extrapolated: a model at this bar is abler than all 11 models" in high.demand.requirement.why
    assert _chosen(high).notes == ()
    assert "tiny is 0.0% sure to succeed in at least 90 % of such tasks; " in high.verdict
    low = over.recommend(replace(asked, min_success=0.5, candidates=("small",)))
    assert "extrapolated" not in low.demand.requirement.why
    said = "its chance of success is extrapolated: it is abler than all 11 models whose outcomes set these chances"
    assert _chosen(low).notes == (said,)
    assert f"- Note: {said}" in render.recommendation(low)


def test_the_cascade_and_the_bar_reckon_with_one_difficulty(router: Router) -> None:
    answer = router.recommend(Request(task=CODE, task_type="generate", min_success=0.9, region="SWE"))
    best, tried = _chosen(answer), answer.cascade
    assert best.ability is not None
    assert tried is not None
    assert tried.p_alone == best.ability.p_success
    assert 0.9 <= tried.p_alone.value <= tried.p_success.value


def _untraced(value: Any, path: str, sources: Any, traced: bool = False) -> Any:
    """Numbers that stand in no object with a basis and known sources. A count of models is no figure of the world."""
    if is_dataclass(value):
        here = traced
        if hasattr(value, "basis"):
            cited = getattr(value, "sources", ())
            here = bool(cited) and all(name in sources for name in cited)
        for field in fields(value):
            if field.name != "sources" and not (type(value).__name__ == "Excluded" and field.name == "count"):
                yield from _untraced(getattr(value, field.name), f"{path}.{field.name}", sources, here)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _untraced(item, f"{path}[{number}]", sources, traced)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and not traced:
        yield path


def _figures(value: Any) -> Any:
    if isinstance(value, Estimate):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _figures(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _figures(item)


def _chosen(answer: Recommendation) -> Ranked:
    assert answer.recommended is not None
    return answer.recommended


def test_of_nearly_equally_green_models_the_abler_is_named_and_that_is_said(small: Catalogue) -> None:
    def ask(abler_b: float) -> tuple[str, str]:
        rivals = replace(
            small,
            models=(a_model("lean", 8), a_model("able", abler_b)),
            quality=(placed("lean", 0.9), placed("able", 1.9)),
        )
        answer = Router(rivals).recommend(Request(task=TASK, task_type="debug"))
        return _chosen(answer).model, answer.verdict

    model, verdict = ask(8.2)
    assert model == "able"
    assert "lean may emit less, but the difference of " in verdict
    model, verdict = ask(10)
    assert model == "lean"
    assert "may emit less" not in verdict


def test_a_model_not_known_to_reason_or_not_may_do_either(small: Catalogue) -> None:
    models = (a_model("unknown", 8, reasons=None), a_model("thinker", 8, reasons=True), a_model("plain", 8))
    router = Router(replace(small, models=models, quality=tuple(placed(model.id, 1.9) for model in models)))
    ranked = {row.model: row for row in router.rankings(RankingsRequest(task_type="debug")).rows}
    assert ranked["unknown"].output_tokens == ranked["thinker"].output_tokens
    assert ranked["plain"].output_tokens.mid < ranked["unknown"].output_tokens.mid
    said = "not known whether it reasons before it answers: its tokens allow for both"
    assert [name for name, row in ranked.items() if said in row.notes] == ["unknown"]


def test_a_window_that_is_not_known_counts_as_the_smallest_known(small: Catalogue) -> None:
    models = (
        a_model("unknown", 8, context_tokens=None),
        a_model("short", 9, context_tokens=16_384),
        a_model("long", 70, context_tokens=1_000_000),
    )
    router = Router(replace(small, models=models, quality=tuple(placed(model.id, 1.9) for model in models)))

    def fit(tokens: int) -> list[str]:
        request = RankingsRequest(task_type="debug", context_tokens=tokens, output_tokens=100)
        return [row.model for row in router.rankings(request).rows]

    assert fit(16_284) == ["unknown", "short", "long"]
    assert fit(16_285) == ["long"]
    asked = router.recommend(Request(task=TASK, task_type="debug", candidates=("unknown",)))
    assert asked.recommended is not None
    assert "context window not known: taken as the smallest known, 16,384" in asked.recommended.notes


def test_where_no_window_is_known_none_is_made_up(small: Catalogue) -> None:
    models = (a_model("a", 8, context_tokens=None), a_model("b", 9, context_tokens=None))
    router = Router(replace(small, models=models, quality=tuple(placed(model.id, 1.9) for model in models)))
    rows = router.rankings(RankingsRequest(task_type="debug", context_tokens=2_000_000, output_tokens=100)).rows
    assert [row.model for row in rows] == ["a", "b"]
    said = "context window not known, nor that of any other model: whether the task fits is not checked"
    assert [row.notes for row in rows] == [(said,), (said,)]
