"""What a router is worth, in the definitions that published routers use and the one that is honest about baselines.

Between a weak and a strong model: PGR(c), the share of the quality gap recovered when a share c of tasks goes to the
strong one; APGR, its area over ten quantile thresholds; CPT(x), the share of strong calls at PGR = x.

Among many models: Saved@q = 1 - E / E_ref where quality is held at q times that of the best single model; Lift@q, what
a router saves beyond the best mix of models that does not look at the task at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecoroute_mcp.sci import EcoRouteError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

THRESHOLDS = 10
RESAMPLES = 1_000
PRICES = (0.0, *(float(price) for price in np.geomspace(1e-5, 1e3, 320)))
"""Successes that the mean energy of all models is worth: so wide because one model may take a hundred times another."""


@dataclass(frozen=True)
class PairCurve:
    """PGR over the share of strong calls, both ascending in the share, from 0 to 1."""

    strong_share: Floats
    pgr: Floats

    def apgr(self) -> float:
        """Area under PGR: 0.5 for a random router."""
        return float(np.trapezoid(self.pgr, self.strong_share) / (self.strong_share[-1] - self.strong_share[0]))

    def cpt(self, pgr: float) -> float:
        """Smallest share of strong calls, in percent, at which the interpolated PGR reaches ``pgr``."""
        above = int(np.argmax(self.pgr >= pgr))
        if self.pgr[above] < pgr:
            raise EcoRouteError(f"this router never reaches PGR {pgr}: choose a lower one")
        if above == 0:
            return float(100 * self.strong_share[0])
        low, high = self.pgr[above - 1], self.pgr[above]
        left, right = self.strong_share[above - 1], self.strong_share[above]
        return float(100 * (left + (right - left) * (pgr - low) / (high - low)))


def pair_curve(score: Floats, strong: Floats, weak: Floats, thresholds: int = THRESHOLDS) -> PairCurve:
    """The curve of a router that sends the tasks of highest ``score`` to the strong model; all shaped (tasks,)."""
    gap = float(strong.mean() - weak.mean())
    if gap <= 0:
        raise EcoRouteError("the strong model is not better than the weak one here: no gap to recover")
    cuts = np.quantile(score, np.linspace(0, 1, thresholds + 1))
    shares, recovered = [], []
    for number, cut in enumerate(cuts):
        chosen = score > cut if number == thresholds else score >= cut
        shares.append(float(chosen.mean()))
        recovered.append((float(np.where(chosen, strong, weak).mean()) - float(weak.mean())) / gap)
    order = np.argsort(shares, kind="stable")
    return PairCurve(np.array(shares)[order], np.array(recovered)[order])


@dataclass(frozen=True)
class Realised:
    """Means over tasks: quality (0 to 1) and energy (in units of the table), and the share that was under-served.

    Under-served: sent to a model that fails where the best single model succeeds."""

    quality: float
    energy: float
    under_served: float


def realised(share: Floats, quality: Floats, energy: Floats, best: int) -> Realised:
    """``share`` (tasks, models): with what probability each model gets each task; rows sum to 1."""
    failed = (quality[:, [best]] - quality).clip(0)
    return Realised(
        float((share * quality).sum(1).mean()),
        float((share * energy).sum(1).mean()),
        float((share * failed).sum(1).mean()),
    )


def static_mix(quality: Floats, energy: Floats, floor: float) -> Floats:
    """The cheapest mix (models,) of mean quality at least ``floor``: of one constraint two models are enough.

    Raises EcoRouteError if no model reaches the floor."""
    q, e = quality.mean(0), energy.mean(0)
    if q.max() < floor:
        raise EcoRouteError("no model reaches the quality asked for: lower it")
    cheapest, mix = np.inf, np.zeros(len(q))
    for able in np.flatnonzero(q >= floor):
        for other in range(len(q)):
            # As much of the other as the floor allows, where that saves anything.
            part = 1.0 if q[other] >= floor else float((q[able] - floor) / (q[able] - q[other]))
            cost = float((1 - part) * e[able] + part * e[other])
            if cost < cheapest - 1e-12:
                cheapest, mix = cost, np.zeros(len(q))
                mix[able] += 1 - part
                mix[other] += part
    return mix


def choices(expected: Floats, energy: Floats, price: float) -> Integers:
    """Per task the model of the highest expected quality less ``price`` times its mean energy; (tasks, models)."""
    worth: Floats = expected - price * energy.mean(0)
    return np.asarray(worth.argmax(axis=1), dtype=np.int64)


def one_hot(chosen: Integers, models: int) -> Floats:
    """Choices (tasks,) as shares (tasks, models)."""
    return np.eye(models)[chosen]


@dataclass(frozen=True)
class Blend:
    """Two prices of energy: a ``part`` of the tasks is chosen for at ``other``, the rest at ``price``."""

    price: float
    other: float
    part: float

    def shares(self, expected: Floats, energy: Floats) -> Floats:
        """With what probability each model gets each task (tasks, models)."""
        models = energy.shape[1]
        at_price = one_hot(choices(expected, energy, self.price), models)
        at_other = one_hot(choices(expected, energy, self.other), models)
        return (1 - self.part) * at_price + self.part * at_other


def cheapest_blend(expected: Floats, quality: Floats, energy: Floats, floor: float) -> Blend | None:
    """The blend whose choices cost least with realised quality at ``floor`` or above; None where no price reaches it.

    A static mix may blend two models to stand just on the floor, so a router may blend two prices."""
    unit = float(energy.mean())
    points: dict[tuple[float, float], float] = {}
    for price in PRICES:
        got = realised(one_hot(choices(expected, energy, price / unit), energy.shape[1]), quality, energy, 0)
        points.setdefault((got.quality, got.energy), price / unit)
    found: tuple[float, Blend] | None = None
    for (able, cost), price in points.items():
        if able < floor:
            continue
        for (other, saving), second in points.items():
            part = 1.0 if other >= floor else (able - floor) / (able - other)
            blended = (1 - part) * cost + part * saving
            if found is None or blended < found[0] - 1e-12:
                found = blended, Blend(price, second, part)
    return None if found is None else found[1]


def oracle(quality: Floats, energy: Floats, floor: float) -> Floats:
    """Shares (tasks, models) of a router that knows every outcome: the cheapest that holds quality at ``floor``."""
    blend = cheapest_blend(quality, quality, energy, floor)
    return (blend or Blend(0.0, 0.0, 0.0)).shares(quality, energy)


def bootstrap(
    statistic: Callable[[Integers], float], groups: NDArray[np.str_], *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """A 95 % interval of a statistic of row indices, groups (the underlying problems) drawn whole, with replacement."""
    _, number = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(number == group) for group in range(number.max() + 1)]
    draw = np.random.default_rng(seed)
    values = [
        statistic(np.concatenate([members[group] for group in draw.integers(0, len(members), len(members))]))
        for _ in range(resamples)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
