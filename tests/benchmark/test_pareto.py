"""Fronts, ranks, crowding and volumes against the definitions written out; whatever the order in which points come."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import pareto
from benchmark.pareto import Front, Place
from ecoroute_mcp.sci import EcoRouteError

Vector = tuple[float, ...]
Known = tuple[Vector, Vector]


@st.composite
def clouds(draw: st.DrawFn) -> list[Known]:
    """Up to 25 points of 1 to 4 axes: some on a coarse grid, so that many tie or are identical, some anywhere."""
    axes = draw(st.integers(1, 4))
    cost = draw(st.sampled_from([st.integers(0, 3).map(float), st.floats(-100, 100)]))
    sd = draw(st.sampled_from([st.just(0.0), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 3)]))
    vectors = st.tuples(st.tuples(*[cost] * axes), st.tuples(*[sd] * axes))
    return draw(st.lists(vectors, min_size=1, max_size=25))


def front_of(points: Sequence[Known]) -> Front:
    front = Front(len(points[0][0]))
    for number, (costs, sds) in enumerate(points):
        assert front.add(costs, sds) == number
    return front


def dominates(one: Vector, other: Vector) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def surely_dominates(one: Known, other: Known) -> bool:
    pairs = list(zip(*one, *other, strict=True))
    return any(b > a for a, _, b, _ in pairs) and all(
        b - a >= 1.96 * math.hypot(sd_b, sd_a) for a, sd_a, b, sd_b in pairs
    )


def peeled(costs: Sequence[Vector]) -> list[int]:
    ranks = [-1] * len(costs)
    level = 0
    while -1 in ranks:
        left = [number for number, rank in enumerate(ranks) if rank < 0]
        best = [one for one in left if not any(dominates(costs[other], costs[one]) for other in left)]
        for number in best:
            ranks[number] = level
        level += 1
    return ranks


def crowded(costs: Sequence[Vector]) -> list[float]:
    """NSGA-II's crowding distance as its authors write it, over the distinct points of each rank."""
    distance = dict.fromkeys(costs, 0.0)
    ranks = dict(zip(costs, peeled(costs), strict=True))
    for level in set(ranks.values()):
        members = [point for point in ranks if ranks[point] == level]
        if len(members) == 1:
            distance[members[0]] = math.inf
        for axis in range(len(costs[0])):
            order = sorted(members, key=lambda point: (point[axis], point))
            extent = order[-1][axis] - order[0][axis]
            if extent == 0:
                continue
            distance[order[0]] = distance[order[-1]] = math.inf
            for before, point, after in zip(order, order[1:], order[2:], strict=False):
                distance[point] += (after[axis] - before[axis]) / extent
    return [distance[point] for point in costs]


def volume(costs: Sequence[Vector], reference: Vector) -> float:
    """Exact: inclusion and exclusion of the boxes between points and reference, in rational numbers."""
    boxes = [point for point in dict.fromkeys(costs) if all(a < b for a, b in zip(point, reference, strict=True))]
    total = Fraction(0)
    for size in range(1, len(boxes) + 1):
        for chosen in itertools.combinations(boxes, size):
            corner = [max(values) for values in zip(*chosen, strict=True)]
            box = math.prod(
                (Fraction(b) - Fraction(a) for a, b in zip(corner, reference, strict=True)), start=Fraction(1)
            )
            total += box if size % 2 else -box
    return float(total)


@settings(deadline=None)
@given(clouds())
def test_membership_ranks_and_crowding_follow_their_definitions(points: list[Known]) -> None:
    costs = [point[0] for point in points]
    front = front_of(points)
    assert len(front) == len(points)
    assert front.costs.tolist() == [list(vector) for vector in costs]
    assert front.on_front.tolist() == [not any(dominates(other, one) for other in costs) for one in costs]
    assert front.within_noise.tolist() == [not any(surely_dominates(other, one) for other in points) for one in points]
    assert front.ranks.tolist() == peeled(costs)
    assert front.crowding.tolist() == pytest.approx(crowded(costs), rel=1e-9)


@settings(deadline=None)
@given(clouds(), st.randoms(use_true_random=False))
def test_the_order_in_which_points_come_changes_nothing(points: list[Known], randomly: random.Random) -> None:
    order = list(range(len(points)))
    randomly.shuffle(order)
    one, other = front_of(points), front_of([points[number] for number in order])
    for figures in ("on_front", "within_noise", "ranks", "crowding"):
        assert getattr(other, figures).tolist() == getattr(one, figures)[order].tolist()


