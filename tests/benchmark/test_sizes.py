"""Sizes inferred from prices: exact on data that follow the line, honest on data that do not."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from benchmark.curate import models, sizes
from benchmark.curate.sizes import Known, Study, conformal, fitted, left_out

UPSTREAM = Path(__file__).parents[2] / "data" / "upstream"


def a_model(maker: str, price: float, *, factor: float = 1.0, total_b: float = 500.0) -> Known:
    """One with ln active = ln 20 + 0.5 price, times a factor; price and context as logarithms."""
    active_b = 20 * math.exp(0.5 * price) * factor
    return Known(id=f"{maker}/{price}", provider=maker, price=price, context=12.0, total_b=total_b, active_b=active_b)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(models.corrected(UPSTREAM))


def test_a_line_is_found_again_and_has_no_error() -> None:
    rows = [a_model(maker, price) for maker in "abcd" for price in (-1.0, 0.0, 1.0)]
    found = fitted(rows, "params_active_b", ("price",))
    assert found.intercept == pytest.approx(math.log(20))
    assert found.coefficients == pytest.approx((0.5,))
    assert (found.n, found.shapes, found.providers) == (12, 12, 4)
    assert (found.median_factor, found.factor, found.bias) == pytest.approx((1, 1, 1))
    size = found.size(Known(id="x", provider="x", price=2.0, context=None, total_b=None, active_b=None))
    assert size is not None
    assert (size.low, size.mid, size.high) == pytest.approx((20 * math.e,) * 3)
    assert found.size(Known(id="x", provider="x", price=None, context=1.0, total_b=None, active_b=None)) is None


def test_what_is_inferred_from_an_estimated_total_has_the_doubt_of_both(study: Study) -> None:
    rows = {row["id"]: row for row in models.corrected(UPSTREAM)}
    grok, of_total = rows["xai/grok-4.5"], study.active_of_total
    size = study.sizes(grok)["params_active_b"]
    slope = of_total.coefficients[of_total.names.index("total")]
    both = math.hypot(math.log(of_total.factor), slope * math.log(sizes.POINT_FACTOR))
    assert (math.log(size.mid / size.low), math.log(size.high / size.mid)) == pytest.approx((both, both))
    assert both > math.log(of_total.factor) * 1.005
    known = Known(id="x", provider="x", price=0.0, context=None, total_b=1.0, active_b=None)
    published = of_total.size(known)
    assert published is not None
    assert published.high / published.mid == pytest.approx(of_total.factor)


def test_no_end_of_the_active_count_lies_above_that_of_an_estimated_total(study: Study) -> None:
    rows = {row["id"]: row for row in models.corrected(UPSTREAM)}
    tiny = {
        **rows["xai/grok-4.5"],
        **dict.fromkeys(("params_total_b", "params_total_min_b", "params_total_max_b"), "9"),
    }
    size = study.sizes(tiny)["params_active_b"]
    assert (size.low, size.mid, size.high) == (3.0, 9.0, 27.0)


def test_each_maker_is_predicted_from_the_others_alone() -> None:
    x, y = np.array([[0.0], [1.0], [0.0], [1.0], [0.5]]), np.array([0.0, 1.0, 2.0, 3.0, 10.0])
    errors = left_out(x, y, np.ones(5), ["a", "a", "b", "b", "c"])
    # without c the line through a and b is y = x + 1; without a or b, c pulls the line of the other two by a third
    assert errors[4] == pytest.approx(10 - 1.5)
    assert errors[:2] == pytest.approx([0 - (2.5 + 7.5 / 3 - 0.5), 1 - (2.5 + 7.5 / 3 + 0.5)])
    mean_alone = left_out(x[:, :0], y, np.ones(5), ["a", "a", "b", "b", "c"])
    assert mean_alone == pytest.approx([-5.0, -4.0, 2 - 11 / 3, 3 - 11 / 3, 10 - 1.5])


def test_the_interval_is_as_wide_as_the_makers_differ() -> None:
    """One maker of so many is ten times off: nine of ten errors are those of the others, unless there are too few."""

    def of(makers: int) -> sizes.Regression:
        rows = [a_model(f"m{number}", 0.0, factor=10 if number == 0 else 1) for number in range(makers)]
        return fitted(rows, "params_active_b", ("price",))

    assert of(20).factor == pytest.approx(10 ** (1 / 19))
    assert of(9).factor == pytest.approx(10)
    assert of(9).median_factor == pytest.approx(10 ** (1 / 8))
    assert conformal(np.arange(1.0, 20.0), np.ones(19)) == 18.0  # 0.9 x 20 rows
    assert conformal(np.arange(1.0, 6.0), np.ones(5)) == 5.0  # too few rows to say: the largest
    assert conformal(np.array([-3.0, 1.0, 2.0]), np.array([0.1, 10.0, 10.0])) == 2.0  # by weight and without sign


def test_a_shape_sold_many_times_counts_once() -> None:
    once = [a_model(maker, price) for maker in "abcd" for price in (0.0, 1.0)] + [a_model("e", 0.0, factor=8.0)]
    again = [*once, *[once[-1]] * 9]
    assert fitted(again, "params_active_b", ("price",)).coefficients == pytest.approx(
        fitted(once, "params_active_b", ("price",)).coefficients
    )
    assert fitted(again, "params_active_b", ("price",)).shapes == 9


def test_two_makers_are_too_few() -> None:
    with pytest.raises(ValueError, match="2 makers publish it, three are needed"):
        fitted([a_model(maker, price) for maker in "ab" for price in (0.0, 1.0)], "params_active_b", ("price",))


def test_what_counts_as_a_price_and_as_published(study: Study) -> None:
    used = {model.id for model in study._published}
    assert "ibm/granite-4.2-8b" not in used  # its active parameters are assumed
    assert not used & {model.id for model in study._estimated}
    by_id = {row["id"]: sizes._known(row) for row in models.corrected(UPSTREAM)}
    assert by_id["deepseek/deepseek-v4-pro"].price is None  # the catalogues disagree
    assert by_id["mistral/devstral-small-2"].price is None  # free
    assert by_id["openai/o3"].price == pytest.approx((3 * math.log(2) + math.log(8)) / 4)


def test_the_real_regressions_beat_the_mean_on_unseen_makers(study: Study) -> None:
    for regression in study.regressions:
        mean, price = regression.baselines["the mean"], regression.baselines["price alone"]
        assert regression.median_factor < price[0] < mean[0]
        assert regression.factor <= price[1] < mean[1]
        assert 0.86 <= regression.coverage <= 0.94
        assert 1 / 1.1 < regression.bias < 1.1
        assert regression.providers >= 19
    total, active, _ = study.regressions
    assert (round(total.median_factor, 2), round(total.factor, 1)) == (2.14, 9.1)
    assert (round(active.median_factor, 2), round(active.factor, 1)) == (1.63, 6.2)


def test_ecologits_estimates_are_no_input_and_mostly_agree(study: Study) -> None:
    total, active = study.agreements
    assert (active.shapes, active.models) == (34, 58)
    assert active.inside >= 0.9
    assert total.inside >= 0.85
    rows = [
        row
        for row in models.corrected(UPSTREAM)
        if "EcoLogits" not in row["params_source"] or row["params_kind"] == "published"
    ]
    assert Study(rows).active == study.active


def test_a_published_or_estimated_count_is_never_replaced(study: Study) -> None:
    for row in models.corrected(UPSTREAM):
        given = {field for field in ("params_total_b", "params_active_b") if row[field]}
        assert not given & set(study.sizes(row))


def test_every_model_without_parameters_gets_a_wide_size_or_a_reason() -> None:
    with (UPSTREAM.parent / "models.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    unknown = {row["id"]: row["params_note"] for row in rows if not row["params_active_b.mid"]}
    assert set(unknown) == {"grok-code-fast-1", "seed-2.0-pro"}
    assert "the catalogues disagree on its price, so that none can be inferred" in unknown["grok-code-fast-1"]
    assert "it has no price, so that none can be inferred" in unknown["seed-2.0-pro"]
    inferred = [row for row in rows if row["params_active_b.sources"].startswith("regression:")]
    assert len(inferred) == 46
    for row in inferred:
        low, mid, high = (float(row[f"params_active_b.{end}"]) for end in ("low", "mid", "high"))
        assert mid / low > 4
        assert high / mid > 4
        assert high <= float(row["params_total_b.high"])
        assert "inferred from price" in row["params_note"]
    by_id = {row["id"]: row for row in rows}
    assert by_id["grok-4.5"]["params_total_b.sources"] == "params:grok-4.5|size-point-v1"
    assert (
        by_id["grok-4.5"]["params_active_b.sources"]
        == "regression:params_active_b:price+total|model-prices-0.0.5|params:grok-4.5|size-point-v1"
    )
    assert "its price lies beyond those of all models" in by_id["o3-pro"]["params_note"]
    assert "preview" in by_id["step-5-preview"]["params_note"]
