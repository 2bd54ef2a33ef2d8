"""Reading a task: kinds, tokens, the bar, and what is refused."""

from __future__ import annotations

import pytest

from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.task import MAX_TASK_CHARACTERS, Tasks


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
    ],
)
def test_numbers_out_of_range_are_refused(tasks: Tasks, numbers: dict[str, int], said: str) -> None:
    with pytest.raises(EcoRouteError, match=said):
        tasks.demand("fix it", **numbers)  # type: ignore[arg-type]


def test_an_unknown_kind_names_the_closest_and_all(tasks: Tasks) -> None:
    with pytest.raises(EcoRouteError, match="closest: refactor; valid values are autocomplete, chat") as caught:
        tasks.demand("fix it", kind="refactr")
    assert all(name in str(caught.value) for name in tasks.names)
