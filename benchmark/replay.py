"""Strategies judged on a recorded landscape: committed measurements as a lookup, so that a night takes a second.

The candidates are what a device was measured at; "measuring" one looks its row up. Every strategy runs to the end of
the grid with every seed, and the hypervolume of what it has seen is followed: on logarithms of grams and of tokens per
second and on quality as it is, each scaled to the landscape's own range, with the reference point a tenth of that range
beyond the worst of each. Trials to reach 95 % of the whole grid's hypervolume are what strategies are compared by.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import expectation, front, table
from benchmark.objectives import Ground, NoFigure, Noise, Objectives, Point, published
from benchmark.pareto import Front
from benchmark.search import STRATEGIES, Chooser, Strategy
from ecoroute_mcp import refresh
from ecoroute_mcp.sci import EcoRouteError

SHARE = 0.95
"""Of the grid's hypervolume, to be reached."""
BEYOND = 0.1
MOST_OF_GRID = 0.25
MOST_OF_RANDOM = 0.5
"""Aims: at most this share of the grid's trials, and fewer than this share of those that random draws need."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run of a strategy: the share of the grid's hypervolume after each trial."""

    strategy: Strategy
    seed: int
    shares: tuple[float, ...]

    @property
    def trials(self) -> int:
        """Until :data:`SHARE` was reached."""
        return next(number for number, share in enumerate(self.shares, start=1) if share >= SHARE)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """All runs on one landscape of ``size`` configurations."""

    device: str
    size: int
    courses: tuple[Course, ...]

    def trials(self, strategy: Strategy) -> list[int]:
        return [course.trials for course in self.courses if course.strategy == strategy]

    def median(self, strategy: Strategy) -> float:
        return statistics.median(self.trials(strategy))


def replay(points: Sequence[Point], seeds: int, expected: Sequence[int] | None) -> Replay:
    """Run every strategy over points of one ground. ``expected``: the front that each is expected on.

    Raises EcoRouteError for fewer than two points, points that cannot be compared, or no seed."""
    if seeds < 1:
        raise EcoRouteError(f"--seeds is 1 or more; got {seeds}")
    if len(points) < 2 or len({point.ground for point in points}) != 1:
        raise EcoRouteError("a replay needs two configurations or more of one device and one scale of quality")
    scaled = _scaled([point.costs for point in points])
    reference = [1 + BEYOND] * len(scaled[0])
    whole = _hypervolume(scaled, reference)
    configs = [point.row.config for point in points]
    courses = []
    for strategy in STRATEGIES:
        for seed in range(1 if strategy == "grid" else seeds):
            chooser = Chooser(configs, strategy, seed, expected)
            seen = Front(len(reference))
            history: list[tuple[int, tuple[float, ...]]] = []
            free = list(range(len(points)))
            shares = []
            while free:
                index, _ = chooser.choose(history, free)
                free.remove(index)
                history.append((index, points[index].costs))
                seen.add(scaled[index], [0.0] * len(reference))
                shares.append(seen.hypervolume(reference) / whole)
            courses.append(Course(strategy=strategy, seed=seed, shares=tuple(shares)))
    return Replay(device=points[0].ground.device, size=len(points), courses=tuple(courses))


