"""A smaller model first, the recommended one where its answer fails: taken where that costs less carbon in the mean.

It works only where failing is noticed, by a test or a run, so it is offered for the kinds of task whose difficulty is
known from such outcomes (data/routing_difficulty.json, made by `python -m benchmark route-train`). A task that the
first model fails is likelier a hard one, so the second model's chance is reckoned given that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecoroute_mcp.catalogue import Effort
from ecoroute_mcp.choices import Choices
from ecoroute_mcp.difficulty import SOURCES as SOURCES
from ecoroute_mcp.difficulty import Difficulty, Predicted
from ecoroute_mcp.sci import Basis, Estimate

LARGEST_SHARE = 0.9
"""A cascade is worth its trouble where it is expected to take at most this share of the grams."""


@dataclass(frozen=True, kw_only=True)
class Chance:
    """A probability from 0 to 1."""

    value: float
    basis: Basis
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Ask ``first``; where its answer is seen to fail, ask the recommended model. ``carbon_g`` is expected, of both.

    ``note`` says which of the chances are extrapolated, and why; it is empty where none is."""

    first: str
    effort: Effort
    carbon_g: Estimate
    p_first: Chance
    p_success: Chance
    p_alone: Chance
    note: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """The choice to try first, by index, and the chances: of it, of both, and of the other alone."""

    index: int
    p_first: float
    p_success: float
    p_alone: float
    note: str


def find(
    difficulty: Difficulty,
    choices: Choices,
    eligible: Sequence[int],
    best: int,
    grams: Sequence[float],
    task: Predicted,
) -> Found | None:
    """The first try that takes least, or None where none takes clearly less than ``best`` alone.

    ``eligible`` are the choices that pass every condition but the bar.
    """
    then = (choices.theta[best], grams[best])
    least, found = LARGEST_SHARE * grams[best], None
    for index in eligible:
        if grams[index] >= least or not choices.tested[index]:
            continue
        both = difficulty.cascade(task, (choices.theta[index], grams[index]), then)
        if both.grams < least:
            least, found = both.grams, (index, both.p_success)
    if found is None:
        return None
    index, p_success = found
    names = (choices.all[index].model.id, choices.all[best].model.id)
    reasons = [difficulty.extrapolated(choices.theta[each]) for each in (index, best)]
    return Found(
        index=index,
        p_first=difficulty.p_success(choices.theta[index], task),
        p_success=p_success,
        p_alone=difficulty.p_success(choices.theta[best], task),
        note=_extrapolated([(name, why) for name, why in zip(names, reasons, strict=True) if why is not None]),
    )


def _extrapolated(models: Sequence[tuple[str, str]]) -> str:
    """What to say of models whose chance lies outside what outcomes have shown, each with its reason."""
    if not models:
        return ""
    if len({why for _, why in models}) == 1:
        names = [name for name, _ in models]
        return (
            f"the chances are extrapolated: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} {models[0][1]}"
        )
    return "the chances are extrapolated: " + ", ".join(f"{name} is {why}" for name, why in models)
