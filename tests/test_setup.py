"""`ecoroute setup` and `ecoroute install-skill` as a person meets them, and the server started as they wrote it."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import TextContent

ROOT = Path(__file__).resolve().parents[1]
TASK = "fix the failing pytest in our payment module"
PLACES = {
    "zed": (".config/zed/settings.json", "context_servers"),
    "claude-code": (".claude.json", "mcpServers"),
    "vscode": (".config/Code/User/mcp.json", "servers"),
    "cursor": (".cursor/mcp.json", "mcpServers"),
    "codex": (".codex/config.toml", "mcp_servers"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed `ecoroute`; where the package is not installed, a script that starts it from anywhere."""
    installed = Path(sys.executable).with_name("ecoroute")
    if installed.exists():
        return installed
    path = tmp_path_factory.mktemp("bin") / "ecoroute"
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m ecoroute_mcp "$@"\n',
        "utf-8",
    )
    path.chmod(0o755)
    return path


def environment(home: Path, *folders: Path) -> dict[str, str]:
    """A person who has just been given this machine."""
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"]),
        "ECOROUTE_DB": os.environ["ECOROUTE_DB"],
    }


def ecoroute(script: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(script), *arguments],
        cwd=home,
        env=environment(home, script.parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def servers(home: Path, client: str) -> Any:
    place, key = PLACES[client]
    content = (home / place).read_text("utf-8")
    return (tomllib.loads(content) if place.endswith(".toml") else json.loads(content))[key]


@pytest.mark.parametrize("client", PLACES)
def test_setup_writes_the_command_that_runs_and_undo_removes_it(client: str, script: Path, home: Path) -> None:
    done = ecoroute(script, home, "setup", client, "--yes", "--region", "SWE")
    assert (done.returncode, done.stderr) == (0, "")
    assert "+++ " in done.stdout
    entry = servers(home, client)["ecoroute"]
    assert [entry["command"], *entry["args"]] == [str(script), "mcp"]
    assert entry["env"] == {"ECOROUTE_REGION": "SWE"}
    again = ecoroute(script, home, "setup", client, "--yes", "--region", "SWE")
    assert again.returncode == 0
    assert "nothing to change" in again.stdout
    undone = ecoroute(script, home, "setup", client, "--undo", "--yes")
    assert (undone.returncode, undone.stderr) == (0, "")
    assert not (home / PLACES[client][0]).exists()


def test_nothing_is_written_without_a_yes(script: Path, home: Path) -> None:
    done = ecoroute(script, home, "setup", "zed")
    assert done.returncode == 1
    assert '+    "ecoroute": {' in done.stdout
    assert done.stderr == "ecoroute: nothing is written: confirm with --yes\n"
    shown = ecoroute(script, home, "setup", "zed", "--json")
    said = json.loads(shown.stdout)
    path = home / PLACES["zed"][0]
    assert (said["path"], said["changes"], said["written"]) == (str(path), True, False)
    assert said["diff"] == done.stdout.rstrip("\n")
    assert list(home.iterdir()) == []
    assert json.loads(ecoroute(script, home, "setup", "zed", "--json", "--yes").stdout)["written"] is True
    assert "ecoroute" in servers(home, "zed")


@pytest.mark.parametrize(
    ("answer", "code", "writes"), [("y", 0, True), ("YES", 0, True), ("n", 1, False), ("", 1, False)]
)
def test_a_person_is_asked(answer: str, code: int, writes: bool, script: Path, home: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [str(script), "setup", "cursor"],
            cwd=home,
            env=environment(home, script.parent),
            stdin=theirs,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            os.write(ours, f"{answer}\n".encode())
            said, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Write this? [y/N]" in said
    assert process.returncode == code
    assert (home / PLACES["cursor"][0]).exists() is writes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("setup", "emacs"), "unknown client 'emacs': valid values are zed, claude-code, vscode, cursor, codex"),
        (("setup", "zed", "--yes", "--region", "Swedden"), "sweden (SWE)"),
        (("install-skill", "--client", "emacs"), "unknown client 'emacs'"),
    ],
)
def test_bad_input_names_the_repair(arguments: tuple[str, ...], says: str, script: Path, home: Path) -> None:
    done = ecoroute(script, home, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert list(home.iterdir()) == []


def test_settings_that_cannot_be_read_are_left_alone(script: Path, home: Path) -> None:
    path = home / PLACES["zed"][0]
    path.parent.mkdir(parents=True)
    path.write_text('{\n  "theme": "One Dark"\n  "vim_mode": true\n}\n', "utf-8")
    done = ecoroute(script, home, "setup", "zed", "--yes")
    assert done.returncode == 1
    assert f"{path} line 3: is not JSON with comments (Expecting ',' delimiter): correct it" in done.stderr
    assert [each.name for each in path.parent.iterdir()] == ["settings.json"]


def test_the_skill_goes_where_the_client_looks(script: Path, home: Path) -> None:
    assert ecoroute(script, home, "install-skill", "--yes").returncode == 0
    path = home / ".claude" / "skills" / "eco" / "SKILL.md"
    assert path.read_bytes() == (ROOT / "skills" / "eco" / "SKILL.md").read_bytes()
    assert ecoroute(script, home, "install-skill", "--yes", "--undo").returncode == 0
    assert not path.parent.exists()
    assert ecoroute(script, home, "install-skill", "--yes", "--dir", "mine").returncode == 0
    assert (home / "mine" / "eco" / "SKILL.md").is_file()


async def answers(command: str, args: list[str], env: dict[str, str], directory: Path) -> tuple[str, str]:
    """What the server says to `/eco` with a task and without one, over the handshake that Zed speaks."""
    parameters = StdioServerParameters(command=command, args=args, env=env, cwd=directory)
    with (directory / "stderr.txt").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log), mode="legacy", read_timeout_seconds=60) as client:
            assert client.protocol_version == "2025-11-25"
            texts = []
            for arguments in ({"task": TASK}, None):
                content = (await client.get_prompt("eco", arguments)).messages[0].content
                assert isinstance(content, TextContent)
                texts.append(content.text)
    return texts[0], texts[1]


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_from_a_clean_machine_zed_can_start_what_was_written(tmp_path: Path, home: Path) -> None:
    """The wheel alone in a new environment: setup, the server as Zed starts it, the skill, and all taken back."""
    venv, wheels, project = tmp_path / "venv", tmp_path / "wheels", tmp_path / "project"
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, capture_output=True, timeout=120)
    install = [str(venv / "bin" / "pip"), "install", "--quiet", str(next(wheels.glob("*.whl")))]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG"))}
    clean = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    subprocess.run(install, check=True, capture_output=True, timeout=300, env=kept | clean)

    def run(*arguments: str) -> None:
        done = [str(venv / "bin" / "ecoroute"), *arguments, "--yes"]
        subprocess.run(done, check=True, capture_output=True, timeout=60, env=clean, cwd=home)

    run("setup", "zed")
    entry = servers(home, "zed")["ecoroute"]
    project.mkdir()
    answer, usage = await answers(entry["command"], entry["args"], clean | entry.get("env", {}), project)
    assert answer.startswith("**")
    assert "CO2e for this task" in answer
    assert "/eco " in usage
    assert (home / ".local" / "share" / "ecoroute" / "sci.db").is_file()
    run("install-skill")
    skill = home / ".claude" / "skills" / "eco" / "SKILL.md"
    assert skill.read_bytes() == (ROOT / "skills" / "eco" / "SKILL.md").read_bytes()
    run("install-skill", "--undo")
    run("setup", "zed", "--undo")
    assert not skill.exists()
    assert list((home / ".config" / "zed").iterdir()) == []
