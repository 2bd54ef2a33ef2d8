"""Adequate first, then least carbon: which model, at which reasoning effort, and who was left out and why.

A choice is a model at one reasoning effort. It is adequate when its latent ability lies above the lower edge of the
required tier with at least the required probability: the lower confidence bound decides, not the rounded tier. Where a
probability of success is asked for in place of a tier, the edge is the ability at which such tasks succeed so often.
Among the adequate the one with the fewest grams for this task comes first, at the middle of its interval; of those as
green as that one (``level_factor``) the abler.

Two grams-figures share most of their doubt (the grid, the tokens, how models are served), so a saving is not the
difference of two full intervals: what both share is taken at its middle, and only what is each model's own (parameters,
precision, the law's residual, its tokens at its effort) spreads the difference. It may be zero or negative. A model
measured on the user's own machine shares no serving with a hosted one: then each keeps the whole doubt of its own.
"""

from __future__ import annotations

import copy
import datetime
import difflib
import math
from dataclasses import dataclass, field, fields, replace
from statistics import NormalDist
from typing import Literal

from ecoroute_mcp import cascade
from ecoroute_mcp.cascade import Cascade, Chance
from ecoroute_mcp.catalogue import (
    THIS_MACHINE,
    Catalogue,
    Effort,
    Grid,
    Model,
    Provider,
    Source,
    cited_sources,
)
from ecoroute_mcp.choices import TOKENS_PER_MTOK, Choice, Choices, Excluded, answer_tokens
from ecoroute_mcp.energy import Method, TokenCarbon, middle
from ecoroute_mcp.identity import Identity, Match
from ecoroute_mcp.sci import JOULES_PER_KWH, Basis, EcoRouteError, Estimate, sci_g, shown, weakest
from ecoroute_mcp.task import GENERAL_KIND, Demand, Tasks
from ecoroute_mcp.zones import Zones

SORT_BY = ("carbon", "cost", "quality", "energy")
RUNNERS_UP = 3
LEVEL_LOOKED_AT = 20
"""Of how many of the greenest models the abler of equally green ones is sought among."""
MAX_LIMIT = 500


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
    min_success: float | None = None
    max_cost_usd: float | None = None
    open_weights_only: bool = False
    detected: Detected = Detected()


