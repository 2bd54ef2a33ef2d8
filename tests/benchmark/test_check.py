"""Budgets and regressions: what passes, what fails, what is no answer; rows made up so that figures can be told."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import check
from benchmark.__main__ import main
from benchmark.check import Budget, Finding, Match, Measurements, Regression, Report, Rules, quantile, read_rules
from benchmark.objectives import Noise, Objectives
from benchmark.trial import Measured, Rejected, Trial, TrialConfig, dump
from ecoroute_mcp import refresh
from ecoroute_mcp.energy import Method
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_trial import NOW, measured, phase

CATALOGUE = refresh.read(refresh.packaged_data())
EXAMPLE = Path(__file__).parents[1] / "data" / "carbon.yaml"
H200 = "NVIDIA H200"
H100 = "NVIDIA H100 80GB HBM3"
CONFIG = TrialConfig(model="Qwen3-8B", precision="bf16", batch=8, prompt_tokens=256, generated_tokens=256)
J_PER_TOKEN = 0.1 + 255 / 256
"""A row below: 0.1 J per token read, one read for each made; 1 J per token made by a decode step, 255 of 256."""
S_PER_TOKEN = 0.002 + 255 / 256 * 0.002
EVERYTHING = Match()
NOISE = math.log(1.02) / math.sqrt(2)
"""What SHIPPED below says of energy: two occasions 2 % apart. Their speed is the same."""
Z = statistics.NormalDist().inv_cdf(0.95)


def row(
    joules: float = 1.0,
    *,
    config: TrialConfig = CONFIG,
    device: str = H200,
    gates: tuple[str, ...] = (),
    seconds: float = 2.0,
) -> Measured:
    """A trial without spread. ``joules``: all its energy, as a multiple; ``seconds`` of a window of 1,000 tokens."""
    trial = measured(config)
    return replace(
        trial,
        prefill=phase(100.0 * joules, 100.0 * joules, seconds=seconds),
        decode=phase(1000.0 * joules, 1000.0 * joules, seconds=seconds),
        machine=replace(trial.machine, name=device),
        gates_failed=gates,
    )


def again(occasion: int, config: TrialConfig = CONFIG) -> TrialConfig:
    return replace(config, occasion=occasion)


SHIPPED = (row(), row(1.02, config=again(2)))


def source(*rows: Trial, file: str = "now.jsonl") -> Measurements:
    return Measurements(files=(Path(file),), trials=rows)


def judged(
    rules: Rules, *rows: Trial, baseline: Sequence[Trial] | None = None, shipped: Sequence[Measured] = SHIPPED
) -> Report:
    before = None if baseline is None else source(*baseline, file="before.jsonl")
    return check.check(rules, source(*rows), before, catalogue=CATALOGUE, shipped=shipped)


def budget(limit: float = 1e9, match: Match = EVERYTHING) -> Budget:
    return Budget(name="chat", match=match, max_j_per_token=limit)


def rules(
    *budgets: Budget,
    untrusted: Literal["warn", "fail", "judge"] = "warn",
    strict: bool = False,
    confidence: float = 0.95,
) -> Rules:
    return Rules(zone="SWE", budgets=budgets, untrusted=untrusted, strict=strict, confidence=confidence)


ENERGY = Rules(zone="SWE", regression=Regression(figure="energy"))


def statuses(report: Report) -> list[tuple[str, bool]]:
    return [(finding.status, finding.fails) for finding in report.findings]


# -- budgets


def test_a_budget_is_exceeded_beyond_noise_alone() -> None:
    allowed = math.expm1(Z * NOISE)
    at_edge = J_PER_TOKEN / (1 + allowed)
    for limit, status, fails in (
        (J_PER_TOKEN * 1.5, "within", False),
        (J_PER_TOKEN, "within", False),
        (J_PER_TOKEN * 0.999, "within noise", False),
        (at_edge * (1 + 1e-9), "within noise", False),
        (at_edge * (1 - 1e-9), "exceeded", True),
    ):
        (finding,) = judged(rules(budget(limit)), row()).findings
        assert (finding.status, finding.fails) == (status, fails), limit
        assert finding.value == pytest.approx(J_PER_TOKEN)
        assert finding.against == limit
        assert finding.worse == pytest.approx(J_PER_TOKEN / limit - 1)
        assert finding.allowed == pytest.approx(allowed)
        assert finding.warns == (status == "within noise")


def test_a_strict_check_fails_within_noise_of_the_limit() -> None:
    limit = J_PER_TOKEN * 0.999
    assert statuses(judged(rules(budget(limit), strict=True), row())) == [("within noise", True)]
    assert statuses(judged(rules(budget(J_PER_TOKEN), strict=True), row())) == [("within", False)]


def test_more_confidence_allows_more() -> None:
    (finding,) = judged(rules(budget(), confidence=0.99), row()).findings
    assert finding.allowed == pytest.approx(math.expm1(statistics.NormalDist().inv_cdf(0.99) * NOISE))


def test_a_row_with_spread_is_doubted_by_its_repeats_too() -> None:
    spread = replace(row(), decode=phase(980.0, 1000.0, 1020.0))
    (finding,) = judged(rules(budget()), spread).findings
    of_mean = 0.02 / math.sqrt(3)
    assert finding.allowed == pytest.approx(math.expm1(Z * math.hypot(NOISE, of_mean)))


def test_grams_are_per_million_tokens_and_as_doubtful_as_their_parts() -> None:
    carbon = Budget(name="chat", match=Match(), max_g_per_million_tokens=1.0)
    shipped = (row(), row(1.02, config=again(2), seconds=2.0 / 1.01))
    (finding,) = judged(rules(carbon), row(), shipped=shipped).findings
    method = Method(CATALOGUE)
    embodied_g = method.embodied_g_per_device_s("H200 SXM", local=True).mid * S_PER_TOKEN
    noise = Noise(energy=NOISE, speed=math.log(1.01) / math.sqrt(2), pairs=1)
    objectives = Objectives(CATALOGUE, zone="SWE", quality="published", noise=noise, scores={})
    assert finding.value == pytest.approx(objectives.carbon_g(row()).mid * 1e6)
    part = embodied_g * 1e6 / (finding.value or 0.0)
    assert finding.allowed == pytest.approx(math.expm1(Z * ((1 - part) * noise.energy + part * noise.speed)))
    assert finding.unit == "g/million tokens"


def test_too_slow_is_worse_by_what_speed_is_lacking() -> None:
    speed = 1 / S_PER_TOKEN
    slow = Budget(name="chat", match=Match(), min_tokens_per_s=speed * 1.25)
    (finding,) = judged(rules(slow), row()).findings
    assert (finding.status, finding.unit) == ("exceeded", "tokens/s")
    assert finding.worse == pytest.approx(0.25)
    fast = Budget(name="chat", match=Match(), min_tokens_per_s=speed * 0.99)
    assert statuses(judged(rules(fast), row())) == [("within", False)]


def test_every_limit_of_a_budget_is_a_finding_of_its_own() -> None:
    both = Budget(name="chat", match=Match(), max_j_per_token=2.0, min_tokens_per_s=1e6, max_g_per_million_tokens=1e6)
    report = judged(rules(both), row())
    assert [(finding.unit, finding.status) for finding in report.findings] == [
        ("g/million tokens", "within"),
        ("J/token", "within"),
        ("tokens/s", "exceeded"),
    ]
    assert report.failed


def test_occasions_are_averaged_and_less_doubtful_together() -> None:
    (finding,) = judged(rules(budget()), row(0.99), row(1.01, config=again(2))).findings
    assert finding.value == pytest.approx(J_PER_TOKEN)
    own = math.log(1.01 / 0.99) / math.sqrt(2)
    assert own > NOISE
    of_mean = math.hypot(0.99, 1.01) / 2 * own
    assert finding.allowed == pytest.approx(math.expm1(Z * of_mean))


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        (Match(), ["bf16 8 H200", "nf4 8 H200", "bf16 1 H200", "bf16 8 H100"]),
        (Match(batch=(8,)), ["bf16 8 H200", "nf4 8 H200", "bf16 8 H100"]),
        (Match(batch=(1, 8), precision=("bf16",), device=(H200,)), ["bf16 8 H200", "bf16 1 H200"]),
        (Match(precision=("nf4", "bf16"), batch=(8,), device=(H200, H100)),
         ["bf16 8 H200", "nf4 8 H200", "bf16 8 H100"]),
        (Match(model=("Qwen3-8B",), prompt_tokens=(256,), generated_tokens=(256,), eager=(False,), batch=(1,)),
         ["bf16 1 H200"]),
    ],
)  # fmt: skip
def test_a_match_takes_what_has_one_of_the_values_for_every_key(match: Match, taken: list[str]) -> None:
    rows = [
        row(),
        row(config=replace(CONFIG, precision="nf4")),
        row(config=replace(CONFIG, batch=1)),
        row(device=H100),
    ]
    names = ["bf16 8 H200", "nf4 8 H200", "bf16 1 H200", "bf16 8 H100"]
    assert [
        name for name, each in zip(names, rows, strict=True) if match.takes(each.config, each.machine.name)
    ] == taken
    assert len(judged(rules(budget(match=match)), *rows).findings) == len(taken)


def test_a_budget_for_a_server_does_not_take_what_ran_in_process() -> None:
    served = TrialConfig(
        model="Qwen3-8B", precision="as-served", batch=8, prompt_tokens=256, generated_tokens=256,
        endpoint="http://127.0.0.1:8000",
    )  # fmt: skip
    match = Match(endpoint=("http://127.0.0.1:8000",))
    assert not match.takes(CONFIG, H200)
    assert match.takes(served, H200)
    assert check.name(served) == "Qwen3-8B as-served, batch 8, 256+256 tokens, endpoint http://127.0.0.1:8000"


def test_a_budget_that_matches_nothing_says_what_there_is() -> None:
    with pytest.raises(EcoRouteError) as error:
        judged(rules(budget(match=Match(batch=(16, 32)))), row(), row(config=replace(CONFIG, batch=1)))
    assert (
        str(error.value)
        == "budget 'chat' matches no row that was measured: no row has batch 16 or 32; there is 1 and 8"
    )
    with pytest.raises(EcoRouteError, match="each key fits some row, and no row fits all of them"):
        judged(rules(budget(match=Match(batch=(1,), precision=("nf4",)))), row(config=replace(CONFIG, batch=1)),
               row(config=replace(CONFIG, precision="nf4")))  # fmt: skip


def test_a_rejected_configuration_of_a_budget_is_named() -> None:
    rejected = Rejected(config=replace(CONFIG, batch=64), at=NOW, reason="the cache does not fit")
    with pytest.raises(
        EcoRouteError, match=r"there is 8; rejected: Qwen3-8B bf16, batch 64, .* the cache does not fit"
    ):
        judged(rules(budget(match=Match(batch=(64,)))), row(), rejected)
    report = judged(rules(budget()), row(), rejected)
    assert statuses(report) == [("within", False), ("rejected", False)]
    assert (report.findings[1].warns, report.findings[1].why) == (True, "the cache does not fit")
    assert statuses(judged(rules(budget(), untrusted="fail"), row(), rejected))[1] == ("rejected", True)
    here = judged(rules(budget(match=Match(device=(H200,)))), row(), rejected)
    assert statuses(here) == [("within", False), ("rejected", False)], "on what device, a rejection does not say"
    later = judged(rules(budget()), replace(rejected, config=CONFIG), row())
    assert statuses(later) == [("within", False)]


# -- trust

GATE = "decode energy CV 14.1% > 3%"


def test_an_untrusted_row_warns_fails_or_is_judged_as_the_rules_say() -> None:
    trusted, doubtful = row(), row(9.0, config=replace(CONFIG, batch=1), gates=(GATE,))
    what_follows: dict[Literal["warn", "fail", "judge"], tuple[str, bool]] = {
        "warn": ("untrusted", False),
        "fail": ("untrusted", True),
        "judge": ("exceeded", True),
    }
    for untrusted, expected in what_follows.items():
        report = judged(rules(budget(2.0), untrusted=untrusted), trusted, doubtful)
        assert statuses(report) == [("within", False), expected]
        assert report.findings[1].why == GATE
        assert report.findings[1].value == pytest.approx(9 * J_PER_TOKEN)


def test_an_untrusted_occasion_is_left_out_beside_a_trusted_one() -> None:
    (finding,) = judged(rules(budget(2.0)), row(), row(9.0, config=again(2), gates=(GATE,))).findings
    assert finding.status == "within"
    assert finding.value == pytest.approx(J_PER_TOKEN)
    assert finding.why == f"1 of 2 rows left out: {GATE}"
    assert finding.allowed == pytest.approx(math.expm1(Z * NOISE)), "nor does it say how far occasions lie apart"


def test_a_budget_with_untrusted_rows_alone_is_no_pass() -> None:
    with pytest.raises(
        EcoRouteError, match=r"budget 'chat' has no row to judge J/token by \(untrusted: decode energy CV"
    ):
        judged(rules(budget(2.0)), row(gates=(GATE,)))
    assert judged(rules(budget(2.0), untrusted="fail"), row(gates=(GATE,))).failed


def test_a_row_without_energy_can_be_checked_for_speed_alone() -> None:
    blind = replace(
        row(), decode=phase(None, None), prefill=phase(None, None), energy_source="none",
        unavailable={"energy": "no counter here"},
    )  # fmt: skip
    fast = Budget(name="fast", match=Match(), min_tokens_per_s=10.0)
    assert statuses(judged(rules(fast), blind)) == [("within", False)]
    with pytest.raises(EcoRouteError, match=r"no energy was read \(no counter here"):
        judged(rules(budget(2.0)), blind)
    assert statuses(judged(rules(budget(2.0)), row(), replace(blind, config=replace(CONFIG, batch=1)))) == [
        ("within", False), ("unknown", False),
    ]  # fmt: skip


def test_grams_of_an_unknown_device_are_no_answer_but_joules_are() -> None:
    with pytest.raises(EcoRouteError, match=r"no row of data/devices\.csv has 'Toaster' among its nvml_names"):
        judged(rules(Budget(name="c", match=Match(), max_g_per_million_tokens=1.0)), row(device="Toaster"))
    assert statuses(judged(rules(budget(2.0)), row(device="Toaster"))) == [("within", False)]
    sci = Rules(zone="SWE", regression=Regression())
    with pytest.raises(EcoRouteError, match=r"add it there, or set regression\.figure to energy"):
        judged(sci, row(device="Toaster"), baseline=[row(2.0, device="Toaster")])
    assert statuses(judged(ENERGY, row(device="Toaster"), baseline=[row(2.0, device="Toaster")])) == [
        ("improved", False)
    ]


# -- regressions


def test_a_regression_is_found_at_the_edge_of_noise_and_not_before() -> None:
    allowed = math.expm1(Z * math.hypot(NOISE, NOISE))
    for factor, status in (
        (1 + allowed * (1 + 1e-9), "regressed"),
        (1 + allowed * (1 - 1e-9), "unchanged"),
        (1.0, "unchanged"),
        (1 / (1 + allowed * (1 - 1e-9)), "unchanged"),
        (1 / (1 + allowed * (1 + 1e-9)), "improved"),
    ):
        now = replace(row(factor), started_at=NOW.replace(hour=11))
        (finding,) = judged(ENERGY, now, baseline=[row()]).findings
        assert (finding.status, finding.fails) == (status, status == "regressed"), factor
        assert finding.allowed == pytest.approx(allowed)
        assert finding.worse == pytest.approx(factor - 1)
        assert finding.value == pytest.approx(factor * J_PER_TOKEN)
        assert finding.against == pytest.approx(J_PER_TOKEN)


def test_tolerance_comes_on_top_of_noise() -> None:
    tolerant = Rules(zone="SWE", regression=Regression(figure="energy", tolerance=0.1))
    (finding,) = judged(tolerant, row(1.1), baseline=[row()]).findings
    assert finding.status == "unchanged"
    assert finding.allowed == pytest.approx(0.1 + math.expm1(Z * math.hypot(NOISE, NOISE)))


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-0.5, 1.0),
    tolerance=st.floats(0, 0.2),
    zone=st.sampled_from(["SWE", "POL"]),
    figure=st.sampled_from(["sci", "energy"]),
)
def test_more_joules_are_a_regression_exactly_beyond_the_stated_bound(
    x: float, tolerance: float, zone: str, figure: Literal["sci", "energy"]
) -> None:
    asked = Regression(figure=figure, tolerance=tolerance)
    before, now = row(), replace(row(1 + x), started_at=NOW.replace(hour=11))
    (finding,) = judged(Rules(zone=zone, regression=asked), now, baseline=[before]).findings
    part = 1.0
    if figure == "sci":
        objectives = Objectives(
            CATALOGUE, zone=zone, quality="published", noise=Noise(energy=0, speed=0, pairs=0), scores={}
        )
        embodied_g = Method(CATALOGUE).embodied_g_per_device_s("H200 SXM", local=True).mid * S_PER_TOKEN
        part = 1 - embodied_g / objectives.carbon_g(before).mid
    assert finding.worse == pytest.approx(x * part, abs=1e-9)
    assert finding.allowed is not None
    if not math.isclose(x * part, finding.allowed, abs_tol=1e-9):
        assert (finding.status == "regressed") == finding.fails == (x * part > finding.allowed)
    (turned,) = judged(Rules(zone=zone, regression=asked), before, baseline=[now]).findings
    opposite = {"regressed": "improved", "improved": "regressed", "unchanged": "unchanged"}
    assert turned.status == opposite[finding.status]


def test_the_confidence_is_of_all_comparisons_together() -> None:
    configs = [replace(CONFIG, batch=batch) for batch in range(1, 21)]
    now = [replace(row(config=config), started_at=NOW.replace(hour=11)) for config in configs]
    report = judged(ENERGY, *now, baseline=[row(config=config) for config in configs])
    assert report.compared == 20
    doubtful = row(config=replace(CONFIG, batch=64), gates=(GATE,))
    more = judged(ENERGY, *now, doubtful, baseline=[row(config=config) for config in [*configs, doubtful.config]])
    assert more.compared == 20
    assert more.findings[0].allowed == report.findings[0].allowed
    each = statistics.NormalDist().cdf(quantile(0.95, 20))
    assert each**20 == pytest.approx(0.95)
    allowed = math.expm1(quantile(0.95, 20) * NOISE * math.sqrt(2))
    assert [finding.allowed for finding in report.findings] == [pytest.approx(allowed)] * 20


def test_devices_of_different_names_are_never_compared() -> None:
    report = judged(ENERGY, row(), row(9.0, device=H100), baseline=[row(1.1), row(device="NVIDIA A10")])
    assert [(finding.device, finding.status) for finding in report.findings] == [(H200, "improved")]
    assert report.notes[:2] == (
        "NVIDIA A10: only the baseline has rows of it, which are left alone",
        f"{H100}: the baseline has no row of it, and others are not compared",
    )
    with pytest.raises(EcoRouteError) as error:
        judged(ENERGY, row(device=H100), baseline=[row()])
    assert str(error.value) == (
        f"the baseline has {H200}, the rows to check have {H100}: devices of different names are not compared; name a "
        "baseline of the same"
    )


def test_new_and_vanished_configurations_are_named_and_a_budgeted_one_must_not_vanish() -> None:
    now, before = row(), row(1.1)
    added, gone = row(config=replace(CONFIG, batch=1)), row(config=replace(CONFIG, batch=2))
    report = judged(ENERGY, now, added, baseline=[before, gone])
    assert statuses(report) == [("improved", False), ("new", False), ("vanished", False)]
    assert [finding.warns for finding in report.findings] == [False, False, True]
    wanted = replace(ENERGY, budgets=(budget(2.0),))
    failing = judged(wanted, now, added, baseline=[before, gone]).findings[-1]
    assert (failing.status, failing.fails, failing.why) == (
        "vanished",
        True,
        "the baseline has it; budget chat is about it",
    )
    rejected = Rejected(config=again(7, gone.config), at=NOW, reason="out of memory")
    told = judged(ENERGY, now, rejected, baseline=[before, gone]).findings[-1]
    assert told.why == "the baseline has it; it was rejected: out of memory"


def test_only_rows_measured_since_are_compared_and_counted_as_noise() -> None:
    before = row()
    log = [before, row(1.5, config=again(2)), row(1.5, config=again(3))]
    (finding,) = judged(ENERGY, *log, baseline=[before]).findings
    assert finding.status == "regressed"
    assert finding.value == pytest.approx(1.5 * J_PER_TOKEN)
    assert finding.allowed == pytest.approx(math.expm1(Z * math.hypot(NOISE, NOISE / math.sqrt(2))))


def test_a_budget_too_is_of_what_was_measured_since() -> None:
    before, other = row(), row(config=replace(CONFIG, batch=1))
    log = [before, other, row(2.0, config=again(2))]
    both = replace(ENERGY, budgets=(budget(J_PER_TOKEN * 1.6),))
    assert statuses(judged(both, *log, baseline=[before, other])) == [
        ("exceeded", True), ("within", False), ("regressed", True), ("not measured again", False),
    ]  # fmt: skip
    assert statuses(judged(replace(both, regression=None), *log)) == [("within", False), ("within", False)]


def test_a_configuration_that_no_longer_runs_has_vanished_from_a_growing_file_too() -> None:
    before, other = row(), row(config=replace(CONFIG, batch=1))
    old = Rejected(config=CONFIG, at=NOW, reason="no memory then")
    new = Rejected(config=again(2), at=NOW.replace(hour=12), reason="no memory now")
    log: list[Trial] = [old, before, other, row(1.5, config=again(2, other.config))]
    assert [each.status for each in judged(ENERGY, *log, baseline=log[:3]).findings] == [
        "not measured again", "regressed",
    ]  # fmt: skip
    wanted = replace(ENERGY, budgets=(budget(9.0, Match(batch=(8,))),))
    gone = judged(wanted, *log, new, baseline=log[:3]).findings[1]
    assert (gone.status, gone.fails) == ("vanished", True)
    assert gone.why == "the baseline has it; budget chat is about it; it was rejected: no memory now"


def test_rows_that_are_the_baselines_own_are_said_to_be() -> None:
    other = replace(CONFIG, batch=1)
    report = judged(ENERGY, row(), row(config=other), baseline=[row(), row(1.2, config=other)])
    assert [finding.status for finding in report.findings] == ["not measured again", "improved"]
    assert report.compared == 1
    assert statuses(judged(ENERGY, row(), baseline=[row()])) == [("not measured again", False)]


def test_a_baseline_with_nothing_to_compare_is_no_pass() -> None:
    with pytest.raises(
        EcoRouteError, match=r"nothing could be compared with the baseline .*batch 1, .*: new, the baseline"
    ):
        judged(ENERGY, row(config=replace(CONFIG, batch=1)), baseline=[row()])
    with pytest.raises(EcoRouteError, match=r"nothing could be compared .*untrusted, baseline: decode energy CV"):
        judged(ENERGY, row(), baseline=[row(1.1, gates=(GATE,))])
    failing = replace(ENERGY, untrusted="fail")
    assert statuses(judged(failing, row(), baseline=[row(1.1, gates=(GATE,))])) == [("untrusted", True)]
    both = source(row())
    with pytest.raises(EcoRouteError, match="the baseline is the very files to be checked"):
        check.check(ENERGY, both, both, catalogue=CATALOGUE, shipped=SHIPPED)
    with pytest.raises(EcoRouteError, match="nothing to check: the rules have no budgets, and no baseline is named"):
        judged(ENERGY, row())


def test_energy_read_in_another_way_is_not_compared() -> None:
    other = replace(CONFIG, batch=1)
    polled = replace(row(2.0, config=other), energy_source="polled")
    report = judged(ENERGY, row(), polled, baseline=[row(1.1), row(config=other)])
    assert statuses(report) == [("improved", False), ("not comparable", False)]
    assert report.findings[1].why == "energy was read by counter then, by polled now"


def test_a_finding_says_what_else_changed() -> None:
    machine = replace(row().machine, driver="590", software={"torch": "2.12", "triton": "3.5"})
    now = replace(row(2.0), machine=machine, step="eager")
    (finding,) = judged(ENERGY, now, baseline=[row()]).findings
    assert finding.why == (
        "driver 580 -> 590, step fused kernels, CUDA graphs -> eager, torch 2.11 -> 2.12, triton none -> 3.5"
    )


def test_noise_from_few_pairs_is_believed_only_where_it_is_larger() -> None:
    def pairs(count: int, apart: float) -> list[Measured]:
        return [
            row(factor, config=replace(CONFIG, batch=batch, occasion=occasion))
            for batch in range(1, count + 1)
            for occasion, factor in ((1, 1.0), (2, apart))
        ]

    shipped = Noise.of(SHIPPED, otherwise=Noise(energy=1.0, speed=1.0, pairs=0))
    assert shipped.energy == pytest.approx(NOISE)
    assert check.noise_of(SHIPPED, [row()]) == replace(shipped, pairs=0)
    assert check.noise_of(SHIPPED, pairs(4, 1.001)) == replace(shipped, pairs=4)
    close, far = math.log(1.001) / math.sqrt(2), math.log(1.5) / math.sqrt(2)
    assert check.noise_of(SHIPPED, pairs(4, 1.5)).energy == pytest.approx(far)
    assert check.noise_of(SHIPPED, pairs(5, 1.001)).energy == pytest.approx(close)
    assert check.noise_of(SHIPPED, pairs(2, 1.5), pairs(5, 1.001)).energy == pytest.approx(close)
    throttled = row(1.3, config=again(3), gates=(GATE,))
    assert check.noise_of([*SHIPPED, throttled], [row(), throttled]) == replace(shipped, pairs=0)
    with pytest.raises(EcoRouteError, match="again with --occasion 2"):
        check.noise_of([row()], [row()])


# -- the file of rules

GOOD = "zone: SWE\nbudgets:\n  - name: chat\n    match: {batch: [8, 16], device: NVIDIA H200}\n    max_j_per_token: 2\n"


def test_rules_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "carbon.yaml"
    path.write_text(
        GOOD + "regression: {baseline: before/, tolerance: 0.02, figure: energy}\nconfidence: 0.99\n"
        "untrusted: fail\nstrict: true\n"
    )
    assert read_rules(path) == Rules(
        zone="SWE",
        budgets=(Budget(name="chat", match=Match(batch=(8, 16), device=(H200,)), max_j_per_token=2.0),),
        regression=Regression(baseline="before/", tolerance=0.02, figure="energy"),
        confidence=0.99,
        untrusted="fail",
        strict=True,
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("zone: SWE", "zone: NO",
         "line 1: zone: YAML reads NO, off, on and yes as False: put the word in quotes, or write a country's "
         "alpha-3 code (Norway is NOR)"),
        ("zone: SWE\n", "", "line 1: zone: is missing: add it"),
        ("zone: SWE", "zone: 46", "line 1: zone: must be text; got 46: put it in quotes"),
        ("zone: SWE", "zone:", "line 1: a key or an item without a value: give it one, or remove it"),
        ("max_j_per_token: 2", "max_j_per_token:",
         "line 5: a key or an item without a value: give it one, or remove it"),
        ("max_j_per_token: 2", "max_j_per_token: 1e-3",
         "line 5: budgets.0.max_j_per_token: must be a number without quotes; got '1e-3'; YAML reads 1e-3 as "
         "text: write it out, such as 0.001"),
        ("max_j_per_token: 2", "max_j_per_token: two",
         "line 5: budgets.0.max_j_per_token: must be a number without quotes; got 'two'"),
        ("max_j_per_token: 2", "max_j_per_token: true",
         "line 5: budgets.0.max_j_per_token: Input should be a valid number; got True"),
        ("max_j_per_token: 2", "max_j_per_token: 0",
         "line 5: budgets.0.max_j_per_token: Input should be greater than 0; got 0"),
        ("max_j_per_token: 2", "max_j_per_token: .inf",
         "line 5: budgets.0.max_j_per_token: Input should be a finite number; got inf"),
        ("max_j_per_token: 2", "max_J_per_token: 2",
         "line 5: budgets.0.max_J_per_token: there is no such key: did you mean max_j_per_token? The keys are "
         "name, match, max_g_per_million_tokens, max_j_per_token, min_tokens_per_s"),
        ("    max_j_per_token: 2\n", "",
         "line 3: budget 'chat' limits nothing: give it one or more of max_g_per_million_tokens, "
         "max_j_per_token, min_tokens_per_s"),
        ("batch: [8, 16]", "batch: ['8']", "line 4: budgets.0.match.batch.0: must be a number without quotes; got '8'"),
        ("batch: [8, 16]", "batch: []",
         "line 4: budgets.0.match.batch: Value should have at least 1 item after validation, not 0; got []"),
        ("batch: [8, 16]", "batch: 8.0", "line 4: budgets.0.match.batch.0: Input should be a valid integer; got 8.0"),
        ("batch: [8, 16]", "batch: 010",
         "line 4: YAML reads 010 as base 8 or 60: write it without the leading 0 or colon"),
        ("batch: [8, 16]", "batch: 1:30",
         "line 4: YAML reads 1:30 as base 8 or 60: write it without the leading 0 or colon"),
        ("batch: [8, 16]", "bach: 8",
         "line 4: budgets.0.match.bach: there is no such key: did you mean batch? The keys are device, model, "
         "precision, batch, prompt_tokens, generated_tokens, eager, endpoint"),
        ("batch: [8, 16]", "precision: fp8",
         "line 4: budgets.0.match.precision.0: Input should be 'bf16', 'fp16', 'fp32', 'int8', 'int8-pure', "
         "'nf4', 'gptq', 'awq' or 'as-served'; got 'fp8'"),
        ("    match: {batch: [8, 16], device: NVIDIA H200}\n", "", "line 3: budgets.0.match: is missing: add it"),
        ("name: chat", "name: on",
         "line 3: budgets.0.name: YAML reads NO, off, on and yes as True: put the word in quotes"),
        ("zone: SWE", "zone: SWE\nzone: FRA", "line 2: 'zone' appears twice: keep one"),
        ("zone: SWE", "zone: SWE\nregression: {tolerance: 2}",
         "line 2: regression.tolerance: Input should be less than 1; got 2"),
        ("zone: SWE", "zone: SWE\nregression: {base: x}",
         "line 2: regression.base: there is no such key: did you mean baseline? The keys are baseline, figure,"
         " tolerance"),
        ("zone: SWE", "zone: SWE\nconfidence: 95", "line 2: confidence: Input should be less than 1; got 95"),
        ("zone: SWE", "zone: SWE\nuntrusted: ignore",
         "line 2: untrusted: Input should be 'warn', 'fail' or 'judge'; got 'ignore'"),
        ("zone: SWE", "zone: [SWE", "line 2: is not YAML: expected ',' or ']', but got ':'"),
    ],
)  # fmt: skip
def test_a_complaint_names_file_line_key_and_repair(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    path = tmp_path / "carbon.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(EcoRouteError) as error:
        read_rules(path)
    assert str(error.value) == f"{path}, {complaint}"


def test_two_budgets_of_one_name_and_files_that_are_no_rules_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "carbon.yaml"
    path.write_text(GOOD + GOOD.partition("budgets:\n")[2])
    with pytest.raises(EcoRouteError, match="line 6: a second budget is called 'chat': give each its own name"):
        read_rules(path)
    for text in ("", "- zone: SWE\n", "SWE\n"):
        path.write_text(text)
        with pytest.raises(EcoRouteError, match="must be a mapping that begins with a zone"):
            read_rules(path)
    path.write_text("zone: &itself [*itself]\n")
    with pytest.raises(EcoRouteError, match="line 1: zone: must be text"):
        read_rules(path)
    path.write_bytes(b"zone: \xff")
    with pytest.raises(EcoRouteError, match=r"carbon.yaml: is not YAML: "):
        read_rules(path)
    with pytest.raises(EcoRouteError, match=r"cannot read .* \(No such file or directory\): name the file of budgets"):
        read_rules(tmp_path / "none.yaml")


def test_several_complaints_come_together(tmp_path: Path) -> None:
    path = tmp_path / "carbon.yaml"
    path.write_text(GOOD.replace("zone: SWE", "zone: NO").replace("name: chat", "name: 7"))
    with pytest.raises(EcoRouteError) as error:
        read_rules(path)
    assert [line.partition(", ")[2].partition(": ")[2][:15] for line in str(error.value).splitlines()] == [
        "zone: YAML read", "budgets.0.name:",
    ]  # fmt: skip


def test_an_unknown_zone_is_no_answer() -> None:
    with pytest.raises(EcoRouteError, match="zone: unknown region 'Atlantis'"):
        judged(replace(rules(budget()), zone="Atlantis"), row())


# -- the command


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with rules, rows to check and a baseline; the model's name has all that a report must not trip over."""
    awkward = replace(CONFIG, model="a|b<i>&\x07`c`")
    fresh = replace(row(3.0, config=awkward), started_at=NOW.replace(hour=11))
    (tmp_path / "now").mkdir()
    (tmp_path / "before").mkdir()
    (tmp_path / "now" / "rows.jsonl").write_bytes(dump(fresh) + dump(row(config=replace(CONFIG, batch=1))))
    (tmp_path / "before" / "rows.jsonl").write_bytes(dump(row(config=awkward)))
    (tmp_path / "carbon.yaml").write_text(
        "zone: SWE\nbudgets:\n  - {name: 'chat & code', match: {batch: 1}, max_j_per_token: 1.2}\n"
        "regression: {baseline: before, figure: energy}\n"
    )
    return tmp_path


