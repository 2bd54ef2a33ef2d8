"""Fronts of points whose costs are known with doubt: numbers only, of any number of axes, kept up to date by the point.

Less is better on every axis. A point *dominates* another that is nowhere below it and somewhere above: then whoever
weighs the axes, however they do, prefers the first. The *front* is what nothing dominates. It says who is best of what
was measured, and measurements have noise: another night could have put a neighbour there. So a point is *on the front
within noise* unless another **surely** dominates it: on every axis by at least 1.96 standard deviations of the two
figures' difference, which between equals happens once in forty times. An axis that is known exactly on both sides may
be equal. Who is on the front is also on it within noise; the second set only adds what cannot be told from the first.

*Ranks* peel the front off, then the front of what is left, and so on (non-dominated sorting; 0 is the front).
*Crowding* is NSGA-II's: how far a point's neighbours on its rank lie apart (K. Deb et al., 2002,
doi:10.1109/4235.996017). *Hypervolume* is how much of the space before a reference point is dominated: one number by
which fronts are compared.

A new point costs one pass over the points. Of the ranks only those of points that it dominates can change, by one, and
on each level only through what has come down from the one before (K. Li et al., 2017, doi:10.1109/TCYB.2016.2621008).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import le

import numpy as np
from numpy.typing import NDArray

from ecoroute_mcp.sci import EcoRouteError

Z = 1.96
"""Standard deviations by which a difference is sure."""
PAIRS_BY_HAND = 4
PAIRS_AT_ONCE = 16_384
"""Up to these many pairs are compared without arrays, which take longer to make, and all with all in one; more are
swept."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a point stands among others. ``rank`` is the number of points in the longest chain of dominance over it."""

    on_front: bool
    within_noise: bool
    rank: int


