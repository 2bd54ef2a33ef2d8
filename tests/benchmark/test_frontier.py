"""Closed models: exact where nothing is in doubt, ordered where something is, and whole on the shipped data."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark import frontier
from benchmark.__main__ import main
from benchmark.frontier import END, MIDDLE, Frontier, Serving, drawn, draws, sensitivity, span
from benchmark.vendors import VendorFigure, read
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue, Coefficients, Device, EnergyLaw, Structure
from ecoroute_mcp.sci import EcoRouteError, Estimate

DATA = Path(__file__).parents[2] / "data"
NOTHING = dict.fromkeys(Coefficients.__dataclass_fields__, 0.0)
DEVICE = Device(id="Test", tdp_w=500, memory_gb=100, bandwidth_gb_per_s=1000, bf16_dense_tflops=1000, sources=("test",))


def of(low: float, mid: float | None = None, high: float | None = None) -> Estimate:
    """A range; a point where one number is given."""
    return Estimate(low=low, mid=low if mid is None else mid, high=high or mid or low, basis="given", sources=("test",))


def a_law(**coefficients: float) -> EnergyLaw:
    return EnergyLaw(
        device="Test",
        coefficients=Coefficients(**{**NOTHING, **coefficients}),
        structure=Structure(
            shared_share=0.4,
            cache_gb=1e-4,
            cache_power=0.0,
            recurrent_cache_share=1,
            state_gb=0,
            layers=40,
            layers_power=0,
        ),
        residual_factor=of(1),
        n=1,
        validation="",
        sources=("test",),
    )


def served(law: EnergyLaw, **ranges: Estimate) -> Serving:
    usual: dict[str, Any] = {
        "bytes_per_param": of(1),
        "batch": of(10),
        "input_tokens": of(100),
        "output_tokens": of(200),
        "cache_factor": of(1),
        "stack_factor": of(1),
        "prefill_share": of(1),
    }
    return Serving(devices=(DEVICE,), laws=(law,), weights_share_max=0.8, **{**usual, **ranges})


def spread(serving: Serving, total_b: Estimate, active_b: Estimate, samples: int = 400) -> frontier.Span:
    return span(serving.joules(total_b, active_b, draw)[0] for draw in draws(samples))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return refresh.read(DATA)


@pytest.fixture(scope="module")
def found(catalogue: Catalogue) -> Frontier:
    return Frontier(catalogue, samples=200)


def test_a_point_in_every_range_is_the_law_itself() -> None:
    serving = served(a_law(arithmetic=1, prefill=3), stack_factor=of(2), prefill_share=of(0.5))
    # 500 W x 2 FLOP x 20e9 / 1e15 FLOP/s = 0.02 J, doubled by the stack
    written_j, read_j = serving.joules(of(20), of(20), MIDDLE)
    assert written_j == pytest.approx(0.04)
    assert read_j == pytest.approx(0.04 * 3 * 0.5)
    found = spread(serving, of(20), of(20))
    assert (found.low, found.mid, found.high) == pytest.approx((0.04, 0.04, 0.04))
    assert set(sensitivity(lambda draw: serving.joules(of(20), of(20), draw)[0], frontier.DECODE).values()) == {0.0}


def test_the_cache_grows_with_what_was_read_and_half_of_what_was_written() -> None:
    serving = served(a_law(cache=1), cache_factor=of(3))
    assert serving.context_tokens(MIDDLE) == 200
    assert serving.joules(of(20), of(20), MIDDLE)[0] == pytest.approx(500 * 1e-4 * 200 / 1000 * 3)


def test_one_range_alone_gives_its_own_ends_and_all_of_the_doubt() -> None:
    serving = served(a_law(arithmetic=1), stack_factor=of(1, 2, 8))
    found = spread(serving, of(50), of(50), samples=2000)
    middle = 500 * 2 * 50e9 / 1e15
    assert (found.low, found.mid, found.high) == pytest.approx((middle, 2 * middle, 8 * middle), rel=0.01)
    shares = sensitivity(lambda draw: serving.joules(of(50), of(50), draw)[0], frontier.DECODE)
    assert next(iter(shares)) == "stack"
    assert shares["stack"] == 1.0


def test_shares_are_those_of_the_squared_swings() -> None:
    def one(draw: frontier.Draw) -> float:
        return math.exp(draw["batch"] + 2 * draw["law"] - 0.0 * draw["size"])

    shares = sensitivity(one, ("size", "batch", "law"))
    assert list(shares) == ["law", "batch", "size"]
    assert list(shares.values()) == pytest.approx([0.8, 0.2, 0.0])


def test_a_range_is_read_at_its_ends_and_its_middle() -> None:
    given = of(1, 4, 6)
    assert [drawn(given, normal) for normal in (-END, 0, END)] == pytest.approx([1, 4, 6])
    assert drawn(of(1, 1, 1.6), -3.0) == 1  # no doubt on that side
    assert drawn(of(5), 2.0) == 5
    with pytest.raises(EcoRouteError, match="positive low end"):
        drawn(of(0, 1, 2), -1.0)


def test_devices_are_equally_likely_and_the_middle_format_is_the_commonest() -> None:
    others = tuple(replace(DEVICE, id=name) for name in "ABC")
    serving = replace(served(a_law(step=1), bytes_per_param=of(0.5, 1, 2)), devices=others, laws=(a_law(step=1),) * 3)
    drawn_ones = [serving.deployment(of(20), of(20), draw)[0] for draw in draws(1200)]
    assert Counter(each.device.id for each in drawn_ones) == {"A": 400, "B": 400, "C": 400}
    assert Counter(each.bytes_per_param for each in drawn_ones) == {0.5: 300, 1: 600, 2: 300}


def test_active_parameters_are_never_more_than_all() -> None:
    serving = served(a_law(arithmetic=1))
    for draw in draws(400):
        deployment, _ = serving.deployment(of(30, 100, 110), of(10, 90, 400), draw)
        assert deployment.params_active_b <= deployment.params_total_b


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ((of(100), of(5, 10, 20)), (of(100), of(6, 12, 24))),
        ((of(50, 100, 200), of(10)), (of(60, 120, 240), of(10))),
    ],
    ids=["active", "total"],
)
def test_a_larger_model_takes_no_less_at_any_percentile(
    catalogue: Catalogue, less: tuple[Estimate, Estimate], more: tuple[Estimate, Estimate]
) -> None:
    serving = frontier.serving(catalogue)
    small, large = spread(serving, *less), spread(serving, *more)
    assert small.low < large.low
    assert small.mid < large.mid
    assert small.high < large.high
    crowded = replace(serving, batch=serving.batch.scaled(2))
    assert spread(crowded, *less).mid < small.mid  # a larger batch shares the weights' reading
    assert spread(replace(serving, stack_factor=of(1)), *less).high < small.high


def test_every_closed_model_has_a_prediction_or_a_reason(catalogue: Catalogue, found: Frontier) -> None:
    document = found.document
    closed = {row.id for row in catalogue.models if not row.open_weights and row.availability != "retired"}
    assert {row["id"] for row in document["models"]} | {row["id"] for row in document["unknown"]} == closed
    assert [row["id"] for row in document["unknown"]] == ["seed-2.0-pro"]
    for row in document["models"]:
        ours = row["j_per_token"]
        assert 0 < ours["low"] < ours["mid"] < ours["high"]
        assert row["facility_wh_per_1000_tokens"]["mid"] > ours["mid"] / 3.6 * 1.43
        assert math.fsum(row["shares_of_log_variance"].values()) == pytest.approx(1)
        assert row["dominates"] == max(row["shares_of_log_variance"], key=row["shares_of_log_variance"].__getitem__)
        assert row["params_active_b"]["sources"]
    by_id = {row["id"]: row for row in document["models"]}
    assert by_id["claude-opus-4"]["dominates"] == "size"  # inferred from its price
    assert by_id["claude-opus-4"]["params_active_b"]["sources"][0] == "regression:params_active_b:price+context"


def test_the_routers_interval_is_nearly_the_same_on_the_same_device(found: Frontier) -> None:
    """The router's rule is a shortcut for these samples (few here, so their ends are rough): within a factor of 1.5."""
    for row in found.document["models"]:
        beside = row["router_over_ours_on_its_device"]
        assert all(2 / 3 < beside[end] < 1.5 for end in ("low", "mid", "high")), row["id"]


