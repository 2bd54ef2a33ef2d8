"""What one more point costs a front of 10,000: `python tests/perf/front.py [--json]` measures and prints; no assertion.

A point is taken and everything is asked for again: who is on the front, who is so within noise, ranks, crowding,
hypervolume. Time is the processor's, so that a busy machine adds little. The bar: p95 of 50 ms. New points are of the
cloud's own kind; every fifth, but for the cloud that is all front, lies below most of the rest. The clouds, all of
three axes, from likely to unkind:

* measured: grams and speed that mostly go together, fifteen models' scores, batches; doubt as measured.
* cube: anywhere, independent axes.
* front: nothing dominates anything.
* two levels: half of such a cloud, and half a little behind it.
* strand: so close to one line that there are thousands of ranks.
* ladder: two chains side by side, so that half of each of 5,000 ranks moves.
* chain: each point dominates all that follow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmark.pareto import Floats, Front

POINTS, BAR_MS = 10_000, 50.0
SD = (0.01, 0.0, 0.01)


@dataclass(frozen=True, kw_only=True)
class Line:
    """Milliseconds of processor time of one more point."""

    cloud: str
    points: int
    on_front: int
    ranks: int
    p50_ms: float
    p95_ms: float
    bar_ms: float = BAR_MS

    @property
    def holds(self) -> bool:
        return self.p95_ms <= self.bar_ms


def clouds(points: int) -> dict[str, Floats]:
    """Costs by the cloud's name, each within 0 and about 10 an axis."""
    draw = np.random.default_rng(0)
    along, anywhere = draw.random(points), draw.random((points, 3))
    scores = draw.integers(0, 15, points)
    grams = 5 * along + scores / 5 + draw.normal(0, 0.3, points)
    speed = 5 * along + scores / 5 + draw.normal(0, 0.3, points)
    rim = np.abs(draw.normal(size=(points, 3)))
    rim = 1 - rim / np.linalg.norm(rim, axis=1, keepdims=True)
    return {
        "measured": np.column_stack([grams, 14.0 - scores, speed]),
        "cube": anywhere,
        "front": rim,
        "two levels": rim + (np.arange(points) % 2)[:, None] * 0.05,
        "strand": along[:, None] + 0.001 * anywhere,
        "ladder": along[:, None] + 2.0 * np.eye(3)[np.arange(points) % 2],
        "chain": np.repeat(along[:, None], 3, axis=1),
    }


def measured(cloud: str, costs: Floats, calls: int) -> Line:
    front = Front(3)
    for point in costs[:-calls]:
        front.add(point.tolist(), SD)
    reference = (costs.max(axis=0) + 1.0).tolist()
    front.hypervolume(reference)  # the library's import
    low = np.quantile(costs, 0.2, axis=0)
    took_ms = []
    for number, kin in enumerate(costs[-calls:]):
        point = kin if number % 5 or cloud == "front" else low - 1e-6 * number
        begin_s = time.process_time()
        front.add(point.tolist(), SD)
        _ = front.on_front, front.within_noise, front.ranks, front.crowding, front.hypervolume(reference)
        took_ms.append(1000 * (time.process_time() - begin_s))
    cuts = statistics.quantiles(took_ms, n=100, method="inclusive")
    return Line(
        cloud=cloud,
        points=len(front),
        on_front=int(front.on_front.sum()),
        ranks=int(front.ranks.max()) + 1,
        p50_ms=cuts[49],
        p95_ms=cuts[94],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what one more point costs a front.")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--points", type=int, default=POINTS, help=f"points before (default {POINTS})")
    parser.add_argument("--calls", type=int, default=100, help="points taken (default 100)")
    arguments = parser.parse_args()
    for cloud, costs in clouds(arguments.points + arguments.calls).items():
        line = measured(cloud, costs, arguments.calls)
        if arguments.json:
            print(json.dumps({**asdict(line), "holds": line.holds}))
        else:
            print(
                f"{cloud:<12}{line.on_front:>7} on the front, {line.ranks:>6} ranks   p50 {line.p50_ms:6.2f} ms   "
                f"p95 {line.p95_ms:6.2f} ms   <= {line.bar_ms:g} ms  {'holds' if line.holds else 'MISSED'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
