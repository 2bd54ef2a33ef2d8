"""The Pareto front of what was measured: for each kind of device, what is best over grams, quality and speed.

Rows become points (:mod:`benchmark.objectives`), points of one ground a front (:mod:`benchmark.pareto`). A ground is
one name of device and one scale of quality: a published benchmark's score where weights are random, bits per byte of
one text where they are real. Nothing is compared across grounds. Where no row of a device has energy, its front is of
quality and speed alone.

A configuration counts once: its figures are the mean of its occasions, of those without a failed gate if there are any.
One that only throttled counts like any other, since some machines always throttle. One of which every row failed
another gate is not to be trusted: it is shown where it would stand and marked, but *does not judge*: it keeps no other
off the front and adds nothing to the hypervolume.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from benchmark import trial
from benchmark.local import THROTTLED
from benchmark.objectives import (
    Axis,
    Ground,
    Noise,
    Objectives,
    Point,
    QualityKind,
    Score,
    Taken,
    over_occasions,
)
from benchmark.pareto import Front
from benchmark.trial import Measured, Rows, Trial
from ecoroute_mcp.catalogue import Catalogue, Grid
from ecoroute_mcp.sci import EcoRouteError, Estimate, shown
from ecoroute_mcp.zones import Zones

Quality = Literal["auto", "published", "bits-per-byte"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
ZONE = "WOR"
"""The world's mean: where a zone is not named."""
KINDS: tuple[QualityKind, ...] = get_args(QualityKind)
OUTDONE = "failed a gate, which another occasion of the configuration did not"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A configuration among those of its ground. ``rows`` are the occasions that its figures are the mean of;
    ``energy_j`` is per generated token. ``crowding`` is None where it does not judge, and infinite at an end."""

    point: Point
    rows: tuple[Measured, ...] = field(repr=False)
    energy_j: Estimate | None
    judges: bool
    on_front: bool
    within_noise: bool
    rank: int
    crowding: float | None

    @property
    def gates_failed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(gate for row in self.rows for gate in row.gates_failed))

    @property
    def stands(self) -> str:
        """In words: front, within noise, or its rank."""
        where = "front" if self.on_front else "within noise" if self.within_noise else f"rank {self.rank}"
        return where if self.judges else f"{where}?"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row without a place on any front, and why. ``device`` is None for a rejected trial, which does not say."""

    row: Trial = field(repr=False)
    device: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class DeviceFront:
    """The front of one ground: members first, then those on it within noise, then the others by rank; each by grams.

    ``reference`` is the worst figure on each axis among those that judge, and ``hypervolume`` what lies between it and
    the front, in the product of the units of ``costs``: logarithms of grams and of tokens per second, and the quality's
    own. ``box`` is what one configuration with the best of every axis would have: no front exceeds it. All three are
    None where nothing judges."""

    ground: Ground
    quality: QualityKind
    axes: tuple[Axis, ...]
    noise: Noise
    standings: tuple[Standing, ...]
    reference: tuple[float, ...] | None
    hypervolume: float | None
    box: float | None


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """Everything that some rows say, at one zone."""

    zone: Grid
    fronts: tuple[DeviceFront, ...]
    left_out: tuple[LeftOut, ...]


def fronts(
    trials: Iterable[Trial],
    catalogue: Catalogue,
    *,
    scores: Mapping[str, Score],
    usual: Sequence[Measured],
    sources: Mapping[Taken, str] | None = None,
    zone: str = ZONE,
    quality: Quality = "auto",
    device: str | None = None,
    lengths: tuple[int, int] | None = None,
) -> Fronts:
    """The fronts of some rows: those of the devices whose name contains ``device``, and of these ``lengths`` of prompt
    and generated tokens, if that is given.

    ``quality``: ``auto`` takes bits per byte of a row that has them, else the published score. ``usual`` are rows to
    read noise from for a device without enough repeated occasions of its own. ``sources`` are those of rows that
    are not this machine's own. The same row from two files counts once.

    Raises EcoRouteError for an unknown zone or device, for lengths of no row, where nothing was measured, and where
    nothing was on two occasions, since noise is unknown then."""
    by_device: defaultdict[str, list[Measured]] = defaultdict(list)
    left_out = []
    for row in trial.distinct(trials):
        if isinstance(row, Measured):
            by_device[row.machine.name].append(row)
        else:
            left_out.append(LeftOut(row=row, device=None, reason=f"rejected: {row.reason}"))
    if not by_device:
        raise EcoRouteError("no row was measured: name files that hold some, or measure with `python -m benchmark run`")
    chosen = [name for name in sorted(by_device) if device is None or device.casefold() in name.casefold()]
    if not chosen:
        raise EcoRouteError(f"no row is of a device named {device!r}: there are {', '.join(sorted(by_device))}")
    grid = Zones(catalogue.grids, catalogue.zone_aliases).resolve(zone)
    found: list[DeviceFront] = []
    for name in chosen:
        rows = sorted(by_device[name], key=lambda row: (row.started_at, row.config.occasion))
        noise = Noise.known(rows, usual)
        rows = [row for row in rows if lengths in (None, (row.config.prompt_tokens, row.config.generated_tokens))]
        metered = any(row.decode.j_per_token is not None for row in rows)
        for kind in KINDS:
            objectives = Objectives(catalogue, zone=zone, quality=kind, noise=noise, scores=scores, sources=sources)
            own = [row for row in rows if kind == (_kind(row) if quality == "auto" else quality)]
            points, without = _points(own, objectives, metered=metered)
            left_out += without
            grounds: defaultdict[Ground, list[list[Point]]] = defaultdict(list)
            for occasions in points.values():
                better = best_of(occasions)
                grounds[better[0].ground].append(better)
                left_out += [
                    LeftOut(row=point.row, device=name, reason=f"{OUTDONE}: {'; '.join(point.row.gates_failed)}")
                    for point in occasions
                    if not any(point is other for other in better)
                ]
            found += [_front(ground, kind, objectives, groups) for ground, groups in grounds.items()]
    if not found and lengths is not None and not any(isinstance(each.row, Measured) for each in left_out):
        raise EcoRouteError(
            f"no row is of {lengths[0]}+{lengths[1]} tokens on {', '.join(chosen)}: leave --lengths out"
        )
    return Fronts(zone=grid, fronts=tuple(found), left_out=tuple(left_out))


