"""The README's promises: the answer shown is the one given, its commands run, its snippets parse."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
BASH = [block.strip() for language, block in BLOCKS if language == "bash"]
SHELL = [line for block in BASH[2:] for line in block.splitlines()]


@pytest.fixture(scope="module")
def path_with_commands(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `ecoroute` and `python` are those under test."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in (("ecoroute", "-m ecoroute_mcp"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n', "utf-8")
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_answer_shown_is_the_answer_given(path_with_commands: str) -> None:
    command, shown = re.findall(r"<!-- answer: (.*?) -->\n```text\n(.*?)```", TEXT, re.DOTALL)[0]
    given = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PATH": path_with_commands},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown == given.stdout


@pytest.mark.parametrize("command", SHELL)
def test_every_command_shown_runs(command: str, path_with_commands: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PATH": path_with_commands},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.slow
def test_the_first_command_answers_on_a_fresh_machine(tmp_path: Path) -> None:
    copied = tmp_path / "checkout"
    kept = shutil.ignore_patterns(".git", ".*_cache", ".hypothesis", ".venv*", "node_modules", "__pycache__", "tests")
    shutil.copytree(ROOT, copied, ignore=kept)
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share"), "PATH": os.environ["PATH"]}
    kept_settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG"))}
    done = subprocess.run(
        ["bash", "-c", BASH[0]],
        cwd=copied,
        env={**kept_settings, **home},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("**")
    assert "CO2e for this task" in done.stdout
    assert (tmp_path / "share" / "ecoroute" / "sci.db").is_file()


def test_the_second_command_is_the_one_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert BASH[1].endswith("python -m pytest")
    assert script[-1] == "python -m pytest --no-missing-packages"
    assert "'.[test]'" in BASH[1]
    assert any("--editable '.[test]'" in line for line in script)


def test_snippets_for_editors_start_the_server() -> None:
    snippets = [json.loads(block) for language, block in BLOCKS if language == "json"]
    servers = [server for snippet in snippets for group in snippet.values() for server in group.values()]
    assert len(servers) == 3
    assert all((server["command"], server["args"]) == ("ecoroute", ["mcp"]) for server in servers)
    assert "claude mcp add --scope user ecoroute -- ecoroute mcp" in TEXT
    table = tomllib.loads(next(block for language, block in BLOCKS if language == "toml"))
    assert table == {"mcp_servers": {"ecoroute": {"command": "ecoroute", "args": ["mcp"]}}}


def test_the_job_for_github_runs_on_this_repositorys_rows(path_with_commands: str, tmp_path: Path) -> None:
    job = yaml.safe_load(next(block for language, block in BLOCKS if language == "yaml"))
    commands = [step["run"] for step in job["jobs"]["carbon"]["steps"] if "benchmark check" in step.get("run", "")]
    assert len(commands) == 2
    for name in ("data", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "before" / "data").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "measurements", tmp_path / "before" / "data" / "measurements")
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": path_with_commands,
                "PYTHONPATH": str(ROOT),
                "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert "budget chat on one H200" in (tmp_path / "summary.md").read_text("utf-8")
    assert ElementTree.parse(tmp_path / "carbon.xml").getroot().tag == "testsuites"
