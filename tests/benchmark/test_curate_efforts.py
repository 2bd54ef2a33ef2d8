"""The ladder of efforts: what the counts give, to the digit; what one count moves; what is refused."""

import csv
import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from benchmark.curate import efforts
from ecoroute_mcp.sci import EcoRouteError

DATA = Path(__file__).parents[2] / "data"
SHIPPED = DATA / "upstream" / efforts.UPSTREAM
SMALL = {
    ("aider-polyglot", "both", "none"): 100.0,
    ("aider-polyglot", "both", "thinking"): 400.0,
    ("coderouterbench", "kind", "none"): 10.0,
    ("coderouterbench", "kind", "thinking"): 160.0,
    ("llm-chess", "even", "low"): 10.0,
    ("llm-chess", "even", "medium"): 20.0,
    ("llm-chess", "even", "high"): 80.0,
    ("llm-chess", "even", "xhigh"): 160.0,
    ("aider-polyglot", "uneven", "low"): 110.0,
    ("aider-polyglot", "uneven", "medium"): 180.0,
    ("aider-polyglot", "uneven", "high"): 420.0,
    ("aider-polyglot", "uneven", "xhigh"): 740.0,
}
"""The answer is 100 tokens in the first benchmark and nothing in the last: steps of 2 and 8, of 4 and 4, of 2 and 2."""


def written(folder: Path, rows: Iterable[Mapping[str, object]]) -> Path:
    with (folder / efforts.UPSTREAM).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, efforts.COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def small(folder: Path, changed: Mapping[tuple[str, str, str], object] = MappingProxyType({})) -> Path:
    every: dict[tuple[str, str, str], object] = {**SMALL, **changed}
    return written(
        folder,
        [
            {"benchmark": benchmark, "subject": subject, "effort": effort, "tokens": tokens}
            for (benchmark, subject, effort), tokens in every.items()
            if tokens is not None
        ],
    )


def shipped() -> list[dict[str, str]]:
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ladder(upstream: Path) -> dict[str, tuple[float, float, float]]:
    rows = efforts.tables(upstream)["efforts.csv"]
    low, mid, high = ([float(row[f"output_multiplier.{end}"]) for row in rows] for end in ("low", "mid", "high"))
    return dict(zip([row["effort"] for row in rows], zip(low, mid, high, strict=True), strict=True))