def test_the_same_seed_gives_the_same_figures(catalogue: Catalogue, found: Frontier) -> None:
    size = of(100, 200, 400), of(10, 20, 40)
    assert Frontier(catalogue, samples=200).joules(*size) == found.joules(*size)


def test_vendors_figures_are_sourced_dated_and_in_their_units() -> None:
    figures = read(DATA / "vendor_figures.csv")
    assert {figure.vendor for figure in figures} == {"Google", "Mistral AI", "OpenAI", "Microsoft"}
    for figure in figures:
        assert figure.url.startswith("https://")
        assert figure.published_on <= figure.retrieved_on
        assert figure.unit == {"energy": "Wh", "carbon": "gCO2e"}[figure.quantity]
        assert figure.note
    by_id = {figure.id: figure for figure in figures}
    assert by_id["google-gemini-prompt-energy"].value == 0.24
    assert by_id["mistral-large-2-response-carbon"].value == 1.14
    assert by_id["openai-chatgpt-query-energy"].boundary == "not stated"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("value", "", "value is empty"),
        ("value", "much", "value is 'much', not a number"),
        ("value", "-1", "value must be above zero"),
        ("unit", "kWh", "an energy is in Wh"),
        ("boundary", "rack", "boundary must be one of accelerator, facility"),
        ("url", "a blog", "every figure needs the https address"),
        ("published_on", "June 2025", "published_on is 'June 2025', not a date"),
        ("accounting", "market-based", "energy has none"),
        ("models", "", "either ids of our models, or total and active parameters"),
        ("low", "0.5", "low <= value <= high does not hold"),
    ],
)
def test_a_wrong_cell_is_refused_by_its_row(tmp_path: Path, column: str, value: str, said: str) -> None:
    lines = (DATA / "vendor_figures.csv").read_text("utf-8").splitlines()
    header = next(line for line in lines if line.startswith("id,")).split(",")
    cells = dict.fromkeys(header, "") | {
        "id": "one", "quantity": "energy", "value": "0.3", "unit": "Wh", "boundary": "facility", "models": "gpt-4o",
        "url": "https://example.org", "published_on": "2025-06-10", "retrieved_on": "2026-11-21", column: value,
    }  # fmt: skip
    table = tmp_path / "vendor_figures.csv"
    table.write_text(",".join(header) + "\n" + ",".join(cells.values()) + "\n", "utf-8")
    with pytest.raises(EcoRouteError, match=said):
        read(table)


