"""Every choice there is: a model at one reasoning effort, with its middles in columns for fast filtering and sorting.

A question touches all choices but shows few. So the middles of all are kept in plain lists, per token: a task's grams
are then one multiplication and addition a choice, and only the choices shown are computed with their intervals. The
columns are made by the same functions as the intervals (:func:`ecoroute_mcp.sci.sci_g`), so the order of the list is
the order of the figures shown.
"""

from __future__ import annotations

import copy
import datetime
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ecoroute_mcp.catalogue import THIS_MACHINE, Catalogue, Effort, Grid, Model, Provider, Quality
from ecoroute_mcp.energy import Footprint, Method, TokenCarbon, UnknownEnergy
from ecoroute_mcp.sci import EcoRouteError, Estimate, sci_g
from ecoroute_mcp.task import Demand

EXAMPLES = 5
TOKENS_PER_MTOK = 1_000_000
_ZONES_KEPT = 64


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model at one effort. ``multiplier``: tokens it writes over those of its answer without reasoning;
    ``verbosity``: tokens of that answer over those of others' answers.

    ``provider`` serves it: the model's own, or this machine where it was measured here."""

    model: Model
    provider: Provider
    effort: Effort
    multiplier: Estimate
    verbosity: Estimate
    quality: Quality | None
    footprint: Footprint
    per_token: TokenCarbon


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """Models left out for one reason; the greenest of them, at most five, as examples. ``count`` counts models."""

    reason: str
    count: int
    models: tuple[str, ...]


