"""Closed models: joules per written token from what can only be ranges, and which of the ranges matters.

Nobody outside knows how large a closed model is or how it is served. Each unknown is a range with a source; a sample
draws one value of every range, and the energy law gives the joules of that deployment. The 5th, 50th and 95th
percentile of the samples are the prediction. It stays a speculation with stated odds: its ranges are judgements.

How a range is read, the same for all: low, mid and high are the 5th, 50th and 95th percentile (data/README.md means
intervals so), with a normal curve in the logarithm on either side of the middle; an end that equals the middle has no
doubt on its side. Exceptions: the device is one of ``HARDWARE``, equally likely; the format of the weights is the low,
middle or high of ``bytes_per_param`` (FP4, FP8, bf16) one, two and one time in four, since nothing lies between; total
and active parameters move together, active ones are never more than all, and tokens read and written move together. The
ranges are otherwise independent.

Utilisation is in the batch, and, for machines that idle, in ``server_factor``, which stands at the facility's boundary
and not in the joules of the accelerators. The router adds the spreads of the same ranges in quadrature around one
middle on one device (:class:`ecoroute_mcp.energy.Method`); its interval stands beside, with how far it holds this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmark.vendors import VendorFigure
from ecoroute_mcp.catalogue import ANY_DEVICE, Catalogue, Device, EnergyLaw, Model, Provider
from ecoroute_mcp.energy import Deployment, Method, UnknownEnergy, devices_needed, terms
from ecoroute_mcp.sci import JOULES_PER_KWH, EcoRouteError, Estimate

HARDWARE = ("H100 SXM", "H200 SXM", "B200 SXM")
"""Devices that hosted models are taken to run on: those the law was fitted on, and the one between them."""

SAMPLES = 2000
SEED = 20261121

Input = Literal[
    "size", "device", "precision", "batch", "context", "cache", "stack", "law", "prefill", "server", "pue", "grid",
    "power", "embodied",
]  # fmt: skip
DECODE: tuple[Input, ...] = ("size", "device", "precision", "batch", "context", "cache", "stack", "law")
"""What the joules of a written token depend on."""

ALL: tuple[Input, ...] = (*DECODE, "prefill", "server", "pue", "grid", "power", "embodied")
END = NormalDist().inv_cdf(0.95)
Draw = Mapping[Input, float]
"""A standard normal number for each input; 0 is the middle of its range, END its high end."""

MIDDLE: Draw = dict.fromkeys(ALL, 0.0)


@dataclass(frozen=True, kw_only=True)
class Span:
    """5th, 50th and 95th percentile."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How closed models are taken to be served: each range, and the law of each device."""

    devices: tuple[Device, ...]
    laws: tuple[EnergyLaw, ...]
    bytes_per_param: Estimate
    batch: Estimate
    input_tokens: Estimate
    output_tokens: Estimate
    cache_factor: Estimate
    stack_factor: Estimate
    prefill_share: Estimate
    weights_share_max: float

    def context_tokens(self, draw: Draw) -> float:
        """Tokens that a written one attends to in the mean: all that were read, and half of those written."""
        return drawn(self.input_tokens, draw["context"]) + drawn(self.output_tokens, draw["context"]) / 2

    def deployment(self, total_b: Estimate, active_b: Estimate, draw: Draw) -> tuple[Deployment, EnergyLaw]:
        place = _place(draw["device"], len(self.devices))
        device, total = self.devices[place], drawn(total_b, draw["size"])
        bytes_ = (self.bytes_per_param.low, self.bytes_per_param.mid, self.bytes_per_param.high)
        bytes_per_param = bytes_[(0, 1, 1, 2)[_place(draw["precision"], 4)]]
        found = Deployment(
            device=device,
            devices=devices_needed(
                total * bytes_per_param, memory_gb=device.memory_gb, weights_share_max=self.weights_share_max
            ),
            params_total_b=total,
            params_active_b=min(drawn(active_b, draw["size"]), total),
            bytes_per_param=bytes_per_param,
            batch=drawn(self.batch, draw["batch"]),
            context_tokens=self.context_tokens(draw),
            prompt_per_output=1.0,
        )
        return found, self.laws[place]

    def joules(self, total_b: Estimate, active_b: Estimate, draw: Draw) -> tuple[float, float]:
        """Accelerators' joules per token written, and per token read."""
        deployment, law = self.deployment(total_b, active_b, draw)
        each = terms(law, deployment)
        stack = drawn(self.stack_factor, draw["stack"])
        read_j = each.pop("prefill") * drawn(self.prefill_share, draw["prefill"])
        each["cache"] *= drawn(self.cache_factor, draw["cache"])
        written_j = math.fsum(each.values()) * drawn(law.residual_factor, draw["law"])
        return written_j * stack, read_j * stack