def _scaled(costs: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    lows = [min(column) for column in zip(*costs, strict=True)]
    highs = [max(column) for column in zip(*costs, strict=True)]
    return [
        tuple((value - low) / (high - low or 1.0) for value, low, high in zip(row, lows, highs, strict=True))
        for row in costs
    ]


def _hypervolume(scaled: Sequence[tuple[float, ...]], reference: Sequence[float]) -> float:
    seen = Front(len(reference))
    for row in scaled:
        seen.add(row, [0.0] * len(reference))
    return seen.hypervolume(reference)


def document(found: Replay) -> dict[str, Any]:
    """As plain data for JSON, the median course of each strategy included."""
    random = found.median("random")
    auto = found.median("auto")
    return {
        "device": found.device,
        "configurations": found.size,
        "share": SHARE,
        "strategies": {
            strategy: {
                "trials": found.trials(strategy),
                "median_trials": found.median(strategy),
                "median_course": _median_course(found, strategy),
            }
            for strategy in STRATEGIES
        },
        "bars": [
            {
                "figure": "auto's median trials over the grid's",
                "limit": MOST_OF_GRID,
                "value": auto / found.size,
                "reached": auto <= MOST_OF_GRID * found.size,
            },
            {
                "figure": "auto's median trials over those of random draws",
                "limit": MOST_OF_RANDOM,
                "value": auto / random,
                "reached": auto < MOST_OF_RANDOM * random,
            },
        ],
    }


def _median_course(found: Replay, strategy: Strategy) -> list[float]:
    courses = [course.shares for course in found.courses if course.strategy == strategy]
    return [statistics.median(column) for column in zip(*courses, strict=True)]


def show(found: Replay) -> None:
    """Print the curves, the trials that each strategy needs and the bars."""
    at = sorted({1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 80, 100} | {found.size})
    at = [number for number in at if number <= found.size]
    table.show(
        f"Hypervolume after so many trials, share of the grid's; medians of the seeds; {found.size} configurations "
        f"measured on {found.device}",
        ("strategy", *(str(number) for number in at)),
        [
            (strategy, *(f"{_median_course(found, strategy)[number - 1]:.1%}" for number in at))
            for strategy in STRATEGIES
        ],
    )
    table.show(
        f"Trials until {SHARE:.0%} of it",
        ("strategy", "median", "least", "most", "share of the grid"),
        [
            (
                strategy, found.median(strategy), min(found.trials(strategy)), max(found.trials(strategy)),
                f"{found.median(strategy) / found.size:.0%}",
            )
            for strategy in STRATEGIES
        ],
    )  # fmt: skip
    table.show(
        "Bars",
        ("figure", "bar", "measured", "reached"),
        [
            (bar["figure"], f"{bar['limit']:.0%}", f"{bar['value']:.0%}", "yes" if bar["reached"] else "NO")
            for bar in document(found)["bars"]
        ],
    )


def landscapes(folder: Path, zone: str) -> Iterator[tuple[list[Point], list[int] | None]]:
    """The first occasions of a folder's rows with all figures, by ground, and the front that each is expected on: of
    rows without published scores, or that failed a gate other than throttling's, none.

    Raises EcoRouteError for a folder without rows, and where no ground has two configurations."""
    data = refresh.packaged_data()
    catalogue, scores = refresh.read(data), published(data)
    rows, shipped = (
        [row for file in front.read([each]) for row in file.measured] for each in (folder, data / "measurements")
    )
    objectives = Objectives(catalogue, zone=zone, quality="published", noise=Noise.known(rows, shipped), scores=scores)
    grounds: defaultdict[Ground, dict[str, Point]] = defaultdict(dict)
    for row in rows:
        if not front.trusted(row):
            continue
        try:
            point = objectives.point(row)
        except NoFigure:
            continue
        grounds[point.ground].setdefault(row.config.subject, point)
    if not any(len(found) > 1 for found in grounds.values()):
        raise EcoRouteError(f"{folder} has no two configurations of one device with energy and a published score")
    for ground, found in grounds.items():
        if len(found) > 1:
            points = list(found.values())
            configs = [point.row.config for point in points]
            yield points, expectation.fronts(configs, ground.device, catalogue, scores)


def run(folder: Path, *, zone: str, seeds: int, as_json: bool) -> int:
    """Replay every landscape of a folder and print what came of it. Returns the exit status."""
    found = [replay(points, seeds, expected) for points, expected in landscapes(folder, zone)]
    if as_json:
        print(json.dumps([document(each) for each in found], indent=2))
    else:
        for each in found:
            show(each)
    return 0