@settings(deadline=None)
@given(clouds())
def test_figures_asked_for_between_points_are_those_of_the_points_so_far(points: list[Known]) -> None:
    front = Front(len(points[0][0]))
    for number, (costs, sds) in enumerate(points, start=1):
        before = front.place(costs, sds)
        index = front.add(costs, sds)
        assert before == Place(
            on_front=bool(front.on_front[index]),
            within_noise=bool(front.within_noise[index]),
            rank=int(front.ranks[index]),
        )
        fresh = front_of(points[:number])
        assert front.crowding.tolist() == fresh.crowding.tolist()
        reference = [101.0] * len(costs)
        assert front.hypervolume(reference) == pytest.approx(fresh.hypervolume(reference), rel=1e-12)


@settings(deadline=None)
@given(clouds())
def test_what_is_on_the_front_is_so_within_noise_and_without_doubt_nothing_else(points: list[Known]) -> None:
    front = front_of(points)
    assert not (front.on_front & ~front.within_noise).any()
    exact = front_of([(costs, (0.0,) * len(costs)) for costs, _ in points])
    assert exact.within_noise.tolist() == exact.on_front.tolist()


@settings(deadline=None)
@given(
    st.integers(2, 3).flatmap(
        lambda axes: st.tuples(
            st.lists(st.tuples(*[st.integers(0, 8).map(float)] * axes), min_size=1, max_size=9),
            st.tuples(*[st.integers(1, 9).map(float)] * axes),
        )
    )
)
def test_hypervolume_is_the_exact_volume_of_the_union_of_boxes(drawn: tuple[list[Vector], Vector]) -> None:
    costs, reference = drawn
    front = front_of([(point, (0.0,) * len(point)) for point in costs])
    assert front.hypervolume(reference) == pytest.approx(volume(costs, reference), rel=1e-12, abs=1e-12)


def test_figures_by_hand() -> None:
    front = front_of([((float(x), float(y)), (0.0, 0.0)) for x, y in [(1, 5), (2, 3), (4, 2), (4, 4), (5, 5), (2, 3)]])
    assert front.on_front.tolist() == [True, True, True, False, False, True]
    assert front.ranks.tolist() == [0, 0, 0, 1, 2, 0]
    # Of (1, 5), (2, 3) and (4, 2) the middle one's neighbours span both ranges; the ends, and lone points, are inf.
    assert front.crowding.tolist() == [math.inf, 2.0, math.inf, math.inf, math.inf, 2.0]
    # Columns up to (6, 6): 1 wide 1 high, 2 wide 3 high, 2 wide 4 high.
    assert front.hypervolume((6.0, 6.0)) == 1 + 6 + 8
    # A reference that only (2, 3) is below.
    assert front.hypervolume((4.0, 4.0)) == 2.0


def test_an_axis_on_which_all_are_alike_adds_nothing_to_crowding() -> None:
    front = front_of([((7.0, x, y), (0.0, 0.0, 0.0)) for x, y in [(1.0, 5.0), (2.0, 3.0), (3.0, 2.5), (5.0, 1.0)]])
    # The second spans 2 of 4 and 2.5 of 4, the third 3 of 4 and 2 of 4.
    assert front.crowding.tolist() == [math.inf, 1.125, 1.25, math.inf]


def test_noise_keeps_a_point_on_the_front_until_the_difference_is_sure() -> None:
    # Two standard deviations of 0.3 and 0.4 make 0.5 of the difference: sure from 0.98 on.
    for gap, within in ((0.97, True), (0.99, False)):
        front = front_of([((0.0, 7.0), (0.3, 0.0)), ((gap, 7.0), (0.4, 0.0))])
        assert front.on_front.tolist() == [True, False]
        assert front.within_noise.tolist() == [True, within]


def test_one_doubtful_axis_is_enough_to_stay_and_an_exact_one_may_be_equal() -> None:
    front = front_of([((0.0, 0.0), (0.1, 0.0)), ((5.0, 0.0), (0.1, 0.0)), ((0.1, 9.0), (0.1, 0.0))])
    assert front.within_noise.tolist() == [True, False, True]


def test_sure_dominance_is_judged_against_every_point_not_only_those_on_the_front() -> None:
    # The best has no sure figure; the second is sure enough to keep the third off.
    front = front_of([((0.0, 0.0), (9.0, 9.0)), ((1.0, 1.0), (0.0, 0.0)), ((2.0, 2.0), (0.0, 0.0))])
    assert front.within_noise.tolist() == [True, True, False]


