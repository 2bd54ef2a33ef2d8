"""What we know, and how we know it: one immutable snapshot of sources, models, grids, devices and laws.

Each dataclass is one concept everywhere: a row of a file under ``data/``, a row of the database, a value in the domain.
Rows are validated by the same types at every border (unknown keys refused), and every row names its sources by the id
of a :class:`Source`; :meth:`Catalogue.checked` refuses a snapshot in which any reference dangles.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from ecoroute_mcp.sci import Basis, EcoRouteError, Estimate

Ability = Literal["vision", "tools"]
Precision = Literal["bf16", "fp16", "fp8", "fp4"]
Availability = Literal["current", "deprecated", "retired"]
Effort = Literal["default", "none", "minimal", "low", "medium", "thinking", "high", "xhigh", "max"]

THIS_MACHINE = "this-machine"
"""Id of the provider that stands for the user's own machine, and of the source that its measurements cite."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where facts come from: address, the day they were read, how strong they are, and on what terms."""

    id: str
    url: str
    retrieved_on: datetime.date
    basis: Basis
    licence: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model that can be bought or downloaded. Parameters in 1e9; prices in USD per 1e6 tokens.

    ``params_active_b`` counts the parameters used per generated token; ``params_active_prefill_b`` is set only where
    reading a token uses another number. None is an unknown; ``params_note`` then says why.
    """

    id: str
    provider: str
    family: str
    sources: tuple[str, ...]
    availability: Availability = "current"
    retires_on: datetime.date | None = None
    released_on: datetime.date | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    price_in_usd_per_mtok: float | None = None
    price_out_usd_per_mtok: float | None = None
    price_sources: tuple[str, ...] = ()
    price_note: str = ""
    open_weights: bool | None = None
    licence: str = ""
    weights_url: str = ""
    params_total_b: Estimate | None = None
    params_active_b: Estimate | None = None
    params_active_prefill_b: Estimate | None = None
    params_note: str = ""
    abilities: tuple[Ability, ...] = ()
    reasons: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Alias:
    """Another spelling of a model id, lower case, that no spelling rule reaches by itself.

    With ``refused``, what a spelling is that a rule would take for ``model`` and that is something else: never that.
    """

    alias: str
    model: str
    sources: tuple[str, ...]
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Who serves a model when the caller does not say: facility overhead (PUE) and the zones of its data centres."""

    id: str
    name: str
    pue: Estimate
    zones: tuple[str, ...]
    sources: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Carbon intensity of the electricity of one zone, gCO2e/kWh, life cycle where the source says so."""

    zone: str
    name: str
    region_type: Literal["world", "group", "country", "subdivision", "bidding_zone", "cloud_region", "technology"]
    valid_from: datetime.date
    intensity_g_per_kwh: Estimate
    kind: Literal["average", "marginal"] = "average"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ZoneAlias:
    """Another name of a grid zone: a cloud region, a preset, a country's common names. Lower case."""

    alias: str
    zone: str
    sources: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator. ``embodied_kg`` is cradle to gate for the device alone; the server's share comes on top.

    ``nvml_names`` are the names that NVIDIA's management library gives it."""

    id: str
    tdp_w: float
    memory_gb: float
    bandwidth_gb_per_s: float
    sources: tuple[str, ...]
    bf16_dense_tflops: float | None = None
    embodied_kg: Estimate | None = None
    server_share_kg: Estimate | None = None
    life_years: Estimate | None = None
    nvml_names: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One assumption of the method that is neither a model's nor a device's, in the unit its name ends with."""

    name: str
    value: Estimate
    note: str


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A kind of work: the tier it asks for, and the tokens it usually takes.

    ``many_calls``: the tokens are the total of many calls, so no single context window has to hold them.
    """

    kind: str
    min_tier: int
    why: str
    input_tokens: Estimate
    output_tokens: Estimate
    sources: tuple[str, ...]
    many_calls: bool = False


@dataclass(frozen=True, kw_only=True)
class EffortLevel:
    """How many times the tokens of an answer without reasoning a model writes at this reasoning effort."""

    effort: Effort
    output_multiplier: Estimate
    note: str