def test_the_shipped_ladder_is_what_the_counts_give() -> None:
    lines = [line for line in (DATA / "efforts.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert list(csv.DictReader(lines)) == efforts.tables(DATA / "upstream")["efforts.csv"]
    assert ladder(DATA / "upstream") == {
        "none": (1, 1, 1),
        "minimal": (1.03, 1.297, 2.646),
        "low": (1.117, 1.984, 5.285),
        "medium": (1.414, 4.26, 13.98),
        "high": (1.961, 8.573, 31.15),
        "xhigh": (2.487, 13.6, 56.86),
        "max": (3.014, 21.98, 124.4),
        "thinking": (1.641, 5.969, 20.33),
        "default": (1, 2.443, 20.33),
    }


def test_more_effort_never_writes_less() -> None:
    rungs = list(ladder(DATA / "upstream").values())[:7]
    for below, above in itertools.pairwise(rungs):
        assert all(lower <= higher for lower, higher in zip(below, above, strict=True))
    assert all(low <= mid <= high for low, mid, high in rungs)


def test_a_small_ladder_by_hand(tmp_path: Path) -> None:
    found = ladder(small(tmp_path))
    unlevelled = [found[effort] for effort in ("thinking", "default")]
    assert unlevelled == [(4, 8, 16), (1, 2.828, 16)]
    middles = {effort: mid for effort, (_, mid, _) in found.items()}
    assert middles["medium"] == 1 + 7 / 2
    assert middles["high"] == 1 + 7 * 2
    assert middles["low"] == 1 + 7 / 2 / 4
    assert middles["minimal"] == round(1 + 7 / 2 / 4 / 4, 3)
    assert middles["xhigh"] == 1 + 7 * 2 * 2
    assert middles["max"] == 1 + 7 * 2 * 2 * 2
    spread = math.sqrt((math.log(8) - math.log(2)) ** 2 / 2 / 3)
    apart = 1.6448536 * spread * math.sqrt(0.25 * 1.5 + 1.5)
    low = 1 + 0.875 * math.exp(-math.hypot(math.log(7 / 3), apart))
    high = 1 + 0.875 * math.exp(math.hypot(math.log(15 / 7), apart))
    assert [low, high] == pytest.approx([1.189, 4.864], abs=1e-3)
    assert found["low"] == (float(f"{low:.4g}"), 1.875, float(f"{high:.4g}"))


def test_a_model_counted_twice_weighs_once(tmp_path: Path) -> None:
    again = {("llm-chess", "uneven", effort): SMALL["llm-chess", "even", effort] for effort in ("low", "medium")}
    step = efforts.count(efforts.read(small(tmp_path, again) / efforts.UPSTREAM)).steps["low", "medium"]
    assert step.models == 2
    assert step.benchmarks == {"aider-polyglot", "llm-chess"}
    assert step.log == pytest.approx((math.log(2) + (math.log(2) + math.log(8)) / 2) / 2)


def test_one_count_moves_the_ladder_by_its_share(tmp_path: Path) -> None:
    before = ladder(DATA / "upstream")
    rows = shipped()
    row = next(row for row in rows if (row["benchmark"], row["subject"], row["effort"]) == ("llm-chess", "o1", "low"))
    row["tokens"] = str(float(row["tokens"]) / 2)
    after = ladder(written(tmp_path, rows))
    assert after["low"][1] - 1 == pytest.approx((before["low"][1] - 1) / 2 ** (1 / 9), rel=1e-3)
    assert [after[effort][1] for effort in ("medium", "high", "max", "thinking")] == [
        before[effort][1] for effort in ("medium", "high", "max", "thinking")
    ]
    row["tokens"] = str(float(row["tokens"]) * 2)
    switched = next(row for row in rows if row["subject"] == "claude-sonnet-4" and row["effort"] == "thinking")
    switched["tokens"] = str(float(switched["tokens"]) * 2)
    assert switched["benchmark"] == "aider-polyglot"
    twice = ladder(written(tmp_path, rows))
    assert twice["thinking"][1] == pytest.approx(before["thinking"][1] * 2 ** (1 / 9), rel=1e-3)


def test_in_exercises_the_answer_is_taken_off(tmp_path: Path) -> None:
    counted = efforts.count({key: at for key, at in efforts.read(SHIPPED).items() if key != ("llm-chess", "gpt-5")})
    whole = efforts.count(efforts.read(SHIPPED))
    answer = (433373 * 514145 * 573477) ** (1 / 3)
    exercises = math.log((1468799 - answer) / (779568 - answer))
    moves = math.log(8056.548 / 3042.339)
    assert whole.steps["low", "medium"].log - counted.steps["low", "medium"].log == pytest.approx(
        ((exercises + moves) / 2 - exercises) / 9
    )
    assert math.exp(exercises) == pytest.approx(3.498, abs=1e-3)


def test_what_is_refused_says_why_and_moves_nothing(tmp_path: Path) -> None:
    rows = shipped()
    used = [row for row in rows if not row["refused"]]
    assert (len(rows), len(used)) == (117, 72)
    assert ladder(written(tmp_path, used)) == ladder(DATA / "upstream")
    assert all(len(row["refused"]) > 20 for row in rows if row["refused"])
    silent = [row for row in rows if row["subject"] == "claude-opus-4" and row["benchmark"] == "aider-polyglot"]
    assert [row["tokens"] for row in silent] == ["380717", "363142"]
    assert all(row["refused"] for row in silent)


def test_a_blank_reason_refuses_nothing(tmp_path: Path) -> None:
    rows = shipped()
    row = next(row for row in rows if row["subject"] == "gpt-5" and row["effort"] == "low")
    row["refused"] = " "
    assert ladder(written(tmp_path, rows)) == ladder(DATA / "upstream")


def test_the_model_whose_dollars_and_tokens_disagree_counts_nowhere() -> None:
    assert ("llm-chess", "gpt-5.4") not in efforts.read(SHIPPED)
    steps = efforts.count(efforts.read(SHIPPED)).steps
    assert {step: (round(math.exp(at.log), 3), at.models) for step, at in steps.items()} == {
        ("low", "medium"): (3.314, 9),
        ("medium", "high"): (2.323, 10),
        ("high", "xhigh"): (1.664, 3),
    }


def test_answers_of_a_sentence_in_chess_would_stay_inside_the_intervals() -> None:
    counts = efforts.read(SHIPPED)
    less = {
        key: {effort: tokens - 125 * (key[0] in efforts.MOVES) for effort, tokens in at.items()}
        for key, at in counts.items()
        if "none" not in at
    }
    shorter, whole = efforts.count({**counts, **less}), efforts.count(counts)
    middles = {effort: shorter.multiplier(effort)[1] for effort in ("low", "high", "max")}
    assert middles == pytest.approx({"low": 1.837, "high": 8.743, "max": 23.64}, rel=1e-3)
    for effort, middle in middles.items():
        assert whole.multiplier(effort)[0] < middle < whole.multiplier(effort)[2]


def test_what_no_step_was_made_of_lies_within_the_ladder() -> None:
    """One effort against none, of two models; and the published ratio of the highest effort to the lowest."""
    rungs = ladder(DATA / "upstream")
    tokens = {(row["subject"], row["effort"]): float(row["tokens"] or 0) for row in shipped()}
    ratios = [tokens[model, "high"] / tokens[model, "none"] for model in ("claude-sonnet-4-6", "claude-sonnet-5")]
    assert ratios == pytest.approx([27.26, 11.81], abs=0.01)
    assert all(rungs["high"][0] < ratio < rungs["high"][2] for ratio in ratios)
    assert rungs["high"][1] / rungs["low"][1] < 7.3 < rungs["max"][1] / rungs["low"][1]


def test_a_switch_without_a_level_lies_between_medium_and_high_in_exercises() -> None:
    at = {subject: tokens for (name, subject), tokens in efforts.read(SHIPPED).items() if name == "aider-polyglot"}
    answer = (433373 * 514145 * 573477) ** (1 / 3)
    medium, high = (
        math.sqrt((at["gpt-5"][effort] / answer - 1) * (at["o3"][effort] / answer - 1)) for effort in ("medium", "high")
    )
    thinking = math.prod(tokens["thinking"] / tokens["none"] for tokens in at.values() if "none" in tokens) ** (1 / 3)
    assert thinking - 1 == pytest.approx(2.537, abs=1e-3)
    assert math.sqrt(medium * high) == pytest.approx(2.378, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "repair"),
    [
        ({("llm-chess", "even", "lowest"): 3}, "'lowest' is no effort that steps are counted between: write one of"),
        ({("llm-chess", "even", "low"): ""}, "tokens are '': write the number that was counted, or say in `refused`"),
        ({("llm-chess", "even", "low"): 0}, "tokens are '0': write the number that was counted"),
        ({("llm-chess", "even", "low"): "nan"}, "tokens are 'nan': write the number"),
        ({("llm-chess", "new", "low"): 5}, "new of llm-chess at low has no neighbour to compare it with: add the row"),
        ({("coderouterbench", "kind", "none"): None}, "kind of coderouterbench at thinking has no neighbour"),
        (
            {("aider-polyglot", "both", "thinking"): 100},
            "both of aider-polyglot writes no more with reasoning than without, 100 tokens and 100: see that reasoning "
            "was counted, or say in `refused` that it was not",
        ),
        ({("aider-polyglot", "uneven", "low"): 90}, "uneven of aider-polyglot writes no more than an answer without"),
        (
            {("aider-polyglot", "both", "none"): None, ("aider-polyglot", "both", "thinking"): None},
            "the answer cannot be told from the reasoning: add one at effort none",
        ),
        ({("llm-chess", "even", "xhigh"): None}, "fewer than two models step from high to xhigh: count another"),
        (
            {(name, subject, effort): None for name, subject, effort in SMALL if effort in ("none", "thinking")}
            | {("llm-chess", "uneven", effort): 2 for effort in ("low", "medium", "high", "xhigh")}
            | {("aider-polyglot", "uneven", effort): None for effort in ("low", "medium", "high", "xhigh")},
            "no model was counted with and without reasoning: count one",
        ),
    ],
)
def test_a_bad_row_is_refused_with_its_repair(
    changed: Mapping[tuple[str, str, str], object], repair: str, tmp_path: Path
) -> None:
    with pytest.raises(EcoRouteError) as refused:
        ladder(small(tmp_path, changed))
    assert repair in str(refused.value)


def test_a_row_twice_or_other_columns_are_refused(tmp_path: Path) -> None:
    rows = shipped()
    with pytest.raises(EcoRouteError, match=r"effort_tokens.csv, line 119: gpt-5 at low stands twice: keep one"):
        ladder(written(tmp_path, [*rows, rows[0]]))
    (tmp_path / efforts.UPSTREAM).write_text("model,tokens\n", "utf-8")
    with pytest.raises(EcoRouteError, match="the columns are not benchmark, subject, effort"):
        ladder(tmp_path)


@pytest.mark.parametrize("cells", [9, 11])
def test_a_row_of_other_than_ten_cells_is_refused_by_line(cells: int, tmp_path: Path) -> None:
    with (small(tmp_path) / efforts.UPSTREAM).open("a", encoding="utf-8") as file:
        file.write(",".join(["x"] * cells) + "\n")
    with pytest.raises(EcoRouteError, match=r"effort_tokens.csv, line 14: the row has other than 10 cells: give each"):
        ladder(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EcoRouteError, match=r"effort_tokens.csv cannot be read \(No such file or directory\): put"):
        ladder(tmp_path)
    (tmp_path / efforts.UPSTREAM).write_bytes(b"benchmark,\xff\n")
    with pytest.raises(EcoRouteError, match=r"effort_tokens.csv is not UTF-8 from byte 10 on: save it as UTF-8"):
        ladder(tmp_path)
