"""What every command of both programs has: options are asked of their help texts, as a person would."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmark import kinds
from benchmark.__main__ import DATA
from benchmark.__main__ import main as benchmark
from ecoroute_mcp.__main__ import main as ecoroute

WITHOUT_JSON = {
    "ecoroute": "prints what its commands print",
    "ecoroute mcp": "speaks the Model Context Protocol, which is JSON",
}
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {"python -m benchmark": benchmark, "ecoroute": ecoroute}


def help_of(program: str, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        PROGRAMS[program]([*command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_prints_json_or_says_why_not(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = help_of(program, capsys)
    listed = said.partition("\ncommands:\n")[2].partition("\n\n")[0]
    commands = re.findall(r"^    ([a-z][a-z-]*)", listed, re.MULTILINE)
    assert {"python -m benchmark": "curate", "ecoroute": "install-skill"}[program] in commands
    helps = {program: said} | {f"{program} {each}": help_of(program, capsys, each) for each in commands}
    lacking = {name for name, text in helps.items() if not re.search(r"^  --json ", text, re.MULTILINE)}
    assert lacking == {name for name in WITHOUT_JSON if name.split()[0] == program.split()[0]}


def test_what_curate_would_change_is_a_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark(["curate", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"differ": []}


def test_the_report_of_a_training_of_kinds_has_lines_for_people() -> None:
    report = json.loads(Path(DATA / "kind_report.json").read_text("utf-8"))
    lines = list(kinds.trained_lines(report))
    assert len(lines) == 7
    assert lines[0] == f"{report['training_turns']} turns, {report['clear']} of them clear to both readers"
    assert lines[3] == (
        f"folds: macro-F1 {report['folds']['macro_f1']}, accuracy {report['folds']['accuracy']}, "
        f"calibration error {report['folds']['calibration_error']}"
    )
