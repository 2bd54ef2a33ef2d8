"""Reading a task: kinds, tokens, the bar, and what is refused."""

from __future__ import annotations

import math

import pytest

from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.difficulty import Difficulty, Predicted
from ecoroute_mcp.kind import Reader, read_weights, weights_file
from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.task import MAX_TASK_CHARACTERS, Tasks
from tests.test_cascade import DOCUMENT


@pytest.fixture(scope="module")
def tasks(catalogue: Catalogue) -> Tasks:
    return Tasks(catalogue.task_kinds, catalogue.parameters)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("fix the failing pytest in our payment module", "debug"),
        ("Why does this loop crash with a segfault?", "debug"),
        ("refactor the billing service into smaller classes", "refactor"),
        ("Write unit tests for the tokenizer", "test"),
        ("add a docstring to every public function", "documentation"),
        ("review this pull request", "review"),
        ("explain what does the B-tree split do", "explain"),
        ("complete this function", "autocomplete"),
        ("implement a rate limiter", "generate"),
        ("autonomously open a pull request that upgrades the whole repository end to end", "agentic"),
    ],
)
def test_the_kind_is_read_from_the_words(tasks: Tasks, text: str, kind: str) -> None:
    assert tasks.demand(text).kind == kind


def test_a_declared_kind_beats_the_text(tasks: Tasks) -> None:
    demand = tasks.demand("fix the bug", kind="Refactor")
    assert (demand.kind, demand.kind_why, demand.requirement.min_tier) == ("refactor", "declared by you", 7)


def test_the_likeliest_kind_gives_the_tokens_and_the_highest_plausible_bar_the_tier(tasks: Tasks) -> None:
    demand = tasks.demand("look at the parser")
    assert "unsure" in demand.kind_why
    assert "so the higher bar, that of " in demand.kind_why
    named = demand.kind_why.partition("that of ")[2].partition(",")[0]
    assert demand.requirement.min_tier == tasks.kind(named).min_tier > tasks.kind(demand.kind).min_tier
    assert demand.output_tokens == tasks.kind(demand.kind).output_tokens


def test_text_that_tells_nothing_is_said_to_be_unsure(tasks: Tasks) -> None:
    assert "unsure" in tasks.demand("zzz").kind_why


def test_a_megabyte_is_read(tasks: Tasks) -> None:
    assert tasks.demand("fix the bug. " + "x = 1\n" * 174_760).kind == "debug"


def test_numbers_of_the_caller_win_and_are_marked_given(tasks: Tasks) -> None:
    demand = tasks.demand("abcd" * 10, kind="debug", context_tokens=1000, output_tokens=50, min_tier=3)
    assert (demand.input_tokens.low, demand.input_tokens.mid, demand.input_tokens.high) == (1008, 1010, 1016)
    assert (demand.output_tokens.mid, demand.output_tokens.basis) == (50, "given")
    assert (demand.requirement.min_tier, demand.requirement.basis) == (3, "given")
    assert demand.assumed == ()


def test_what_was_not_said_is_assumed_aloud(tasks: Tasks) -> None:
    demand = tasks.demand("fix it", kind="debug")
    assert (demand.output_tokens.low, demand.output_tokens.mid, demand.output_tokens.high) == (82, 279, 1066)
    assert [line.split(":")[0] for line in demand.assumed] == ["context", "answer"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a" * (MAX_TASK_CHARACTERS + 1), "1,048,577 characters"),
        ("fix \x00 it", "a NUL at character 4"),
        ("fix \udc80 it", "half of a surrogate pair at character 4"),
    ],
)
def test_text_that_is_no_task_is_refused(tasks: Tasks, text: str, said: str) -> None:
    with pytest.raises(EcoRouteError, match=said):
        tasks.demand(text)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"context_tokens": -1}, "context_tokens must lie between 0 and 100,000,000, not -1"),
        ({"context_tokens": 10**5000}, "not a number of that size"),
        ({"output_tokens": 0}, "output_tokens must lie between 1"),
        ({"min_tier": 11}, "min_tier must lie between 1 and 10, not 11"),
        ({"min_success": 0.0}, "min_success must lie between 0 and 1, both excluded, not 0: it is a probability"),
        ({"min_success": 1.0}, "both excluded, not 1:"),
        ({"min_success": 80.0}, "both excluded, not 80: it is a probability, such as 0.8"),
        ({"min_success": -0.5}, "both excluded, not -0.5:"),
        ({"min_success": math.nan}, "both excluded, not nan:"),
        ({"min_success": math.inf}, "both excluded, not inf:"),
        ({"min_success": 0.8, "min_tier": 5}, "min_tier and min_success are two forms of the same bar: leave out one"),
    ],
)
def test_numbers_out_of_range_are_refused(tasks: Tasks, numbers: dict[str, float], said: str) -> None:
    with pytest.raises(EcoRouteError, match=said):
        tasks.demand("fix it", **numbers)  # type: ignore[arg-type]


