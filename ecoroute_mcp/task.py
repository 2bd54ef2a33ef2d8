"""From a task's text to a Demand: what kind of work it is, the tier it asks for, the tokens it takes, and why.

A declared kind always wins; otherwise the text is read for it (kind.py), deterministically. Where the reading is unsure
the likeliest kind gives the tokens, the plausible kind with the highest bar gives the bar, and the answer says so.

The bar is a tier, the kind's own or the caller's, or the caller's probability of success: then it is the ability from
which on tasks of this kind and wording succeed so often (difficulty.py). What the text says can only raise it.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ecoroute_mcp.catalogue import Parameter, TaskKind
from ecoroute_mcp.difficulty import SOURCES, Difficulty, Predicted
from ecoroute_mcp.kind import KINDS, Reader, read_weights, weights_file
from ecoroute_mcp.sci import Basis, EcoRouteError, Estimate, shown

MAX_TASK_CHARACTERS = 1_048_576
MAX_TOKENS = 100_000_000
GENERAL_KIND = "generate"
CALLER = "caller"
HALF_A_CHARACTER = "\ufdd0"
"""Stands for half of a surrogate pair where text must be Unicode: a code point reserved for use inside a program."""


@dataclass(frozen=True, kw_only=True)
class MinSuccess:
    """The bar as a chance: from ``theta_from`` on, models succeed on such tasks with probability ``p`` or more.

    ``kind`` and ``difficulty`` (in logits) are those of the tasks meant. ``theta_from`` None: no ability on the quality
    scale has that chance. ``note`` says what there is to doubt in the edge, such as that it is extrapolated.
    """

    p: float
    kind: str
    difficulty: Predicted
    theta_from: float | None
    note: str

    @property
    def percent(self) -> str:
        return f"{100 * self.p:.12g} %"


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """The bar, a tier or a chance (the other is None), and the probability with which a model must clear its edge."""

    min_tier: int | None
    min_success: MinSuccess | None
    probability: float
    why: str
    basis: Basis
    sources: tuple[str, ...]

    @property
    def reach(self) -> str:
        """What a model must do, in words."""
        if self.min_success is not None:
            return f"succeed in at least {self.min_success.percent} of such tasks"
        return f"reach tier {self.min_tier}"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one task asks for. ``output_tokens`` is the answer alone; reasoning effort multiplies it per model.

    ``one_window``: one call has to hold all tokens, so a model's context and output limits apply.
    """

    kind: str
    kind_why: str
    requirement: Requirement
    input_tokens: Estimate
    output_tokens: Estimate
    one_window: bool
    assumed: tuple[str, ...]


