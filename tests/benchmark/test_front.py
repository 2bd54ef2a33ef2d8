"""Who is on the front of what was measured, who is so within noise, who may not judge; and that no row gets lost."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark import trial
from benchmark.__main__ import main
from benchmark.front import DeviceFront, Fronts, Quality, fronts, read, trusted
from benchmark.objectives import CARBON, SCORE, SPEED, Score, published
from benchmark.trial import Measured, Rejected, Trial, dump
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_objectives import H100, TEXT, row, twice, windows

DATA = refresh.packaged_data()
SPREAD = "decode energy CV 14.1% > 3%"
THROTTLED = "software thermal throttling for 5.7 s"
SHIPPED = [each for rows in trial.read_all(DATA / "measurements") for each in rows.trials]
USUAL = [each for each in SHIPPED if isinstance(each, Measured)]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return refresh.read(DATA)


def score(model: str, points: float) -> Score:
    return Score(
        model=model, benchmark="MMLU", score=points, setting="5-shot", evaluator="someone", source="mmlu-olmo-3"
    )


SCORES = {name: score(name, points) for name, points in (("Qwen3-1.7B", 60.0), ("Qwen3-8B", 80.0))}


def found(catalogue: Catalogue, trials: Sequence[Trial], quality: Quality = "auto", **more: Any) -> Fronts:
    # Occasions that differ by 5.66 % of energy: a standard deviation of 4 %, and none of speed.
    usual = twice(200.0, 200.0 * math.exp(0.04 * math.sqrt(2)))
    return fronts(trials, catalogue, scores=SCORES, usual=usual, quality=quality, **more)


def only(fronts: Fronts) -> DeviceFront:
    (front,) = fronts.fronts
    return front


def made(
    joules: float, *, batch: int, seconds: float = 0.02, model: str = "Qwen3-8B", occasion: int = 1,
    gates: tuple[str, ...] = (), device: str = H100,
) -> Measured:  # fmt: skip
    """A row that takes so many joules and seconds for a window of 200 tokens, so few that embodied carbon is little;
    reading costs next to nothing."""
    return row(
        model=model,
        batch=batch,
        occasion=occasion,
        gates=gates,
        device=device,
        prefill=windows(1_000_000, 1.0, 1e-3, 1e-3),
        decode=windows(200, seconds, joules, joules),
    )


def stands(front: DeviceFront) -> dict[int, str]:
    return {each.point.row.config.batch: each.stands for each in front.standings}


def test_members_come_first_then_who_may_be_one_then_the_others(catalogue: Catalogue) -> None:
    front = only(
        found(
            catalogue,
            [
                made(300.0, batch=1),
                made(208.0, batch=2),  # 4 % more of the joules: less than 1.96 standard deviations of a difference
                made(200.0, batch=4),
                made(220.0, batch=16, seconds=0.01),
                made(150.0, batch=8, model="Qwen3-1.7B"),
                made(195.0, batch=32, model="Qwen3-1.7B"),
            ],
        )
    )
    assert [(each.point.row.config.batch, each.stands) for each in front.standings] == [
        (8, "front"),
        (4, "front"),
        (16, "front"),
        (2, "within noise"),
        (32, "rank 1"),
        (1, "rank 2"),
    ]
    assert front.axes == (CARBON, SCORE, SPEED)
    assert [each.rank for each in front.standings] == [0, 0, 0, 1, 1, 2]
    assert front.noise.energy == pytest.approx(0.04)
    assert front.noise.pairs == 0


def test_hypervolume_lies_between_the_front_and_the_worst_of_each_axis(catalogue: Catalogue) -> None:
    front = only(
        found(
            catalogue,
            [
                made(400.0, batch=1, seconds=0.04, model="Qwen3-1.7B"),
                made(200.0, batch=2, seconds=0.02),
                made(100.0, batch=4, seconds=0.03),
            ],
        )
    )
    points = {each.point.row.config.batch: each.point for each in front.standings}
    worst, middle, frugal = (points[batch] for batch in (1, 2, 4))
    assert front.reference == worst.values
    # Two boxes on quality's whole range of 20 points, which overlap in grams of the one and speed of the other.
    grams = [math.log(worst.values[0] / point.values[0]) for point in (middle, frugal)]
    speed = [math.log(point.values[2] / worst.values[2]) for point in (middle, frugal)]
    volume = 20 * (grams[0] * speed[0] + grams[1] * speed[1] - min(grams) * min(speed))
    assert front.hypervolume == pytest.approx(volume)
    assert front.box == pytest.approx(20 * max(grams) * max(speed))
    assert [each.crowding for each in front.standings] == [math.inf] * 3


def test_devices_and_scales_of_quality_are_never_compared(catalogue: Catalogue) -> None:
    good, poor = made(100.0, batch=1), made(900.0, batch=2, seconds=0.09)
    real = replace(poor, quality=TEXT)
    other = replace(real, quality=replace(TEXT, text_sha256="def"), config=replace(real.config, batch=4))
    far = made(950.0, batch=8, seconds=0.09, device="NVIDIA H200")
    fronts_ = found(catalogue, [good, real, other, far]).fronts
    assert [(each.ground.device, each.ground.quality) for each in fronts_] == [
        (H100, "text abc"),
        (H100, "text def"),
        (H100, "published MMLU 5-shot"),
        ("NVIDIA H200", "published MMLU 5-shot"),
    ]
    assert [stands(each) for each in fronts_] == [{2: "front"}, {4: "front"}, {1: "front"}, {8: "front"}]


def test_a_kind_of_quality_can_be_asked_for(catalogue: Catalogue) -> None:
    rows = [made(100.0, batch=1), replace(made(900.0, batch=2, seconds=0.09), quality=TEXT)]
    assert stands(only(found(catalogue, rows, "published"))) == {1: "front", 2: "rank 1"}
    real = found(catalogue, rows, "bits-per-byte")
    assert stands(only(real)) == {2: "front"}
    assert [(each.row, each.reason) for each in real.left_out] == [
        (rows[0], "Qwen3-8B has random weights, and so no bits per byte")
    ]


def test_what_failed_a_gate_keeps_nobody_off_and_adds_no_volume(catalogue: Catalogue) -> None:
    rows = [made(300.0, batch=1), made(250.0, batch=2, seconds=0.025)]
    doubted = made(100.0, batch=4, seconds=0.01, gates=(SPREAD,))
    behind = made(900.0, batch=8, seconds=0.09, gates=(SPREAD, THROTTLED))
    without, front = only(found(catalogue, rows)), only(found(catalogue, [*rows, doubted, behind]))
    assert stands(front) == {4: "front?", 2: "front", 1: "front", 8: "rank 1?"}
    assert (front.hypervolume, front.reference, front.box) == (without.hypervolume, without.reference, without.box)
    assert {each.crowding for each in front.standings if not each.judges} == {None}


def test_where_nothing_can_be_trusted_there_is_no_volume(catalogue: Catalogue) -> None:
    front = only(found(catalogue, [made(300.0, batch=1, gates=(SPREAD,)), made(400.0, batch=2, gates=(SPREAD,))]))
    assert stands(front) == {1: "front?", 2: "front?"}
    assert (front.hypervolume, front.reference, front.box) == (None, None, None)


def test_throttling_alone_does_not_keep_a_row_from_judging(catalogue: Catalogue) -> None:
    hot = made(100.0, batch=4, seconds=0.01, gates=(THROTTLED,))
    assert stands(only(found(catalogue, [made(300.0, batch=1), hot]))) == {4: "front", 1: "rank 1"}
    assert [trusted(made(1.0, batch=1, gates=gates)) for gates in ((), (THROTTLED,), (THROTTLED, SPREAD))] == [
        True,
        True,
        False,
    ]


def test_a_configuration_counts_once_as_the_mean_of_its_best_occasions(catalogue: Catalogue) -> None:
    first, second = made(200.0, batch=1), made(220.0, batch=1, occasion=2)
    hot, wild = made(300.0, batch=1, occasion=3, gates=(THROTTLED,)), made(50.0, batch=1, occasion=4, gates=(SPREAD,))

    def taken(*rows: Measured) -> tuple[list[int], list[int], bool, float]:
        fronts_ = found(catalogue, rows)
        (standing,) = only(fronts_).standings
        assert standing.energy_j is not None
        counted = [each.config.occasion for each in standing.rows]
        others = [each.row.config.occasion for each in fronts_.left_out]
        return counted, others, standing.judges, round(standing.energy_j.mid / 0.99, 6)

    assert taken(first, second, hot, wild) == ([1, 2], [3, 4], True, 1.05)
    assert taken(hot, wild) == ([3], [4], True, 1.5)
    assert taken(wild) == ([4], [], False, 0.25)
    reasons = [each.reason for each in found(catalogue, [first, wild]).left_out]
    assert reasons == [f"failed a gate, which another occasion of the configuration did not: {SPREAD}"]


def test_the_same_row_from_two_files_counts_once(catalogue: Catalogue) -> None:
    (standing,) = only(found(catalogue, [made(200.0, batch=1)] * 2)).standings
    assert len(standing.rows) == 1


def test_a_device_without_energy_has_a_front_of_quality_and_speed(catalogue: Catalogue) -> None:
    def dumb(batch: int, seconds: float) -> Measured:
        return row(batch=batch, decode=windows(200, seconds, None, None), device="Some CPU")

    front = only(found(catalogue, [dumb(1, 2.0), dumb(2, 3.0)]))
    assert front.axes == (SCORE, SPEED)
    assert stands(front) == {1: "front", 2: "rank 1"}
    assert [each.energy_j for each in front.standings] == [None, None]
    mixed = found(catalogue, [dumb(1, 2.0), replace(made(200.0, batch=4), machine=dumb(1, 2.0).machine)])
    assert mixed.fronts == ()
    assert len(mixed.left_out) == 2


def test_lengths_choose_what_is_compared(catalogue: Catalogue) -> None:
    short = made(100.0, batch=1)
    long = replace(made(900.0, batch=2), config=replace(short.config, batch=2, prompt_tokens=4000))
    assert stands(only(found(catalogue, [short, long]))) == {1: "front", 2: "rank 1"}
    assert stands(only(found(catalogue, [short, long], lengths=(4000, 100)))) == {2: "front"}
    with pytest.raises(EcoRouteError, match=r"no row is of 7\+8 tokens"):
        found(catalogue, [short, long], lengths=(7, 8))


def test_no_row_of_the_shipped_ones_gets_lost_and_their_fronts_follow_the_definition(catalogue: Catalogue) -> None:
    fronts_ = fronts(SHIPPED, catalogue, scores=published(DATA), usual=USUAL)
    placed = [dump(each) for front in fronts_.fronts for standing in front.standings for each in standing.rows]
    left_out = [dump(each.row) for each in fronts_.left_out]
    assert sorted(placed + left_out) == sorted({dump(each) for each in SHIPPED})
    for front in fronts_.fronts:
        judging = [each.point.costs for each in front.standings if each.judges]
        for standing in front.standings:
            over = [
                costs
                for costs in judging
                if costs != standing.point.costs
                and all(a <= b for a, b in zip(costs, standing.point.costs, strict=True))
            ]
            assert standing.on_front == (not over)
            assert standing.within_noise or not standing.on_front


def test_a_rejected_trial_is_listed_with_its_reason(catalogue: Catalogue) -> None:
    given = made(100.0, batch=1)
    rejected = Rejected(config=replace(given.config, batch=64), at=given.started_at, reason="the cache does not fit")
    (left_out,) = found(catalogue, [given, rejected]).left_out
    assert (left_out.row, left_out.device, left_out.reason) == (rejected, None, "rejected: the cache does not fit")
    with pytest.raises(EcoRouteError, match="no row was measured"):
        found(catalogue, [rejected])


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(EcoRouteError, match=place.name):
            read([place])


# -- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: list[Trial] = [
        made(300.0, batch=1, seconds=0.03),
        made(200.0, batch=4),
        made(100.0, batch=8, gates=(SPREAD,)),
        made(250.0, batch=16, model="unknown"),
        replace(made(150.0, batch=32), quality=TEXT),
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(dump, rows)))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["front", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_command_prints_members_and_why_rows_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--folder", folder)
    lines = text.splitlines()
    published_ = next(
        number for number, line in enumerate(lines) if "quality is MMLU, published; grams in zone WOR" in line
    )
    assert lines[published_ + 2].startswith("front?  Qwen3-8B  bf16       8 ")
    assert lines[published_ + 2].endswith(SPREAD)
    assert lines[published_ + 3].startswith("front   Qwen3-8B  bf16       4 ")
    assert "2 on the front, 0 more within noise, 1 behind (--all prints them)" in lines
    assert "quality is bits per byte of a text (abc)" in text
    assert "no published score of unknown in the setting of the others is known" in text
    assert "rank 1" not in text
    assert "rank 1" in printed(capsys, "--folder", folder, "--all")


def test_what_a_precision_loses_is_said_to_be_missing_and_a_torn_line_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "rows.jsonl"
    quantised = made(150.0, batch=64)
    quantised = replace(quantised, config=replace(quantised.config, precision="nf4"))
    path.write_bytes(path.read_bytes() + dump(quantised) + b'{"torn')
    assert main(["front", "--folder", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "The scores are of released weights: what nf4 loses is not in them" in out
    assert "an incomplete last line of 6 characters is left out" in err


def test_json_and_csv_hold_every_row_with_basis_sources_and_reasons(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "front.csv"
    document = json.loads(printed(capsys, "--folder", folder, "--zone", "sweden", "--json", "--csv", target))
    assert document["zone"]["zone"] == "SWE"
    real, scored = document["fronts"]
    assert [each["stands"] for each in scored["configurations"]] == ["front?", "front", "rank 1"]
    member = scored["configurations"][1]
    assert member["quality"]["value"] == published(DATA)["Qwen3-8B"].score
    assert member["quality"]["basis"] == "published"
    assert real["configurations"][0]["quality"] == {
        "value": 0.9, "scale": "bits per byte of a text (abc)", "kind": "bits-per-byte", "basis": "measured",
        "setting": None, "evaluator": None, "sources": [],
    }  # fmt: skip
    grams = member["g_per_million_tokens"]
    assert grams["low"] < grams["mid"] < grams["high"]
    assert grams["basis"] == "estimated"
    assert set(grams["sources"]) - {"this-machine"} <= set(document["sources"])
    assert set(member["quality"]["sources"]) <= set(document["sources"])
    assert [each["reason"] for each in document["left_out"]] == [
        "no published score of unknown in the setting of the others is known: add it to data/shape_quality.csv"
    ]
    comment, *lines = target.read_text(encoding="utf-8").splitlines()
    assert comment.startswith("# written by `python -m benchmark front`: zone SWE, ")
    table = list(csv.DictReader(lines))
    flat = {each["configuration.batch"]: each for each in table}
    assert {batch: each["stands"] for batch, each in flat.items()} == {
        "32": "front", "8": "front?", "4": "front", "1": "rank 1", "16": "left out",
    }  # fmt: skip
    assert float(flat["4"]["g_per_million_tokens.mid"]) == grams["mid"]
    assert flat["4"]["g_per_million_tokens.sources"] == "|".join(grams["sources"])
    assert flat["16"]["reason"].startswith("no published score")
    assert flat["8"]["gates_failed"] == SPREAD


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--device", "TPU"), "no row is of a device named 'TPU': there are NVIDIA H100 80GB HBM3"),
        (("--zone", "Atlantis"), "Atlantis"),
        (("--csv", "no/such/folder/front.csv"), "name another file"),
    ],
)
def test_what_cannot_be_answered_says_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], named: str
) -> None:
    assert main(["front", "--folder", str(folder), *arguments]) == 2
    assert named in capsys.readouterr().err


def test_lengths_are_two_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "400+100" in printed(capsys, "--folder", folder, "--lengths", "400+100")
    with pytest.raises(SystemExit):
        main(["front", "--folder", str(folder), "--lengths", "400"])
    assert "look like 256+256" in capsys.readouterr().err


def test_what_no_other_command_needs_is_not_imported_by_the_laboratory() -> None:
    code = "import sys, benchmark.__main__; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"moocore", "optuna", "sqlalchemy"} & set(loaded.stdout.split())


def test_the_front_that_ships_follows_from_the_rows_that_ship(tmp_path: Path) -> None:
    written = tmp_path / "front.csv"
    assert main(["front", "--csv", str(written)]) == 0
    assert written.read_text(encoding="utf-8") == (refresh.packaged_data() / "front.csv").read_text(encoding="utf-8")