class Front:
    """Points, in the order in which they came. Arrays that it gives are copies, one entry a point."""

    def __init__(self, axes: int) -> None:
        """Raises EcoRouteError for fewer axes than one."""
        if axes < 1:
            raise EcoRouteError(f"a front needs an axis or more; got {axes}")
        self._axes = axes
        self._n = 0
        self._costs: Floats = np.empty((64, axes))
        self._sds: Floats = np.empty((64, axes))
        self._ranks: Counts = np.empty(64, dtype=np.int64)
        self._surely_dominated: Flags = np.empty(64, dtype=np.bool_)
        self._first: Counts = np.empty(64, dtype=np.int64)
        self._crowding: Floats | None = np.empty(0)
        self._hypervolumes: dict[tuple[float, ...], float] = {}

    def __len__(self) -> int:
        return self._n

    @property
    def costs(self) -> Floats:
        """Shape (points, axes)."""
        return self._costs[: self._n].copy()

    @property
    def on_front(self) -> Flags:
        """What no other point dominates; of identical points all or none."""
        front: Flags = self._ranks[: self._n] == 0
        return front

    @property
    def within_noise(self) -> Flags:
        """What no other point surely dominates: all that are on the front, and those that noise may keep off it."""
        return ~self._surely_dominated[: self._n]

    @property
    def ranks(self) -> Counts:
        """0 for the front, 1 for the front of the rest, and so on."""
        return self._ranks[: self._n].copy()

    @property
    def crowding(self) -> Floats:
        """NSGA-II's crowding distance within each rank: over the axes, the sum of the distance between a point's two
        neighbours as a share of the rank's range; infinite at either end. Large is lonely.

        Identical points count once and share their distance. Points alike on one axis are put in the order of the other
        axes, so that the distances do not depend on the order in which points came. An axis on which all of a rank
        are alike adds nothing and has no ends; the only point of a rank has infinity."""
        if self._crowding is None:
            self._crowding = self._all_crowding()
        return self._crowding.copy()

    def hypervolume(self, reference: Sequence[float]) -> float:
        """The volume of what is dominated and dominates ``reference``, in the product of the axes' units; points that
        are not below the reference on every axis add nothing. Raises EcoRouteError for a reference that is no point."""
        key = tuple(self._checked(reference, "reference").tolist())
        if key not in self._hypervolumes:
            # The library takes 50 ms to import: only for those who ask.
            import moocore

            front = self._costs[: self._n][self.on_front]
            self._hypervolumes[key] = float(moocore.hypervolume(front, ref=key)) if len(front) else 0.0
        return self._hypervolumes[key]

    def place(self, costs: Sequence[float], sds: Sequence[float]) -> Place:
        """Where a point would stand, which then is not one of these. Raises EcoRouteError as :meth:`add` does."""
        point, doubt = self._checked(costs, "costs"), self._checked_sds(sds)
        others = self._costs[: self._n]
        over = (others <= point).all(axis=1) & (others < point).any(axis=1)
        rank = int(self._ranks[: self._n][over].max(initial=-1)) + 1
        surely = bool(_surely(point - others, self._margins(doubt)).any())
        return Place(on_front=rank == 0, within_noise=not surely, rank=rank)

    def add(self, costs: Sequence[float], sds: Sequence[float]) -> int:
        """Take one more point: what it costs on each axis, and the standard deviations of that on the same scale, 0
        where it is known exactly. Returns its index.

        Raises EcoRouteError, and takes nothing, for a wrong number of axes, for a cost that is not a finite number or
        for a standard deviation that is negative or not finite."""
        point, doubt = self._checked(costs, "costs"), self._checked_sds(sds)
        index = self._n
        others, ranks = self._costs[:index], self._ranks[:index]
        above, below = (others <= point).all(axis=1), (others >= point).all(axis=1)
        same = above & below
        rank = int(ranks[above & ~same].max(initial=-1)) + 1
        self._push_down(np.flatnonzero(below & ~same), rank)
        margins = self._margins(doubt)
        self._surely_dominated[:index] |= _surely(others - point, margins)
        surely = bool(_surely(point - others, margins).any())
        self._make_room()
        self._costs[index], self._sds[index] = point, doubt
        self._ranks[index], self._surely_dominated[index] = rank, surely
        self._first[index] = self._first[int(same.argmax())] if same.any() else index
        self._n += 1
        self._crowding = None
        if rank == 0:
            self._hypervolumes.clear()
        return index

    def _push_down(self, dominated: Counts, rank: int) -> None:
        """Bring the ranks of ``dominated`` up to date with a new point of ``rank`` that dominates just those."""
        if not len(dominated):
            return
        dominated = dominated[np.argsort(self._ranks[dominated], kind="stable")]
        ranks, costs = self._ranks[dominated], self._costs[dominated]
        rows: list[list[float]] = costs.tolist()
        sizes = np.bincount(self._ranks[: self._n], minlength=rank + 1).tolist()
        bounds = np.searchsorted(ranks, np.arange(rank, ranks[-1] + 3)).tolist()
        moved, down = list(range(bounds[0], bounds[1])), []
        for level, (start, stop) in enumerate(itertools.pairwise(bounds[1:]), start=rank):
            if not moved:
                break
            down += moved
            if len(moved) == sizes[level]:
                # With a whole level all below it go down: each of those has one of that level over it.
                self._ranks[: self._n] += self._ranks[: self._n] > level
                break
            if len(moved) * (stop - start) <= PAIRS_BY_HAND:
                moved = [at for at in range(start, stop) if any(all(map(le, rows[up], rows[at])) for up in moved)]
            else:
                moved = (start + np.flatnonzero(_dominated_by(costs[start:stop], costs[moved]))).tolist()
        self._ranks[dominated[down]] = ranks[down] + 1

    def _all_crowding(self) -> Floats:
        places = self._first[: self._n]
        distinct = np.flatnonzero(places == np.arange(self._n))
        costs, ranks = self._costs[distinct], self._ranks[distinct]
        found = np.zeros(len(distinct))
        for axis in range(self._axes):
            order = np.lexsort((*costs.T[::-1], costs[:, axis], ranks))
            values, levels = costs[order, axis], ranks[order]
            starts = np.flatnonzero(np.diff(levels, prepend=-1))
            stops = np.append(starts[1:], len(order)) - 1
            extents = np.repeat(values[stops] - values[starts], stops - starts + 1)
            gaps = np.empty(len(order))
            gaps[1:-1] = values[2:] - values[:-2]
            gaps[starts] = gaps[stops] = math.inf
            wide = extents > 0
            found[order[wide]] += gaps[wide] / extents[wide]
        found[np.bincount(ranks)[ranks] == 1] = math.inf
        whole = np.empty(self._n)
        whole[distinct] = found
        return whole[places]

    def _margins(self, doubt: Floats) -> Floats:
        """What each point and one of this doubt must differ by to be told apart, by axis."""
        margins: Floats = Z * np.hypot(self._sds[: self._n], doubt)
        return margins

    def _make_room(self) -> None:
        if self._n < len(self._costs):
            return
        for name in ("_costs", "_sds", "_ranks", "_surely_dominated", "_first"):
            old = getattr(self, name)
            new = np.empty((2 * len(old), *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _checked(self, values: Sequence[float], name: str) -> Floats:
        given = np.asarray(values, dtype=np.float64)
        if given.shape != (self._axes,) or not np.isfinite(given).all():
            raise EcoRouteError(f"{name}: this front takes {self._axes} finite numbers; got {list(values)}")
        return given

    def _checked_sds(self, sds: Sequence[float]) -> Floats:
        doubt = self._checked(sds, "sds")
        if (doubt < 0).any():
            raise EcoRouteError(f"sds: a standard deviation is 0 or more; got {list(sds)}")
        return doubt


def _surely(excess: Floats, margins: Floats) -> Flags:
    """Which of some differences of costs are sure on every axis, and on one not nought."""
    sure: Flags = np.all(excess >= margins, axis=1) & np.any(excess > 0, axis=1)
    return sure


def _dominated_by(costs: Floats, others: Floats) -> Flags:
    """Which of ``costs`` one of ``others`` dominates; within either none dominates another, and no point is in both."""
    if len(costs) * len(others) <= PAIRS_AT_ONCE:
        one_by_one: Flags = np.any(np.all(others[:, None, :] <= costs[None, :, :], axis=2), axis=0)
        return one_by_one
    import moocore

    kept: Flags = moocore.is_nondominated(np.concatenate([costs, others]), keep_weakly=True)
    return ~kept[: len(costs)]