@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """How many times the tokens of others' answers a model writes in its own, and the effort it was seen at when none
    was asked for: its ``default``."""

    model: str
    default_effort: Effort
    answer: Estimate
    note: str


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A tier of the quality scale for people: where on the latent scale it begins. None: open below."""

    tier: int
    theta_from: float | None = None
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Latent ability of a model at one effort: ``theta`` on the scale's own units with its standard error.

    ``tier`` is 1-10 for people; decisions use ``theta`` and ``theta_se``.
    """

    model: str
    effort: Effort
    theta: float
    theta_se: float
    tier: int
    benchmarks: int
    basis: Basis
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MeasuredEnergy:
    """Decode energy of one deployment in steady state: joules per output token on the accelerators alone.

    ``batch`` is the mean number of sequences decoded at once, ``tokens_per_s`` the throughput of all of them together.
    A written token attends to ``context_tokens`` in the mean; the reading of ``prompt_per_output`` tokens for each
    token written is inside the joules.
    """

    model: str
    device: str
    devices: int
    precision: Precision
    batch: float
    context_tokens: float
    prompt_per_output: float
    decode_j_per_token: Estimate
    tokens_per_s: float
    workload: str
    stack: str


@dataclass(frozen=True, kw_only=True)
class LocalEnergy:
    """One configuration measured on the user's own machine, prefill and decode apart.

    Joules are gross and the device's alone, seconds the device's time per token, the batch's share taken of both;
    ``device_name`` is what the device calls itself, ``precision`` what the laboratory calls it, ``doubt`` why the row
    is to be used only for want of a better one.
    """

    model: str
    precision: str
    batch: int
    prompt_tokens: int
    generated_tokens: int
    prefill_j_per_token: Estimate
    decode_j_per_token: Estimate
    prefill_s_per_token: Estimate
    decode_s_per_token: Estimate
    device_name: str
    device_uuid: str = ""
    measured_on: datetime.date
    energy_source: str
    weights: str
    step: str
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What the energy law takes a model to look like inside, from its parameter counts alone (in 1e9).

    ``shared_share``: share of a mixture's active parameters that every token uses, experts apart. A token's KV cache
    takes ``cache_gb`` x active ** ``cache_power`` GB, in a recurrent hybrid ``recurrent_cache_share`` of that and
    ``state_gb`` of state read and written per step. A model has ``layers`` x total ** ``layers_power`` layers.
    """

    shared_share: float
    cache_gb: float
    cache_power: float
    recurrent_cache_share: float
    state_gb: float
    layers: float
    layers_power: float


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """How much of its full power, times how much more than the ideal time, a device spends on each term of the law.

    1 is TDP for the time that :func:`ecoroute_mcp.energy.features` gives; the terms are explained there.
    """

    step: float
    weights: float
    narrow: float
    cache: float
    state: float
    arithmetic: float
    prefill: float
    sequence: float
    collectives: float
    experts: float
    host: float


ANY_DEVICE = "any"
"""The law fitted on all measured devices together, for those that nobody measured."""


@dataclass(frozen=True, kw_only=True)
class EnergyLaw:
    """Joules per token of a deployment that nobody measured, from what is known of it, on one device or on any.

    A prediction's interval is ``residual_factor`` around it, ``n`` the measurements behind the coefficients.
    ``hosted`` marks the one law used for models whose hardware is unknown. Written by ``python -m benchmark fit``.
    """

    device: str
    coefficients: Coefficients
    structure: Structure
    residual_factor: Estimate
    n: int
    validation: str
    sources: tuple[str, ...]
    hosted: bool = False


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything the router knows, as it was read at one time. Build it with :meth:`checked`."""

    sources: tuple[Source, ...]
    models: tuple[Model, ...]
    aliases: tuple[Alias, ...]
    providers: tuple[Provider, ...]
    grids: tuple[Grid, ...]
    zone_aliases: tuple[ZoneAlias, ...]
    devices: tuple[Device, ...]
    parameters: tuple[Parameter, ...]
    task_kinds: tuple[TaskKind, ...]
    efforts: tuple[EffortLevel, ...]
    verbosity: tuple[Verbosity, ...]
    tiers: tuple[Tier, ...]
    quality: tuple[Quality, ...]
    measured_energy: tuple[MeasuredEnergy, ...]
    energy_laws: tuple[EnergyLaw, ...]
    local_energy: tuple[LocalEnergy, ...] = ()

    @classmethod
    def checked(cls, **tables: tuple[Any, ...]) -> Catalogue:
        """A snapshot whose every reference resolves. Raises EcoRouteError naming the first rows that do not."""
        catalogue = cls(**tables)
        problems = list(catalogue._problems())
        if problems:
            listed = "\n  ".join(problems[:10])
            raise EcoRouteError(f"the data does not hold together ({len(problems)} problems):\n  {listed}")
        return catalogue

    def _problems(self) -> Iterator[str]:
        for table, key in KEYS.items():
            seen: set[Any] = set()
            for row in getattr(self, table):
                value = tuple(getattr(row, name) for name in key)
                if value in seen:
                    yield f"{table}: {', '.join(map(str, value))} appears twice"
                seen.add(value)
        known = {source.id for source in self.sources}
        for table in KEYS:
            if table == "sources":
                continue
            for row in getattr(self, table):
                cited = sorted(cited_sources(row))
                if not cited:
                    yield f"{table}: {row!r:.80} names no source"
                for source in cited:
                    if source not in known:
                        yield f"{table}: {row!r:.80} names source {source!r}, which data/sources.csv does not have"
        references = (
            ("aliases", "model", "models", "id"),
            ("quality", "model", "models", "id"),
            ("measured_energy", "model", "models", "id"),
            ("measured_energy", "device", "energy_laws", "device"),
            ("local_energy", "model", "models", "id"),
            ("verbosity", "model", "models", "id"),
            ("verbosity", "default_effort", "efforts", "effort"),
            ("models", "provider", "providers", "id"),
            ("task_kinds", "min_tier", "tiers", "tier"),
            ("quality", "tier", "tiers", "tier"),
            ("quality", "effort", "efforts", "effort"),
            ("zone_aliases", "zone", "grids", "zone"),
        )
        for table, name, target, key_name in references:
            valid = {getattr(row, key_name) for row in getattr(self, target)}
            for row in getattr(self, table):
                if getattr(row, name) not in valid:
                    yield f"{table}: {name} {getattr(row, name)!r} is not in {target}"
        devices = {device.id for device in self.devices} | {ANY_DEVICE}
        for law in self.energy_laws:
            if law.device not in devices:
                yield f"energy_laws: device {law.device!r} is not in devices"
        if self.local_energy and THIS_MACHINE not in {provider.id for provider in self.providers}:
            yield f"local_energy: data/providers.csv lacks the row {THIS_MACHINE!r}, where its models are served"
        named: dict[str, str] = {}
        for device in self.devices:
            for name in device.nvml_names:
                if named.setdefault(name, device.id) != device.id:
                    yield f"devices: {name!r} names both {named[name]} and {device.id}"
        zones = {grid.zone for grid in self.grids}
        for provider in self.providers:
            for zone in provider.zones:
                if zone not in zones:
                    yield f"providers: {provider.id} is hosted in {zone!r}, which is not in grids"


