"""Strategies on a recorded landscape, with figures that can be told by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmark import trial
from benchmark.__main__ import main
from benchmark.objectives import Ground, Point
from benchmark.replay import SHARE, Course, Replay, document, landscapes, replay
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_search import AXES, configs, point
from tests.benchmark.test_trial import measured


def points() -> list[Point]:
    return [point(measured(config)) for config in configs(batches=[1, 2, 4, 8, 16, 32, 64])]


def test_every_strategy_ends_at_the_whole_grid_and_never_loses_ground() -> None:
    found = replay(points(), seeds=3, expected=None)
    assert found.size == 21
    assert [(course.strategy, course.seed) for course in found.courses] == [
        ("auto", 0), ("auto", 1), ("auto", 2), ("grid", 0),
        ("random", 0), ("random", 1), ("random", 2), ("tpe", 0), ("tpe", 1), ("tpe", 2),
    ]  # fmt: skip
    for course in found.courses:
        assert len(course.shares) == 21
        assert course.shares[-1] == pytest.approx(1.0)
        assert all(b >= a for a, b in zip(course.shares, course.shares[1:], strict=False))


def test_the_hypervolume_is_of_the_scaled_axes_with_the_reference_beyond_the_worst() -> None:
    # Two points, each best on one axis: costs (0, 1) and (1, 0). One alone covers 1.1 x 0.1, both 0.11 + 0.11 - 0.01.
    two = [point(measured(config)) for config in configs(models=["Qwen3-0.6B", "Qwen3-8B"], batches=[1])]
    grid = next(course for course in replay(two, seeds=1, expected=None).courses if course.strategy == "grid")
    assert grid.shares == pytest.approx((0.11 / 0.21, 1.0))


def test_the_medians_and_bars_are_those_of_the_courses() -> None:
    def course(strategy: str, seed: int, reached: int) -> Course:
        shares = [0.5] * (reached - 1) + [SHARE] + [1.0] * (20 - reached)
        return Course(strategy=strategy, seed=seed, shares=tuple(shares))  # type: ignore[arg-type]

    found = Replay(
        device="x",
        size=20,
        courses=(
            *(course("auto", seed, reached) for seed, reached in enumerate([4, 5, 9])),
            *(course("random", seed, reached) for seed, reached in enumerate([10, 11, 12])),
            *(course("tpe", seed, 8) for seed in range(3)),
            course("grid", 0, 15),
        ),
    )
    assert [found.median(strategy) for strategy in ("auto", "grid", "random", "tpe")] == [5, 15, 11, 8]
    bars = document(found)["bars"]
    assert [(bar["value"], bar["reached"]) for bar in bars] == [(0.25, True), (5 / 11, True)]


def test_points_that_cannot_be_compared_are_refused() -> None:
    one, other, *_ = points()
    strange = Point(
        row=other.row, ground=Ground(device="another GPU", quality="published"), axes=AXES, values=other.values,
        sds=other.sds, carbon_g=None,
    )  # fmt: skip
    with pytest.raises(EcoRouteError, match="one device and one scale of quality"):
        replay([one, strange], seeds=1, expected=None)


def test_the_command_replays_the_committed_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(packaged_data() / "measurements")
    assert main(["search", "--replay", folder, "--seeds", "2", "--json"]) == 0
    h100 = next(each for each in json.loads(capsys.readouterr().out) if each["device"] == "NVIDIA H100 80GB HBM3")
    assert h100["configurations"] == 59
    assert h100["strategies"]["grid"]["trials"] == [38]
    assert [bar["reached"] for bar in h100["bars"]] == [True, True]


def test_a_folder_of_rows_that_nobody_measured_twice_is_a_landscape_too(tmp_path: Path) -> None:
    committed = packaged_data() / "measurements" / "h100-80gb-hbm3.jsonl"
    rows = [row for row in trial.read(committed).measured if row.config.occasion == 1 and row.quality is None]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(trial.dump, rows)))
    ((points, expected),) = landscapes(tmp_path, "WOR")
    assert expected is not None
    assert len(points) == len(expected) > 1


@pytest.mark.parametrize(
    ("folder", "seeds", "said"),
    [
        (".", "2", r"is no file of measurements, nor a folder that holds some"),
        ("nowhere", "2", r"is no file of measurements, nor a folder that holds some"),
        (str(packaged_data() / "measurements"), "0", r"--seeds is 1 or more; got 0"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_the_reason(
    folder: str, seeds: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--replay", str(tmp_path / folder), "--seeds", seeds]) == 2
    assert re.search(said, capsys.readouterr().err)
