"""What a person reads: units that fit, three digits, no exponent, no false certainty, short answers."""

from __future__ import annotations

import re

import pytest
from mcp import Client
from mcp_types import TextContent

from ecoroute_mcp import render, server
from ecoroute_mcp.ranking import Detected, RankingsRequest, Request, Router
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


@pytest.mark.parametrize("region", [None, "POL"])
@pytest.mark.parametrize("current", [None, "claude-opus-4-5", "gpt-5"])
@pytest.mark.parametrize("task", ["fix the bug", "rename this", "review the whole repository and refactor it"])
def test_an_answer_stays_under_twenty_lines_of_prose(
    router: Router, task: str, current: str | None, region: str | None
) -> None:
    text = render.recommendation(router.recommend(Request(task=task, region=region, current_model=current)))
    assert len(text.splitlines()) < 20
    assert not set("{}[]") & set(text)
    for said in ("CO2e for this task", "needs tier", "Cost: ", "W lamp in ", "Other adequate, greenest", "Energy: "):
        assert text.count(said) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("current", [None, "claude-opus-4-5", "qwen3.8-27b", "nobody/knows-it"])
async def test_all_that_eco_gives_to_the_editor_is_under_twenty_lines(router: Router, current: str | None) -> None:
    """With a task, of each kind, and without one; over the handshake that Zed speaks."""
    where = "agent.default_model in the user's Zed settings (/home/me/.config/zed/settings.json)"
    detected = Detected(spelling=current, where=where) if current else Detected(where=where)
    built = server.build(router, version="0", database="", notice="", detect=lambda: detected)
    async with Client(built, mode="legacy") as client:
        for task in ("", *(f"{kind} what is in the parser" for kind in router.tasks.names)):
            content = (await client.get_prompt("eco", {"task": task} if task else None)).messages[0].content
            assert isinstance(content, TextContent)
            assert len(content.text.splitlines()) < 20
            assert not set("{}[]") & set(content.text)


def test_where_the_current_model_was_read_is_said_once(router: Router) -> None:
    where = "agent.default_model in the user's Zed settings (/s.json)"
    best = router.recommend(Request(task="fix the bug")).recommended
    assert best is not None
    for spelling, start in (("claude-opus-4-5", "- The change saves "), (best.model, "- Current model: ")):
        answer = router.recommend(Request(task="fix the bug", detected=Detected(spelling=spelling, where=where)))
        assert answer.recommended is not None
        assert (answer.recommended.model == spelling) is (start == "- Current model: ")
        said = [line for line in render.recommendation(answer).splitlines() if where in line]
        assert len(said) == 1
        assert said[0].startswith(start)


def test_a_lamp_of_that_power_draws_the_energy_in_the_time_said(router: Router) -> None:
    answer = router.recommend(Request(task="fix the bug", region="FRA"))
    assert answer.recommended is not None
    said = re.search(r"as a (\d+) W lamp in ([\d.]+) s;", render.recommendation(answer))
    assert said is not None
    assert int(said[1]) * float(said[2]) == pytest.approx(answer.recommended.energy_j.mid, rel=0.005)


def test_without_a_task_the_current_model_stands_among_the_adequate(router: Router) -> None:
    league = router.rankings(RankingsRequest(limit=500))
    able = [row for row in league.rows if row.adequate]
    where = "agent.default_model in the user's Zed settings (/s.json)"
    standing = router.standing(Detected(spelling="claude-opus-4-5", where=where))
    assert standing.current is not None
    grams = standing.current.carbon_g.mid
    assert standing.adequate == len(able)
    assert standing.greener == sum(row.carbon_g.mid < grams for row in able if row.model != "claude-opus-4-5")
    assert standing.greenest == able[0]
    text = render.usage(router.tasks.names, standing)
    assert f"Current model: claude-opus-4-5 (from {where}): {render.interval(standing.current.carbon_g)}" in text
    assert f"Of {len(able)} adequate models {standing.greener} emit less" in text
    assert f"{able[0].model}, {render.interval(able[0].carbon_g)}" in text
    assert "/eco fix" in text
    assert len(text.splitlines()) < 20


def test_without_a_task_and_a_known_model_it_says_why(router: Router) -> None:
    for detected, why in (
        (Detected(where="no editor setting names one"), "not known (no editor setting names one)"),
        (Detected(spelling="nobody/knows-it", where="x"), "x names 'nobody/knows-it', but no model is called"),
    ):
        standing = router.standing(detected)
        assert (standing.current, standing.greener) == (None, 0)
        assert f"- Current model: {why}" in render.usage(router.tasks.names, standing)


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