def serving(
    catalogue: Catalogue, *, only: str = "", tokens: tuple[float | None, float | None] = (None, None)
) -> Serving:
    """The ranges of the data. ``only``: the one device it is on; ``tokens``: read and written, where they are stated.

    Raises EcoRouteError where the data lacks a row.
    """
    parameters = {row.name: row.value for row in catalogue.parameters}
    devices = {row.id: row for row in catalogue.devices}
    laws = {row.device: row for row in catalogue.energy_laws}
    names = (only,) if only else HARDWARE
    chat = next((kind for kind in catalogue.task_kinds if kind.kind == "chat"), None)
    missing = [name for name in names if name not in devices] + [name for name in _USED if name not in parameters]
    if missing or chat is None or ANY_DEVICE not in laws:
        raise EcoRouteError(f"data/ lacks what the prediction of closed models needs: {', '.join(missing) or 'chat'}")
    read, written = (
        stated if value is None else Estimate.exact(value, basis="given", source="vendor")
        for value, stated in zip(tokens, (chat.input_tokens, chat.output_tokens), strict=True)
    )
    return Serving(
        devices=tuple(devices[name] for name in names),
        laws=tuple(laws.get(name, laws[ANY_DEVICE]) for name in names),
        bytes_per_param=parameters["bytes_per_param"],
        batch=parameters["batch"],
        input_tokens=read,
        output_tokens=written,
        cache_factor=parameters["cache_factor"],
        stack_factor=parameters["stack_factor"],
        prefill_share=parameters["prefill_share"],
        weights_share_max=parameters["weights_share_max"].mid,
    )


_USED = (
    "bytes_per_param", "batch", "cache_factor", "stack_factor", "prefill_share", "weights_share_max", "server_factor",
    "power_share_of_tdp",
)  # fmt: skip


def drawn(estimate: Estimate, normal: float) -> float:
    """The value of a range at a standard normal number: its low at -END, its middle at 0, its high at END."""
    if estimate.mid == 0 or normal == 0:
        return estimate.mid
    end = estimate.high if normal > 0 else estimate.low
    if end == 0:
        raise EcoRouteError("a range that reaches down to zero has no logarithm: give it a positive low end")
    return estimate.mid * math.exp(math.log(end / estimate.mid) * abs(normal) / END)


def _place(normal: float, choices: int) -> int:
    """Which of equally likely choices a standard normal number means."""
    return min(int(NormalDist().cdf(normal) * choices), choices - 1)


def draws(samples: int = SAMPLES, seed: int = SEED) -> list[Draw]:
    """Latin hypercube: every input in ``samples`` equally likely strips, one draw in each, shuffled on its own.

    All models share them, so that two are compared under the same circumstances. Raises EcoRouteError below 20.
    """
    if samples < 20:
        raise EcoRouteError(f"{samples} samples have no 5th percentile: take 20 at least, and {SAMPLES} for a figure")
    rng = np.random.default_rng(seed)
    curve = NormalDist()
    columns = {}
    for name in ALL:
        shares = (rng.permutation(samples) + rng.random(samples)) / samples
        columns[name] = [curve.inv_cdf(float(share)) for share in shares]
    return [{name: columns[name][number] for name in ALL} for number in range(samples)]