def run(place: Path, *options: str) -> int:
    return main(["check", "--budget", str(place / "carbon.yaml"), "--folder", str(place / "now"), *options])


def test_the_text_names_the_rows_that_fail(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("Carbon check FAILED: 1 failed, 0 to look at, 2 well\n")
    (failed,) = [line for line in printed.splitlines() if line.startswith("FAILED")]
    assert failed.startswith(
        "FAILED: regression: a|b<i>&\x07`c` bf16, batch 8, 256+256 tokens on NVIDIA H200: regressed, 3.288 J/token "
        "against the baseline of 1.096, 200.0% worse ("
    )
    (place / "carbon.yaml").write_text(GOOD.replace("[8, 16]", "1"))
    assert run(place) == 0
    assert capsys.readouterr().out.startswith("Carbon check passed: 0 failed, 0 to look at, 1 well\n")


def test_junit_holds_a_case_for_each_configuration_and_survives_any_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = place / "report.xml"
    assert run(place, "--format", "junit", "--output", str(output)) == 1
    assert "FAILED: regression:" in capsys.readouterr().out
    root = ET.fromstring(output.read_bytes())
    assert (root.tag, root.attrib) == (
        "testsuites",
        {"name": "carbon check", "tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "0"},
    )
    assert [(suite.tag, suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("testsuite", "budget chat & code", "1", "0"),
        ("testsuite", "regression", "2", "1"),
    ]
    passed, regressed, new = [case for suite in root for case in suite]
    assert passed.attrib == {
        "name": "Qwen3-8B bf16, batch 1, 256+256 tokens [J/token]", "classname": "NVIDIA H200", "time": "0",
    }  # fmt: skip
    assert [child.tag for child in passed] == ["system-out"]
    assert regressed.get("name") == "a|b<i>&\ufffd`c` bf16, batch 8, 256+256 tokens [J/token]"
    (failure,) = regressed
    assert (failure.tag, failure.get("type")) == ("failure", "regressed")
    assert "200.0% worse" in (failure.get("message") or "")
    assert [(child.tag, child.get("message")) for child in new] == [
        (
            "skipped",
            "regression: Qwen3-8B bf16, batch 1, 256+256 tokens on NVIDIA H200: new; the baseline does not have it",
        )
    ]


def test_an_untrusted_row_that_fails_is_a_failure_and_not_skipped(place: Path) -> None:
    (place / "now" / "more.jsonl").write_bytes(dump(row(config=again(2, replace(CONFIG, batch=1)), gates=(GATE,))))
    text = "zone: SWE\nbudgets:\n  - {name: chat, match: {}, max_j_per_token: 9}\nuntrusted: fail\n"
    (place / "carbon.yaml").write_text(text)
    output = place / "report.xml"
    assert run(place, "--format", "junit", "--output", str(output)) == 0, "beside a trusted occasion it is left out"
    (place / "now" / "more.jsonl").write_bytes(dump(row(config=replace(CONFIG, batch=2), gates=(GATE,))))
    assert run(place, "--format", "junit", "--output", str(output)) == 1
    (suite,) = ET.fromstring(output.read_bytes())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "0")
    assert [failure.get("type") for failure in suite.iter("failure")] == ["untrusted"]


def test_markdown_says_what_fails_first_and_a_name_cannot_break_the_table(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, "--format", "markdown") == 1
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "## Carbon check FAILED: 1 failed, 0 to look at, 2 well"
    assert lines[2].startswith("| check | device | configuration |")
    assert r"| a\|b\<i\>\&" in lines[4]
    assert r"\`c\` bf16, batch 8, 256+256 tokens | FAILED: regressed | J/token | 3.288 | 1.096 | +200.0% |" in lines[4]
    bars = [line.replace(r"\|", "").count("|") for line in lines if line.startswith("|")]
    assert bars == [11] * 7
    assert lines[6] == "<details><summary>2 as they should be</summary>"


def test_json_gives_every_figure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place, "--format", "json") == 1
    printed = capsys.readouterr().out
    assert run(place, "--json") == 1
    assert capsys.readouterr().out == printed
    document = json.loads(printed)
    assert (document["failed"], document["zone"], document["compared"], document["confidence"]) == (
        True,
        "SWE",
        1,
        0.95,
    )
    assert [finding["status"] for finding in document["findings"]] == ["within", "regressed", "new"]
    assert set(document["findings"][0]) == {spec.name for spec in dataclasses.fields(Finding)}
    assert document["findings"][1]["worse"] == pytest.approx(2.0)


def test_a_baseline_on_the_command_line_stands_before_that_of_the_file(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = place / "other.jsonl"
    other.write_bytes(dump(row(config=replace(CONFIG, batch=1))) + dump(row(4.0, config=CONFIG))[:-9])
    assert run(place, "--baseline", str(other)) == 0
    printed = capsys.readouterr().out
    assert "not measured again" in printed
    assert f"{other}: an incomplete last line is left out" in printed
    (place / "carbon.yaml").write_text("zone: SWE\n")
    assert run(place, "--baseline", str(place / "before")) == 1
    assert "FAILED: regressed  g/million tokens" in capsys.readouterr().out, "SCI where the file does not say"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--baseline", "none"], "there is no file or folder none: name one that holds measurements"),
        (["--baseline", "{place}/empty"], "{place}/empty holds no *.jsonl file: name a folder of measurements"),
        (["--baseline", "{place}/carbon.yaml"], "{place}/carbon.yaml, line 1: not a trial"),
        (
            ["--baseline", "{place}/empty.jsonl"],
            "no row of {place}/empty.jsonl was measured: there is nothing to check",
        ),
        (["--output", "{place}/none/report"], "cannot write {place}/none/report (No such file or directory)"),
        (["--baseline", "{place}/now"], "the baseline is the very files to be checked"),
    ],
)
def test_a_question_without_an_answer_exits_with_2(
    place: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.jsonl").touch()
    (place / "empty").mkdir()
    assert run(place, *(option.format(place=place) for option in options)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {complaint.format(place=place)}")
    assert captured.out == ""


def test_a_regression_without_a_baseline_exits_with_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "carbon.yaml").write_text("zone: SWE\nregression: {tolerance: 0.1}\n")
    assert run(place) == 2
    assert "no baseline to compare with: set regression.baseline or --baseline" in capsys.readouterr().err


def test_a_row_in_two_files_counts_once(place: Path) -> None:
    file = place / "now" / "rows.jsonl"
    copy = place / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    assert len(Measurements.read(file, copy, place / "now").trials) == 2


def test_the_example_holds_for_the_projects_own_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(refresh.packaged_data() / "measurements")
    assert main(["check", "--budget", str(EXAMPLE), "--folder", folder]) == 0
    assert capsys.readouterr().out.startswith("Carbon check passed: 0 failed, 0 to look at, ")