def test_a_chain_that_gets_a_new_head_moves_down_by_one() -> None:
    points: list[Known] = [((float(n), float(n)), (0.0, 0.0)) for n in range(1, 200)]
    front = front_of(points)
    assert front.ranks.tolist() == list(range(199))
    front.add((0.0, 0.0), (0.0, 0.0))
    assert front.ranks.tolist() == [*range(1, 200), 0]


@pytest.mark.parametrize(("by_hand", "at_once"), [(0, 0), (0, 10**9), (10**9, 0)])
def test_levels_of_any_size_move_alike(monkeypatch: pytest.MonkeyPatch, by_hand: int, at_once: int) -> None:
    drawn = np.random.default_rng(3).integers(1, 7, (250, 3)) / 7  # so coarse that many are identical
    costs = [tuple(row) for row in [*drawn.tolist(), [0.2, 0.2, 0.2], [0.1, 0.3, 0.1]]]
    monkeypatch.setattr(pareto, "PAIRS_BY_HAND", by_hand)
    monkeypatch.setattr(pareto, "PAIRS_AT_ONCE", at_once)
    assert front_of([(each, (0.0, 0.0, 0.0)) for each in costs]).ranks.tolist() == peeled(costs)


def test_only_the_chain_under_a_new_head_moves() -> None:
    chains = [(n + left, n + right) for n in map(float, range(60)) for left, right in ((0.0, 99.0), (99.0, 0.0))]
    front = front_of([(costs, (0.0, 0.0)) for costs in chains])
    assert front.ranks.tolist() == [level for level in range(60) for _ in range(2)]
    front.add((-1.0, 98.0), (0.0, 0.0))
    assert front.ranks.tolist() == [level + first for level in range(60) for first in (1, 0)] + [0]


def test_no_points_have_no_front() -> None:
    front = Front(2)
    assert len(front) == 0
    for figures in (front.on_front, front.within_noise, front.ranks, front.crowding):
        assert figures.tolist() == []
    assert front.costs.shape == (0, 2)
    assert front.hypervolume((1.0, 1.0)) == 0.0
    assert front.place((1.0, 2.0), (0.0, 0.0)) == Place(on_front=True, within_noise=True, rank=0)


def test_placing_a_point_leaves_the_front_as_it_is() -> None:
    front = front_of([((1.0, 2.0), (0.0, 0.0)), ((2.0, 3.0), (0.0, 0.0))])
    assert front.place((0.0, 0.0), (0.0, 0.0)) == Place(on_front=True, within_noise=True, rank=0)
    assert front.place((3.0, 3.0), (1.0, 1.0)) == Place(on_front=False, within_noise=True, rank=2)
    assert front.ranks.tolist() == [0, 1]


def test_arrays_given_out_are_copies() -> None:
    front = front_of([((1.0, 2.0), (0.0, 0.0))])
    front.ranks[0], front.crowding[0], front.costs[0, 0], front.within_noise[0] = 7, 7.0, 7.0, False
    assert (front.ranks[0], front.crowding[0], front.costs[0, 0], front.within_noise[0]) == (0, math.inf, 1.0, True)


@pytest.mark.parametrize(
    ("costs", "sds", "named"),
    [
        ((1.0,), (0.0, 0.0), "costs: this front takes 2 finite numbers"),
        ((1.0, math.nan), (0.0, 0.0), "nan"),
        ((1.0, math.inf), (0.0, 0.0), "inf"),
        ((1.0, 2.0), (0.0,), "sds: this front takes 2"),
        ((1.0, 2.0), (0.0, math.inf), "sds"),
        ((1.0, 2.0), (0.0, math.nan), "sds"),
        ((1.0, 2.0), (0.0, -0.1), "0 or more"),
    ],
)
def test_what_is_no_point_is_refused_and_not_taken(costs: Vector, sds: Vector, named: str) -> None:
    front = front_of([((1.0, 2.0), (0.0, 0.0))])
    for take in (front.add, front.place):
        with pytest.raises(EcoRouteError, match=named):
            take(costs, sds)
    assert len(front) == 1


def test_a_reference_that_is_no_point_is_refused() -> None:
    front = front_of([((1.0, 2.0), (0.0, 0.0))])
    for reference in ((1.0,), (math.nan, 1.0), (math.inf, 1.0)):
        with pytest.raises(EcoRouteError, match="reference"):
            front.hypervolume(reference)
    with pytest.raises(EcoRouteError, match="an axis or more"):
        Front(0)