def span(values: Iterable[float]) -> Span:
    found: npt.NDArray[np.float64] = np.quantile(np.fromiter(values, dtype=np.float64), (0.05, 0.5, 0.95))
    return Span(low=float(found[0]), mid=float(found[1]), high=float(found[2]))


def sensitivity(of: Callable[[Draw], float], inputs: Sequence[Input]) -> dict[Input, float]:
    """Share of each input in the squared logarithmic swing, one at a time: from its low end to its high end with all
    others at the middle. Largest first; all zero where nothing moves it."""
    swings: dict[Input, float] = {}
    for name in inputs:
        ends = [math.log(of({**MIDDLE, name: normal})) for normal in (-END, 0.0, END)]
        swings[name] = (max(ends) - min(ends)) ** 2
    whole = math.fsum(swings.values())
    shares = {name: swing / whole if whole else 0.0 for name, swing in swings.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


class Frontier:
    """The predictions over one catalogue."""

    def __init__(self, catalogue: Catalogue, samples: int = SAMPLES) -> None:
        self._catalogue = catalogue
        self._models = {model.id: model for model in catalogue.models}
        self._providers = {provider.id: provider for provider in catalogue.providers}
        self._parameters = {row.name: row.value for row in catalogue.parameters}
        self._serving = serving(catalogue)
        hosted = next(law.device for law in catalogue.energy_laws if law.hosted)
        self._on_one_device = serving(catalogue, only=hosted)
        self._method = Method(catalogue)
        self._draws = draws(samples)

    @cached_property
    def document(self) -> dict[str, Any]:
        """What is assumed, every closed model with its prediction, and those without one with the reason."""
        closed = [
            model for model in self._models.values() if not model.open_weights and model.availability != "retired"
        ]
        found = [self._row(model) for model in closed if self._sized(model)]
        return {
            "unit": "joules of the accelerators per token written",
            "percentiles": [5, 50, 95],
            "samples": len(self._draws),
            "seed": SEED,
            "assumed": self._assumed(),
            "router": {
                "on all devices": _beside([row["router_over_ours"] for row in found]),
                "on its device": _beside([row["router_over_ours_on_its_device"] for row in found]),
            },
            "models": sorted(found, key=lambda row: (row["j_per_token"]["mid"], row["id"])),
            "unknown": [{"id": model.id, "reason": model.params_note} for model in closed if not self._sized(model)],
        }

    def checks(self, figures: Sequence[VendorFigure]) -> list[dict[str, Any]]:
        """Ours beside each vendor's figure, at the vendor's boundary.

        Raises EcoRouteError for a model, provider or zone that the data does not have.
        """
        return [row for figure in figures for row in self._check(figure)]

    def joules(self, total_b: Estimate, active_b: Estimate, *, as_the_router: bool = False) -> Span:
        """Accelerators' joules per token written; on any of the devices, or ``as_the_router`` on its one."""
        served = self._on_one_device if as_the_router else self._serving
        return span(served.joules(total_b, active_b, draw)[0] for draw in self._draws)

    @staticmethod
    def _sized(model: Model) -> bool:
        return model.params_total_b is not None and model.params_active_b is not None

    def _row(self, model: Model) -> dict[str, Any]:
        total_b, active_b = model.params_total_b, model.params_active_b
        assert total_b is not None
        assert active_b is not None
        ours = self._spans[total_b, active_b]
        alike = self._spans_on_one_device[total_b, active_b]
        router = self._router(model)
        shares = self._shares[total_b, active_b]
        provider = self._providers[model.provider]
        return {
            "id": model.id,
            "provider": model.provider,
            "params_total_b": _interval(total_b),
            "params_active_b": _interval(active_b),
            "j_per_token": asdict(ours),
            "facility_wh_per_1000_tokens": asdict(self._facility(total_b, active_b, provider)),
            "router_j_per_token": None if router is None else _interval(router),
            "router_over_ours": _over(router, ours),
            "router_over_ours_on_its_device": _over(router, alike),
            "dominates": next(iter(shares)),
            "shares_of_log_variance": shares,
        }

    @cached_property
    def _spans(self) -> dict[tuple[Estimate, Estimate], Span]:
        return _Filled(lambda sizes: self.joules(*sizes))

    @cached_property
    def _spans_on_one_device(self) -> dict[tuple[Estimate, Estimate], Span]:
        return _Filled(lambda sizes: self.joules(*sizes, as_the_router=True))

    @cached_property
    def _shares(self) -> dict[tuple[Estimate, Estimate], dict[Input, float]]:
        return _Filled(lambda sizes: self._swings(*sizes))

    def _swings(self, total_b: Estimate, active_b: Estimate) -> dict[Input, float]:
        return sensitivity(lambda draw: self._serving.joules(total_b, active_b, draw)[0], DECODE)

    def _facility(self, total_b: Estimate, active_b: Estimate, provider: Provider) -> Span:
        server = self._parameters["server_factor"]
        return span(
            self._serving.joules(total_b, active_b, draw)[0]
            * drawn(server, draw["server"])
            * drawn(provider.pue, draw["pue"])
            / JOULES_PER_KWH
            * 1e6
            for draw in self._draws
        )

    def _router(self, model: Model) -> Estimate | None:
        """What the router says of the same: its written token with the same context; None where it has no figure."""
        try:
            footprint = self._method.footprint(model)
        except UnknownEnergy:
            return None
        token = self._method.at_facility(footprint, self._providers[model.provider], _ONE)
        growth = token.growth(self._serving.input_tokens + self._serving.output_tokens.scaled(0.5))
        return footprint.decode_j if growth is None else footprint.decode_j * growth

    def _assumed(self) -> dict[str, Any]:
        ranges = ("bytes_per_param", "batch", "input_tokens", "output_tokens", "cache_factor", "stack_factor")
        served: dict[str, Any] = {name: _interval(getattr(self._serving, name)) for name in ranges}
        served["devices"] = [device.id for device in self._serving.devices]
        served["law_residual_factor"] = {
            device.id: _interval(law.residual_factor)
            for device, law in zip(self._serving.devices, self._serving.laws, strict=True)
        }
        served["server_factor"] = _interval(self._parameters["server_factor"])
        return served

    def _check(self, figure: VendorFigure) -> list[dict[str, Any]]:
        shared = {
            "figure": figure.id,
            "vendor": figure.vendor,
            "subject": figure.subject,
            "theirs": figure.value,
            "theirs_low": figure.low,
            "theirs_high": figure.high,
            "unit": figure.unit,
            "boundary": figure.boundary,
            "url": figure.url,
            "note": figure.note,
        }
        if figure.accounting == "market-based":
            reason = "market-based: no grid's intensity makes the boundaries equal"
            return [{**shared, "model": None, "ours": None, "ratio": None, "inside": None, "reason": reason}]
        rows = []
        for name, total_b, active_b in self._behind(figure):
            if total_b is None or active_b is None:
                reason = "its parameters are not known"
                rows.append({**shared, "model": name, "ours": None, "ratio": None, "inside": None, "reason": reason})
                continue
            ours = self._answer(figure, total_b, active_b)
            ratio = Span(low=ours.low / figure.value, mid=ours.mid / figure.value, high=ours.high / figure.value)
            inside = ours.low <= figure.value <= ours.high
            rows.append(
                {**shared, "model": name, "ours": asdict(ours), "ratio": asdict(ratio), "inside": inside, "reason": ""}
            )
        return rows

    def _behind(self, figure: VendorFigure) -> list[tuple[str, Estimate | None, Estimate | None]]:
        for name in figure.models:
            if name not in self._models:
                raise EcoRouteError(f"data/vendor_figures.csv: {figure.id} names {name!r}, which data/models.csv lacks")
        if figure.models:
            found = (self._models[name] for name in figure.models)
            return [(model.id, model.params_total_b, model.params_active_b) for model in found]
        total_b, active_b = (
            None if size is None else Estimate.exact(size, basis="published", source=figure.id)
            for size in (figure.params_total_b, figure.params_active_b)
        )
        return [(figure.subject.split(",")[0], total_b, active_b)]

    def _answer(self, figure: VendorFigure, total_b: Estimate, active_b: Estimate) -> Span:
        """One answer in the vendor's unit at the vendor's boundary; a boundary not stated is taken as the facility."""
        served = serving(self._catalogue, only=figure.device, tokens=(figure.input_tokens, figure.output_tokens))
        pue = self._provider(figure).pue
        grid = self._grid(figure) if figure.quantity == "carbon" else None

        def one(draw: Draw) -> float:
            written_j, read_j = served.joules(total_b, active_b, draw)
            joules = written_j * drawn(served.output_tokens, draw["context"])
            joules += read_j * drawn(served.input_tokens, draw["context"])
            if figure.boundary == "accelerator":
                return joules / JOULES_PER_KWH * 1000
            server = drawn(self._parameters["server_factor"], draw["server"])
            kwh = joules * server * drawn(pue, draw["pue"]) / JOULES_PER_KWH
            if grid is None:
                return kwh * 1000
            grams = kwh * drawn(grid, draw["grid"])
            if figure.boundary == "life_cycle":
                device = served.devices[_place(draw["device"], len(served.devices))]
                power_w = device.tdp_w * drawn(self._parameters["power_share_of_tdp"], draw["power"])
                grams += joules / power_w * drawn(self._method.embodied_g_per_device_s(device.id), draw["embodied"])
            return grams

        return span(one(draw) for draw in self._draws)

    def _provider(self, figure: VendorFigure) -> Provider:
        if figure.models:
            return self._providers[self._models[figure.models[0]].provider]
        if figure.provider not in self._providers:
            raise EcoRouteError(
                f"data/vendor_figures.csv: {figure.id} has provider {figure.provider!r}, an unknown one"
            )
        return self._providers[figure.provider]

    def _grid(self, figure: VendorFigure) -> Estimate:
        found = [row for row in self._catalogue.grids if row.zone == figure.zone and row.kind == "average"]
        if not found:
            raise EcoRouteError(
                f"data/vendor_figures.csv: {figure.id} needs a zone of data/grids.csv, got {figure.zone!r}"
            )
        return max(found, key=lambda row: row.valid_from).intensity_g_per_kwh


class _Filled(dict[Any, Any]):
    """A mapping that reckons what it lacks: many closed models share one guess of a size."""

    def __init__(self, reckon: Callable[[Any], Any]) -> None:
        super().__init__()
        self._reckon = reckon

    def __missing__(self, key: Any) -> Any:
        self[key] = self._reckon(key)
        return self[key]


_ONE = Estimate.exact(1.0, basis="given", source="one token")


def _over(router: Estimate | None, ours: Span) -> dict[str, float] | None:
    if router is None:
        return None
    return {"low": router.low / ours.low, "mid": router.mid / ours.mid, "high": router.high / ours.high}


def _beside(ratios: Sequence[Mapping[str, float] | None]) -> dict[str, float | int | None]:
    """Of how many models the router's interval holds ours, and its three figures over ours in the median."""
    found = [ratio for ratio in ratios if ratio is not None]
    return {
        "models": len(found),
        "holds": sum(ratio["low"] <= 1 <= ratio["high"] for ratio in found),
        **{end: float(np.median([ratio[end] for ratio in found])) if found else None for end in ("low", "mid", "high")},
        "highest_low": max((ratio["low"] for ratio in found), default=None),
        "lowest_high": min((ratio["high"] for ratio in found), default=None),
    }


def _interval(estimate: Estimate) -> dict[str, Any]:
    return {
        "low": estimate.low,
        "mid": estimate.mid,
        "high": estimate.high,
        "basis": estimate.basis,
        "sources": list(estimate.sources),
    }
