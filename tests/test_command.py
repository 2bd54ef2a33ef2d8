"""The `ecoroute` command as a person meets it: real processes, real data, what is printed and what it exits with."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecoroute_mcp.catalogue import Catalogue

TASK = "fix the failing pytest in our payment module"


def ecoroute(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ecoroute_mcp", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def test_recommend_answers_in_lines_and_in_json() -> None:
    text = ecoroute("recommend", TASK, "--region", "SWE")
    structured = ecoroute("recommend", TASK, "--region", "SWE", "--json")
    assert (text.returncode, text.stderr) == (0, "")
    answer = json.loads(structured.stdout)
    best = answer["recommended"]
    assert text.stdout.startswith(f"**{best['model']}**")
    assert answer["demand"]["kind"] == "debug"
    assert answer["zone"]["zone"] == "SWE"
    assert 0 < best["carbon_g"]["low"] < best["carbon_g"]["mid"] < best["carbon_g"]["high"]
    assert len(text.stdout.splitlines()) <= 20


def test_a_file_of_tasks_gives_a_result_a_line(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(
        '"fix the bug"\n\n{"task": "explain it", "region": "France"}\n{"tsk": 1}\nnot json\n'
        '{"task": "x", "context_tokens": "9"}\n',
        "utf-8",
    )
    result = ecoroute("recommend", "--jsonl", str(tasks), "--task-type", "chat")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert [line.get("line") for line in lines] == [None, None, 4, 5, 6]
    assert [line["demand"]["kind"] for line in lines[:2]] == ["chat", "chat"]
    assert lines[1]["zone"]["zone"] == "FRA"
    assert "tsk" in lines[2]["error"]
    assert "not JSON" in lines[3]["error"]
    assert "context_tokens: Input should be a valid integer" in lines[4]["error"]
    assert "3 lines could not be answered" in result.stderr
    assert ecoroute("recommend", "--jsonl", "-", stdin='"fix the bug"\n').returncode == 0


def test_a_line_that_is_no_text_costs_that_line(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    endless = b'{"task": "x", "context_tokens": ' + b"9" * 5000 + b"}"
    tasks.write_bytes(b"\n".join((rb'"half \ud800 pair"', b'"fix \xff it"', endless, b'"fix the bug"', b"")))
    result = ecoroute("recommend", "--jsonl", str(tasks))
    *bad, good = (json.loads(line) for line in result.stdout.splitlines())
    assert [line["line"] for line in bad] == [1, 2, 3]
    assert [line["error"].partition(":")[0] for line in bad] == ["not JSON in UTF-8"] * 3
    assert good["demand"]["kind"] == "debug"
    assert (result.returncode, result.stderr) == (1, "ecoroute: 3 lines could not be answered; each says why\n")


def test_the_bar_can_be_a_probability_of_success(tmp_path: Path) -> None:
    asked = ("recommend", "reverse a linked list", "--task-type", "generate", "--min-success", "0.8")
    done = ecoroute(*asked, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["demand"]["requirement"]["min_success"]["p"] == 0.8
    assert answer["recommended"]["ability"]["p_success"]["value"] >= 0.8
    assert "has to succeed in at least 80 % of such tasks" in ecoroute(*asked).stdout
    # A line of tasks that says its own bar, in either form, has no use for the command's.
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('"reverse it"\n{"task": "reverse it", "min_tier": 3}\n', "utf-8")
    lines = ecoroute("recommend", "--jsonl", str(tasks), "--task-type", "generate", "--min-success", "0.7").stdout
    bars = [json.loads(line)["demand"]["requirement"] for line in lines.splitlines()]
    assert [bar["min_tier"] for bar in bars] == [None, 3]
    assert [bar["min_success"] and bar["min_success"]["p"] for bar in bars] == [0.7, None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("recommend", ""), "the task is empty"),
        (("recommend",), "give the task as text, or --jsonl FILE"),
        (("recommend", TASK, "--region", "Swedden"), "sweden (SWE)"),
        (("recommend", TASK, "--current-model", "claude-sonet-4-5"), "claude-sonnet-4-5"),
        (("recommend", TASK, "--task-type", "debugging"), "closest: debug"),
        (("recommend", "--jsonl", "/nowhere/tasks.jsonl"), "cannot read /nowhere/tasks.jsonl"),
        (("recommend", TASK, "--candidates", " ,"), "candidates is empty: name at least one model"),
        (("rank", "--task-type", ""), "unknown task_type ''"),
        (("recommend", TASK, "--min-success", "0.8"), "none for tasks of the kind debug, only for generate"),
        (("recommend", TASK, "--min-success", "0.8", "--min-tier", "5"), "leave out one of them"),
        (("rank", "--min-success", "80"), "min_success must lie between 0 and 1, both excluded, not 80"),
        (("rank", "--limit", "0"), "limit must lie between 1 and 500"),
        (("models", "no-such-model"), "no model contains 'no-such-model'"),
        (("refresh", "--data", "/nowhere"), "there is no folder /nowhere"),
    ],
)
def test_bad_input_names_the_repair_and_exits_with_one(arguments: tuple[str, ...], said: str) -> None:
    result = ecoroute(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_rank_lists_as_many_as_asked() -> None:
    result = ecoroute("rank", "--task-type", "refactor", "--limit", "5", "--open-weights-only")
    rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 6
    answer = json.loads(
        ecoroute("rank", "--task-type", "refactor", "--limit", "5", "--open-weights-only", "--json").stdout
    )
    assert [row["model"] for row in answer["rows"]] == [row.split(" | ")[0][2:] for row in rows[1:]]


def test_models_and_regions_list_what_the_data_holds(catalogue: Catalogue) -> None:
    models = list(csv.reader(ecoroute("models").stdout.splitlines(), delimiter="\t"))
    assert [row[0] for row in models[1:]] == [model.id for model in catalogue.models]
    regions = json.loads(ecoroute("regions", "--json").stdout)
    assert len(regions["grids"]) == len(catalogue.grids)
    for grid in regions["grids"]:
        assert set(grid["intensity_g_per_kwh"]["sources"]) <= set(regions["sources"])
    assert "SWE\tSweden" in ecoroute("regions", "eu-north-1").stdout
    sweden = json.loads(ecoroute("regions", "eu-north-1", "--json").stdout)
    assert set(sweden["aliases"]) == {grid["zone"] for grid in sweden["grids"]}


def test_the_environment_sets_defaults_that_the_answer_names() -> None:
    result = ecoroute("recommend", TASK, "--json", ECOROUTE_REGION="Poland", ECOROUTE_CANDIDATES="gpt-5, qwen3:32b")
    answer = json.loads(result.stdout)
    assert answer["zone"]["zone"] == "POL"
    assert answer["zone"]["chosen_by"] == "ECOROUTE_REGION"
    assert "candidates: gpt-5, qwen3:32b, from ECOROUTE_CANDIDATES" in answer["defaulted"]
    assert (
        "ECOROUTE_CANDIDATES in the environment: candidates is empty"
        in ecoroute("recommend", TASK, ECOROUTE_CANDIDATES=",").stderr
    )
    wrong = ecoroute("recommend", TASK, ECOROUTE_REGION="Atlantis")
    assert wrong.returncode == 1
    assert "ECOROUTE_REGION in the environment" in wrong.stderr
    state = ecoroute("health", "--json", ECOROUTE_REGION="Atlantis")
    assert state.returncode == 1
    assert "ECOROUTE_REGION in the environment" in json.loads(state.stdout)["problems"][0]
    assert ecoroute("regions", "sweden", ECOROUTE_REGION="Atlantis").returncode == 0


def test_the_editors_model_is_found_and_a_broken_setting_is_said(tmp_path: Path) -> None:
    settings = tmp_path / "zed" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(
        '{ // picked last\n "agent": {"default_model": {"provider": "anthropic", "model": "claude-opus-4-5"},},}',
        "utf-8",
    )
    answer = json.loads(ecoroute("recommend", TASK, "--json", FLATPAK_XDG_CONFIG_HOME=str(tmp_path)).stdout)
    assert answer["current"]["model"] == "claude-opus-4-5"
    assert str(settings) in answer["current_note"]
    assert answer["saving_g"]["basis"] == "estimated"
    settings.write_text('{"agent": ', "utf-8")
    broken = json.loads(ecoroute("recommend", TASK, "--json", FLATPAK_XDG_CONFIG_HOME=str(tmp_path)).stdout)
    assert broken["current"] is None
    assert "settings.json" in broken["current_note"]
    assert broken["recommended"] is not None


def test_health_names_the_database_and_its_rows(catalogue: Catalogue, tmp_path: Path) -> None:
    database = tmp_path / "sci.db"
    state = json.loads(ecoroute("health", "--json", ECOROUTE_DB=str(database)).stdout)
    assert (state["status"], state["database"]) == ("ok", str(database))
    assert state["rows"]["models"] == len(catalogue.models)
    assert "it does not exist yet" in state["notice"]
    assert json.loads(ecoroute("health", "--json", ECOROUTE_DB=str(database)).stdout)["notice"] == ""


def test_a_file_that_is_not_ours_is_refused_and_kept(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Sir", "utf-8")
    result = ecoroute("recommend", TASK, ECOROUTE_DB=str(letter))
    assert result.returncode == 1
    assert "ECOROUTE_DB" in result.stderr
    assert letter.read_text("utf-8") == "Dear Sir"


def test_two_commands_starting_at_once_on_a_fresh_machine_both_answer(tmp_path: Path) -> None:
    environment = {**os.environ, "ECOROUTE_DB": str(tmp_path / "sci.db")}
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "ecoroute_mcp", "recommend", TASK, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0][0] == outputs[1][0]


def test_help_teaches_by_example() -> None:
    result = ecoroute("--help")
    assert result.returncode == 0
    for word in ("examples:", "ECOROUTE_REGION", "ECOROUTE_CANDIDATES", "ECOROUTE_DB", "recommend", "refresh"):
        assert word in result.stdout