def read(places: Iterable[Path]) -> tuple[Rows, ...]:
    """The rows of files, and of all ``*.jsonl`` files of folders. Raises EcoRouteError for a place without any."""
    files: list[Path] = []
    for place in places:
        try:
            inside = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
            whole = bool(inside) and all(each.is_file() for each in inside)
        except OSError as error:
            raise EcoRouteError(f"{shown(str(place))}: {error.strerror}: name another file or folder") from error
        if not whole:
            raise EcoRouteError(
                f"{place} is no file of measurements, nor a folder that holds some: name one, or measure with "
                "`python -m benchmark run`"
            )
        files += inside
    return tuple(trial.read(file) for file in files)


def trusted(row: Measured) -> bool:
    """Whether a row failed no gate but those of throttling."""
    return all(THROTTLED in gate for gate in row.gates_failed)


def best_of(occasions: list[Point]) -> list[Point]:
    """The occasions of a configuration that its figures are the mean of: those without a failed gate, or else those
    that only throttled, or else all."""
    clean = [point for point in occasions if not point.row.gates_failed]
    return clean or [point for point in occasions if trusted(point.row)] or occasions


def _kind(row: Measured) -> QualityKind:
    return "published" if row.quality is None else "bits-per-byte"


def _points(
    rows: Sequence[Measured], objectives: Objectives, *, metered: bool
) -> tuple[Mapping[tuple[Ground, str], list[Point]], list[LeftOut]]:
    """The points of each configuration on each ground, and the rows that lack a figure."""
    points: defaultdict[tuple[Ground, str], list[Point]] = defaultdict(list)
    left_out = []
    for row in rows:
        try:
            point = objectives.point(row, energy=metered)
        except EcoRouteError as error:
            left_out.append(LeftOut(row=row, device=row.machine.name, reason=str(error)))
        else:
            points[point.ground, row.config.subject].append(point)
    return points, left_out


def _front(
    ground: Ground, kind: QualityKind, objectives: Objectives, configurations: Sequence[Sequence[Point]]
) -> DeviceFront:
    means = [over_occasions(points) for points in configurations]
    judging = [all(trusted(point.row) for point in points) for points in configurations]
    axes = means[0].axes
    front = Front(len(axes))
    for mean in itertools.compress(means, judging):
        front.add(mean.costs, mean.sds)
    arrays = (front.on_front, front.within_noise, front.ranks, front.crowding)
    places = zip(*(array.tolist() for array in arrays), strict=True)
    standings = []
    for points, mean, judges in zip(configurations, means, judging, strict=True):
        rows = tuple(point.row for point in points)
        if judges:
            on_front, within_noise, rank, crowding = next(places)
        else:
            place, crowding = front.place(mean.costs, mean.sds), None
            on_front, within_noise, rank = place.on_front, place.within_noise, place.rank
        energy_j = None
        if mean.carbon_g is not None:
            energy_j = functools.reduce(operator.add, map(objectives.energy_j, rows)).scaled(1 / len(rows))
        standings.append(
            Standing(
                point=mean,
                rows=rows,
                energy_j=energy_j,
                judges=judges,
                on_front=on_front,
                within_noise=within_noise,
                rank=rank,
                crowding=crowding,
            )
        )
    columns = list(zip(*(mean.values for mean in itertools.compress(means, judging)), strict=True))
    worst = tuple(max(column, key=axis.cost) for axis, column in zip(axes, columns, strict=False))
    best = tuple(min(column, key=axis.cost) for axis, column in zip(axes, columns, strict=False))
    reference = [axis.cost(value) for axis, value in zip(axes, worst, strict=False)]
    return DeviceFront(
        ground=ground,
        quality=kind,
        axes=axes,
        noise=objectives.noise,
        standings=tuple(sorted(standings, key=_order)),
        reference=worst or None,
        hypervolume=front.hypervolume(reference) if worst else None,
        box=math.prod(a - axis.cost(b) for axis, a, b in zip(axes, reference, best, strict=True)) if worst else None,
    )


def _order(standing: Standing) -> tuple[object, ...]:
    return (not standing.within_noise, standing.rank, standing.point.costs)
