"""From a task's text to a Demand: what kind of work it is, the tier it asks for, the tokens it takes, and why.

A declared kind always wins; otherwise the text is read for it (kind.py), deterministically. Where the reading is unsure
the likeliest kind gives the tokens, the plausible kind with the highest bar gives the tier, and the answer says so.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ecoroute_mcp.catalogue import Parameter, TaskKind
from ecoroute_mcp.kind import KINDS, Reader, read_weights, weights_file
from ecoroute_mcp.sci import Basis, EcoRouteError, Estimate, shown

MAX_TASK_CHARACTERS = 1_048_576
MAX_TOKENS = 100_000_000
GENERAL_KIND = "generate"
CALLER = "caller"
HALF_A_CHARACTER = "\ufdd0"
"""Stands for half of a surrogate pair where text must be Unicode: a code point reserved for use inside a program."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """The bar: a tier, and the probability with which a model must clear its lower edge."""

    min_tier: int
    probability: float
    why: str
    basis: Basis
    sources: tuple[str, ...]


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

    def __init__(self, kinds: Sequence[TaskKind], parameters: Sequence[Parameter]) -> None:
        named = {row.name: row.value for row in parameters}
        self._characters_per_token = named["characters_per_token"]
        self._probability = named["adequate_probability"].mid
        self._kinds = {row.kind: row for row in kinds}
        for name in KINDS:
            if name not in self._kinds:
                raise EcoRouteError(f"data/task_kinds.csv lacks the kind {name!r}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._kinds)

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
    ) -> Demand:
        """What the task asks for; the caller's numbers replace ours. ``text`` None: a declared kind as such.

        ``context_tokens`` counts what the model reads beside the text; ``output_tokens`` the answer without reasoning.
        Raises EcoRouteError for empty, oversized or undecodable text, an unknown kind, and numbers out of range.
        """
        if text is not None:
            _check_text(text)
        _check_range("context_tokens", context_tokens, 0, MAX_TOKENS)
        _check_range("output_tokens", output_tokens, 1, MAX_TOKENS)
        _check_range("min_tier", min_tier, 1, 10)
        if kind is not None:
            row, kind_why = self.kind(kind), "declared by you"
            bar = row
        elif text is not None:
            row, bar, kind_why = self._read(text)
        else:
            raise EcoRouteError("say what is to be done, or declare a task_type")
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
        if min_tier is None:
            requirement = Requirement(
                min_tier=bar.min_tier,
                probability=self._probability,
                why=bar.why,
                basis="estimated",
                sources=bar.sources,
            )
        else:
            requirement = Requirement(
                min_tier=min_tier,
                probability=self._probability,
                why="as you asked",
                basis="given",
                sources=(CALLER, *bar.sources),
            )
        return Demand(
            kind=row.kind,
            kind_why=kind_why,
            requirement=requirement,
            input_tokens=context if text is None else context + self._tokens(text),
            output_tokens=output,
            one_window=context_tokens is not None or not row.many_calls,
            assumed=tuple(assumed),
        )

    def _tokens(self, text: str) -> Estimate:
        return Estimate.exact(float(len(text)), basis="given", source=CALLER) / self._characters_per_token

    def _read(self, text: str) -> tuple[TaskKind, TaskKind, str]:
        """The likeliest kind, the plausible kind with the highest bar, and how they were read."""
        reading = _reader().read(text)
        plausible = [self._kinds[name] for name in reading.plausible]
        if not reading.known:
            row = self._kinds[GENERAL_KIND]
            bar = max([row, *plausible], key=lambda each: each.min_tier)
            return row, bar, f"no known word in the text, taken as {row.kind}; unsure: declare task_type to be sure"
        row, bar = plausible[0], max(plausible, key=lambda each: each.min_tier)
        words = f" ({', '.join(f'“{word}”' for word in reading.words)})" if reading.words else ""
        why = f"read from the wording{words}, {reading.probabilities[row.kind]:.0%} likely"
        others = [f"{other.kind} ({reading.probabilities[other.kind]:.0%})" for other in plausible[1:]]
        if others:
            more = "fits as well" if len(others) == 1 else "fit as well"
            higher = "" if bar.min_tier == row.min_tier else f", so the higher bar, that of {bar.kind}, is used"
            why += f"; unsure: {', '.join(others)} {more}{higher}"
        elif not reading.sure:
            why += "; unsure: declare task_type to be sure"
        if reading.guarded:
            why += "; what speaks to the router or repeats itself is left out, and can only raise the bar"
        return row, bar, why


@functools.cache
def _reader() -> Reader:
    """Loaded at the first text to read: a server that is asked about declared kinds never needs it."""
    return Reader(read_weights(weights_file()))


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