@dataclass(frozen=True, kw_only=True)
class RankingsRequest:
    """A league table for one kind of task."""

    task_type: str | None = None
    region: str | None = None
    candidates: tuple[str, ...] | None = None
    limit: int = 10
    sort_by: str = "carbon"
    provider: str | None = None
    min_tier: int | None = None
    min_success: float | None = None
    open_weights_only: bool = False
    context_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds when a request does not say: a region and the models this person can really use, and who set each."""

    region: str | None = None
    region_where: str = ""
    candidates: tuple[str, ...] | None = None
    candidates_where: str = ""


@dataclass(frozen=True, kw_only=True)
class Ability:
    """Where a model stands on the quality scale, and the probability that it clears the bar.

    ``p_success``: where a probability of success is asked for, that of a model of exactly this ability."""

    tier: int
    theta: float
    theta_se: float
    p_adequate: float
    p_success: Chance | None
    benchmarks: int
    basis: Basis
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Zone:
    """The grid a figure used: its zone, or the zones a provider is taken to serve from, and who chose it."""

    zone: str
    name: str
    valid_from: str
    intensity_g_per_kwh: Estimate
    chosen_by: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Cited:
    """What an answer says of a source; ``ecoroute://sources/{id}`` has its licence and note as well."""

    url: str
    retrieved_on: datetime.date
    basis: Basis


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One model at one effort on this task. Grams, joules and dollars are per task at the facility's meter.

    ``carbon_g_per_token`` counts the tokens read and written at their middle; its interval is that of serving alone.
    ``verbosity``: tokens of this model's answer over those of others' answers; None where the caller said how many.
    """

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
    verbosity: Estimate | None
    cost_usd: Estimate | None
    ability: Ability | None
    zone: Zone
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
    cascade: Cascade | None = None
    sources: dict[str, Cited] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """Models in order for one kind of task, each at its greenest adequate effort (else its greenest).

    The adequate come first, then the others, each group in the order asked for; by quality there are no groups.
    """

    demand: Demand
    zone: Zone | None
    sort_by: str
    rows: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    defaulted: tuple[str, ...]
    sources: dict[str, Cited] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The model in use among the ``adequate`` ones for a usual task of one kind: ``greener`` of them emit less."""

    kind: str
    current: Ranked | None
    current_note: str
    greenest: Ranked | None
    greener: int
    adequate: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the router holds. ``rows`` counts table rows; the dates are when the sources were read."""

    status: Literal["ok", "degraded"]
    problems: tuple[str, ...]
    version: str
    database: str
    notice: str
    rows: dict[str, int]
    rankable_models: int
    local_models: int
    tested_models: int
    sources_read_from: str
    sources_read_to: str
    region_default: str
    candidates_default: str
    current_model: str


class Router:
    """Answers requests against one catalogue. Building it takes tens of milliseconds; a request about one."""

    defaults = Defaults()

    def __init__(self, catalogue: Catalogue, today: datetime.date | None = None) -> None:
        """``today`` retires models whose announced date has come."""
        self.catalogue = catalogue
        self._today = today
        self.identity = Identity(catalogue.models, catalogue.aliases)
        self.zones = Zones(catalogue.grids, catalogue.zone_aliases)
        self.tasks = Tasks(catalogue.task_kinds, catalogue.parameters)
        self._sources = {source.id: source for source in catalogue.sources}
        self._method = Method(catalogue)
        self._own = Method(catalogue, shared=False)
        self._level_factor = next(row.value.mid for row in catalogue.parameters if row.name == "level_factor")
        self._edges = {row.tier: -math.inf if row.theta_from is None else row.theta_from for row in catalogue.tiers}
        self._home = {row.id: self._served_from(row) for row in catalogue.providers}
        intensities = {name: zone.intensity_g_per_kwh for name, zone in self._home.items()}
        self._choices = Choices(catalogue, self._method, intensities, today)
        self._default_zone: Grid | None = None
        self._default_candidates = self._candidates(None)

    def with_defaults(self, defaults: Defaults) -> Router:
        """The same router for requests that do not say. Raises EcoRouteError for a region or model we do not know."""
        other = copy.copy(self)
        other.defaults = defaults
        other._default_zone = self.zones.resolve(defaults.region) if defaults.region is not None else None
        other._default_candidates = self._candidates(defaults.candidates)
        return other

    # -- questions

    def recommend(self, request: Request) -> Recommendation:
        """The greenest adequate model for a task. Raises EcoRouteError for anything in the request to put right."""
        demand = self.tasks.demand(
            request.task,
            kind=request.task_type,
            context_tokens=request.context_tokens,
            output_tokens=request.output_tokens,
            min_tier=request.min_tier,
            min_success=request.min_success,
        )
        if request.max_cost_usd is not None and not 0 < request.max_cost_usd < math.inf:
            raise EcoRouteError("max_cost_usd must be a positive number of dollars for this one task")
        grid, zone, defaulted = self._asked_zone(request.region)
        defaulted = list(demand.assumed) + defaulted
        allowed, among = self._among(request.candidates, defaulted)
        choices = self._choices.at(demand.input_tokens.mid)
        carbon = choices.carbon_g(demand, grid)
        tests = self._conditions(demand, allowed, among, request.open_weights_only)
        if request.max_cost_usd is not None:
            most = request.max_cost_usd
            # Running here has no price: a limit on what is paid to others does not bind it.
            within = [cost <= most or here for cost, here in zip(choices.cost_usd(demand), choices.local, strict=True)]
            tests.append((f"expected cost above ${most:g}, or price not known", within))
        eligible, unfit = choices.sift(tests, carbon)
        passed, weak = choices.sift([(self._bar(demand), self._adequate(demand))], carbon, eligible)
        order, level = self._abler_of_level(choices, passed, carbon)
        ranked = [self._ranked(choices.all[index], demand, grid) for index in order]
        recommended = ranked[0] if ranked else None
        current, option, note = self._current(request, demand, grid, choices)
        saving = None
        if recommended is not None and option is not None:
            saving = self._saving(option, choices.all[order[0]], demand, grid)
        answer = Recommendation(
            demand=demand,
            zone=zone,
            recommended=recommended,
            verdict=(
                self._nothing_fits(demand, eligible, unfit)
                if recommended is None
                else _verdict(demand, recommended, current, saving) + level
            ),
            current=current,
            current_note=note,
            saving_g=saving,
            runners_up=tuple(ranked[1:]),
            excluded=unfit + weak + choices.left_outside(among),
            defaulted=tuple(defaulted),
            cascade=self._cascade(request.task, demand, grid, choices, eligible, order, ranked, carbon),
        )
        return replace(answer, sources=self.cited(answer))

    def _abler_of_level(self, choices: Choices, passed: list[int], carbon: list[float]) -> tuple[list[int], str]:
        """The best choices, greenest first but for the abler of those as green as the greenest, and what to say of it.

        As green: its grams are within ``level_factor`` of the least, which is less than any of their intervals spans.
        """
        order = choices.best_of_each_model(passed, carbon, LEVEL_LOOKED_AT)
        if not order:
            return order, ""
        least = order[0]
        level = [index for index in order if carbon[index] <= self._level_factor * carbon[least]]
        best = max(level, key=choices.bound.__getitem__)
        rest = [index for index in order if index != best]
        said = ""
        if best != least:
            more = carbon[best] / carbon[least] - 1
            said = (
                f" {choices.model_ids[least]} may emit less, but the difference of {more:.1%} lies far within the "
                f"intervals, so the abler model is named."
            )
        return [best, *rest][: RUNNERS_UP + 1], said

    def _cascade(
        self,
        text: str,
        demand: Demand,
        grid: Grid | None,
        choices: Choices,
        eligible: list[int],
        order: list[int],
        ranked: list[Ranked],
        carbon: list[float],
    ) -> Cascade | None:
        """A smaller model to try before the recommended one, where that is expected to take clearly less. ``ranked``
        are the choices of ``order`` in full."""
        if not order:
            return None
        bar, difficulty = demand.requirement.min_success, self.tasks.difficulty
        task = difficulty.predict(demand.kind, text, never_easier=True) if bar is None else bar.difficulty
        if task is None:
            return None
        found = cascade.find(difficulty, choices, eligible, order[0], carbon, task)
        if found is None:
            return None
        first = self._ranked(choices.all[found.index], demand, grid)
        retried = ranked[0].carbon_g.scaled(1 - found.p_first)
        return Cascade(
            first=first.model,
            effort=first.effort,
            carbon_g=first.carbon_g + retried,
            p_first=_chance(found.p_first),
            p_success=_chance(found.p_success),
            p_alone=_chance(found.p_alone),
            note=found.note,
        )

    def standing(self, detected: Detected) -> Standing:
        """Where the model that the editor has in use stands for a usual task of the general kind; never raises."""
        demand = self.tasks.demand(None, kind=GENERAL_KIND)
        grid, _, _ = self._asked_zone(None)
        choices = self._choices.at(demand.input_tokens.mid)
        carbon = choices.carbon_g(demand, grid)
        allowed, among = self._among(None, [])
        tests = [*self._conditions(demand, allowed, among, False), (self._bar(demand), self._adequate(demand))]
        passed, _ = choices.sift(tests, carbon)
        order = choices.best_of_each_model(passed, carbon)
        current, _, note = self._current(Request(task="", detected=detected), demand, grid, choices)
        greener = [] if current is None else [index for index in order if carbon[index] < current.carbon_g.mid]
        return Standing(
            kind=GENERAL_KIND,
            current=current,
            current_note=note,
            greenest=self._ranked(choices.all[order[0]], demand, grid) if order else None,
            greener=sum(1 for index in greener if current is None or choices.model_ids[index] != current.model),
            adequate=len(order),
        )

    def rankings(self, request: RankingsRequest) -> Rankings:
        """A league table. Raises EcoRouteError for anything in the request to put right."""
        if not 1 <= request.limit <= MAX_LIMIT:
            raise EcoRouteError(f"limit must lie between 1 and {MAX_LIMIT}")
        if request.sort_by not in SORT_BY:
            raise EcoRouteError(f"unknown sort_by {shown(request.sort_by)!r}: valid values are {', '.join(SORT_BY)}")
        kind = GENERAL_KIND if request.task_type is None else request.task_type
        demand = self.tasks.demand(
            None,
            kind=kind,
            context_tokens=request.context_tokens,
            output_tokens=request.output_tokens,
            min_tier=request.min_tier,
            min_success=request.min_success,
        )
        grid, zone, defaulted = self._asked_zone(request.region)
        defaulted = list(demand.assumed) + defaulted
        if request.task_type is None:
            defaulted.insert(0, f"task_type: {kind}")
        choices = self._choices.at(demand.input_tokens.mid)
        carbon, cost, adequate = choices.carbon_g(demand, grid), choices.cost_usd(demand), self._adequate(demand)
        allowed, among = self._among(request.candidates, defaulted)
        tests = self._conditions(demand, allowed, among, request.open_weights_only)
        if request.provider is not None:
            tests.insert(0, ("of another provider", self._of_provider(request.provider)))
        if request.min_tier is not None or request.min_success is not None:
            tests.append((self._bar(demand), adequate))
        if request.sort_by == "cost":
            tests.append(("its price is not known", [math.isfinite(dollars) for dollars in cost]))
        passed, excluded = choices.sift(tests, carbon)
        able = choices.best_of_each_model([index for index in passed if adequate[index]], carbon)
        taken = {choices.model_ids[index] for index in able}
        rest = choices.best_of_each_model([index for index in passed if choices.model_ids[index] not in taken], carbon)
        by = {
            "carbon": carbon,
            "cost": cost,
            "quality": [-theta for theta in choices.theta],
            "energy": choices.energy_kwh(demand),
        }[request.sort_by]
        groups = [able + rest] if request.sort_by == "quality" else [able, rest]
        chosen = [index for group in groups for index in sorted(group, key=by.__getitem__)]
        rows = tuple(self._ranked(choices.all[index], demand, grid) for index in chosen[: request.limit])
        answer = Rankings(
            demand=demand,
            zone=zone,
            sort_by=request.sort_by,
            rows=rows,
            excluded=excluded + choices.left_outside(among),
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

    def source(self, name: str) -> Source:
        """A source row by its id. Raises EcoRouteError with the closest ids."""
        if name not in self._sources:
            close = difflib.get_close_matches(name[:60], self._sources, n=3)
            raise EcoRouteError(f"no source {shown(name)!r}" + (f"; closest: {', '.join(close)}" if close else ""))
        return self._sources[name]

    def cited(self, answer: object) -> dict[str, Cited]:
        """Where every figure of an answer comes from, by source id."""
        rows = (self._sources[name] for name in sorted(cited_sources(answer)))
        return {row.id: Cited(url=row.url, retrieved_on=row.retrieved_on, basis=row.basis) for row in rows}

    def health(self, *, version: str, database: str, notice: str, detected: Detected, problem: str = "") -> Health:
        """What is loaded, and what is wrong with it; never raises. ``problem``: one the caller already knows."""
        rows = {table.name: len(getattr(self.catalogue, table.name)) for table in fields(self.catalogue)}
        read = [source.retrieved_on.isoformat() for source in self.catalogue.sources]
        problems = [problem] if problem else []
        problems += [
            f"no rows in {name}: run `ecoroute refresh`"
            for name, count in rows.items()
            if not count and name != "local_energy"
        ]
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
            notice=notice,
            rows=rows,
            rankable_models=len(set(self._choices.model_ids)),
            local_models=len(self._method.local_models),
            tested_models=len({choice.model.id for choice in self._choices.all if choice.quality is not None}),
            sources_read_from=min(read),
            sources_read_to=max(read),
            region_default=self._default_zone.zone if self._default_zone else "where each provider serves from",
            candidates_default=", ".join(self.defaults.candidates or ()) or "all models",
            current_model=current,
        )

    # -- conditions

    def _among(self, names: tuple[str, ...] | None, defaulted: list[str]) -> tuple[list[bool], set[str] | None]:
        """Candidates of a request, else the defaults, which are then said in ``defaulted``."""
        if names is not None:
            return self._candidates(names)
        if self.defaults.candidates is not None:
            defaulted.append(
                f"candidates: {', '.join(self.defaults.candidates)}, from {self.defaults.candidates_where}"
            )
        return self._default_candidates

    def _conditions(
        self, demand: Demand, allowed: list[bool], among: set[str] | None, open_weights_only: bool
    ) -> list[tuple[str, list[bool]]]:
        """What every question asks of a choice before its ability: (why it is left out, which choices pass)."""
        tests = [] if among is None else [("not among the candidates", allowed)]
        if open_weights_only:
            tests.append(("weights not known to be open", self._choices.open))
        if demand.one_window:
            tokens = demand.input_tokens.mid + demand.output_tokens.mid
            reason = f"context or output limit too small for these {tokens:,.0f} tokens and the reasoning"
            tests.append((reason, self._choices.holds(demand)))
        tests.append(("untested: no public benchmark places it on the quality scale", self._choices.tested))
        return tests

    def _adequate(self, demand: Demand) -> list[bool]:
        deviations = NormalDist().inv_cdf(demand.requirement.probability)
        return self._choices.adequate(self._edge(demand), deviations)

    def _edge(self, demand: Demand) -> float:
        """The θ from which on a model is able enough; infinite where none is."""
        bar = demand.requirement
        if bar.min_success is not None:
            return math.inf if bar.min_success.theta_from is None else bar.min_success.theta_from
        assert bar.min_tier is not None
        return self._edges[bar.min_tier]

    def _candidates(self, names: tuple[str, ...] | None) -> tuple[list[bool], set[str] | None]:
        """Which choices the names allow, and the ids they name; None and everything where none are given."""
        if names is None:
            return [True] * len(self._choices.all), None
        if not names:
            raise EcoRouteError("candidates is empty: name at least one model, or leave it out for all")
        matches = [self.identity.resolve(name) for name in names]
        whole = {match.model_id for match in matches if match.effort is None}
        exact = {(match.model_id, match.effort) for match in matches if match.effort is not None}
        outside = {name: reason for reason, left in self._choices.outside.items() for name in left}
        if all(match.model_id in outside for match in matches):
            reasons = "; ".join(f"{match.model_id}: {outside[match.model_id]}" for match in matches[:3])
            raise EcoRouteError(f"none of the candidates can be ranked ({reasons}): name others")
        for model_id, effort in exact:
            known = [choice.effort for choice in self._choices.all if choice.model.id == model_id]
            if known and effort not in known:
                raise EcoRouteError(
                    f"candidate {model_id} was not benchmarked at effort {effort}: leave the effort out, or name one "
                    f"of {', '.join(known)}"
                )
        allowed = self._choices.where(
            lambda choice: choice.model.id in whole or (choice.model.id, choice.effort) in exact
        )
        return allowed, {match.model_id for match in matches}

    def _of_provider(self, name: str) -> list[bool]:
        wanted = name.strip().lower()
        flags = self._choices.where(lambda choice: wanted in (choice.provider.id, choice.provider.name.lower()))
        if not any(flags):
            known = ", ".join(sorted({choice.provider.id for choice in self._choices.all}))
            raise EcoRouteError(f"unknown provider {shown(name)!r}: valid values are {known}")
        return flags

    # -- one choice in full

    def _ranked(self, option: Choice, demand: Demand, grid: Grid | None) -> Ranked:
        intensity = self._choices.intensity(option, grid)
        inputs, outputs = demand.input_tokens, answer_tokens(demand, option)
        token = option.per_token
        growth = token.growth(self._choices.context_tokens(demand, option))
        energy_kwh = _per_task(inputs, outputs, token.prefill_kwh, token.decode_kwh, growth)
        embodied = _per_task(inputs, outputs, token.prefill_embodied_g, token.decode_embodied_g, growth)
        written = outputs * option.multiplier
        typical = self._method.at_facility(option.footprint, option.provider, middle(option.multiplier))
        typical_growth = None if growth is None else middle(growth)
        at_middle = _carbon_g(typical, middle(inputs), middle(outputs), intensity, typical_growth)
        ability = self._ability(option, demand)
        return Ranked(
            model=option.model.id,
            provider=option.provider.id,
            effort=option.effort,
            adequate=ability is not None and ability.p_adequate >= demand.requirement.probability,
            carbon_g=sci_g(energy_kwh=energy_kwh, intensity_g_per_kwh=intensity, embodied_g=embodied),
            operational_g=energy_kwh * intensity,
            embodied_g=embodied,
            carbon_g_per_token=at_middle.scaled(1 / (inputs.mid + written.mid)),
            energy_j=energy_kwh.scaled(JOULES_PER_KWH),
            output_tokens=written,
            verbosity=None if outputs is demand.output_tokens else option.verbosity,
            cost_usd=None if option.footprint.machine else self._cost(option.model, inputs, written),
            ability=ability,
            zone=self._home[option.provider.id] if grid is None else _zone(grid, "the zone of this answer"),
            energy_basis=option.footprint.basis,
            energy_how=option.footprint.how,
            notes=self._notes(option) + self._extrapolated(option, demand),
        )

    def _cost(self, model: Model, inputs: Estimate, written: Estimate) -> Estimate | None:
        price_in, price_out = model.price_in_usd_per_mtok, model.price_out_usd_per_mtok
        if price_in is None or price_out is None or self._api_ended(model):
            return None
        cost = inputs.scaled(price_in / TOKENS_PER_MTOK) + written.scaled(price_out / TOKENS_PER_MTOK)
        basis = weakest(cost.basis, *(self._sources[name].basis for name in model.price_sources))
        return replace(cost, basis=basis, sources=tuple(dict.fromkeys(cost.sources + model.price_sources)))

    def _api_ended(self, model: Model) -> bool:
        return self._today is not None and model.retires_on is not None and model.retires_on <= self._today

    def _notes(self, option: Choice) -> tuple[str, ...]:
        notes, model = [], option.model
        if model.reasons is None and option.effort == "default":
            notes.append("not known whether it reasons before it answers: its tokens allow for both")
        if model.context_tokens is None:
            least = self._choices.least_context
            notes.append(
                "context window not known, nor that of any other model: whether the task fits is not checked"
                if least is None
                else f"context window not known: taken as the smallest known, {least:,}"
            )
        if option.footprint.machine:
            return (*notes, *_local_notes(option))
        if self._api_ended(model):
            notes.append(f"its provider ended the API on {model.retires_on}: host the open weights, or find a host")
        elif model.retires_on is not None:
            notes.append(f"its provider retires it on {model.retires_on}")
        elif model.availability == "deprecated":
            notes.append("deprecated by its provider")
        if model.price_note:
            notes.append(f"price: {model.price_note}")
        return tuple(notes)

    def _ability(self, option: Choice, demand: Demand) -> Ability | None:
        if option.quality is None:
            return None
        margin = (option.quality.theta - self._edge(demand)) / option.quality.theta_se
        bar = demand.requirement.min_success
        return Ability(
            tier=option.quality.tier,
            theta=option.quality.theta,
            theta_se=option.quality.theta_se,
            p_adequate=NormalDist().cdf(margin),
            p_success=(
                None if bar is None else _chance(self.tasks.difficulty.p_success(option.quality.theta, bar.difficulty))
            ),
            benchmarks=option.quality.benchmarks,
            basis=option.quality.basis,
            sources=option.quality.sources,
        )

    def _extrapolated(self, option: Choice, demand: Demand) -> tuple[str, ...]:
        """What to say of a chance that outcomes do not reach to, unless the bar says the same already."""
        bar = demand.requirement.min_success
        if bar is None or option.quality is None:
            return ()
        difficulty = self.tasks.difficulty
        than = difficulty.extrapolated(option.quality.theta)
        said = None if bar.theta_from is None else difficulty.extrapolated(bar.theta_from)
        return () if than in (None, said) else (f"its chance of success is extrapolated: it is {than}",)

    def _current(
        self, request: Request, demand: Demand, grid: Grid | None, choices: Choices
    ) -> tuple[Ranked | None, Choice | None, str]:
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
        options = [choice for choice in choices.all if choice.model.id == match.model_id]
        if not options:
            reason = next(reason for reason, names in choices.outside.items() if match.model_id in names)
            return None, None, "; ".join(filter(None, (f"{match.model_id}: no grams can be given ({reason})", said)))
        option, note = self._at_effort(options, match)
        if match.removed:
            said = "; ".join(filter(None, (said, f"read without {', '.join(match.removed)}")))
        return self._ranked(option, demand, grid), option, "; ".join(filter(None, (said, note)))

    def _at_effort(self, options: list[Choice], match: Match) -> tuple[Choice, str]:
        """The choice a spelling names; where it names no effort, the one the provider ships, else the middle one.

        An effort without a benchmark has its tokens, and so its grams, but no ability.
        """
        if match.effort is not None:
            for option in options:
                if option.effort == match.effort:
                    return option, ""
            return self._choices.unplaced(options[0], match.effort), f"effort {match.effort} was not benchmarked"
        for option in options:
            if option.effort == "default":
                return option, ""
        ordered = sorted(options, key=lambda option: option.multiplier.mid)
        option = ordered[len(ordered) // 2]
        levels = ", ".join(other.effort for other in ordered)
        return option, f"effort not said: taken as {option.effort} (known: {levels})"

    def _saving(self, current: Choice, greener: Choice, demand: Demand, grid: Grid | None) -> Saving:
        one_grid = grid is not None or current.provider is greener.provider
        served_alike = current.footprint.machine == greener.footprint.machine
        method = self._own if served_alike else self._method
        now, then = (self._own_carbon_g(option, demand, grid, one_grid, method) for option in (current, greener))
        if current is greener:
            return Saving(low=0.0, mid=0.0, high=0.0, basis=now.basis, sources=now.sources)
        return Saving(
            low=now.low - then.high,
            mid=now.mid - then.mid,
            high=now.high - then.low,
            basis=weakest(now.basis, then.basis),
            sources=tuple(dict.fromkeys(now.sources + then.sources)),
        )

    def _own_carbon_g(
        self, option: Choice, demand: Demand, grid: Grid | None, one_grid: bool, method: Method
    ) -> Estimate:
        """Grams with only this model's own doubt: the task's tokens at their middles, serving as ``method`` has it, and
        the grid too at its middle where both models use the same one. How much it writes, its size and its provider's
        PUE are its own."""
        footprint = method.footprint(option.model, demand.input_tokens.mid)
        per_token = method.at_facility(footprint, option.provider, option.multiplier)
        intensity = self._choices.intensity(option, grid)
        typical = replace(demand, input_tokens=middle(demand.input_tokens), output_tokens=middle(demand.output_tokens))
        return _carbon_g(
            per_token,
            typical.input_tokens,
            answer_tokens(typical, option),
            middle(intensity) if one_grid else intensity,
            per_token.growth(self._choices.context_tokens(typical, option)),
        )

    # -- words

    def _asked_zone(self, region: str | None) -> tuple[Grid | None, Zone | None, list[str]]:
        if region is not None:
            asked = self.zones.resolve(region)
            return asked, _zone(asked, "region argument"), []
        grid, where = self._default_zone, self.defaults.region_where
        if grid is not None:
            return grid, _zone(grid, where), [f"region: {grid.zone}, from {where}"]
        here = "; for this machine the world's mean" if any(self._choices.local) else ""
        return None, None, [f"region: the grid each provider is taken to serve from{here}; pass region for one grid"]

    def _served_from(self, provider: Provider) -> Zone:
        """One interval over the zones a provider may serve from; its middle is the first zone's.

        Where the user's own machine stands is not known unless they say: its interval spans all countries."""
        grids = [self.zones.resolve(zone) for zone in provider.zones]
        spanned = [grid.intensity_g_per_kwh for grid in grids]
        chosen_by = f"taken as where {provider.name} serves from, the first in the middle"
        if provider.id == THIS_MACHINE:
            chosen_by = "where this machine stands was not said, so all countries' range: pass region"
            countries = [row.intensity_g_per_kwh for row in self.catalogue.grids if row.region_type == "country"]
            spanned.append(min(countries, key=lambda each: each.low))
            spanned.append(max(countries, key=lambda each: each.high))
        cited = tuple(dict.fromkeys([source for each in spanned for source in each.sources] + list(provider.sources)))
        return Zone(
            zone=" or ".join(grid.zone for grid in grids),
            name=" or ".join(grid.name for grid in grids),
            valid_from=min(grid.valid_from for grid in grids).isoformat(),
            intensity_g_per_kwh=Estimate(
                low=min(each.low for each in spanned),
                mid=spanned[0].mid,
                high=max(each.high for each in spanned),
                basis=weakest(*(self._sources[name].basis for name in cited)),
                sources=cited,
            ),
            chosen_by=chosen_by,
            note="; ".join(dict.fromkeys(grid.note for grid in grids if grid.note)),
        )

    def _bar(self, demand: Demand) -> str:
        share = demand.requirement.probability
        return f"less than {share:.0%} sure to {demand.requirement.reach}"

    def _nothing_fits(self, demand: Demand, eligible: list[int], unfit: tuple[Excluded, ...]) -> str:
        if not eligible:
            why = f" {unfit[-1].count} fell to the last one: {unfit[-1].reason}." if unfit else ""
            return f"No model passes the conditions.{why} Relax one of them."
        bar = demand.requirement
        if bar.min_success is not None:
            ablest, theta = self._choices.ablest(eligible, NormalDist().inv_cdf(bar.probability))
            least = self.tasks.difficulty.p_success(theta, bar.min_success.difficulty)
            return (
                f"No model is sure enough to {bar.reach}. The best chance that passes the other conditions is that of "
                f"{_spelt(ablest.model.id, ablest.effort)}, at least {math.floor(1000 * least) / 10:.1f} % with "
                f"{bar.probability:.0%} certainty: lower min_success, or allow more models."
            )
        best, deviations = self._choices.likeliest(eligible, self._edge(demand))
        share = NormalDist().cdf(deviations)
        return (
            f"No model is sure enough to {bar.reach}. The likeliest that passes the other "
            f"conditions is {best.model.id}, {share:.1%} sure: lower min_tier, or allow more models."
        )