KEYS: dict[str, tuple[str, ...]] = {
    "sources": ("id",),
    "models": ("id",),
    "aliases": ("alias",),
    "providers": ("id",),
    "grids": ("zone", "kind", "valid_from"),
    "zone_aliases": ("alias",),
    "devices": ("id",),
    "parameters": ("name",),
    "task_kinds": ("kind",),
    "efforts": ("effort",),
    "verbosity": ("model",),
    "tiers": ("tier",),
    "quality": ("model", "effort"),
    "measured_energy": ("model", "device", "devices", "precision", "batch", "workload", "stack"),
    "energy_laws": ("device",),
    "local_energy": ("model", "precision", "batch", "prompt_tokens", "device_name", "device_uuid"),
}
"""What tells the rows of each table apart."""


def cited_sources(value: Any) -> set[str]:
    """Every source id in a row or an answer, at any depth."""
    found: set[str] = set()
    _cite(value, found)
    return found


def _cite(value: Any, found: set[str]) -> None:
    if isinstance(value, tuple):
        for item in value:
            _cite(item, found)
        return
    for name, cites in _citing(type(value)):
        if cites:
            found.update(getattr(value, name))
        else:
            _cite(getattr(value, name), found)


_PLAIN = frozenset({"str", "int", "float", "bool", "date", "Basis", "Effort", "Precision"})
_FIELDS: dict[type, tuple[tuple[str, bool], ...]] = {}


def _citing(row_type: type) -> tuple[tuple[str, bool], ...]:
    """Fields of a dataclass that hold source ids, or may hold something that does; nothing for any other type."""
    found = _FIELDS.get(row_type)
    if found is None:
        named = fields(row_type) if is_dataclass(row_type) else ()
        cites = {field.name: field.name == "sources" or field.name.endswith("_sources") for field in named}
        plain = {field.name for field in named if str(field.type).removesuffix(" | None") in _PLAIN}
        found = tuple((name, holds) for name, holds in cites.items() if holds or name not in plain)
        _FIELDS[row_type] = found
    return found
