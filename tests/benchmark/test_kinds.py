"""Judging the reading of kinds: the measures by hand, the fixed changes, and labels without texts."""

from __future__ import annotations

import csv
import gzip
import random
from collections import Counter
from pathlib import Path

import pytest

from benchmark import kinds
from benchmark.__main__ import main
from ecoroute_mcp.kind import KINDS, SORTS, Weights, read_weights, weights_file
from ecoroute_mcp.sci import EcoRouteError

DATA = Path(__file__).resolve().parents[2] / "data"


def test_f1_of_each_kind_met() -> None:
    truth = ["debug", "debug", "debug", "chat"]
    said = ["debug", "debug", "chat", "chat"]
    assert kinds.f1(truth, said) == {"chat": pytest.approx(2 / 3), "debug": pytest.approx(0.8)}


def test_kappa_is_agreement_beyond_chance() -> None:
    assert kinds.kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"]) == pytest.approx(0.5)
    assert kinds.kappa(["a", "b"], ["a", "b"]) == 1


def test_calibration_error_is_the_mean_distance_over_bins() -> None:
    assert kinds.calibration_error([True, False], [0.75, 0.75]) == pytest.approx(0.25)
    assert kinds.calibration_error([True, True, True, False], [0.75, 0.75, 0.75, 0.75]) == 0
    assert kinds.calibration_error([True, False], [1.0, 0.05]) == pytest.approx(0.025)


def test_the_changes_are_fixed_and_touch_what_they_say() -> None:
    text = "please write the function"
    for change in kinds.CHANGES.values():
        assert change(text, random.Random(7)) == change(text, random.Random(7)) != text
    assert kinds.with_other_case(text, random.Random(1)).lower() == text
    assert kinds.with_other_whitespace(text, random.Random(1)).split() == text.split()
    slipped = kinds.with_slips(text, random.Random(3)).split()
    assert sum(a != b for a, b in zip(slipped, text.split(), strict=True)) == 1
    assert kinds.with_slips("a b c", random.Random(3)) == "a b c"


def test_the_labels_are_ids_and_kinds_and_parts_share_no_turn() -> None:
    with (DATA / "kind_labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"turn", "text_sha256", "part", "reading", "label"}
    assert {row["label"] for row in rows} <= {*KINDS, kinds.UNCLEAR}
    parts = {part: {row["turn"] for row in rows if row["part"] == part} for part in ("training", "evaluation")}
    assert len(parts["evaluation"]) == 320
    assert parts["training"].isdisjoint(parts["evaluation"])
    for part, count in (("evaluation", 320), ("training", 753)):
        assert Counter(row["reading"] for row in rows if row["part"] == part) == {"1": count, "2": count}


def test_the_two_readers_agree_as_the_guide_says() -> None:
    with (DATA / "kind_labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    guide = (DATA / "kind_guide.md").read_text(encoding="utf-8")
    for part, agreement, clear in (("evaluation", 0.831, 248), ("training", 0.851, 618)):
        first, second = ([r["label"] for r in rows if (r["part"], r["reading"]) == (part, n)] for n in ("1", "2"))
        assert kinds.kappa(first, second) == pytest.approx(agreement, abs=5e-4)
        assert sum(a == b != kinds.UNCLEAR for a, b in zip(first, second, strict=True)) == clear
        assert f"{clear} {part} turns" in guide


def test_a_turn_counts_for_each_kind_by_the_share_of_its_readers() -> None:
    def turn(name: str, *labels: str) -> kinds.Turn:
        return kinds.Turn(id=name, conversation=f"c{name}", text=f"text {name}", labels=labels)

    found = kinds.examples_of(
        [turn("1", "debug", "refactor"), turn("2", "unclear", "chat"), turn("3", "test", "test"), turn("4", "unclear")]
    )
    assert [(each.text, each.kind, each.weight, each.group) for each in found] == [
        ("text 3", "test", 1.0, "c3"),
        ("text 1", "refactor", 0.5, "c1"),
        ("text 1", "debug", 0.5, "c1"),
        ("text 2", "chat", 0.5, "c2"),
    ]


def test_written_turns_are_of_every_kind_and_none_is_near_another() -> None:
    found = kinds.written_turns(DATA / "kind_turns.jsonl")
    assert {each.kind for each in found} == set(KINDS)
    assert len({each.group for each in found}) == len(found)
    texts = [each.text for each in found]
    assert len(set(texts)) == len(texts)
    by_name = kinds.Likeness(texts[1::2])
    assert sum(map(by_name.near, texts[::2])) < 0.01 * len(texts)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Why does my loop over the rows never end?", True),
        ("why does my LOOP over the rows - never end", True),
        ("why does my loop over rows never end", True),
        ("why does the parser stop at a comma", False),
        ("Please help: this function returns the wrong sum when the list is empty or so, why?", True),
        ("a function", False),
    ],
)
def test_nearly_the_same_text_is_found(text: str, near: bool) -> None:
    given = ["why does my loop over the rows never end", "this function returns the wrong sum when the list is empty"]
    assert kinds.Likeness(given).near(text) is near


def test_written_sentences_are_filled_the_same_each_time() -> None:
    first, again = (kinds.phrases(DATA / "kind_phrases.tsv") for _ in range(2))
    assert first == again
    assert {example.kind for example in first} == set(KINDS)
    assert [example.text for example in first if "{l}" in example.text or "{c" in example.text] == []


def test_weights_read_as_they_were_written(tmp_path: Path) -> None:
    row = tuple(range(len(KINDS)))
    weights = Weights(row, {"head why": row}, {"fix": row, "lathe": row}, {"^ fix": row}, frozenset({"fix"}))
    path = tmp_path / "weights.csv"
    path.write_text(kinds.written(weights), encoding="utf-8")
    assert read_weights(path) == weights


def test_the_shipped_weights_are_of_the_sorts_known() -> None:
    lines = weights_file().read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# generated by `python -m benchmark kind-train`")
    assert {line.partition(";")[0] for line in lines[2:]} == set(SORTS)
    assert {line.count(";") for line in lines[2:]} == {len(KINDS) + 1}


def test_a_folder_without_the_turns_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kind-eval", "--data", str(tmp_path)]) == 2
    assert "devprompts_unlabelled.csv.gz is missing" in capsys.readouterr().err


def test_a_text_other_than_the_labelled_one_is_refused(tmp_path: Path) -> None:
    with gzip.open(tmp_path / kinds.TURNS, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pid", "conversation_id", "turn", "text", "english", "next_gap_label"])
        writer.writerow(["CC0000", "x", "1", "another text", "True", ""])
    with pytest.raises(EcoRouteError, match="is not the text that was labelled"):
        kinds.turns(tmp_path, DATA / "kind_labels.csv", "training")
