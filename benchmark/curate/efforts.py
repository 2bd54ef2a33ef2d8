"""Counted tokens -> efforts.csv: how many times the tokens of an answer a model writes at a reasoning effort.

**Reasoning is added to an answer.** What an effort sets is the reasoning, and the answer after it is as long as before.
So a task of long answers and one of short ones differ in how much an effort multiplies, and agree in how much it
reasons: in Aider's exercises, with the answer taken off, gpt-5 and o3 step from effort to effort by as much as other
models do in chess, where the answer is a move. The ladder is one of reasoning, and the answer is put back at its end.

**The switch** from no reasoning to reasoning without a level: tokens with it over tokens without, of one model on the
same tasks or, in CodeRouterBench, of three models over four others by kind of task. A benchmark's figure is the
geometric mean of its ratios, and the benchmarks weigh alike, as each is one sort of task. The ends are the lowest and
the highest of all ratios: the next one would lie between those of seventeen in 16 cases of 18.

**The steps** between efforts next to each other: the geometric mean, over models, of the ratio of their reasoning. A
model weighs once a step. The logarithms' standard deviation between models is one for all steps. Nobody has counted
`minimal` and `max` for this: there the step next to them is taken once more.

**Where they meet**: a switch without a level stands midway between `medium` and `high`, as it does in Aider's
exercises. The ends of an effort join those of the switch with what models differ over the distance from it.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev

from ecoroute_mcp.sci import EcoRouteError

UPSTREAM = "effort_tokens.csv"
COLUMNS = ("benchmark", "subject", "effort", "tokens", "per", "tasks", "date", "source", "refused", "note")
MOVES = frozenset({"llm-chess"})
"""Benchmarks whose answer is a move, so that nothing is taken off: gpt-5-chat, which does not reason, writes 9 tokens a
move, and of the rows used the tersest 291."""
STEPS = (("low", "medium"), ("medium", "high"), ("high", "xhigh"))
LOW, HIGH, XHIGH = STEPS
PATHS: dict[str, dict[tuple[str, str], float]] = {
    "minimal": {HIGH: -0.5, LOW: -2.0},
    "low": {HIGH: -0.5, LOW: -1.0},
    "medium": {HIGH: -0.5},
    "high": {HIGH: 0.5},
    "xhigh": {HIGH: 0.5, XHIGH: 1.0},
    "max": {HIGH: 0.5, XHIGH: 2.0},
}
"""How many of each step an effort stands above the switch without a level."""
UNCOUNTED = ("minimal", "max")
SPAN, LADDER, ANSWERS = "effort-tokens-2026-08", "effort-ladder-v1", "coderouterbench"
DEVIATIONS = NormalDist().inv_cdf(0.95)
"""The ends of an interval are meant as 90 %."""


@dataclass(frozen=True)
class Step:
    """The mean logarithm of the ratio of reasoning between two efforts, over ``models``, counted by ``benchmarks``."""

    log: float
    models: int
    benchmarks: frozenset[str]


@dataclass(frozen=True)
class Counted:
    """``switch``: logarithms of tokens with over without reasoning, by benchmark. ``spread``: standard deviation
    between models of a step's logarithm."""

    switch: Mapping[str, tuple[float, ...]]
    steps: Mapping[tuple[str, str], Step]
    spread: float

    @property
    def thinking(self) -> tuple[float, float, float]:
        """Tokens with reasoning without a level over those of the answer: low, middle, high."""
        every = [log for logs in self.switch.values() for log in logs]
        middle = fmean(fmean(logs) for logs in self.switch.values())
        return math.exp(min(every)), math.exp(middle), math.exp(max(every))

    def multiplier(self, effort: str) -> tuple[float, float, float]:
        """Tokens at an effort of PATHS over those of the answer: low, middle, high."""
        low, middle, high = (math.log(value - 1) for value in self.thinking)
        path = PATHS[effort]
        log = middle + sum(times * self.steps[step].log for step, times in path.items())
        distance = math.sqrt(sum(times**2 * (1 + 1 / self.steps[step].models) for step, times in path.items()))
        apart = DEVIATIONS * self.spread * distance
        return (
            1 + math.exp(log - math.hypot(middle - low, apart)),
            1 + math.exp(log),
            1 + math.exp(log + math.hypot(high - middle, apart)),
        )