class Choices:
    """All choices of one catalogue, and the models that cannot be one (``outside``: reason -> model ids)."""

    def __init__(
        self,
        catalogue: Catalogue,
        method: Method,
        home_g_per_kwh: dict[str, Estimate],
        today: datetime.date | None = None,
    ) -> None:
        """``home_g_per_kwh``: per provider id, the intensity used where a request names no grid.

        ``today`` retires closed models whose announced date has come; None takes the data as it stands.
        """
        self._method = method
        self._multipliers = {row.effort: row.output_multiplier for row in catalogue.efforts}
        self._verbosities = {row.model: row for row in catalogue.verbosity}
        named = {row.name: row.value for row in catalogue.parameters}
        self._call_context, self._verbosity_unknown = named["call_context_tokens"], named["verbosity_factor"]
        self._providers = {row.id: row for row in catalogue.providers}
        self._home_g_per_kwh = home_g_per_kwh
        self._grams: dict[str | None, tuple[list[float], list[float]]] = {}
        self.outside: dict[str, list[str]] = {}
        self.all: list[Choice] = []
        placed: dict[str, list[Quality]] = {}
        for row in catalogue.quality:
            placed.setdefault(row.model, []).append(row)
        for model in catalogue.models:
            if model.id in method.local_models:
                self._try(model, placed.get(model.id, ()))
                continue
            ended = today is not None and model.retires_on is not None and model.retires_on <= today
            if model.availability == "retired" or (ended and model.open_weights is not True):
                self.outside.setdefault("retired: its provider no longer serves it", []).append(model.id)
                continue
            self._try(model, placed.get(model.id, ()))
        if not self.all:
            raise EcoRouteError("the catalogue has no model with an energy figure: run `ecoroute refresh`")
        self.model_ids = [choice.model.id for choice in self.all]
        self.theta = [choice.quality.theta if choice.quality else -math.inf for choice in self.all]
        self.theta_se = [choice.quality.theta_se if choice.quality else math.inf for choice in self.all]
        self.bound = [theta - theta_se for theta, theta_se in zip(self.theta, self.theta_se, strict=True)]
        self.tested = [choice.quality is not None for choice in self.all]
        self.open = [choice.model.open_weights is True for choice in self.all]
        known = [choice.model.context_tokens for choice in self.all if choice.model.context_tokens is not None]
        self.least_context: int | None = min(known, default=None)
        windows = (choice.model.context_tokens for choice in self.all)
        self._context = [_or_infinite(self.least_context if window is None else window) for window in windows]
        self._most_output = [_or_infinite(choice.model.max_output_tokens) for choice in self.all]
        self._multiplier = [choice.multiplier.mid for choice in self.all]
        self._verbosity = [choice.verbosity.mid for choice in self.all]
        self.local = [choice.provider.id == THIS_MACHINE for choice in self.all]
        self._token_kwh()
        self._at: dict[tuple[int, ...], Choices] = {}
        self._usd_in, self._usd_out = [], []
        for choice in self.all:
            model, here = choice.model, choice.provider.id == THIS_MACHINE
            price_in, price_out = (None, None) if here else (model.price_in_usd_per_mtok, model.price_out_usd_per_mtok)
            self._usd_in.append(_or_infinite(price_in) / TOKENS_PER_MTOK)
            self._usd_out.append(_or_infinite(price_out) * choice.multiplier.mid / TOKENS_PER_MTOK)

    def _token_kwh(self) -> None:
        self._prefill_kwh = [choice.per_token.prefill_kwh.mid for choice in self.all]
        self._decode_kwh = [choice.per_token.decode_kwh.mid for choice in self.all]
        shares = (choice.per_token.context_share for choice in self.all)
        self._context_share = [0.0 if share is None else share.mid for share in shares]

    def at(self, input_tokens: float) -> Choices:
        """The same choices, those measured on this machine at the measured prompt length nearest to this one."""
        local = [index for index, here in enumerate(self.local) if here]
        rows = tuple(self._method.local_row(self.model_ids[index], input_tokens).prompt_tokens for index in local)
        if not rows:
            return self
        found = self._at.get(rows)
        if found is None:
            found = copy.copy(self)
            found.all, found._grams = list(self.all), {}
            for index in local:
                choice = self.all[index]
                footprint = self._method.footprint(choice.model, input_tokens)
                per_token = self._method.at_facility(footprint, choice.provider, choice.multiplier)
                found.all[index] = replace(choice, footprint=footprint, per_token=per_token)
            found._token_kwh()
            self._at[rows] = found
        return found

    def _try(self, model: Model, qualities: Sequence[Quality]) -> None:
        try:
            self._add(model, qualities)
        except UnknownEnergy as error:
            self.outside.setdefault(f"no energy figure: {error.missing}", []).append(model.id)

    def _add(self, model: Model, qualities: Sequence[Quality]) -> None:
        footprint = self._method.footprint(model)
        provider = self._providers[THIS_MACHINE if footprint.machine else model.provider]
        for quality in qualities or (None,):
            effort: Effort = quality.effort if quality is not None else "default"
            multiplier, verbosity = self._lengths(model, effort)
            self.all.append(
                Choice(
                    model=model,
                    provider=provider,
                    effort=effort,
                    multiplier=multiplier,
                    verbosity=verbosity,
                    quality=quality,
                    footprint=footprint,
                    per_token=self._method.at_facility(footprint, provider, multiplier),
                )
            )

    def _lengths(self, model: Model, effort: Effort) -> tuple[Estimate, Estimate]:
        """A model's multiplier at an effort, and its verbosity: counted, else that of any model. Not known to reason or
        not, it may do either, so its multiplier is that of any model."""
        counted = self._verbosities.get(model.id)
        if model.reasons is False:
            effort = "none"  # it writes its answer and nothing else, whatever effort is asked of it
        elif effort == "default" and counted is not None:
            effort = counted.default_effort
        return self._multipliers[effort], self._verbosity_unknown if counted is None else counted.answer

    def unplaced(self, choice: Choice, effort: Effort) -> Choice:
        """The same model at an effort that no benchmark has tried."""
        multiplier, _ = self._lengths(choice.model, effort)
        per_token = self._method.at_facility(choice.footprint, choice.provider, multiplier)
        return replace(choice, effort=effort, multiplier=multiplier, quality=None, per_token=per_token)

    def intensity(self, choice: Choice, grid: Grid | None) -> Estimate:
        """The grid asked for, else the one the provider serves from."""
        return grid.intensity_g_per_kwh if grid is not None else self._home_g_per_kwh[choice.provider.id]

    def carbon_g(self, demand: Demand, grid: Grid | None) -> list[float]:
        """Middle grams of the task, per choice."""
        zone = None if grid is None else grid.zone
        grams = self._grams.get(zone)
        if grams is None:
            grams = self._token_grams(grid)
            if len(self._grams) < _ZONES_KEPT:
                self._grams[zone] = grams
        return self._with_context(demand, *grams)

    def energy_kwh(self, demand: Demand) -> list[float]:
        """Middle kWh of the task at the facility's meter, per choice."""
        return self._with_context(demand, self._prefill_kwh, self._decode_kwh)

    def cost_usd(self, demand: Demand) -> list[float]:
        """Middle dollars of the task, per choice; infinite where the price is not known, as on this machine."""
        inputs = demand.input_tokens.mid
        return [
            inputs * read + outputs * written
            for read, written, outputs in zip(self._usd_in, self._usd_out, self._answers(demand), strict=True)
        ]

    def context_tokens(self, demand: Demand, choice: Choice) -> Estimate:
        """What a written token of a task attends to in the mean: what was read, and half of what is written with it."""
        if not demand.one_window:
            return self._call_context
        return demand.input_tokens + (answer_tokens(demand, choice) * choice.multiplier).scaled(0.5)

    def _answers(self, demand: Demand) -> list[float]:
        """Middle tokens of each choice's answer, as :func:`answer_tokens` has them."""
        tokens = demand.output_tokens.mid
        if _given(demand):
            return [tokens] * len(self.all)
        return [tokens * verbosity for verbosity in self._verbosity]

    def _with_context(self, demand: Demand, per_read: list[float], per_written: list[float]) -> list[float]:
        inputs, called = demand.input_tokens.mid, self._call_context.mid
        window = demand.one_window
        return [
            inputs * read + outputs * written * (1 + share * (inputs + outputs * multiplier / 2 if window else called))
            for read, written, share, multiplier, outputs in zip(
                per_read, per_written, self._context_share, self._multiplier, self._answers(demand), strict=True
            )
        ]

    def adequate(self, edge: float, deviations: float) -> list[bool]:
        """Whether a choice's ability less so many standard errors reaches ``edge``; never for an untested one."""
        return [
            tested and theta - deviations * theta_se >= edge
            for tested, theta, theta_se in zip(self.tested, self.theta, self.theta_se, strict=True)
        ]

    def holds(self, demand: Demand) -> list[bool]:
        """Whether a choice's context window and output limit hold the task at its middle. A window that is not known
        counts as the smallest known one of all models, and where none is known holds any task; an output limit that
        is not known is the window's."""
        inputs = demand.input_tokens.mid
        return [
            outputs * multiplier <= most and inputs + outputs * multiplier <= context
            for outputs, multiplier, most, context in zip(
                self._answers(demand), self._multiplier, self._most_output, self._context, strict=True
            )
        ]

    def where(self, accept: Callable[[Choice], bool]) -> list[bool]:
        return [accept(choice) for choice in self.all]

    def sift(
        self,
        tests: Iterable[tuple[str, Sequence[bool]]],
        grams: Sequence[float],
        among: Sequence[int] | None = None,
    ) -> tuple[list[int], tuple[Excluded, ...]]:
        """Indices (of ``among``, None: all) that pass every test; models none of whose choices did, by the first test
        that stopped them."""
        alive: Sequence[int] = range(len(self.all)) if among is None else among
        models = {self.model_ids[index] for index in alive}
        excluded = []
        for reason, passes in tests:
            kept = [index for index in alive if passes[index]]
            left = {self.model_ids[index] for index in kept}
            if len(left) < len(models):
                stopped = [index for index in alive if self.model_ids[index] not in left]
                examples = self.best_of_each_model(stopped, grams, EXAMPLES)
                names = tuple(self.model_ids[index] for index in examples)
                excluded.append(Excluded(reason=reason, count=len(models) - len(left), models=names))
            alive, models = kept, left
        return list(alive), tuple(excluded)

    def best_of_each_model(self, indices: Sequence[int], key: Sequence[float], most: int | None = None) -> list[int]:
        """For the ``most`` models (None: all) with the lowest key, the index of the choice that has it, in order."""
        # Of equals the abler comes first: models of one imputed size have the same grams to the last digit.
        order = [(key[index], -self.bound[index], index) for index in indices]
        if most is not None:
            # A model has at most one choice per effort, so this many of the lowest hold enough models.
            order = heapq.nsmallest(most * len(self._multipliers), order)
        else:
            order.sort()
        first: dict[str, int] = {}
        for _, _, index in order:
            first.setdefault(self.model_ids[index], index)
        return list(first.values())[:most]

    def left_outside(self, among: set[str] | None = None) -> tuple[Excluded, ...]:
        """Models that cannot be a choice at all (None: of the whole catalogue), by reason."""
        groups = []
        for reason, names in self.outside.items():
            models = [name for name in names if among is None or name in among]
            if models:
                groups.append(Excluded(reason=reason, count=len(models), models=tuple(models[:EXAMPLES])))
        return tuple(groups)

    def likeliest(self, indices: Sequence[int], edge: float) -> tuple[Choice, float]:
        """Of these tested choices the one that clears the edge by most standard errors, and by how many."""
        best = max(indices, key=lambda index: (self.theta[index] - edge) / self.theta_se[index])
        return self.all[best], (self.theta[best] - edge) / self.theta_se[best]

    def ablest(self, indices: Sequence[int], deviations: float) -> tuple[Choice, float]:
        """Of these tested choices the one whose ability less so many standard errors is highest, and that ability."""
        least = {index: self.theta[index] - deviations * self.theta_se[index] for index in indices}
        best = max(least, key=least.__getitem__)
        return self.all[best], least[best]

    def _token_grams(self, grid: Grid | None) -> tuple[list[float], list[float]]:
        """Middle grams per token read and per token written, per choice."""
        read, written = [], []
        for choice in self.all:
            intensity, token = self.intensity(choice, grid).mid, choice.per_token
            read.append(
                sci_g(
                    energy_kwh=token.prefill_kwh.mid,
                    intensity_g_per_kwh=intensity,
                    embodied_g=token.prefill_embodied_g.mid,
                )
            )
            written.append(
                sci_g(
                    energy_kwh=token.decode_kwh.mid,
                    intensity_g_per_kwh=intensity,
                    embodied_g=token.decode_embodied_g.mid,
                )
            )
        return read, written


def answer_tokens(demand: Demand, choice: Choice) -> Estimate:
    """Tokens of this model's answer before reasoning: the caller's number as it is, else the usual of the kind times
    how much this model writes."""
    return demand.output_tokens if _given(demand) else demand.output_tokens * choice.verbosity


def _given(demand: Demand) -> bool:
    return demand.output_tokens.basis == "given"


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else float(value)
