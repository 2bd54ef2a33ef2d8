"""Training of what is shipped, and the commands, on small tables made here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from benchmark import routing, routing_eval, routing_report, routing_train
from benchmark.__main__ import main
from benchmark.routing_eval import Bar, Bench, Section, Spent, operate, saved_rows, within_budget
from benchmark.routing_fit import logistic
from ecoroute_mcp import wording
from ecoroute_mcp.difficulty import KNOWN_TERMS, Difficulty
from ecoroute_mcp.sci import EcoRouteError

EASY, HARD = "print the sum of two small numbers", "count weighted paths in a tree modulo a prime"


def livecode_folder(folder: Path, *, tasks: int = 150) -> Path:
    """LiveCodeBench's table with made outcomes: a hard task is 4 logits harder; abilities are 4 + 2 θ."""
    draw = np.random.default_rng(0)
    hard = np.arange(tasks) % 2
    difficulty = 4.0 * hard - 2 + draw.normal(0, 0.3, tasks)
    thetas = routing.thetas()
    table = {
        "group": [f"g{row}" for row in range(tasks)],
        "difficulty": np.where(hard, "hard", "easy"),
        "contest_date": [f"{2024 + (row >= 120)}-0{1 + row % 9}-01" for row in range(tasks)],
        "text": [f"{HARD if odd else EASY} number {row}" for row, odd in enumerate(hard)],
    }
    for name, ran in routing.LIVECODE_MODELS.items():
        theta = thetas.get((ran.model, "default" if ran.effort == "none" else ran.effort), -1.0)
        chance = logistic(4 + 2 * theta - difficulty)
        table[f"pass1|{name}"] = 10.0 * draw.binomial(10, chance)
    for number, ability in enumerate(np.linspace(-3, 4, 60)):
        table[f"pass1|filler {number}"] = 10.0 * draw.binomial(10, logistic(ability - difficulty))
    pd.DataFrame(table).to_parquet(folder / routing.LIVECODE)
    return folder