def tables(upstream: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of efforts.csv, from none to max, then what states no level."""
    counted = count(read(upstream / UPSTREAM))
    every = frozenset(counted.switch)
    rows = [_row("none", (1, 1, 1), frozenset({ANSWERS}), "No reasoning: the answer alone")]
    for effort, path in PATHS.items():
        values = counted.multiplier(effort)
        cited = every | {name for step in path for name in counted.steps[step].benchmarks} | {LADDER}
        note = f"Reasoning {(values[1] - 1) / (counted.thinking[1] - 1):.3g} times that of thinking"
        if effort in UNCOUNTED:
            cited |= {SPAN}
            note += "; nobody counted it: the neighbouring step once more, checked against the span of 18 models"
        rows.append(_row(effort, values, cited, note))
    low, middle, high = counted.thinking
    figures = ", ".join(f"{name} {math.exp(fmean(logs)):.3g}" for name, logs in sorted(counted.switch.items()))
    rows.append(
        _row(
            "thinking",
            (low, middle, high),
            every | {LADDER},
            f"Reasoning switched on without a level: geometric mean of {figures}; ends: the lowest and the highest "
            f"of {sum(map(len, counted.switch.values()))} ratios",
        )
    )
    rows.append(
        _row(
            "default",
            (1, math.sqrt(middle), high),
            every | {LADDER},
            "As shipped, for a model that can reason: from no reasoning to thinking, their geometric mean in the "
            "middle. A model that cannot reason takes 1",
        )
    )
    return {"efforts.csv": rows}


def notes(upstream: Path) -> dict[str, list[str]]:
    """What was counted, and how far the ladder spans."""
    counted = count(read(upstream / UPSTREAM))
    steps = ", ".join(
        f"{below} to {above} {math.exp(step.log):.3g} ({step.models} models)"
        for (below, above), step in counted.steps.items()
    )
    tokens = {effort: counted.multiplier(effort)[1] for effort in PATHS}
    spans = ", ".join(
        f"{below} to {above} {tokens[above] / tokens[below]:.3g}"
        for below, above in (("low", "high"), ("minimal", "high"), ("low", "max"), ("minimal", "max"))
    )
    return {
        "efforts.csv": [
            f"reasoning, {steps}; standard deviation of its logarithm between models {counted.spread:.3f}",
            f"all tokens, {spans}; published for 18 models, maximum over minimum: 7.3, half of them from 3.6 to 20",
        ]
    }


def _row(effort: str, values: tuple[float, float, float], sources: frozenset[str], note: str) -> dict[str, str]:
    ends = dict(zip(("low", "mid", "high"), (f"{value:.4g}" for value in values), strict=True))
    return {
        "effort": effort,
        **{f"output_multiplier.{end}": value for end, value in ends.items()},
        "output_multiplier.sources": "|".join(sorted(sources)),
        "note": note,
    }


Tokens = dict[tuple[str, str], dict[str, float]]
"""By benchmark and subject: tokens at each effort."""


def read(path: Path) -> Tokens:
    """The rows that are not refused. Raises EcoRouteError for a file that cannot be read as UTF-8 and, by line, for a
    row that nothing can be made of."""
    known = {effort for step in STEPS for effort in step} | {"none", "thinking"}
    found: Tokens = defaultdict(dict)
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise EcoRouteError(f"{path}: the columns are not {', '.join(COLUMNS)}: put them so")
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if None in row or None in row.values():
            raise EcoRouteError(
                f"{where}: the row has other than {len(COLUMNS)} cells: give each column one, with quotes about a cell "
                "that has a comma in it"
            )
        if row["refused"].strip():
            continue
        effort, at = row["effort"], found[row["benchmark"], row["subject"]]
        if effort not in known:
            raise EcoRouteError(
                f"{where}: {effort!r} is no effort that steps are counted between: write one of "
                f"{', '.join(sorted(known))}, or say in `refused` why the row is not used"
            )
        if effort in at:
            raise EcoRouteError(f"{where}: {row['subject']} at {effort} stands twice: keep one")
        at[effort] = _positive(row["tokens"], where)
    return dict(found)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise EcoRouteError(f"{path} cannot be read ({error.strerror}): put the table of counts there") from error
    except UnicodeDecodeError as error:
        raise EcoRouteError(f"{path} is not UTF-8 from byte {error.start} on: save it as UTF-8") from error


def _positive(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise EcoRouteError(
            f"{where}: tokens are {text!r}: write the number that was counted, or say in `refused` why there is none"
        )
    return value


def count(tokens: Tokens) -> Counted:
    """The switch and the steps. Raises EcoRouteError for a row that is compared with nothing, and for too few."""
    switch: dict[str, list[float]] = defaultdict(list)
    for (benchmark, subject), at in tokens.items():
        if "thinking" in at and "none" in at:
            if at["thinking"] <= at["none"]:
                raise EcoRouteError(
                    f"{UPSTREAM}: {subject} of {benchmark} writes no more with reasoning than without, "
                    f"{at['thinking']:g} tokens and {at['none']:g}: see that reasoning was counted, or say in "
                    "`refused` that it was not"
                )
            switch[benchmark].append(math.log(at["thinking"] / at["none"]))
        compared = {effort for step in STEPS if set(step) <= set(at) for effort in step}
        compared |= {"none", "thinking"} if {"none", "thinking"} <= set(at) else set()
        for effort in at:
            if effort not in compared:
                raise EcoRouteError(
                    f"{UPSTREAM}: {subject} of {benchmark} at {effort} has no neighbour to compare it with: add the "
                    "row at the next effort, or say in `refused` why this one is not used"
                )
    ratios: dict[tuple[str, str], dict[str, list[float]]] = {step: defaultdict(list) for step in STEPS}
    counted_by: dict[tuple[str, str], set[str]] = {step: set() for step in STEPS}
    for (benchmark, subject), at in tokens.items():
        for step in STEPS:
            below, above = step
            if below in at and above in at:
                answer = 0.0 if benchmark in MOVES else _answer(tokens, benchmark)
                if min(at[below], at[above]) <= answer:
                    raise EcoRouteError(
                        f"{UPSTREAM}: {subject} of {benchmark} writes no more than an answer without reasoning, "
                        f"{answer:.0f} tokens: see that reasoning was counted, or say in `refused` that it was not"
                    )
                ratios[step][subject].append(math.log((at[above] - answer) / (at[below] - answer)))
                counted_by[step].add(benchmark)
    models = {step: [fmean(logs) for logs in by_model.values()] for step, by_model in ratios.items()}
    for (below, above), logs in models.items():
        if len(logs) < 2:
            raise EcoRouteError(f"{UPSTREAM}: fewer than two models step from {below} to {above}: count another")
    if not switch:
        raise EcoRouteError(f"{UPSTREAM}: no model was counted with and without reasoning: count one")
    freedom = sum(len(logs) - 1 for logs in models.values())
    return Counted(
        {benchmark: tuple(logs) for benchmark, logs in switch.items()},
        {step: Step(fmean(logs), len(logs), frozenset(counted_by[step])) for step, logs in models.items()},
        math.sqrt(sum((len(logs) - 1) * stdev(logs) ** 2 for logs in models.values()) / freedom),
    )


def _answer(tokens: Tokens, benchmark: str) -> float:
    """Tokens of an answer without reasoning in a benchmark: the geometric mean of the models seen so."""
    seen = [math.log(at["none"]) for (name, _), at in tokens.items() if name == benchmark and "none" in at]
    if not seen:
        raise EcoRouteError(
            f"{UPSTREAM}: no model of {benchmark} was counted without reasoning, so the answer cannot be told from the "
            "reasoning: add one at effort none"
        )
    return math.exp(fmean(seen))