def _verdict(demand: Demand, best: Ranked, current: Ranked | None, saving: Saving | None) -> str:
    if current is None or saving is None:
        return f"{_named(best)} is the greenest adequate model."
    if (current.model, current.effort) == (best.model, best.effort):
        return "Your model is already the greenest adequate one."
    if not current.adequate:
        doubt = (
            "has no benchmark that places it"
            if current.ability is None
            else f"is {current.ability.p_adequate:.1%} sure to {demand.requirement.reach}"
        )
        return f"{_named(current)} {doubt}; {_named(best)} is the greenest adequate model."
    if saving.low <= 0:
        return f"{_named(best)} is probably greener than {_named(current)}, but the saving's interval includes zero."
    return f"{_named(best)} does it for less carbon than {_named(current)}."


def _chance(value: float) -> Chance:
    return Chance(value=value, basis="estimated", sources=cascade.SOURCES)


def _zone(grid: Grid, chosen_by: str) -> Zone:
    return Zone(
        zone=grid.zone,
        name=grid.name,
        valid_from=grid.valid_from.isoformat(),
        intensity_g_per_kwh=grid.intensity_g_per_kwh,
        chosen_by=chosen_by,
        note=grid.note,
    )


def _carbon_g(
    per_token: TokenCarbon, inputs: Estimate, outputs: Estimate, intensity: Estimate, growth: Estimate | None
) -> Estimate:
    return sci_g(
        energy_kwh=_per_task(inputs, outputs, per_token.prefill_kwh, per_token.decode_kwh, growth),
        intensity_g_per_kwh=intensity,
        embodied_g=_per_task(inputs, outputs, per_token.prefill_embodied_g, per_token.decode_embodied_g, growth),
    )


def _per_task(
    inputs: Estimate, outputs: Estimate, per_input: Estimate, per_output: Estimate, growth: Estimate | None
) -> Estimate:
    written = per_output if growth is None else per_output * growth
    return per_input * inputs + written * outputs


def _local_notes(option: Choice) -> tuple[str, ...]:
    notes = ["run on this machine: no price per token, and its electricity is not priced"]
    if option.footprint.runs_as:
        notes.append(f"its quality is that of the published weights; here it runs as {option.footprint.runs_as}")
    return tuple(notes)


def _named(ranked: Ranked) -> str:
    return _spelt(ranked.model, ranked.effort)


def _spelt(model: str, effort: Effort) -> str:
    return model if effort == "default" else f"{model} ({effort})"