def test_boundaries_are_made_equal_before_the_ratio(catalogue: Catalogue, found: Frontier) -> None:
    figures = {figure.id: figure for figure in read(DATA / "vendor_figures.csv")}
    whole = figures["google-gemini-prompt-energy"]

    def ours(figure: VendorFigure) -> dict[str, float]:
        return {row["model"]: row["ours"]["mid"] for row in found.checks([figure]) if row["ours"]}

    at_meter, alone = ours(whole), ours(replace(whole, boundary="accelerator"))
    for name, wh in at_meter.items():
        assert wh / alone[name] == pytest.approx(1.6 * 1.09, rel=0.05)  # server factor x PUE
    stated = replace(whole, input_tokens=100.0, output_tokens=100.0)
    longer = replace(whole, input_tokens=200.0, output_tokens=200.0)
    assert all(2 < ours(longer)[name] / wh < 2.05 for name, wh in ours(stated).items())
    market = found.checks([figures["google-gemini-prompt-carbon"]])
    assert [(row["ours"], row["reason"].split(":")[0]) for row in market] == [(None, "market-based")]
    grams = figures["mistral-large-2-response-carbon"]
    use = found.checks([replace(grams, boundary="facility")])[0]["ours"]["mid"]
    assert use < found.checks([grams])[0]["ours"]["mid"] < 2 * use  # the hardware's manufacture comes on top
    with pytest.raises(EcoRouteError, match=r"needs a zone of data/grids.csv, got 'Atlantis'"):
        found.checks([replace(grams, zone="Atlantis")])
    with pytest.raises(EcoRouteError, match=r"names 'gpt-0', which data/models.csv lacks"):
        found.checks([replace(whole, models=("gpt-0",))])


def test_the_command_runs_on_the_shipped_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontier", "--json", "--samples", "100"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["figure"] for row in document["vendor_figures"]} == {
        figure.id for figure in read(DATA / "vendor_figures.csv")
    }
    assert main(["frontier", "--samples", "100"]) == 0
    text = capsys.readouterr().out
    assert "seed-2.0-pro" in text
    assert "Most of the doubt: " in text
    assert "google-gemini-prompt-energy" in text
    assert main(["frontier", "--data", "nowhere"]) == 2
    assert main(["frontier", "--samples", "1"]) == 2
    assert "take 20 at least" in capsys.readouterr().err