def test_an_unknown_kind_names_the_closest_and_all(tasks: Tasks) -> None:
    with pytest.raises(EcoRouteError, match="closest: refactor; valid values are autocomplete, chat") as caught:
        tasks.demand("fix it", kind="refactr")
    assert all(name in str(caught.value) for name in tasks.names)


def knowing(catalogue: Catalogue, kinds: dict[str, tuple[float, float]]) -> Tasks:
    """Tasks whose ability is their θ in logits, with these means and spreads of difficulty."""
    rows = {kind: {"mean": mean, "spread": spread, "tasks": 9} for kind, (mean, spread) in kinds.items()}
    difficulty = Difficulty({**DOCUMENT, "kinds": rows})
    return Tasks(catalogue.task_kinds, catalogue.parameters, difficulty)


def test_a_probability_sets_the_bar_in_place_of_a_tier(catalogue: Catalogue) -> None:
    tasks = knowing(catalogue, {"debug": (0.25, 0.0)})
    requirement = tasks.demand("fix it", kind="debug", min_success=0.6).requirement
    bar = requirement.min_success
    assert bar is not None
    assert bar.theta_from == pytest.approx(0.25 + math.log(0.6 / 0.4), abs=2e-9)
    assert (bar.p, bar.percent, bar.kind, bar.difficulty) == (0.6, "60 %", "debug", Predicted(0.25, 0.0, False))
    assert (requirement.min_tier, requirement.probability, requirement.basis) == (None, 0.9, "estimated")
    assert requirement.sources == ("caller", "routing-difficulty-v1", "task-kinds-v1")
    assert requirement.why == "asked for: succeeds in at least 60 % of such tasks"
    assert requirement.reach == "succeed in at least 60 % of such tasks"
    high = tasks.demand("fix it", kind="debug", min_success=0.955).requirement
    assert high.why == (
        "asked for: succeeds in at least 95.5 % of such tasks; extrapolated: a model at this bar is abler than all 3 "
        "models whose outcomes set these chances"
    )
    beyond = tasks.demand("fix it", kind="debug", min_success=0.9999).requirement
    assert beyond.min_success is not None
    assert beyond.min_success.theta_from is None
    assert beyond.why.endswith("99.99 % of such tasks; no ability on the quality scale is reckoned to do so")


def test_where_no_outcomes_are_known_a_probability_is_refused(catalogue: Catalogue, tasks: Tasks) -> None:
    with pytest.raises(EcoRouteError) as caught:
        tasks.demand("fix it", kind="debug", min_success=0.8)
    assert str(caught.value) == (
        "min_success rests on outcomes of models, and there are none for tasks of the kind debug, only for generate: "
        "declare task_type if it is one of these, or give min_tier instead"
    )
    text = "look at the parser"
    first, *others = Reader(read_weights(weights_file())).read(text).plausible
    with pytest.raises(EcoRouteError) as caught:
        knowing(catalogue, {first: (0.0, 0.0)}).demand(text, min_success=0.8)
    assert str(caught.value) == (
        f"min_success rests on outcomes of models: there are some for {first}, as which the task is read, but none "
        f"for {', '.join(others)}, which it may be as well: declare task_type ({first}) to be sure, or give min_tier "
        "instead"
    )
    assert knowing(catalogue, {first: (0.0, 0.0)}).demand(text, kind=first, min_success=0.8).kind == first
    with pytest.raises(EcoRouteError, match="declare task_type"):
        tasks.demand("zzz", min_success=0.8)


def test_of_the_kinds_a_text_may_be_of_the_harder_at_that_probability_sets_the_bar(catalogue: Catalogue) -> None:
    text = "look at the parser"
    first, *others = Reader(read_weights(weights_file())).read(text).plausible
    # Half of the spread tasks are easier than any of the others, but their hardest tenth is harder.
    tasks = knowing(catalogue, {first: (0.0, 4.0), **dict.fromkeys(others, (1.0, 0.0))})
    half, most = (tasks.demand(text, min_success=p) for p in (0.5, 0.9))
    assert half.requirement.min_success is not None
    assert (half.kind, half.requirement.min_success.kind) == (first, others[0])
    assert half.requirement.min_success.theta_from == pytest.approx(1.0, abs=2e-9)
    assert f"so the higher bar, that of {others[0]}, is used" in half.kind_why
    assert most.requirement.min_success is not None
    assert (most.kind, most.requirement.min_success.kind) == (first, first)
    assert most.requirement.min_success.theta_from == tasks.difficulty.edge(0.9, Predicted(0.0, 4.0, False))
    assert "higher bar" not in most.kind_why


def test_a_tier_of_the_caller_is_not_called_that_of_a_kind(tasks: Tasks) -> None:
    assert "higher bar" in tasks.demand("look at the parser").kind_why
    assert "higher bar" not in tasks.demand("look at the parser", min_tier=3).kind_why
