"""A smaller model first: by hand where nothing is spread, and in an answer with the shipped difficulties."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

from ecoroute_mcp import cascade, render
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.difficulty import VERSION, Difficulty, Predicted
from ecoroute_mcp.ranking import Request, Router
from tests.test_ranking import a_model, placed, small  # noqa: F401  a fixture

DOCUMENT = {
    "version": VERSION,
    "link": {
        "offset": 0.0,
        "slope": 1.0,
        "residual_sd": 0.0,
        "models": 3,
        "theta_from": -1.0,
        "theta_to": 1.0,
        "theta_mean": 0.0,
        "theta_squares": 2.0,
    },
    "kinds": {"generate": {"mean": 0.0, "spread": 0.0, "tasks": 1}},
    "texts": {},
}
SURE = Difficulty(DOCUMENT)
TASK = Predicted(0.0, 0.0, False)


def chance(theta: float) -> float:
    return 1 / (1 + math.exp(-theta))


@pytest.fixture(scope="module")
def three(small: Catalogue) -> Router:  # noqa: F811
    return Router(
        replace(
            small,
            models=(a_model("lean", 1), a_model("middling", 8), a_model("able", 70)),
            quality=(placed("lean", -1.0), placed("middling", 0.2), placed("able", 1.9)),
        )
    )


def test_the_first_try_that_takes_least_is_found_by_hand(three: Router) -> None:
    choices = three._choices
    lean, middling, able = (choices.model_ids.index(name) for name in ("lean", "middling", "able"))
    grams = [0.0] * len(choices.all)
    grams[lean], grams[middling], grams[able] = 2.0, 5.0, 20.0
    # Lean first: 2 + 0.731 x 20 = 16.6; middling first: 5 + 0.450 x 20 = 14.0.
    found = cascade.find(SURE, choices, [lean, middling, able], able, grams, TASK)
    assert found is not None
    assert found.index == middling
    assert found.p_first == pytest.approx(chance(0.2), rel=1e-9)
    assert found.p_alone == pytest.approx(chance(1.9), rel=1e-9)
    assert found.p_success == pytest.approx(chance(0.2) + (1 - chance(0.2)) * chance(1.9), rel=1e-9)
    assert (
        found.note == "the chances are extrapolated: able is abler than all 3 models whose outcomes set these chances"
    )
    found = cascade.find(SURE, choices, [lean, middling], middling, grams, TASK)
    assert found is None
    grams[middling] = 20.0
    found = cascade.find(SURE, choices, [lean, middling], middling, grams, TASK)
    assert found is not None
    assert found.index == lean
    assert found.note == ""


def test_what_saves_little_is_not_offered(three: Router) -> None:
    choices = three._choices
    lean, able = (choices.model_ids.index(name) for name in ("lean", "able"))
    grams = [0.0] * len(choices.all)
    grams[able] = 20.0
    grams[lean] = 20.0 * (cascade.LARGEST_SHARE - (1 - chance(-1.0))) + 0.001
    assert cascade.find(SURE, choices, [lean, able], able, grams, TASK) is None
    grams[lean] -= 0.002
    assert cascade.find(SURE, choices, [lean, able], able, grams, TASK) is not None


def test_a_note_names_each_model_that_lies_outside(three: Router) -> None:
    choices = three._choices
    lean, able = (choices.model_ids.index(name) for name in ("lean", "able"))
    grams = [0.0] * len(choices.all)
    grams[lean], grams[able] = 1.0, 20.0
    between = replace(SURE.link, theta_from=-0.5, theta_to=0.5)
    apart = Difficulty({**DOCUMENT, "link": asdict(between)})
    found = cascade.find(apart, choices, [lean, able], able, grams, TASK)
    assert found is not None
    assert found.note == (
        "the chances are extrapolated: lean is weaker than all 3 models whose outcomes set these chances, "
        "able is abler than all 3 models whose outcomes set these chances"
    )
    above = Difficulty({**DOCUMENT, "link": asdict(replace(SURE.link, theta_from=-3.0, theta_to=-2.0))})
    found = cascade.find(above, choices, [lean, able], able, grams, TASK)
    assert found is not None
    assert found.note == (
        "the chances are extrapolated: lean and able are abler than all 3 models whose outcomes set these chances"
    )


def test_an_answer_explains_its_cascade_and_adds_up(router: Router) -> None:
    answer = router.recommend(
        Request(task="write a function that finds the longest palindromic substring", region="SWE")
    )
    best, tried = answer.recommended, answer.cascade
    assert best is not None
    assert tried is not None
    assert tried.carbon_g.mid < cascade.LARGEST_SHARE * best.carbon_g.mid
    assert tried.p_first.value < tried.p_alone.value <= tried.p_success.value <= 1
    assert set(cascade.SOURCES) <= set(answer.sources)
    (line,) = (line for line in render.recommendation(answer).splitlines() if "Cascade: " in line)
    assert tried.first in line
    assert f"{best.model} only where a test or a run shows that it failed" in line
    assert tried.note.endswith("models whose outcomes set these chances")
    assert line.endswith(tried.note)
    for kind in ("review", "autocomplete"):
        assert router.recommend(Request(task="fill in the next line", task_type=kind)).cascade is None
