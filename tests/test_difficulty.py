"""Difficulty and P(success) against figures worked by hand, and the coefficients that are shipped."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoroute_mcp.difficulty import FARTHEST, Difficulty, Predicted
from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.wording import read

SHIPPED = Path(__file__).resolve().parents[1] / "data" / "routing_difficulty.json"


LINK = {
    "offset": 1.0,
    "slope": 2.0,
    "residual_sd": 0.0,
    "models": 4,
    "theta_from": -1.0,
    "theta_to": 1.0,
    "theta_mean": 0.0,
    "theta_squares": 2.0,
}


def document(**changed: Any) -> dict[str, Any]:
    size = 8
    words = [0.0] * size
    words[next(iter(read("hard").words)) % size] = 3.0
    return {
        "version": 1,
        "link": LINK,
        "kinds": {"generate": {"mean": 0.5, "spread": 2.0, "tasks": 9}, "test": {"mean": 1, "spread": 0.0, "tasks": 4}},
        "texts": {
            "generate": {
                "idf": [1.0] * size,
                "words": words,
                "intercept": -0.25,
                "spread": 1.5,
            }
        },
        **changed,
    }


@functools.cache
def shipped() -> Difficulty:
    return Difficulty.parse(SHIPPED.read_text(encoding="utf-8"))


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_a_kind_without_a_reading_has_its_own_difficulty_whatever_the_text() -> None:
    difficulty = Difficulty(document())
    assert difficulty.kinds == ("generate", "test")
    assert difficulty.predict("test", "prove it hard") == Predicted(1.0, 0.0, False)
    assert difficulty.predict("generate") == difficulty.predict("generate", "  \n") == Predicted(0.5, 2.0, False)
    assert difficulty.predict("chat", "hello") is None


def test_known_words_shift_the_mean_and_narrow_the_spread() -> None:
    difficulty = Difficulty(document())
    found = difficulty.predict("generate", "hard")
    # One known word against the thirty that count as much as the kind.
    assert found is not None
    assert found.by_text
    assert found.mean == pytest.approx(0.5 + (3.0 - 0.25) / 31)
    assert found.spread == pytest.approx(math.sqrt((30 * 2.0**2 + 1.5**2) / 31))
    assert difficulty.predict("generate", "HARD \n") == found
    assert difficulty.predict("generate", "?!") == Predicted(0.5, 2.0, False)


def test_the_text_can_be_kept_from_lowering_the_bar() -> None:
    easy = Difficulty(document(texts={"generate": {**document()["texts"]["generate"], "intercept": -4.0}}))
    lowered = easy.predict("generate", "hard")
    assert lowered is not None
    assert lowered.mean == pytest.approx(0.5 - 1 / 31)
    assert easy.predict("generate", "hard", never_easier=True) == Predicted(0.5, 2.0, False)
    raised = Difficulty(document())
    plain = raised.predict("generate", "hard")
    assert plain is not None
    # The kind's spread stays: a narrower one alone would make success likelier for an able model.
    assert raised.predict("generate", "hard", never_easier=True) == Predicted(plain.mean, 2.0, True)


def test_success_is_logistic_in_ability_less_difficulty() -> None:
    difficulty = Difficulty(document())
    assert difficulty.ability(0.5) == 2.0
    assert difficulty.p_success(0.5, Predicted(1.0, 0.0, False)) == pytest.approx(logistic(1.0))
    assert difficulty.p_success(0.0, Predicted(1.0, 3.0, False)) == pytest.approx(0.5)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (2.0, 2.0), (-1.0, 0.5)])
def test_what_is_not_known_of_task_and_model_is_averaged_over(mean: float, spread: float) -> None:
    difficulty = Difficulty(document())
    step = 0.001
    total = sum(
        step * math.exp(-((z * step) ** 2) / 2) / math.sqrt(2 * math.pi) * logistic(2.0 - mean - spread * z * step)
        for z in range(-8000, 8001)
    )
    assert difficulty.p_success(0.5, Predicted(mean, spread, True)) == pytest.approx(total, abs=1e-3)
    # A standard error of θ of spread / slope is as much doubt as that spread of the task.
    assert difficulty.p_success(0.5, Predicted(mean, 0.0, True), spread / 2) == pytest.approx(total, abs=1e-3)


def test_a_model_may_lie_off_the_link_and_further_off_outside_it() -> None:
    difficulty = Difficulty(document(link={**LINK, "residual_sd": 0.9}))
    assert difficulty.link.doubt(0.0) == pytest.approx(0.9 * math.sqrt(1 + 1 / 4))
    assert difficulty.link.doubt(2.0) == pytest.approx(0.9 * math.sqrt(1 + 1 / 4 + 4 / 2))
    exact = Predicted(-2.0, 0.0, False)
    for theta in (0.0, 2.0):
        # Ability 1 + 2 θ against a difficulty of -2, averaged over the doubt.
        doubt, step = difficulty.link.doubt(theta), 0.001
        total = sum(
            step
            * math.exp(-((z * step) ** 2) / 2)
            / math.sqrt(2 * math.pi)
            * logistic(3 + 2 * theta + doubt * z * step)
            for z in range(-8000, 8001)
        )
        assert difficulty.p_success(theta, exact) == pytest.approx(total, abs=0.01)
        assert difficulty.p_success(theta, exact) < logistic(3 + 2 * theta)
    assert difficulty.extrapolated(-1.0) is None
    assert difficulty.extrapolated(1.0) is None
    assert difficulty.extrapolated(1.01) == "abler than all 4 models whose outcomes set these chances"
    assert difficulty.extrapolated(-1.01) == "weaker than all 4 models whose outcomes set these chances"


def test_the_edge_is_where_success_is_as_likely_as_asked() -> None:
    difficulty = Difficulty(document())
    # Ability 1 + 2 θ against a difficulty of 1: the odds are exp(2 θ).
    for p in (0.5, 0.8, 0.05):
        assert difficulty.edge(p, Predicted(1.0, 0.0, False)) == pytest.approx(math.log(p / (1 - p)) / 2, abs=2e-9)
    # The further from the link's models the larger its doubt: the odds never exceed exp(2 / sqrt(π / 8 × 0.81 / 2)).
    doubtful = Difficulty(document(link={**LINK, "residual_sd": 0.9}))
    most = logistic(2 / math.sqrt(math.pi / 8 * 0.81 / 2))
    easy = Predicted(1.0, 0.0, False)
    assert 0.99 < most < 0.994
    assert doubtful.edge(most, easy) is None
    assert doubtful.edge(0.98, easy) is not None
    assert doubtful.edge(1 - most, easy) == -FARTHEST


TASKS = (
    None,
    "write a function that finds the longest palindromic substring",
    "You are given two integers a and b. Return the sum of the two digits.",
    "You are given a tree with N vertices. Process Q queries; count the paths of length at most K modulo 998244353.",
)


@given(
    p=st.floats(0.001, 0.999), theta=st.floats(-5, 5).map(lambda theta: round(theta, 3)), text=st.sampled_from(TASKS)
)
def test_a_model_lies_above_the_edge_if_and_only_if_it_succeeds_so_often(
    p: float, theta: float, text: str | None
) -> None:
    difficulty = shipped()
    task = difficulty.predict("generate", text, never_easier=True)
    assert task is not None
    edge = difficulty.edge(p, task)
    assert (edge is not None and theta >= edge) == (difficulty.p_success(theta, task) >= p)


@given(one=st.floats(0.001, 0.999), other=st.floats(0.001, 0.999), text=st.sampled_from(TASKS))
def test_a_higher_probability_has_a_higher_edge_and_no_text_a_lower_one(
    one: float, other: float, text: str | None
) -> None:
    difficulty = shipped()
    kind, task = difficulty.predict("generate"), difficulty.predict("generate", text, never_easier=True)
    assert kind is not None
    assert task is not None
    low, high = (_placed(difficulty.edge(p, task)) for p in sorted((one, other)))
    assert low <= high
    assert _placed(difficulty.edge(one, kind)) <= _placed(difficulty.edge(one, task))


def _placed(edge: float | None) -> float:
    return math.inf if edge is None else edge


@pytest.mark.parametrize("text", TASKS)
def test_abler_models_are_likelier_to_succeed_over_the_whole_scale(text: str | None) -> None:
    difficulty = shipped()
    task = difficulty.predict("generate", text, never_easier=True)
    assert task is not None
    chances = [difficulty.p_success(FARTHEST * step / 400, task) for step in range(-400, 401)]
    assert chances == sorted(chances)


def test_a_cascade_costs_the_retry_and_meets_the_same_difficulty_twice() -> None:
    difficulty = Difficulty(document())
    small, large = (0.0, 1.0), (1.0, 10.0)
    certain = difficulty.cascade(Predicted(1.0, 0.0, False), small, large)
    p_small, p_large = 0.5, logistic(2.0)
    assert certain.p_success == pytest.approx(p_small + 0.5 * p_large)
    assert certain.grams == pytest.approx(1 + 0.5 * 10)
    unnoticed = difficulty.cascade(Predicted(1.0, 0.0, False), small, large, detected=0.0)
    assert (unnoticed.p_success, unnoticed.grams) == pytest.approx((p_small, 1.0))
    doubtful = Predicted(1.0, 2.0, False)
    together = difficulty.cascade(doubtful, small, large)
    one, other = difficulty.p_success(0.0, doubtful), difficulty.p_success(1.0, doubtful)
    assert other < together.p_success < one + (1 - one) * other
    assert together.grams == pytest.approx(1 + 10 * (1 - one))


@pytest.mark.parametrize(
    ("broken", "repair"),
    [
        (document(version=2), "route-train"),
        (document(texts={"generate": {**document()["texts"]["generate"], "idf": [1.0] * 7}}), "does not divide"),
        (document(link={}), "restore the file"),
        (document(texts={"generate": {**document()["texts"]["generate"], "words": [1.0]}}), "has 1 numbers, not 8"),
    ],
)
def test_coefficients_of_another_reading_are_refused(broken: dict[str, Any], repair: str) -> None:
    with pytest.raises(EcoRouteError, match=repair):
        Difficulty(broken)


def test_the_file_must_be_json() -> None:
    with pytest.raises(EcoRouteError, match="no JSON"):
        Difficulty.parse("{")
    assert Difficulty.parse(json.dumps(document())).kinds == ("generate", "test")


def test_only_what_was_run_and_near_the_models_of_the_link_has_a_difficulty() -> None:
    difficulty = shipped()
    assert difficulty.kinds == ("generate",)
    assert difficulty.link.models == 11
    assert (difficulty.link.theta_from, difficulty.link.theta_to) == (-2.53, -0.43)
    assert difficulty.extrapolated(-0.5) is None
    assert difficulty.extrapolated(0.5) == "abler than all 11 models whose outcomes set these chances"


def test_the_shipped_coefficients_are_small_and_order_tasks_as_people_would() -> None:
    assert SHIPPED.stat().st_size < 300_000
    difficulty = shipped()
    easy = difficulty.predict("generate", "You are given two integers a and b. Return the sum of the two digits.")
    hard = difficulty.predict(
        "generate",
        "You are given a tree with N vertices. Process Q queries; each asks for the number of paths of "
        "length at most K between vertices i and j, modulo 998244353. For each query print the minimum number of "
        "operations over all permutations of the subtree.",
    )
    assert easy is not None
    assert hard is not None
    assert easy.mean < hard.mean
    assert difficulty.p_success(-1.0, hard) < difficulty.p_success(-1.0, easy)
    assert difficulty.p_success(-2.0, easy) < difficulty.p_success(0.5, easy)
