"""Adequate first, then least carbon: which model, at which reasoning effort, and who was left out and why.

A choice is a model at one reasoning effort. It is adequate when its latent ability lies above the lower edge of the
required tier with at least the required probability: the lower confidence bound decides, not the rounded tier. Among
the adequate the one with the fewest grams for this task comes first, at the middle of its interval.

Two grams-figures share most of their doubt (the grid, the tokens, how models are served), so a saving is not the
difference of two full intervals: what both share is taken at its middle, and only what is each model's own (parameters,
precision, the law's residual, its tokens at its effort) spreads the difference. It may be zero or negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import NormalDist
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ecoroute_mcp.catalogue import (
    Catalogue,
    Effort,
    Grid,
    Model,
    Provider,
    Quality,
    Source,
    cited_sources,
)
from ecoroute_mcp.energy import Footprint, Method, TokenCarbon, UnknownEnergy, middle
from ecoroute_mcp.identity import Identity, Match
from ecoroute_mcp.sci import JOULES_PER_KWH, Basis, EcoRouteError, Estimate, sci_g, shown, weakest
from ecoroute_mcp.task import Demand, Tasks
from ecoroute_mcp.zones import Zones

SORT_BY = ("carbon", "cost", "quality", "energy")
RUNNERS_UP = 3
EXAMPLES = 5
MAX_LIMIT = 500
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The model an editor says is in use, or why that is not known."""

    spelling: str | None = None
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question. None means "not said": the router's defaults apply, and the answer says which did.

    ``detected`` counts only where ``current_model`` is not said; an id in it that we do not know is a note, no error.
    """

    task: str
    task_type: str | None = None
    context_tokens: int | None = None
    output_tokens: int | None = None
    current_model: str | None = None
    region: str | None = None
    candidates: tuple[str, ...] | None = None
    min_tier: int | None = None
    max_cost_usd: float | None = None
    open_weights_only: bool = False
    detected: Detected = Detected()


@dataclass(frozen=True, kw_only=True)
class RankingsRequest:
    """A league table for one kind of task."""

    task_type: str | None = None
    region: str | None = None
    limit: int = 10
    sort_by: str = "carbon"
    provider: str | None = None
    min_tier: int | None = None
    open_weights_only: bool = False
    context_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds when a request does not say: a region, the models this person can really use, and who set them."""

    region: str | None = None
    candidates: tuple[str, ...] | None = None
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Ability:
    """Where a model stands on the quality scale, and the probability that it clears the required tier."""

    tier: int
    theta: float
    theta_se: float
    p_adequate: float
    benchmarks: int
    basis: Basis
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One model at one effort on this task. Grams, joules and dollars are per task at the facility's meter."""

    model: str
    provider: str
    effort: Effort
    adequate: bool
    carbon_g: Estimate
    operational_g: Estimate
    embodied_g: Estimate
    carbon_g_per_token: Estimate
    energy_j: Estimate
    output_tokens: Estimate
    cost_usd: Estimate | None
    ability: Ability | None
    zone: str
    energy_basis: Basis
    energy_how: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Grams saved per task by changing from the current model; negative where the change costs carbon."""

    low: float
    mid: float
    high: float
    basis: Basis
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """Models left out for one reason; the greenest of them, at most five, as examples. ``count`` counts models."""

    reason: str
    count: int
    models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Zone:
    """The grid an answer used, and who chose it."""

    zone: str
    name: str
    valid_from: str
    intensity_g_per_kwh: Estimate
    chosen_by: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer to one request. Every number stands in an object with its ``basis`` and ``sources`` (ids)."""

    demand: Demand
    zone: Zone | None
    recommended: Ranked | None
    verdict: str
    current: Ranked | None
    current_note: str
    saving_g: Saving | None
    runners_up: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    defaulted: tuple[str, ...]
    sources: dict[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """Models in order for one kind of task, each at its greenest adequate effort (else its greenest)."""

    demand: Demand
    zone: Zone | None
    sort_by: str
    rows: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    defaulted: tuple[str, ...]
    sources: dict[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the router holds. ``rows`` counts table rows; the dates are when the sources were read."""

    status: Literal["ok", "degraded"]
    problems: tuple[str, ...]
    version: str
    database: str
    rows: dict[str, int]
    rankable_models: int
    tested_models: int
    sources_read_from: str
    sources_read_to: str
    region_default: str
    candidates_default: str
    current_model: str


@dataclass(frozen=True, kw_only=True)
class _Option:
    model: Model
    provider: Provider
    effort: Effort
    multiplier: Estimate
    quality: Quality | None
    footprint: Footprint
    per_token: TokenCarbon


class Router:
    """Answers requests against one catalogue. Building it takes tens of milliseconds; a request about one."""

    def __init__(self, catalogue: Catalogue, defaults: Defaults = Defaults()) -> None:
        self.catalogue = catalogue
        self.identity = Identity(catalogue.models, catalogue.aliases)
        self.zones = Zones(catalogue.grids, catalogue.zone_aliases)
        self.tasks = Tasks(catalogue.task_kinds, catalogue.parameters)
        self.defaults = defaults
        self._sources = {source.id: source for source in catalogue.sources}
        self._method = Method(catalogue)
        self._own = Method(catalogue, shared=False)
        self._multipliers = {row.effort: row.output_multiplier for row in catalogue.efforts}
        self._providers = {row.id: row for row in catalogue.providers}
        self._edges = {row.tier: -math.inf if row.theta_from is None else row.theta_from for row in catalogue.tiers}
        self._home: dict[str, Estimate] = {
            row.id: _widest([self.zones.resolve(zone).intensity_g_per_kwh for zone in row.zones])
            for row in catalogue.providers
        }
        self._outside: dict[str, list[str]] = {}
        self._options: list[_Option] = []
        self._build_options()
        self._default_zone = self.zones.resolve(defaults.region) if defaults.region is not None else None
        self._default_candidates = self._candidate_flags(defaults.candidates)

    # -- questions

    def recommend(self, request: Request) -> Recommendation:
        """The greenest adequate model for a task. Raises EcoRouteError for anything in the request to put right."""
        demand = self.tasks.demand(
            request.task,
            kind=request.task_type,
            context_tokens=request.context_tokens,
            output_tokens=request.output_tokens,
            min_tier=request.min_tier,
        )
        if request.max_cost_usd is not None and not 0 < request.max_cost_usd < math.inf:
            raise EcoRouteError("max_cost_usd must be a positive number of dollars for this one task")
        grid, zone, defaulted = self._zone(request.region)
        defaulted = list(demand.assumed) + defaulted
        if request.candidates is not None:
            allowed = self._candidate_flags(request.candidates)
        else:
            allowed = self._default_candidates
            if self.defaults.candidates is not None:
                defaulted.append(f"candidates: {', '.join(self.defaults.candidates)}, from {self.defaults.where}")
        carbon, cost = self._carbon_g(demand, grid), self._cost_usd(demand)
        adequate = self._adequate(demand)
        tests: list[tuple[str, Flags]] = [("not among the candidates", allowed)]
        if request.open_weights_only:
            tests.append(("weights are not known to be open", self._open))
        if request.context_tokens:
            needed = demand.input_tokens.mid
            tests.append((f"context window below the {needed:,.0f} tokens of this task", self._context >= needed))
        tests.append(("untested: no public benchmark places it on the quality scale", self._tested))
        if request.max_cost_usd is not None:
            tests.append(
                (f"costs more than ${request.max_cost_usd:g}, or its price is not known", cost <= request.max_cost_usd)
            )
        tests.append((self._bar(demand), adequate))
        passed, excluded = self._sift(tests, carbon)
        order = self._first_of_each_model(passed, carbon)
        ranked = [self._ranked(self._options[index], demand, grid) for index in order[: RUNNERS_UP + 1]]
        recommended = ranked[0] if ranked else None
        current, option, note = self._current(request, demand, grid)
        saving = None
        if recommended is not None and option is not None:
            saving = self._saving(option, self._options[order[0]], demand, grid)
        answer = Recommendation(
            demand=demand,
            zone=zone,
            recommended=recommended,
            verdict=self._verdict(demand, recommended, current, saving, passed, allowed),
            current=current,
            current_note=note,
            saving_g=saving,
            runners_up=tuple(ranked[1:]),
            excluded=excluded + (self._outside_excluded() if request.candidates is None else ()),
            defaulted=tuple(defaulted),
        )
        return replace(answer, sources=self.cited(answer))

    def rankings(self, request: RankingsRequest) -> Rankings:
        """A league table. Raises EcoRouteError for anything in the request to put right."""
        if not 1 <= request.limit <= MAX_LIMIT:
            raise EcoRouteError(f"limit must lie between 1 and {MAX_LIMIT}")
        if request.sort_by not in SORT_BY:
            raise EcoRouteError(f"unknown sort_by {shown(request.sort_by)!r}: valid values are {', '.join(SORT_BY)}")
        kind = request.task_type or "generate"
        demand = self.tasks.demand(
            kind,
            kind=kind,
            context_tokens=request.context_tokens,
            output_tokens=request.output_tokens,
            min_tier=request.min_tier,
        )
        grid, zone, defaulted = self._zone(request.region)
        defaulted = list(demand.assumed) + defaulted
        if request.task_type is None:
            defaulted.insert(0, f"task_type: {kind}")
        carbon, cost, adequate = self._carbon_g(demand, grid), self._cost_usd(demand), self._adequate(demand)
        tests = []
        if request.provider is not None:
            tests.append(("of another provider", self._of_provider(request.provider)))
        if request.open_weights_only:
            tests.append(("weights are not known to be open", self._open))
        if request.context_tokens:
            needed = demand.input_tokens.mid
            tests.append((f"context window below the {needed:,.0f} tokens of this task", self._context >= needed))
        tests.append(("untested: no public benchmark places it on the quality scale", self._tested))
        if request.min_tier is not None:
            tests.append((self._bar(demand), adequate))
        if request.sort_by == "cost":
            tests.append(("its price is not known", np.isfinite(cost)))
        passed, excluded = self._sift(tests, carbon)
        chosen = self._first_of_each_model(passed, np.where(adequate, carbon, carbon + carbon.max(initial=0.0) + 1))
        keys = {"carbon": carbon, "cost": cost, "quality": -self._theta, "energy": self._energy_kwh(demand)}
        chosen = sorted(chosen, key=lambda index: (keys[request.sort_by][index], index))
        rows = tuple(self._ranked(self._options[index], demand, grid) for index in chosen[: request.limit])
        answer = Rankings(
            demand=demand,
            zone=zone,
            sort_by=request.sort_by,
            rows=rows,
            excluded=excluded + self._outside_excluded(),
            defaulted=tuple(defaulted),
        )
        return replace(answer, sources=self.cited(answer))

    def model(self, spelling: str) -> Model:
        """The catalogue's row of a model in any spelling. Raises EcoRouteError with suggestions."""
        model_id = self.identity.resolve(spelling).model_id
        return next(model for model in self.catalogue.models if model.id == model_id)

    def complete(self, argument: str, typed: str) -> list[str] | None:
        """Values of an argument that fit what was typed so far, at most 100; None for an argument without any."""
        if argument in ("region", "zone"):
            return self.zones.complete(typed)
        if argument in ("model", "current_model", "candidates"):
            return self.identity.complete(typed)
        if argument == "task_type":
            return [name for name in self.tasks.names if name.startswith(typed.lower())]
        return None

    def cited(self, answer: object) -> dict[str, Source]:
        """The source rows behind every figure of an answer."""
        return {name: self._sources[name] for name in sorted(set(cited_sources(answer)))}

    def health(self, *, version: str, database: str, detected: Detected) -> Health:
        """What is loaded, and what is wrong with it; never raises."""
        rows = {table.name: len(getattr(self.catalogue, table.name)) for table in fields(self.catalogue)}
        read = [source.retrieved_on.isoformat() for source in self.catalogue.sources]
        problems = [f"no rows in {name}: run `ecoroute refresh`" for name, count in rows.items() if not count]
        current = "not known"
        if detected.spelling is not None:
            try:
                current = f"{self.identity.resolve(detected.spelling).model_id}, from {detected.where}"
            except EcoRouteError as error:
                current = f"{detected.where} names {shown(detected.spelling)!r}"
                problems.append(f"the editor's model is not in the catalogue: {error}")
        elif detected.where:
            current = f"not known ({detected.where})"
        return Health(
            status="degraded" if problems else "ok",
            problems=tuple(problems),
            version=version,
            database=database,
            rows=rows,
            rankable_models=len(self._starts),
            tested_models=len({option.model.id for option in self._options if option.quality is not None}),
            sources_read_from=min(read),
            sources_read_to=max(read),
            region_default=self._default_zone.zone if self._default_zone else "where each provider serves from",
            candidates_default=", ".join(self.defaults.candidates or ()) or "all models",
            current_model=current,
        )

    # -- the table of choices

    def _build_options(self) -> None:
        by_model: dict[str, list[Quality]] = {}
        for row in self.catalogue.quality:
            by_model.setdefault(row.model, []).append(row)
        starts = []
        for model in self.catalogue.models:
            if model.availability == "retired":
                self._leave_out("retired: its provider no longer serves it", model.id)
                continue
            try:
                footprint = self._method.footprint(model)
            except UnknownEnergy as error:
                self._leave_out(_reason(error), model.id)
                continue
            provider = self._providers[model.provider]
            starts.append(len(self._options))
            qualities: Sequence[Quality | None] = by_model.get(model.id) or (None,)
            for quality in qualities:
                effort: Effort = quality.effort if quality is not None else "default"
                multiplier = self._multiplier(model, effort)
                self._options.append(
                    _Option(
                        model=model,
                        provider=provider,
                        effort=effort,
                        multiplier=multiplier,
                        quality=quality,
                        footprint=footprint,
                        per_token=self._method.at_facility(footprint, provider, multiplier),
                    )
                )
        if not self._options:
            raise EcoRouteError("the catalogue has no model with an energy figure: run `ecoroute refresh`")
        options = self._options
        self._starts = np.array(starts)
        self._model_index = np.repeat(np.arange(len(starts)), np.diff([*starts, len(options)]))
        self._prefill_kwh = _column(option.per_token.prefill_kwh.mid for option in options)
        self._decode_kwh = _column(option.per_token.decode_kwh.mid for option in options)
        self._prefill_g = _column(option.per_token.prefill_embodied_g.mid for option in options)
        self._decode_g = _column(option.per_token.decode_embodied_g.mid for option in options)
        self._home_g_per_kwh = _column(self._home[option.provider.id].mid for option in options)
        self._theta = _column(option.quality.theta if option.quality else -math.inf for option in options)
        self._theta_se = _column(option.quality.theta_se if option.quality else 1.0 for option in options)
        self._tested = np.isfinite(self._theta)
        self._price_in = _column(_or_inf(option.model.price_in_usd_per_mtok) for option in options)
        self._price_out = _column(
            _or_inf(option.model.price_out_usd_per_mtok) * option.multiplier.mid for option in options
        )
        self._context = _column(_or_inf(option.model.context_tokens) for option in options)
        self._open = np.array([option.model.open_weights is True for option in options])

    def _leave_out(self, reason: str, model_id: str) -> None:
        self._outside.setdefault(reason, []).append(model_id)

    def _outside_excluded(self) -> tuple[Excluded, ...]:
        return tuple(
            Excluded(reason=reason, count=len(models), models=tuple(models[:EXAMPLES]))
            for reason, models in self._outside.items()
        )

    def _multiplier(self, model: Model, effort: Effort) -> Estimate:
        """Written tokens over those of an answer without reasoning; a model that cannot reason writes no others."""
        return self._multipliers[effort if "reasoning" in model.abilities else "none"]

    def _candidate_flags(self, candidates: tuple[str, ...] | None) -> Flags:
        if candidates is None:
            return np.ones(len(self._options), dtype=bool)
        if not candidates:
            raise EcoRouteError("candidates is empty: name at least one model, or leave it out for all")
        matches = [self.identity.resolve(name) for name in candidates]
        whole = {match.model_id for match in matches if match.effort is None}
        exact = {(match.model_id, match.effort) for match in matches if match.effort is not None}
        outside = {name: reason for reason, names in self._outside.items() for name in names}
        if all(match.model_id in outside for match in matches):
            reasons = "; ".join(f"{match.model_id}: {outside[match.model_id]}" for match in matches[:3])
            raise EcoRouteError(f"none of the candidates can be ranked ({reasons}): name others")
        return np.array(
            [option.model.id in whole or (option.model.id, option.effort) in exact for option in self._options]
        )

    def _of_provider(self, name: str) -> Flags:
        wanted = name.strip().lower()
        ids = {
            option.provider.id
            for option in self._options
            if wanted in (option.provider.id, option.provider.name.lower())
        }
        if not ids:
            known = ", ".join(sorted({option.provider.id for option in self._options}))
            raise EcoRouteError(f"unknown provider {shown(name)!r}: valid values are {known}")
        return np.array([option.provider.id in ids for option in self._options])

    # -- figures of all choices at once, at their middles

    def _carbon_g(self, demand: Demand, grid: Grid | None) -> Floats:
        intensity = self._home_g_per_kwh if grid is None else np.full(len(self._options), grid.intensity_g_per_kwh.mid)
        return sci_g(
            energy_kwh=self._energy_kwh(demand),
            intensity_g_per_kwh=intensity,
            embodied_g=_per_task(demand.input_tokens.mid, demand.output_tokens.mid, self._prefill_g, self._decode_g),
        )

    def _energy_kwh(self, demand: Demand) -> Floats:
        return _per_task(demand.input_tokens.mid, demand.output_tokens.mid, self._prefill_kwh, self._decode_kwh)

    def _cost_usd(self, demand: Demand) -> Floats:
        million = 1e-6
        return _per_task(
            demand.input_tokens.mid * million, demand.output_tokens.mid * million, self._price_in, self._price_out
        )

    def _adequate(self, demand: Demand) -> Flags:
        bound = NormalDist().inv_cdf(demand.requirement.probability)
        edge = self._edges[demand.requirement.min_tier]
        return self._tested & (self._theta - bound * self._theta_se >= edge)

    def _sift(self, tests: list[tuple[str, Flags]], carbon: Floats) -> tuple[Flags, tuple[Excluded, ...]]:
        """Choices that pass every test; models none of whose choices did, by the first test that stopped them."""
        passing = np.ones(len(self._options), dtype=bool)
        alive = np.ones(len(self._starts), dtype=bool)
        greenest = np.minimum.reduceat(carbon, self._starts)
        excluded = []
        for reason, flags in tests:
            passing &= flags
            still = np.logical_or.reduceat(passing, self._starts)
            stopped = np.flatnonzero(alive & ~still)
            alive &= still
            if len(stopped):
                examples = stopped[np.argsort(greenest[stopped], kind="stable")[:EXAMPLES]]
                models = tuple(self._options[self._starts[index]].model.id for index in examples)
                excluded.append(Excluded(reason=reason, count=len(stopped), models=models))
        return passing, tuple(excluded)

    def _first_of_each_model(self, passed: Flags, key: Floats) -> list[int]:
        """Indices of the best passing choice of each model, best model first."""
        candidates = np.flatnonzero(passed)
        ordered = candidates[np.argsort(key[candidates], kind="stable")]
        _, first = np.unique(self._model_index[ordered], return_index=True)
        return [int(index) for index in ordered[np.sort(first)]]

    # -- one choice in full

    def _ranked(self, option: _Option, demand: Demand, grid: Grid | None) -> Ranked:
        intensity = self._intensity(option, grid)
        inputs, outputs = demand.input_tokens, demand.output_tokens
        energy_kwh = _per_task(inputs, outputs, option.per_token.prefill_kwh, option.per_token.decode_kwh)
        embodied = _per_task(inputs, outputs, option.per_token.prefill_embodied_g, option.per_token.decode_embodied_g)
        carbon = sci_g(energy_kwh=energy_kwh, intensity_g_per_kwh=intensity, embodied_g=embodied)
        written = outputs * option.multiplier
        tokens = inputs.mid + written.mid
        ability = self._ability(option, demand)
        notes = []
        if option.model.availability == "deprecated":
            date = option.model.retires_on
            notes.append(f"deprecated by its provider{f', retires on {date}' if date else ''}")
        if option.model.price_note:
            notes.append(f"price: {option.model.price_note}")
        return Ranked(
            model=option.model.id,
            provider=option.provider.id,
            effort=option.effort,
            adequate=ability is not None and ability.p_adequate >= demand.requirement.probability,
            carbon_g=carbon,
            operational_g=energy_kwh * intensity,
            embodied_g=embodied,
            carbon_g_per_token=carbon.scaled(1 / tokens),
            energy_j=energy_kwh.scaled(JOULES_PER_KWH),
            output_tokens=written,
            cost_usd=_cost(option, inputs, written),
            ability=ability,
            zone=grid.zone if grid is not None else " or ".join(option.provider.zones),
            energy_basis=option.footprint.basis,
            energy_how=option.footprint.how,
            notes=tuple(notes),
        )

    def _ability(self, option: _Option, demand: Demand) -> Ability | None:
        if option.quality is None:
            return None
        margin = (option.quality.theta - self._edges[demand.requirement.min_tier]) / option.quality.theta_se
        return Ability(
            tier=option.quality.tier,
            theta=option.quality.theta,
            theta_se=option.quality.theta_se,
            p_adequate=NormalDist().cdf(margin),
            benchmarks=option.quality.benchmarks,
            basis=option.quality.basis,
            sources=option.quality.sources,
        )

    def _intensity(self, option: _Option, grid: Grid | None) -> Estimate:
        return grid.intensity_g_per_kwh if grid is not None else self._home[option.provider.id]

    def _current(
        self, request: Request, demand: Demand, grid: Grid | None
    ) -> tuple[Ranked | None, _Option | None, str]:
        spelling, where = request.current_model, ""
        if spelling is None:
            spelling, where = request.detected.spelling, request.detected.where
            if spelling is None:
                return None, None, f"not known{f' ({where})' if where else ''}: pass current_model to see a saving"
        try:
            match = self.identity.resolve(spelling)
        except EcoRouteError as error:
            if not where:
                raise
            return None, None, f"{where} names {shown(spelling)!r}, but {error}"
        said = f"from {where}" if where else ""
        options = [option for option in self._options if option.model.id == match.model_id]
        if not options:
            reason = next(reason for reason, names in self._outside.items() if match.model_id in names)
            return None, None, "; ".join(filter(None, (f"{match.model_id}: no grams can be given ({reason})", said)))
        option, note = _at_effort(options, match)
        return self._ranked(option, demand, grid), option, "; ".join(filter(None, (said, note)))

    def _saving(self, current: _Option, greener: _Option, demand: Demand, grid: Grid | None) -> Saving:
        if current is greener:
            now = self._own_carbon_g(current, demand, grid)
            return Saving(low=0.0, mid=0.0, high=0.0, basis=now.basis, sources=now.sources)
        now, then = (self._own_carbon_g(option, demand, grid) for option in (current, greener))
        return Saving(
            low=now.low - then.high,
            mid=now.mid - then.mid,
            high=now.high - then.low,
            basis=weakest(now.basis, then.basis),
            sources=tuple(dict.fromkeys(now.sources + then.sources)),
        )

    def _own_carbon_g(self, option: _Option, demand: Demand, grid: Grid | None) -> Estimate:
        """Grams with only this model's own doubt: what every model shares is taken at its middle."""
        multiplier = option.multiplier
        if option.effort == "default":  # as shipped: the doubt about it is the same kind for every model
            multiplier = middle(multiplier)
        per_token = self._own.at_facility(self._own.footprint(option.model), option.provider, multiplier)
        inputs, outputs = middle(demand.input_tokens), middle(demand.output_tokens)
        intensity = self._intensity(option, grid)
        return sci_g(
            energy_kwh=_per_task(inputs, outputs, per_token.prefill_kwh, per_token.decode_kwh),
            intensity_g_per_kwh=middle(intensity) if grid is not None else intensity,
            embodied_g=_per_task(inputs, outputs, per_token.prefill_embodied_g, per_token.decode_embodied_g),
        )

    # -- words

    def _zone(self, region: str | None) -> tuple[Grid | None, Zone | None, list[str]]:
        if region is not None:
            grid, chosen_by, defaulted = self.zones.resolve(region), "region argument", []
        elif self._default_zone is not None:
            grid, chosen_by = self._default_zone, self.defaults.where
            defaulted = [f"region: {grid.zone}, from {self.defaults.where}"]
        else:
            return None, None, ["region: each model on the grid its provider serves from; pass region for one grid"]
        zone = Zone(
            zone=grid.zone,
            name=grid.name,
            valid_from=grid.valid_from.isoformat(),
            intensity_g_per_kwh=grid.intensity_g_per_kwh,
            chosen_by=chosen_by,
            note=grid.note,
        )
        return grid, zone, defaulted

    def _bar(self, demand: Demand) -> str:
        share = demand.requirement.probability
        return f"less than {share:.0%} sure to reach tier {demand.requirement.min_tier}"

    def _verdict(
        self,
        demand: Demand,
        recommended: Ranked | None,
        current: Ranked | None,
        saving: Saving | None,
        passed: Flags,
        allowed: Flags,
    ) -> str:
        if recommended is None:
            able = np.where(
                allowed & self._tested,
                (self._theta - self._edges[demand.requirement.min_tier]) / self._theta_se,
                -math.inf,
            )
            best = int(np.argmax(able))
            hint = (
                f"the likeliest is {self._options[best].model.id} ({NormalDist().cdf(float(able[best])):.0%} sure); "
                if np.isfinite(able[best])
                else ""
            )
            return f"No model passes every condition: {hint}lower min_tier, or relax what excluded the rest."
        if current is None or saving is None:
            return f"{_named(recommended)} is the greenest adequate model."
        if (current.model, current.effort) == (recommended.model, recommended.effort):
            return "Your model is already the greenest adequate one."
        if not current.adequate:
            doubt = (
                "is untested"
                if current.ability is None
                else f"is only {current.ability.p_adequate:.0%} sure to reach tier {demand.requirement.min_tier}"
            )
            return f"{_named(current)} {doubt}; {_named(recommended)} is the greenest adequate model."
        if saving.low <= 0:
            return f"{_named(recommended)} is probably greener, but the interval of the saving includes zero."
        return f"{_named(recommended)} does it for less carbon than {_named(current)}."


@overload
def _per_task(
    input_tokens: Estimate, output_tokens: Estimate, per_input: Estimate, per_output: Estimate
) -> Estimate: ...
@overload
def _per_task(input_tokens: float, output_tokens: float, per_input: Floats, per_output: Floats) -> Floats: ...
def _per_task(input_tokens: Any, output_tokens: Any, per_input: Any, per_output: Any) -> Any:
    """A pair of per-token figures over one task: Estimates, or columns of middles. The formula exists once."""
    return per_input * input_tokens + per_output * output_tokens


def _cost(option: _Option, inputs: Estimate, written: Estimate) -> Estimate | None:
    price_in, price_out = option.model.price_in_usd_per_mtok, option.model.price_out_usd_per_mtok
    if price_in is None or price_out is None:
        return None
    million = 1e-6
    cost = inputs.scaled(price_in * million) + written.scaled(price_out * million)
    return replace(cost, sources=tuple(dict.fromkeys(cost.sources + option.model.price_sources)))


def _at_effort(options: list[_Option], match: Match) -> tuple[_Option, str]:
    """The choice a spelling names; where it names no effort, the one the provider ships, else the middle one."""
    for option in options:
        if match.effort is not None and option.effort == match.effort:
            return option, ""
    for option in options:
        if option.effort == "default":
            said = f"effort {match.effort} was not benchmarked; " if match.effort is not None else ""
            return option, said and f"{said}taken as shipped"
    ordered = sorted(options, key=lambda option: option.multiplier.mid)
    option = ordered[len(ordered) // 2]
    levels = ", ".join(other.effort for other in ordered)
    said = "effort not said" if match.effort is None else f"effort {match.effort} was not benchmarked"
    return option, f"{said}: taken as {option.effort} (known: {levels})"


def _widest(estimates: Sequence[Estimate]) -> Estimate:
    """One interval over the zones a provider may serve from; its middle is the first zone's."""
    return Estimate(
        low=min(estimate.low for estimate in estimates),
        mid=estimates[0].mid,
        high=max(estimate.high for estimate in estimates),
        basis=weakest(*(estimate.basis for estimate in estimates)),
        sources=tuple(dict.fromkeys(source for estimate in estimates for source in estimate.sources)),
    )


def _column(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _named(ranked: Ranked) -> str:
    return ranked.model if ranked.effort == "default" else f"{ranked.model} ({ranked.effort})"


def _reason(error: UnknownEnergy) -> str:
    text = str(error)
    if "needs its parameters" in text:
        return "no energy figure: neither measured nor are its parameters published or estimated"
    return f"no energy figure: {text}"
