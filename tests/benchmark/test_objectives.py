"""A row's figures by hand: grams, quality, speed and the doubt of each; occasions, scores and noise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import trial
from benchmark.objectives import (
    BITS,
    CARBON,
    SCORE,
    SPEED,
    Ground,
    NoFigure,
    Noise,
    Objectives,
    QualityKind,
    Score,
    over_occasions,
    published,
)
from benchmark.shapes import SHAPES
from benchmark.trial import Measured, Phase, Quality, TrialConfig, Window
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_trial import measured

DATA = refresh.packaged_data()
H100 = "NVIDIA H100 80GB HBM3"
NOISE = Noise(energy=0.02, speed=0.01, pairs=3)
TEXT = Quality(bits_per_byte=0.9, text="a text", text_sha256="abc", text_bytes=1000, tokens=300, context=512)
HEADER = "model,benchmark,score,setting,evaluator,source\n"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return refresh.read(DATA)


def windows(tokens: int, seconds: float, *joules: float | None) -> Phase:
    return Phase.of(
        [Window(seconds=seconds, tokens=tokens, energy_j=energy, polled_j=energy, updates=20) for energy in joules]
    )


def row(
    *,
    model: str = "Qwen3-8B",
    occasion: int = 1,
    decode: Phase | None = None,
    prefill: Phase | None = None,
    device: str = H100,
    quality: Quality | None = None,
    gates: tuple[str, ...] = (),
    precision: trial.Precision = "bf16",
    batch: int = 8,
) -> Measured:
    """Reading takes 0.1 J and 0.1 ms a token, a decode step 1 J and 10 ms a token; 400 tokens read, 100 generated."""
    config = TrialConfig(
        model=model, precision=precision, batch=batch, prompt_tokens=400, generated_tokens=100, occasion=occasion
    )
    made = measured(config)
    return replace(
        made,
        machine=replace(made.machine, name=device),
        prefill=prefill or windows(10_000, 1.0, 1000.0, 1000.0),
        decode=decode or windows(200, 2.0, 200.0, 200.0),
        quality=quality,
        gates_failed=gates,
    )


def score(points: float, benchmark: str = "MMLU", setting: str = "0-shot CoT, non-thinking") -> Score:
    return Score(
        model="Qwen3-8B", benchmark=benchmark, score=points, setting=setting, evaluator="someone", source="mmlu-olmo-3"
    )


def objectives(catalogue: Catalogue, quality: QualityKind = "published", zone: str = "WOR") -> Objectives:
    return Objectives(catalogue, zone=zone, quality=quality, noise=NOISE, scores={"Qwen3-8B": score(81.79)})


# 4 tokens read, and 99 of 100 made by a decode step, for each generated one.
JOULES = 4 * 0.1 + 0.99 * 1.0
SECONDS = 4 * 1e-4 + 0.99 * 0.01


def test_joules_and_speed_by_hand(catalogue: Catalogue) -> None:
    made = objectives(catalogue)
    assert made.energy_j(row()).mid == pytest.approx(JOULES, rel=1e-12)
    assert made.tokens_per_s(row()) == pytest.approx(1 / SECONDS, rel=1e-12)


def test_grams_are_gross_energy_at_the_plug_times_intensity_and_the_embodied_share_of_the_time(
    catalogue: Catalogue,
) -> None:
    device = next(each for each in catalogue.devices if H100 in each.nvml_names)
    made = objectives(catalogue, zone="SWE")
    carbon = made.carbon_g(row())
    here = next(each for each in catalogue.providers if each.id == "this-machine")
    plug = made._method.facility_factor(here, local=True)
    embodied = made._method.embodied_g_per_device_s(device.id, local=True)
    operational = JOULES / 3.6e6 * plug.mid * made.zone.intensity_g_per_kwh.mid
    assert made.zone.zone == "SWE"
    assert carbon.mid == pytest.approx(operational + SECONDS * embodied.mid, rel=1e-9)
    assert carbon.low < carbon.mid < carbon.high
    # The zone reaches the figure: only the operational part follows it.
    world = objectives(catalogue, zone="WOR")
    difference = world.carbon_g(row()).mid - carbon.mid
    gap = world.zone.intensity_g_per_kwh.mid - made.zone.intensity_g_per_kwh.mid
    assert difference == pytest.approx(JOULES / 3.6e6 * plug.mid * gap, rel=1e-9)


def test_a_slower_row_of_the_same_energy_has_more_embodied_carbon(catalogue: Catalogue) -> None:
    made = objectives(catalogue)
    slow = row(decode=windows(200, 20.0, 200.0, 200.0))
    assert made.energy_j(slow) == made.energy_j(row())
    device = next(each for each in catalogue.devices if H100 in each.nvml_names)
    per_second = made._method.embodied_g_per_device_s(device.id, local=True)
    assert made.carbon_g(slow).mid - made.carbon_g(row()).mid == pytest.approx(0.99 * 0.09 * per_second.mid, rel=1e-6)


def test_a_point_has_its_figures_in_the_order_of_its_axes(catalogue: Catalogue) -> None:
    point = objectives(catalogue).point(row())
    assert point.ground == Ground(device=H100, quality="published MMLU 0-shot CoT")
    assert point.axes == (CARBON, SCORE, SPEED)
    assert point.carbon_g is not None
    assert point.values == pytest.approx((point.carbon_g.mid, 81.79, 1 / SECONDS), rel=1e-12)
    assert point.costs == pytest.approx((math.log(point.carbon_g.mid), -81.79, math.log(SECONDS)))
    real = objectives(catalogue, "bits-per-byte").point(row(quality=TEXT))
    assert real.ground == Ground(device=H100, quality="text abc")
    assert real.axes == (CARBON, BITS, SPEED)
    assert real.costs[1] == real.values[1] == 0.9


def test_doubt_is_of_the_repeats_and_of_occasions_together(catalogue: Catalogue) -> None:
    # Two windows of 199 and 201 J: each has a standard deviation of 0.7 %, their mean one of 0.5 %.
    decode = windows(200, 2.0, 199.0, 201.0)
    made = objectives(catalogue)
    point = made.point(row(decode=decode))
    device = next(each for each in catalogue.devices if H100 in each.nvml_names)
    embodied = SECONDS * made._method.embodied_g_per_device_s(device.id, local=True).mid / point.values[0]
    assert 0.2 < embodied < 0.8  # both parts count
    # Grams are as doubtful as the joules in so far as they are operational, and as the speed in so far as embodied.
    assert point.sds == pytest.approx(((1 - embodied) * math.hypot(0.02, 0.005) + embodied * 0.01, 0.0, 0.01))
    assert point.costs[0] == pytest.approx(objectives(catalogue).point(row()).costs[0])


def test_without_energy_there_are_two_axes_and_with_it_a_reason(catalogue: Catalogue) -> None:
    made = objectives(catalogue)
    dumb = replace(row(decode=windows(200, 2.0, None, None)), unavailable={"energy": "no counter"})
    with pytest.raises(NoFigure, match="no energy was read \\(no counter\\)"):
        made.point(dumb)
    point = made.point(dumb, energy=False)
    assert (point.axes, point.carbon_g) == ((SCORE, SPEED), None)
    assert point.values == pytest.approx((81.79, 1 / SECONDS), rel=1e-12)
    assert point.sds == (0.0, 0.01)


def test_repeats_that_lie_so_far_apart_that_nothing_is_known_give_no_figure(catalogue: Catalogue) -> None:
    with pytest.raises(NoFigure, match="reaches zero"):
        objectives(catalogue).point(row(decode=windows(200, 2.0, 180.0, 220.0)))


@pytest.mark.parametrize(
    ("given", "quality", "reason"),
    [
        (row(model="nobody"), "published", "no published score of nobody in the setting of the others is known: add"),
        (row(), "bits-per-byte", "random weights, and so no bits per byte"),
        (row(device="NVIDIA Unheard"), "published", "no row of data/devices.csv has 'NVIDIA Unheard'"),
    ],
)
def test_what_lacks_a_figure_says_which(
    catalogue: Catalogue, given: Measured, quality: QualityKind, reason: str
) -> None:
    with pytest.raises(NoFigure, match=reason.replace("(", "\\(")):
        objectives(catalogue, quality).point(given)


def test_axes_and_ground_are_told_before_anything_is_measured(catalogue: Catalogue) -> None:
    made, real = objectives(catalogue), objectives(catalogue, "bits-per-byte")
    assert made.axes() == made.point(row()).axes
    assert made.axes(energy=False) == made.point(row(), energy=False).axes
    assert made.ground(H100, None) == made.point(row()).ground
    assert real.axes() == real.point(row(quality=TEXT)).axes
    assert real.ground(H100, "abc") == real.point(row(quality=TEXT)).ground
    assert (made.knows(H100), made.knows("NVIDIA Unheard")) == (True, False)


def test_an_unknown_zone_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(EcoRouteError, match="Atlantis"):
        objectives(catalogue, zone="Atlantis")


# -- noise


def twice(first_j: float, second_j: float, *, model: str = "Qwen3-8B", seconds: float = 2.0) -> list[Measured]:
    return [
        row(model=model, decode=windows(200, 2.0, first_j, first_j)),
        row(model=model, decode=windows(200, seconds, second_j, second_j), occasion=2),
    ]


NOTHING = Noise(energy=9.0, speed=9.0, pairs=0)


def test_noise_is_the_spread_of_one_occasion_from_differences_of_two() -> None:
    found = Noise.of([*twice(200.0, 210.0), *twice(200.0, 200.0, model="Qwen3-4B", seconds=2.2)], NOTHING)
    # Of two differences of logarithms, ln 1.05 and 0, the root mean square; over the root of two.
    assert found.energy == pytest.approx(math.log(1.05) / 2)
    assert found.speed == pytest.approx(math.log(1.1) / 2)
    assert found.pairs == 2


def test_noise_of_single_occasions_or_of_two_devices_is_what_is_given() -> None:
    first, second = twice(200.0, 210.0)
    assert Noise.of([first], NOTHING) is NOTHING
    elsewhere = replace(second, machine=replace(second.machine, name="NVIDIA H200"))
    assert Noise.of([first, elsewhere], NOTHING) is NOTHING


def test_a_noise_of_few_pairs_is_not_believed_below_the_usual_one() -> None:
    usual = twice(200.0, 220.0)
    none = Noise.known([], usual)
    assert none.energy == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert (none.speed, none.pairs) == (0.0, 0)
    assert Noise.known(twice(200.0, 200.0), usual).energy == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert Noise.known(twice(200.0, 240.0), usual).energy == pytest.approx(math.log(1.2) / math.sqrt(2))
    many = [each for number in range(5) for each in twice(200.0, 202.0, model=f"m{number}")]
    known = Noise.known(many, usual)
    assert known.energy == pytest.approx(math.log(1.01) / math.sqrt(2))
    assert known.pairs == 5


def test_rows_that_failed_a_gate_say_nothing_of_noise() -> None:
    doubtful = [replace(each, gates_failed=("decode energy CV 9.0% > 3%",)) for each in twice(200.0, 300.0)]
    assert Noise.known(doubtful, twice(200.0, 202.0)).energy == pytest.approx(math.log(1.01) / math.sqrt(2))
    with pytest.raises(EcoRouteError, match="--occasion 2"):
        Noise.known(doubtful, doubtful)


def test_occasions_without_energy_tell_the_noise_of_speed() -> None:
    usual = twice(200.0, 202.0)
    dumb = [
        replace(each, decode=windows(200, seconds, None, None))
        for number in range(5)
        for each, seconds in zip(twice(200.0, 200.0, model=f"m{number}"), (2.0, 2.2), strict=True)
    ]
    known = Noise.known(dumb, usual)
    assert known.speed == pytest.approx(math.log(1.1) / math.sqrt(2))
    assert known.energy == pytest.approx(math.log(1.01) / math.sqrt(2))  # of those that have it
    assert known.pairs == 5
    # Beside rows with energy they say nothing.
    assert Noise.known([*dumb, *twice(200.0, 210.0)], usual).pairs == 1


def test_the_shipped_rows_know_their_noise() -> None:
    shipped = [each for rows in trial.read_all(DATA / "measurements") for each in rows.measured]
    known = Noise.known([], shipped)
    assert 0.001 < known.energy < 0.05
    assert 0.001 < known.speed < 0.05


# -- occasions


def test_occasions_are_averaged_and_their_doubt_shrinks(catalogue: Catalogue) -> None:
    made = objectives(catalogue)
    points = [made.point(each) for each in twice(200.0, 220.0, seconds=2.5)]
    mean = over_occasions(points)
    assert mean.row is points[1].row
    for place in (0, 1, 2):
        assert mean.values[place] == pytest.approx((points[0].values[place] + points[1].values[place]) / 2)
    assert mean.carbon_g is not None
    assert mean.carbon_g.mid == pytest.approx(mean.values[0])
    one, other = points[0].values[0], points[1].values[0]
    apart = math.hypot(points[0].sds[0] * one, points[1].sds[0] * other)
    assert mean.sds[0] == pytest.approx(apart / (one + other))
    assert mean.sds[1] == 0.0
    alike = over_occasions([points[0]] * 4)
    assert alike.sds == pytest.approx(tuple(sd / 2 for sd in points[0].sds))
    assert alike.sds[2] == pytest.approx(0.005)
    assert over_occasions(points[:1]) is points[0]


def test_only_occasions_of_one_configuration_are_averaged(catalogue: Catalogue) -> None:
    made = objectives(catalogue)
    points = [made.point(row()), made.point(replace(row(), config=replace(row().config, batch=16)))]
    for given in (points, [], [points[0], made.point(row(device="NVIDIA H200"))]):
        with pytest.raises(EcoRouteError, match="one configuration on one ground"):
            over_occasions(given)


# -- published scores


def scores(folder: Path, text: str) -> dict[str, float]:
    (folder / "shape_quality.csv").write_text(text, encoding="utf-8")
    return {model: each.score for model, each in published(folder).items()}


def test_the_scores_that_are_shipped_are_of_one_benchmark_and_of_known_shapes(catalogue: Catalogue) -> None:
    found = published(DATA)
    assert {score.benchmark for score in found.values()} == {"MMLU"}
    assert found["Qwen3-8B"].score == 81.79
    sources = {source.id for source in catalogue.sources}
    assert {score.source for score in found.values()} <= sources
    assert set(found) - {"SmolLM2-135M-Instruct"} <= set(SHAPES)


def test_benchmarks_and_their_settings_are_never_mixed(tmp_path: Path) -> None:
    text = (
        "# a comment\n"
        + HEADER
        + 'a,MMLU,50.5,0-shot,x,s\nb,GPQA,30,0-shot,x,s\nc,MMLU,60,"0-shot, of its maker",x,s\n'
        + "a,GPQA,20,0-shot,x,s\nd,MMLU,1,0-shot,x,s\ne,MMLU,2,5-shot,x,s\n"
    )
    assert scores(tmp_path, text) == {"a": 50.5, "c": 60.0, "d": 1.0}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("a,MMLU,50,,x,s\nb,GPQA,30,,x,s\n", "MMLU and GPQA"),
        ("a,MMLU,50,,x,s\na,MMLU,51,,x,s\n", "a needs one finite score of MMLU"),
        ("a,MMLU,nan,,x,s\n", "a needs one finite score"),
        ("a,MMLU,,,x,s\n", "no table of published scores"),
        ("a,MMLU,50,,x,s,more\n", "no table of published scores"),
        ("", "none score"),
    ],
)
def test_a_table_of_scores_that_cannot_be_read_is_refused(tmp_path: Path, rows: str, named: str) -> None:
    with pytest.raises(EcoRouteError, match=named):
        scores(tmp_path, HEADER + rows)


def test_no_table_of_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(EcoRouteError, match=r"shape_quality\.csv"):
        published(tmp_path)


def test_published_scores_compare_on_one_benchmark_in_one_setting_alone(catalogue: Catalogue) -> None:
    def judged_by(**scores: Score) -> Objectives:
        return Objectives(catalogue, zone="WOR", quality="published", noise=NOISE, scores=scores)

    grounds = [
        judged_by(**{"Qwen3-8B": one}).point(row()).ground
        for one in (score(60.0), score(60.0, "GPQA"), score(60.0, setting="5-shot"), score(60.0, setting="0-shot CoT"))
    ]
    assert [ground.quality for ground in grounds] == [
        "published MMLU 0-shot CoT", "published GPQA 0-shot CoT", "published MMLU 5-shot", "published MMLU 0-shot CoT",
    ]  # fmt: skip
    with pytest.raises(EcoRouteError, match="scores of GPQA 0-shot CoT and MMLU 0-shot CoT cannot share an axis"):
        judged_by(one=score(60.0), other=score(60.0, "GPQA"))


def test_axes_and_ground_can_be_told_before_anything_is_measured(catalogue: Catalogue) -> None:
    kinds: tuple[tuple[QualityKind, str | None], ...] = (("published", None), ("bits-per-byte", "abc"))
    for kind, text in kinds:
        made = objectives(catalogue, kind)
        for energy in (True, False):
            point = made.point(row(quality=TEXT), energy=energy)
            assert (made.axes(energy=energy), made.ground(H100, text)) == (point.axes, point.ground)
    assert (made.knows(H100), made.knows("an unknown device")) == (True, False)