class Tasks:
    """Reads tasks against the kinds of one catalogue."""

    def __init__(
        self, kinds: Sequence[TaskKind], parameters: Sequence[Parameter], difficulty: Difficulty | None = None
    ) -> None:
        """``difficulty`` None: the one that comes with the data, read when it is first needed."""
        named = {row.name: row.value for row in parameters}
        self._characters_per_token = named["characters_per_token"]
        self._probability = named["adequate_probability"].mid
        self._kinds = {row.kind: row for row in kinds}
        self._difficulty = difficulty
        for name in KINDS:
            if name not in self._kinds:
                raise EcoRouteError(f"data/task_kinds.csv lacks the kind {name!r}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    @property
    def difficulty(self) -> Difficulty:
        """How hard tasks are, by kind and text. Raises EcoRouteError where the file is broken."""
        return _shipped() if self._difficulty is None else self._difficulty

    def kind(self, name: str) -> TaskKind:
        """The row of a kind by its name. Raises EcoRouteError with the closest and all valid values."""
        wanted = name.strip().lower().replace("-", "_").replace(" ", "_")
        row = self._kinds.get(wanted)
        if row is None:
            close = difflib.get_close_matches(wanted[:60], self._kinds, n=3, cutoff=0.5)
            hint = f"closest: {', '.join(close)}; " if close else ""
            raise EcoRouteError(f"unknown task_type {shown(name)!r}: {hint}valid values are {', '.join(self._kinds)}")
        return row

    def demand(
        self,
        text: str | None,
        *,
        kind: str | None = None,
        context_tokens: int | None = None,
        output_tokens: int | None = None,
        min_tier: int | None = None,
        min_success: float | None = None,
    ) -> Demand:
        """What the task asks for; the caller's numbers replace ours. ``text`` None: a declared kind as such.

        ``context_tokens`` counts what the model reads beside the text; ``output_tokens`` the answer without reasoning.
        ``min_tier`` or ``min_success``, one of the two, replaces the kind's own bar. Raises EcoRouteError for empty,
        oversized or undecodable text, an unknown kind, numbers out of range, both bars, and a ``min_success`` where it
        is not known how often tasks of the kind, or of any kind that the text may be of, succeed.
        """
        if text is not None:
            _check_text(text)
        _check_range("context_tokens", context_tokens, 0, MAX_TOKENS)
        _check_range("output_tokens", output_tokens, 1, MAX_TOKENS)
        _check_range("min_tier", min_tier, 1, 10)
        _check_success(min_success, min_tier)
        plausible: tuple[TaskKind, ...]
        if kind is not None:
            plausible, kind_why, also = (self.kind(kind),), "declared by you", ""
        elif text is not None:
            plausible, kind_why, also = self._read(text)
        else:
            raise EcoRouteError("say what is to be done, or declare a task_type")
        row, (bar, requirement) = plausible[0], self._requirement(plausible, text, min_tier, min_success)
        higher = "" if bar is row else f", so the higher bar, that of {bar.kind}, is used"
        assumed = []
        if context_tokens is None:
            context = row.input_tokens
            assumed.append(
                f"context: {context.mid:,.0f} tokens ({context.low:,.0f} to {context.high:,.0f}), usual for "
                f"{row.kind}; pass context_tokens for your own"
            )
        else:
            context = Estimate.exact(float(context_tokens), basis="given", source=CALLER)
        if output_tokens is None:
            output = row.output_tokens
            assumed.append(
                f"answer: {output.mid:,.0f} tokens ({output.low:,.0f} to {output.high:,.0f}) before reasoning, usual "
                f"for {row.kind}; pass output_tokens for your own"
            )
        else:
            output = Estimate.exact(float(output_tokens), basis="given", source=CALLER)
        return Demand(
            kind=row.kind,
            kind_why=kind_why + higher + also,
            requirement=requirement,
            input_tokens=context if text is None else context + self._tokens(text),
            output_tokens=output,
            one_window=context_tokens is not None or not row.many_calls,
            assumed=tuple(assumed),
        )

    def _tokens(self, text: str) -> Estimate:
        return Estimate.exact(float(len(text)), basis="given", source=CALLER) / self._characters_per_token

    def _requirement(
        self, plausible: Sequence[TaskKind], text: str | None, min_tier: int | None, min_success: float | None
    ) -> tuple[TaskKind, Requirement]:
        """The bar, and the kind that sets it: of the plausible ones, the likeliest first, the one with the highest."""
        if min_success is not None:
            kind, bar = self._hardest(plausible, text, min_success)
            return kind, Requirement(
                min_tier=None,
                min_success=bar,
                probability=self._probability,
                why=f"asked for: succeeds in at least {bar.percent} of such tasks{f'; {bar.note}' if bar.note else ''}",
                basis="estimated",
                sources=(CALLER, *SOURCES, *kind.sources),
            )
        if min_tier is not None:
            return plausible[0], Requirement(
                min_tier=min_tier,
                min_success=None,
                probability=self._probability,
                why="as you asked",
                basis="given",
                sources=(CALLER, *plausible[0].sources),
            )
        kind = max(plausible, key=lambda each: each.min_tier)
        return kind, Requirement(
            min_tier=kind.min_tier,
            min_success=None,
            probability=self._probability,
            why=kind.why,
            basis="estimated",
            sources=kind.sources,
        )

    def _hardest(self, plausible: Sequence[TaskKind], text: str | None, p: float) -> tuple[TaskKind, MinSuccess]:
        """Of the plausible kinds, with this text, the one in which success with probability ``p`` takes most ability.

        Raises EcoRouteError where one of them has no outcomes: its bar might be the highest.
        """
        difficulty, row = self.difficulty, plausible[0]
        predicted = {each: difficulty.predict(each.kind, text, never_easier=True) for each in plausible}
        bars = [(each, task, difficulty.edge(p, task)) for each, task in predicted.items() if task is not None]
        unknown = [each.kind for each, task in predicted.items() if task is None]
        known = ", ".join(difficulty.kinds)
        if row.kind in unknown:
            raise EcoRouteError(
                f"min_success rests on outcomes of models, and there are none for tasks of the kind {row.kind}, only "
                f"for {known}: declare task_type if it is one of these, or give min_tier instead"
            )
        if unknown:
            raise EcoRouteError(
                f"min_success rests on outcomes of models: there are some for {row.kind}, as which the task is read, "
                f"but none for {', '.join(unknown)}, which it may be as well: declare task_type ({known}) to be sure, "
                "or give min_tier instead"
            )
        kind, task, theta = max(bars, key=lambda bar: math.inf if bar[2] is None else bar[2])
        note = "no ability on the quality scale is reckoned to do so"
        if theta is not None:
            than = difficulty.extrapolated(theta)
            note = "" if than is None else f"extrapolated: a model at this bar is {than}"
        return kind, MinSuccess(p=p, kind=kind.kind, difficulty=task, theta_from=theta, note=note)

    def _read(self, text: str) -> tuple[tuple[TaskKind, ...], str, str]:
        """The plausible kinds, the likeliest first, and how they were read: before and after whose bar is used."""
        reading = _reader().read(text)
        plausible = tuple(self._kinds[name] for name in reading.plausible)
        if not reading.known:
            row = self._kinds[GENERAL_KIND]
            why = f"no known word in the text, taken as {row.kind}; unsure"
            return (row, *plausible), why, ": declare task_type to be sure"
        row = plausible[0]
        words = f" ({', '.join(f'“{word}”' for word in reading.words)})" if reading.words else ""
        why = f"read from the wording{words}, {reading.probabilities[row.kind]:.0%} likely"
        others = [f"{other.kind} ({reading.probabilities[other.kind]:.0%})" for other in plausible[1:]]
        if others:
            more = "fits as well" if len(others) == 1 else "fit as well"
            why += f"; unsure: {', '.join(others)} {more}"
        elif not reading.sure:
            why += "; unsure: declare task_type to be sure"
        guarded = "; what speaks to the router or repeats itself is left out, and can only raise the bar"
        return plausible, why, guarded if reading.guarded else ""


@functools.cache
def _reader() -> Reader:
    """Loaded at the first text to read: a server that is asked about declared kinds never needs it."""
    return Reader(read_weights(weights_file()))


@functools.cache
def _shipped() -> Difficulty:
    """The difficulties that come with the data. Raises EcoRouteError where the file is broken."""
    return Difficulty.parse((weights_file().parent / "routing_difficulty.json").read_text("utf-8"))


def _check_text(text: str) -> None:
    if not text or text.isspace():
        raise EcoRouteError("the task is empty: describe in a sentence what is to be done")
    if len(text) > MAX_TASK_CHARACTERS:
        raise EcoRouteError(
            f"the task has {len(text):,} characters, the limit is {MAX_TASK_CHARACTERS:,}: send a description and "
            "count the material in context_tokens"
        )
    if _holds_no_text(text):
        bad = re.search(f"[\x00\ud800-\udfff{HALF_A_CHARACTER}]", text)
        assert bad is not None
        what = "a NUL" if bad.group() == "\x00" else "half of a surrogate pair"
        raise EcoRouteError(f"the task holds {what} at character {bad.start()}, which is no text: remove it")


def _holds_no_text(text: str) -> bool:
    """Whether a NUL or half of a surrogate pair is in the text; in a millisecond for a megabyte."""
    if "\x00" in text:
        return True
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return HALF_A_CHARACTER in text


def _check_range(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        number = str(value) if -(10**12) < value < 10**12 else "a number of that size"
        raise EcoRouteError(f"{name} must lie between {low:,} and {high:,}, not {number}")


def _check_success(p: float | None, min_tier: int | None) -> None:
    if p is None:
        return
    if not 0 < p < 1:
        raise EcoRouteError(
            f"min_success must lie between 0 and 1, both excluded, not {float(p):g}: it is a probability, such as 0.8"
        )
    if min_tier is not None:
        raise EcoRouteError("min_tier and min_success are two forms of the same bar: leave out one of them")