def coderouter_folder(folder: Path, *, tasks: int = 200) -> Path:
    """CodeRouterBench's table: even tasks are the cheap model's strength, odd ones the dear one's, by kind."""
    draw = np.random.default_rng(1)
    odd = np.arange(tasks) % 2
    table: dict[str, object] = {
        "split": np.where(np.arange(tasks) < tasks // 2, "probing", "id_test"),
        "dimension": np.where(odd, "bug_fixing", "code_completion"),
        "grader": "exec",
        "group": [f"g{row}" for row in range(tasks)],
        "text": [f"text {row}" for row in range(tasks)],
    }
    for name in routing.CODEROUTER_MODELS:
        chance = {"opus-4-6": 0.2 + 0.7 * odd, "kimi-k2.5": 0.9 - 0.7 * odd}.get(name, np.full(tasks, 0.1))
        table[f"score|{name}"] = (draw.random(tasks) < chance).astype(float)
        table[f"in_tok|{name}"] = 100.0
        table[f"out_tok|{name}"] = 100.0
    pd.DataFrame(table).to_parquet(folder / routing.CODEROUTER)
    return folder


def test_the_link_and_the_difficulty_that_made_the_outcomes_are_found_again(tmp_path: Path) -> None:
    trained = routing_train.train(livecode_folder(tmp_path))
    document = trained.document
    assert document["link"]["slope"] == pytest.approx(2, abs=0.35)
    assert document["kinds"]["generate"]["spread"] == pytest.approx(2.0, abs=0.4)
    difficulty = Difficulty(document)
    easy, hard = difficulty.predict("generate", f"{EASY} number 7"), difficulty.predict("generate", f"{HARD} number 7")
    assert easy is not None
    assert hard is not None
    assert hard.mean - easy.mean > 0.6
    assert easy.spread < document["kinds"]["generate"]["spread"]
    assert "logits per unit of θ" in trained.report
    assert len(json.dumps(document)) < 300_000


def test_what_is_shipped_predicts_as_what_was_trained() -> None:
    draw = np.random.default_rng(0)
    texts = [f"{HARD if row % 2 else EASY} {row} " + "x" * (row % 7) for row in range(60)]
    target = np.arange(60) % 2 + draw.normal(0, 0.1, 60)
    reading = routing_train.text_reading(texts, target, np.array([str(row) for row in range(60)]))
    kinds = {"generate": {"mean": 0.0, "spread": 1.0, "tasks": 60}}
    shipped = Difficulty(
        {
            "version": 1,
            "link": {
                "offset": 0,
                "slope": 1,
                "residual_sd": 0,
                "models": 2,
                "theta_from": -1,
                "theta_to": 1,
                "theta_mean": 0,
                "theta_squares": 2,
            },
            "kinds": kinds,
            "texts": {"generate": {**reading.document, "spread": 0.5}},
        }
    )
    read = [wording.read(text) for text in texts]
    rows = routing_train.word_rows(read, routing_train.idf_of(read))
    trained = Ridge(alpha=reading.penalty).fit(rows, target).predict(rows)
    known = (rows > 0).sum(1)
    served = [shipped.predict("generate", text) for text in texts]
    assert [task.mean for task in served if task] == pytest.approx(
        list(trained * known / (known + KNOWN_TERMS)), abs=1e-3
    )
    assert reading.explained > 0.8


@pytest.mark.parametrize("models", [12, 70])
def test_a_kinds_mean_and_spread_are_the_likeliest(models: int) -> None:
    draw = np.random.default_rng(3)
    ability = np.linspace(-1, 3, models)
    difficulty = draw.normal(1.0, 1.5, 800)
    outcomes = (draw.random((800, models)) < logistic(ability[None, :] - difficulty[:, None])).astype(np.float64)
    mean, spread = routing_train.kind_spread(outcomes, ability)
    assert mean == pytest.approx(1.0, abs=0.15)
    assert spread == pytest.approx(1.5, abs=0.2)


def test_tasks_that_no_or_every_model_solves_have_no_spread() -> None:
    for all_alike in (np.zeros((50, 4)), np.ones((50, 4))):
        with pytest.raises(EcoRouteError, match="take tasks that some models solve and some do not"):
            routing_train.kind_spread(all_alike, np.linspace(-1, 1, 4))


def test_too_few_models_in_both_tables_are_refused() -> None:
    with pytest.raises(EcoRouteError, match="five are needed"):
        routing_train.linked(["O4-Mini (High)"], np.array([1.0]), routing.LIVECODE_MODELS)


def test_a_router_that_does_not_beat_the_mix_where_it_was_chosen_is_not_used() -> None:
    draw = np.random.default_rng(0)
    quality = (draw.random((400, 2)) < np.array([0.9, 0.6])).astype(np.float64)
    energy = np.tile(np.array([10.0, 1.0]), (400, 1))
    groups = np.array([str(row) for row in range(400)])
    blind = Bench(quality, energy, draw.random((400, 2)), groups)
    point = operate(0.9, blind, blind, 0)
    assert point.fell_back
    assert saved_rows([point], blind, 0)[0][6] == 0
    knowing = Bench(quality, energy, quality, groups)
    point = operate(0.98, knowing, knowing, 0)
    row = saved_rows([point], knowing, 0)[0]
    assert not point.fell_back
    assert row[6] == pytest.approx(row[1] - row[4])
    assert row[6] > 25
    assert row[7] > 0
    assert row[-1] == "router"


def test_a_budget_is_kept_by_blending_two_prices() -> None:
    tried = [Spent(0.0, 60.0, 20.0), Spent(1.0, 56.0, 12.0), Spent(2.0, 40.0, 10.0)]
    able, other, part, score = within_budget(tried, 16.0)
    assert (able, other, part, score) == (tried[0], tried[1], 0.5, 58.0)
    assert within_budget(tried, 30.0)[2:] == (0.0, 60.0)
    with pytest.raises(EcoRouteError, match="try higher ones"):
        within_budget(tried, 9.0)


def test_the_declared_kind_beats_always_best(tmp_path: Path) -> None:
    section = routing_eval.declared_kind(routing.read_coderouter(coderouter_folder(tmp_path)))
    by_name = {row[0]: row for row in section.rows}
    assert by_name["this router"][1] > 80
    assert max(row[1] for name, row in by_name.items() if name.startswith("always")) < 65
    opus = next(row for name, row in by_name.items() if name.startswith("always dearest"))
    # 100 tokens in at $5 and 100 out at $25 a million.
    assert opus[2] == pytest.approx(0.003 * 2_919)


def test_problems_on_both_sides_of_a_benchmarks_own_split_are_counted(tmp_path: Path) -> None:
    outcomes = routing.read_coderouter(coderouter_folder(tmp_path))
    groups = np.array([f"g{row - 100 if 100 <= row < 125 else row}" for row in range(200)])
    section = routing_eval.declared_kind(replace(outcomes, groups=groups))
    assert "25 % of the test rows share theirs with the probing part" in section.notes[1]


def test_a_task_with_nothing_to_read_gets_the_mix() -> None:
    quality = np.tile([[1.0, 1.0], [1.0, 0.0]], (100, 1))
    energy = np.tile(np.array([10.0, 1.0]), (200, 1))
    groups = np.array([str(row) for row in range(200)])
    silent = np.arange(200) < 50
    known = Bench(quality, energy, quality, groups)
    point = operate(1.0, known, Bench(quality, energy, quality, groups, silent), 0)
    assert not point.fell_back
    assert point.router[silent].tolist() == point.mix[silent].tolist() == [[1.0, 0.0]] * 50
    assert point.router[50:52].tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_earlier_contests_choose_for_later_ones(tmp_path: Path) -> None:
    declared, nothing, text_alone = routing_eval.later_contests(routing.read_livecode(livecode_folder(tmp_path)))
    assert "The difficulty is declared" in declared.method
    assert "120 tasks before, 30 after" in declared.method
    assert [bar.name for bar in declared.bars] == ["Lift@98", "Lift@98, lower bound", "Lift@99", "Lift@99, lower bound"]
    by_name = {row[0]: row for row in declared.rows}
    for floor in (0.98, 0.99):
        assert by_name[f"{floor:g} by level, chosen in hindsight"][2] >= 100 * floor - 1e-9
    assert not any("hindsight" in str(row[0]) for row in nothing.rows)
    for section in (declared, nothing):
        assert [row[0] for row in section.rows[:5]] == list(routing_eval.QUALITIES)
    assert not nothing.bars
    assert declared.notes == ("tasks before and after by level: easy 60 and 15, hard 60 and 15",)
    assert "among the 3 models" in text_alone.method


def test_a_models_energies_are_apart_as_the_efforts_that_it_ran_at() -> None:
    names = ("O4-Mini (Low)", "O4-Mini (Medium)", "O4-Mini (High)", "nobody")
    low, medium, high, nobody = routing.livecode_j(names, 2)[1]
    assert medium / low == pytest.approx(4.26 / 1.984)
    assert high / low == pytest.approx(8.573 / 1.984)
    assert np.isnan(nobody)


def test_the_report_puts_the_bars_first_and_marks_what_is_missed() -> None:
    section = Section(
        "A protocol",
        "How it was done.",
        (
            Bar.at_least("APGR", 0.7, 0.65, (0.6, 0.8), origin="published best .603"),
            Bar.at_most("CPT50 %", 31.0, 29, origin="published best 35.4"),
        ),
        ("router", "APGR"),
        (("this router", 0.7), ("oracle", None)),
        ("a note",),
    )
    text = routing_report.markdown([section])
    assert "| A protocol | APGR | 0.700 | 0.600 to 0.800 | >= 0.65 | yes | published best .603 |" in text
    assert "| A protocol | CPT50 % | 31.0 |  | <= 29 | **no** | published best 35.4 |" in text
    assert "| oracle | - |" in text
    assert text.index("## Bars") < text.index("## A protocol")


def test_a_training_says_the_same_in_json_as_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coderouter_folder(livecode_folder(tmp_path))
    assert main(["route-train", "--data", str(tmp_path)]) == 0
    words = capsys.readouterr().out
    assert main(["route-train", "--data", str(tmp_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert f"correlation {figures['validation']['correlation']:.2f}, " in words
    for row in figures["validation"]["models"]:
        assert f"| {row['model']} | {row['theta']:.3f} | {row['ability']:.2f} |" in words
    text = figures["validation"]["texts"]["generate"]
    assert text["shipped"]
    assert f"{text['tasks']} tasks with one: {100 * text['explained']:.0f} % of the variance" in words
    assert figures["difficulty"]["kinds"]["generate"]["tasks"] == text["tasks"] == 150
    assert [row["model"] for row in figures["verbosity"]["rows"]][:2] == ["claude-opus-4-6", "claude-sonnet-4-6"]


@pytest.mark.parametrize("command", ["route-eval", "route-train"])
def test_without_data_nothing_is_done_and_the_word_is_clear(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is not there: give --data a folder that holds" in said
    assert "nothing is downloaded" in said


def test_what_is_no_table_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / routing.CRUX).write_bytes(bytes(range(256)))
    with pytest.raises(EcoRouteError, match=rf"{routing.CRUX} is no Parquet table \(.*\): fetch it again$"):
        routing.read_crux(tmp_path)


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"group": ["a"]}).to_parquet(tmp_path / routing.CRUX)
    with pytest.raises(EcoRouteError, match="lacks the columns text"):
        routing.read_crux(tmp_path)
