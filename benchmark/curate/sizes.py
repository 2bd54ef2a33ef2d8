"""Parameters of models that nobody publishes or estimates, from price and context window.

A price pays for the time of machines, and the machines for weights read and arithmetic done, so it tells of size; but
makers differ in margin, hardware and utilisation far more than the models of one of them do. So a line in logarithms is
fitted on the models whose parameters are published, and all that is said of its errors comes from makers it has not
seen: each maker is left out in turn, its models predicted from all the others', and an interval holds nine of ten such
errors. How often intervals made that way hold is counted with a second maker left out in turn (nested), never with the
models they were made from. A split by model would flatter: one maker's models are priced alike.

* price: (3 ln input + ln output) / 4 of USD per 1e6 tokens; neither zero nor one that catalogues disagree on counts;
* context: ln of the context window in tokens: long ones came with large, sparse models;
* total: ln of all parameters, where only the active ones are missing.

Models of one maker with the same two counts are one shape and weigh one together, however often they are sold anew.
Speed, release date, reasoning and vision are not used: no model without parameters has a speed, and the others predict
no unseen maker's sizes better. Price tells the middle better than the mean of all models does; the tails it hardly
narrows, since sparse models cost far more than their active parameters, and the intervals are as wide as that.

What no such check can see: the fit knows mostly open weights, and makers of closed ones may ask for more. EcoLogits'
estimates of closed models, made from prices too, are compared with the regressions and are no input of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Trait = Literal["price", "context", "total"]
Target = Literal["params_total_b", "params_active_b"]
Vector = npt.NDArray[np.float64]

COVERAGE = 0.9
"""Share of unseen makers' shapes that an interval is meant to hold."""
POINT_FACTOR = 3.0
"""The doubt that a total estimated without a range is given: source ``size-point-v1``."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a model, parameters in 1e9. None is an unknown.

    ``price`` and ``context`` are the logarithms that the regressions take; the total lies within ``total_factor`` of
    the figure nine times in ten.
    """

    id: str
    provider: str
    price: float | None
    context: float | None
    total_b: float | None
    active_b: float | None
    total_factor: float = 1.0

    @property
    def shape(self) -> tuple[str, float | None, float | None]:
        return self.provider, self.total_b, self.active_b

    @property
    def total(self) -> float | None:
        return None if self.total_b is None else math.log(self.total_b)

    def traits(self, names: Sequence[Trait]) -> tuple[float, ...] | None:
        """The traits in order; None where one of them is unknown."""
        values = [getattr(self, name) for name in names]
        return None if None in values else tuple(values)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Parameters in 1e9: low, middle, high (90 %); and which regression they are from."""

    low: float
    mid: float
    high: float
    regression: Regression


@dataclass(frozen=True, kw_only=True)
class Regression:
    """ln ``target`` = intercept + coefficients · traits, and its errors on makers it was not fitted on.

    ``factor``: an unseen maker's size lies within this factor of the prediction nine times in ten; ``median_factor`` is
    the middle error, ``coverage`` the share of shapes that intervals held in the nested check. ``baselines`` are those
    two factors, middle first, without traits (the others' mean) and with price alone, on the same rows.
    """

    target: Target
    names: tuple[Trait, ...]
    intercept: float
    coefficients: tuple[float, ...]
    n: int
    shapes: int
    providers: int
    median_factor: float
    factor: float
    bias: float
    coverage: float
    baselines: Mapping[str, tuple[float, float]]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]

    @property
    def source(self) -> str:
        """Id of its row among the sources."""
        return f"regression:{self.target}:{'+'.join(self.names)}"

    @property
    def formula(self) -> str:
        """As text, in logarithms."""
        terms = [f"{coefficient:+.3f} {name}" for name, coefficient in zip(self.names, self.coefficients, strict=True)]
        return f"ln {self.target} = {self.intercept:.3f} {' '.join(terms)}"

    @property
    def figures(self) -> str:
        """The validation as text."""
        baselines = "; ".join(f"{name} {middle:.2f}, {most:.1f}" for name, (middle, most) in self.baselines.items())
        return (
            f"{self.n} models, {self.shapes} shapes, {self.providers} makers. Each maker left out in turn: "
            f"median factor {self.median_factor:.2f}, 90 % within {self.factor:.1f} ({baselines}), true over predicted "
            f"{self.bias:.2f} (geometric mean), nested coverage of the intervals {self.coverage:.1%}"
        )

    def size(self, model: Known) -> Size | None:
        """Parameters of a model, in 1e9; None where a trait is unknown.

        The regression's error and that of the total it is applied to are independent, so their logarithms add as the
        sides of a right angle do."""
        traits = model.traits(self.names)
        if traits is None:
            return None
        mid = math.exp(self.intercept + math.fsum(c * x for c, x in zip(self.coefficients, traits, strict=True)))
        slope = dict(zip(self.names, self.coefficients, strict=True)).get("total", 0.0)
        factor = math.exp(math.hypot(math.log(self.factor), slope * math.log(model.total_factor)))
        return Size(low=mid / factor, mid=mid, high=mid * factor, regression=self)

    def beyond(self, model: Known) -> tuple[Trait, ...]:
        """The traits of a model that lie outside those of every model of the fit."""
        traits = model.traits(self.names) or ()
        spans = zip(self.names, traits, self.lowest, self.highest, strict=True)
        return tuple(name for name, value, low, high in spans if not low <= value <= high)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Another's estimates of closed models against a regression's, one a shape: ``ratio`` is theirs over ours."""

    target: Target
    models: int
    shapes: int
    ratio: float
    median_factor: float
    inside: float

    @property
    def figures(self) -> str:
        return (
            f"{self.shapes} shapes of {self.models} closed models, {self.target}: theirs over ours {self.ratio:.2f} "
            f"(geometric mean), median factor {self.median_factor:.2f}, {self.inside:.0%} within our interval"
        )


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """Models priced above ``usd_per_mtok`` predicted from those below it: ``bias`` is true over predicted."""

    target: Target
    usd_per_mtok: float
    shapes: int
    bias: float
    median_factor: float


class Study:
    """The regressions over one set of models, each fitted when it is first asked for."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        """``rows``: those of data/upstream/models.csv, corrected."""
        read = [(_known(row), row) for row in rows]
        self._published = [model for model, row in read if _is_published(row)]
        self._estimated = [model for model, row in read if "EcoLogits" in row["params_source"] and _is_estimate(row)]

    @cached_property
    def total(self) -> Regression:
        """All parameters, from price and context."""
        return fitted(self._published, "params_total_b", ("price", "context"))

    @cached_property
    def active(self) -> Regression:
        """Active parameters, from price and context."""
        return fitted(self._published, "params_active_b", ("price", "context"))

    @cached_property
    def active_of_total(self) -> Regression:
        """Active parameters, where the total and a price are known."""
        return fitted(self._published, "params_active_b", ("price", "total"))

    @property
    def regressions(self) -> tuple[Regression, ...]:
        return self.total, self.active, self.active_of_total

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """EcoLogits' estimates against ours, which have not seen them."""
        return tuple(_agreement(regression, self._estimated) for regression in (self.total, self.active))

    def extrapolations(self, usd_per_mtok: float) -> tuple[Extrapolation, ...]:
        """The dear models from the cheap ones: nobody publishes the size of the dearest."""
        cheap = [model for model in self._published if model.price is not None and math.exp(model.price) < usd_per_mtok]
        dear = [model for model in self._published if model.price is not None and math.exp(model.price) >= usd_per_mtok]
        return tuple(_extrapolation(regression, cheap, dear, usd_per_mtok) for regression in (self.total, self.active))

    def sizes(self, row: Mapping[str, str]) -> dict[Target, Size]:
        """What can be said of the counts that a row lacks: none, the active ones, or both.

        A model's active parameters are some of its total, so no end of the first lies above that of the second.
        """
        model = _known(row)
        if model.active_b is not None:
            return {}
        if model.total_b is not None:
            given = self.active_of_total.size(model)
            return {} if given is None else {"params_active_b": _capped(given, model.total_b, model.total_factor)}
        total, active = self.total.size(model), self.active.size(model)
        if total is None or active is None:
            return {}
        high = max(total.high, active.high)
        raised = Size(
            low=max(total.low, active.low), mid=max(total.mid, active.mid), high=high, regression=total.regression
        )
        return {"params_total_b": raised, "params_active_b": active}

    def doubts(self, row: Mapping[str, str]) -> tuple[Trait, ...]:
        """The traits for which the row's estimate reaches beyond every model of the fit."""
        sizes = self.sizes(row).values()
        return tuple(dict.fromkeys(name for size in sizes for name in size.regression.beyond(_known(row))))


def _line() -> Any:
    """scikit-learn's least squares. It takes a second to import: only for those who fit."""
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def fitted(models: Sequence[Known], target: Target, names: tuple[Trait, ...]) -> Regression:
    """The regression over the models that have the traits, with its validation.

    Raises ValueError where fewer than three makers have any: two are left out at once in the nested check.
    """
    x, y, weights, makers = _arrays(models, target, names)
    if len(set(makers)) < 3:
        raise ValueError(f"{target} from {', '.join(names)}: {len(set(makers))} makers publish it, three are needed")
    line = _line().fit(x, y, sample_weight=weights)
    errors = left_out(x, y, weights, makers)
    held = np.zeros(len(y))
    for maker in dict.fromkeys(makers):
        others = np.array([other != maker for other in makers])
        inner = left_out(x[others], y[others], weights[others], [other for other in makers if other != maker])
        held[~others] = np.abs(errors[~others]) <= conformal(inner, weights[others])
    price = x[:, [names.index("price")]] if "price" in names else None
    baselines = {"the mean": left_out(x[:, :0], y, weights, makers)}
    if price is not None:
        baselines["price alone"] = left_out(price, y, weights, makers)
    return Regression(
        target=target,
        names=names,
        intercept=float(line.intercept_),
        coefficients=tuple(float(value) for value in line.coef_),
        n=len(y),
        shapes=round(float(weights.sum())),
        providers=len(set(makers)),
        median_factor=_median_factor(errors, weights),
        factor=math.exp(conformal(errors, weights)),
        bias=math.exp(float(np.average(errors, weights=weights))),
        coverage=float(np.average(held, weights=weights)),
        baselines={
            name: (_median_factor(found, weights), math.exp(conformal(found, weights)))
            for name, found in baselines.items()
        },
        lowest=tuple(float(value) for value in x.min(axis=0)),
        highest=tuple(float(value) for value in x.max(axis=0)),
    )


def left_out(x: Vector, y: Vector, weights: Vector, makers: Sequence[str]) -> Vector:
    """ln of truth over prediction of every row, from the other makers' rows alone; without traits, from their mean."""
    columns = x if x.shape[1] else np.zeros((len(y), 1))
    errors = np.empty(len(y))
    for maker in dict.fromkeys(makers):
        own = np.array([other == maker for other in makers])
        line = _line().fit(columns[~own], y[~own], sample_weight=weights[~own])
        errors[own] = y[own] - line.predict(columns[own])
    return errors


def conformal(errors: Vector, weights: Vector, share: float = COVERAGE) -> float:
    """The least size of error that holds ``share`` of the weight and of one more row that may be worse than all.

    The largest error where the rows are too few to say.
    """
    size = np.abs(errors)
    order = np.argsort(size, kind="stable")
    held = np.cumsum(weights[order])
    place = int(np.searchsorted(held, share * (held[-1] + 1) - 1e-9))
    return float(size[order][min(place, len(size) - 1)])


def _median_factor(errors: Vector, weights: Vector) -> float:
    size = np.abs(errors)
    order = np.argsort(size, kind="stable")
    held = np.cumsum(weights[order])
    return math.exp(float(size[order][int(np.searchsorted(held, held[-1] / 2))]))


def _arrays(
    models: Sequence[Known], target: Target, names: tuple[Trait, ...]
) -> tuple[Vector, Vector, Vector, list[str]]:
    """Traits, ln target, weights (one a shape) and makers of the models that have all of them."""
    rows = []
    for model in models:
        traits, value = model.traits(names), model.total_b if target == "params_total_b" else model.active_b
        if traits is not None and value is not None:
            rows.append((traits, math.log(value), model))
    shapes = [model.shape for _, _, model in rows]
    return (
        np.array([traits for traits, _, _ in rows], dtype=np.float64).reshape(len(rows), len(names)),
        np.array([value for _, value, _ in rows], dtype=np.float64),
        np.array([1 / shapes.count(shape) for shape in shapes], dtype=np.float64),
        [model.provider for _, _, model in rows],
    )


def _agreement(regression: Regression, models: Sequence[Known]) -> Agreement:
    x, y, weights, makers = _arrays(models, regression.target, regression.names)
    errors = y - (regression.intercept + x @ np.array(regression.coefficients))
    return Agreement(
        target=regression.target,
        models=len(makers),
        shapes=round(float(weights.sum())),
        ratio=math.exp(float(np.average(errors, weights=weights))),
        median_factor=_median_factor(errors, weights),
        inside=float(np.average(np.abs(errors) <= math.log(regression.factor), weights=weights)),
    )


def _extrapolation(
    regression: Regression, cheap: Sequence[Known], dear: Sequence[Known], usd_per_mtok: float
) -> Extrapolation:
    x, y, weights, _ = _arrays(cheap, regression.target, regression.names)
    line = _line().fit(x, y, sample_weight=weights)
    x, y, weights, _ = _arrays(dear, regression.target, regression.names)
    errors = np.asarray(y - line.predict(x), dtype=np.float64)
    return Extrapolation(
        target=regression.target,
        usd_per_mtok=usd_per_mtok,
        shapes=round(float(weights.sum())),
        bias=math.exp(float(np.average(errors, weights=weights))),
        median_factor=_median_factor(errors, weights),
    )


def _capped(size: Size, total_b: float, total_factor: float) -> Size:
    totals = total_b / total_factor, total_b, total_b * total_factor
    low, mid, high = map(min, (size.low, size.mid, size.high), totals)
    return Size(low=low, mid=mid, high=high, regression=size.regression)


def _known(row: Mapping[str, str]) -> Known:
    paid = [float(row[f"price_{way}_usd_per_mtok"] or 0) for way in ("in", "out")]
    agreed = min(paid) > 0 and row["price_conflict"] != "True"
    return Known(
        id=row["id"],
        provider=row["provider"],
        price=(3 * math.log(paid[0]) + math.log(paid[1])) / 4 if agreed else None,
        context=math.log(float(row["context_window"])) if row["context_window"] else None,
        total_b=float(row["params_total_b"]) if row["params_total_b"] else None,
        active_b=float(row["params_active_b"]) if row["params_active_b"] else None,
        total_factor=POINT_FACTOR if a_point(row) else 1.0,
    )


def a_point(row: Mapping[str, str]) -> bool:
    """Whether a total is an estimate without a range, although nobody outside can know it so well.

    Such are some of EcoLogits', and what others relay of a maker's statement; a size in a vendor's own id is none.
    """
    alike = row["params_total_min_b"] == row["params_total_max_b"]
    return _is_estimate(row) and bool(row["params_total_b"]) and alike


def _is_published(row: Mapping[str, str]) -> bool:
    return row["params_kind"] == "published" and "dense assumed" not in row["params_source"]


def _is_estimate(row: Mapping[str, str]) -> bool:
    return row["params_kind"] == "estimate"
