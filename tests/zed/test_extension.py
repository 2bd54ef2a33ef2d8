"""The Zed extension in its own runtime: the component that Zed loads, called as Zed calls it, running the real command.

Needs PyPI's wasmtime and a Rust toolchain with the target wasm32-wasip2, or ZED_COMPONENT naming a component built
otherwise, as ``.ci/zed-extension`` builds it; ``.ci/run`` lets nothing be skipped.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ecoroute_mcp import jsonc
from tests.zed import host
from tests.zed.host import LoadedExtension, Refused, Worktree, Zed

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "zed-extension"
PUBLISHED = EXTENSION / "extension.toml"
WITH_SLASH_COMMAND = EXTENSION / "extension.slash-command.toml"
TASK = "fix the failing pytest in our payment module"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def component() -> Iterator[Path]:
    """The extension as Zed loads it, built from this checkout's source."""
    yield built()
    host.compiled.cache_clear()


def built() -> Path:
    if importlib.util.find_spec("wasmtime") is None:
        pytest.skip("needs PyPI's wasmtime: pip install '.[test]'")
    if named := os.environ.get("ZED_COMPONENT"):
        return Path(named).resolve(strict=True)
    cargo, rustc = shutil.which("cargo"), shutil.which("rustc")
    if cargo is None or rustc is None:
        pytest.skip("no Rust toolchain; .ci/zed-extension brings one")
    asked = [rustc, "--print", "target-libdir", "--target", "wasm32-wasip2"]
    libraries = subprocess.run(asked, cwd=EXTENSION, capture_output=True, text=True, check=False).stdout.strip()
    if not (libraries and Path(libraries).is_dir()):
        pytest.skip("the Rust toolchain lacks the target wasm32-wasip2: rustup target add wasm32-wasip2")
    build = [cargo, "build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--target-dir", "target"]
    done = subprocess.run(build, cwd=EXTENSION, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return EXTENSION / "target/wasm32-wasip2/release/ecoroute.wasm"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder for the PATH with a shell and its clock, and neither `ecoroute` nor `uvx`."""
    folder = tmp_path / "system"
    folder.mkdir()
    for name in ("sh", "sleep"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def ecoroute(tmp_path: Path) -> Path:
    """The real command, of the interpreter that runs this test."""
    return script(tmp_path / "bin" / "ecoroute", f'exec "{sys.executable}" -m ecoroute_mcp "$@"')


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


def search_path(*folders: Path) -> str:
    return os.pathsep.join(map(str, folders))


def recommended(*options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ecoroute_mcp", "recommend", *options, "--", TASK],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


# -- the manifests


def manifest(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_the_published_manifest_is_one_that_the_registry_takes() -> None:
    published = manifest(PUBLISHED)
    assert published["id"] == "ecoroute"
    for name in (published["id"], published["name"]):
        assert not re.search("zed|extension", name, re.IGNORECASE)
    assert list(published["context_servers"]) == ["ecoroute"]
    assert "slash_commands" not in published
    assert published["version"] == manifest(EXTENSION / "Cargo.toml")["package"]["version"]
    assert (EXTENSION / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_manifest_for_older_zed_only_adds_the_slash_command() -> None:
    published, older = PUBLISHED.read_text(encoding="utf-8"), WITH_SLASH_COMMAND.read_text(encoding="utf-8")
    assert older.startswith(published)
    assert list(manifest(WITH_SLASH_COMMAND)["slash_commands"]) == ["eco"]
    added = tomllib.loads(older.removeprefix(published))
    assert set(added) == {"slash_commands", "capabilities"}


def test_the_component_says_which_api_it_was_built_for(component: Path) -> None:
    assert host.api_version(component.read_bytes()) == (0, 7, 0)


# -- how the server is started


def test_the_command_on_the_path_is_taken_and_really_serves(component: Path, system: Path, ecoroute: Path) -> None:
    extension = LoadedExtension(component, Zed(manifest=PUBLISHED, path=search_path(system, ecoroute.parent)))
    program, arguments, environment = extension.context_server_command("ecoroute")
    assert (program, arguments, environment) == (str(ecoroute), ["mcp"], {})
    assert extension.ran == [["sh", "-c", "command -v ecoroute"]]
    helped = subprocess.run([program, *arguments, "--help"], capture_output=True, text=True, check=True)
    assert "Model Context Protocol" in helped.stdout


def test_without_it_uvx_fetches_the_package_and_runs_its_command(component: Path, system: Path, tmp_path: Path) -> None:
    uvx = script(tmp_path / "bin" / "uvx", "exit 1")
    extension = LoadedExtension(component, Zed(manifest=PUBLISHED, path=search_path(system, uvx.parent)))
    started = extension.context_server_command("ecoroute")
    assert started == (str(uvx), ["--from", "ecoroute-mcp", "ecoroute", "mcp"], {})
    project = manifest(ROOT / "pyproject.toml")["project"]
    assert project["name"] == "ecoroute-mcp"
    assert "ecoroute" in project["scripts"]


def test_the_settings_beat_the_path_and_reach_the_server(component: Path, system: Path, ecoroute: Path) -> None:
    settings = {"command": "/opt/eco route/bin/ecoroute", "region": "SWE", "candidates": ["one", "two"]}
    zed = Zed(
        manifest=PUBLISHED, path=search_path(system, ecoroute.parent), settings={"ecoroute": settings, "other": {}}
    )
    extension = LoadedExtension(component, zed)
    expected = {"ECOROUTE_REGION": "SWE", "ECOROUTE_CANDIDATES": "one,two"}
    assert extension.context_server_command("ecoroute") == ("/opt/eco route/bin/ecoroute", ["mcp"], expected)
    assert extension.ran == []


def test_a_projects_own_settings_beat_the_users(component: Path, system: Path, ecoroute: Path) -> None:
    zed = Zed(
        manifest=PUBLISHED,
        path=search_path(system, ecoroute.parent),
        settings={"ecoroute": {"region": "SWE"}},
        local_settings={7: {"ecoroute": {"region": "POL"}}},
        worktrees=[Worktree(id=7, shell={})],
    )
    assert LoadedExtension(component, zed).context_server_command("ecoroute")[2] == {"ECOROUTE_REGION": "POL"}


def test_windows_is_asked_by_its_own_command(component: Path, system: Path, tmp_path: Path) -> None:
    script(
        tmp_path / "bin" / "where.exe", r"""[ "$1" = '$PATH:uvx' ] && printf '%s\r\n' 'C:\uv\uvx.exe' 'D:\uvx.exe'"""
    )
    zed = Zed(manifest=PUBLISHED, path=search_path(system, tmp_path / "bin"), os="windows")
    extension = LoadedExtension(component, zed)
    assert extension.context_server_command("ecoroute")[0] == r"C:\uv\uvx.exe"
    assert extension.ran == [["where.exe", "$PATH:ecoroute"], ["where.exe", "$PATH:uvx"]]


def test_with_nothing_to_run_zed_shows_how_to_get_it(component: Path, system: Path) -> None:
    with pytest.raises(Refused, match=r"`ecoroute` was not found\. Install it with `pipx install ecoroute-mcp`"):
        LoadedExtension(component, Zed(manifest=PUBLISHED, path=str(system))).context_server_command("ecoroute")


def test_a_search_that_cannot_be_made_is_said_and_not_taken_for_a_missing_program(
    component: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Refused, match="No such file or directory: 'sh'"):
        LoadedExtension(component, Zed(manifest=PUBLISHED, path=str(empty))).context_server_command("ecoroute")
    ungranted = tmp_path / "extension.toml"
    ungranted.write_text('id = "ecoroute"\n', encoding="utf-8")
    with pytest.raises(Refused, match="was not listed in the manifest"):
        LoadedExtension(component, Zed(manifest=ungranted, path=str(empty))).context_server_command("ecoroute")


def test_a_search_that_fails_is_said_and_not_taken_for_a_missing_program(component: Path, system: Path) -> None:
    (system / "sh").unlink()
    for asker, os_name in (("sh", "linux"), ("where.exe", "windows")):
        script(system / asker, "echo out of memory >&2", "exit 2")
        extension = LoadedExtension(component, Zed(manifest=PUBLISHED, path=str(system), os=os_name))
        with pytest.raises(Refused) as raised:
            extension.context_server_command("ecoroute")
        assert str(raised.value) == "the PATH could not be searched: out of memory"


def test_a_program_on_a_relative_path_is_not_taken(
    component: Path, system: Path, ecoroute: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zed would look for it in the extension's own folder."""
    monkeypatch.chdir(ecoroute.parent.parent)
    zed = Zed(manifest=PUBLISHED, path=f"{ecoroute.parent.name}{os.pathsep}{system}")
    with pytest.raises(Refused, match="`ecoroute` was not found"):
        LoadedExtension(component, zed).context_server_command("ecoroute")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"command": "ecoroute"}, "command: `ecoroute` is no absolute path"),
        ({"region": ""}, "region: it is empty"),
        ({"candidates": []}, "candidates: the list is empty"),
        ({"candidates": ["one,two"]}, "candidates: `one,two` is no model's name"),
        ({"regoin": "SWE"}, "unknown field `regoin`"),
    ],
)
def test_settings_that_are_wrong_are_named(component: Path, system: Path, settings: dict[str, Any], said: str) -> None:
    zed = Zed(manifest=PUBLISHED, path=str(system), settings={"ecoroute": settings})
    with pytest.raises(Refused, match=said):
        LoadedExtension(component, zed).context_server_command("ecoroute")


def test_another_server_is_refused(component: Path, system: Path, ecoroute: Path) -> None:
    extension = LoadedExtension(component, Zed(manifest=PUBLISHED, path=search_path(system, ecoroute.parent)))
    with pytest.raises(Refused, match="EcoRoute knows `ecoroute` alone, not `another`"):
        extension.context_server_command("another")
    with pytest.raises(Refused, match="EcoRoute knows `ecoroute` alone, not `another`"):
        extension.context_server_configuration("another")


def test_the_configuration_is_what_zed_can_show_check_and_save(component: Path, system: Path) -> None:
    extension = LoadedExtension(component, Zed(manifest=PUBLISHED, path=str(system)))
    instructions, defaults, schema = extension.context_server_configuration("ecoroute")
    assert instructions == (EXTENSION / "configuration/installation_instructions.md").read_text(encoding="utf-8")
    assert defaults == (EXTENSION / "configuration/default_settings.jsonc").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(jsonc.parse(defaults))
    assert jsonc.parse(defaults) == {}
    shown = jsonc.parse(re.sub(r'// (?=")', "", defaults))
    assert set(shown) == set(schema["properties"]) == {"region", "command", "candidates"}
    check.validate(shown)
    wrong: list[dict[str, Any]] = [
        {"region": 1},
        {"region": ""},
        {"candidates": "one"},
        {"candidates": []},
        {"r": "SWE"},
    ]
    assert not any(check.is_valid(settings) for settings in wrong)


# -- the slash command of older Zed


def test_eco_shows_exactly_what_the_command_prints(component: Path, system: Path, ecoroute: Path) -> None:
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, ecoroute.parent))
    text, sections = LoadedExtension(component, zed).run_slash_command("eco", TASK.split())
    assert text == recommended()
    assert "µg" in text or " mg" in text or " g " in text
    paragraphs = text.rstrip("\n").split("\n\n")
    assert [covered for _, covered in sections] == paragraphs
    assert len(sections) >= 3
    assert sections[0][0] == paragraphs[0].replace("**", "")
    assert "\n" not in "".join(label for label, _ in sections)


def test_eco_counts_with_the_settings_of_its_own_project(component: Path, system: Path, ecoroute: Path) -> None:
    shell = {"PATH": str(system), "ECOROUTE_REGION": "POL"}
    zed = Zed(
        manifest=WITH_SLASH_COMMAND,
        path=str(system),
        settings={"ecoroute": {"region": "SWE", "command": str(ecoroute)}},
        worktrees=[Worktree(id=7, shell=shell)],
    )
    extension = LoadedExtension(component, zed)
    extension.context_server_command("ecoroute")
    assert extension.run_slash_command("eco", [TASK], worktree=7)[0] == recommended(ECOROUTE_REGION="SWE")
    assert recommended() != recommended(ECOROUTE_REGION="SWE")


def test_eco_without_a_started_server_takes_the_command_of_the_projects_shell(
    component: Path, system: Path, ecoroute: Path
) -> None:
    shell = {"PATH": search_path(ecoroute.parent, system), "ECOROUTE_REGION": "POL"}
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=str(system), worktrees=[Worktree(id=7, shell=shell)])
    extension = LoadedExtension(component, zed)
    assert extension.run_slash_command("eco", [TASK], worktree=7)[0] == recommended(ECOROUTE_REGION="POL")


def test_a_task_is_one_argument_whatever_it_holds(component: Path, system: Path, tmp_path: Path) -> None:
    told = script(tmp_path / "bin" / "ecoroute", 'echo "**$#**"', r'printf "<%s>\n" "$@"')
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, told.parent))
    text, _ = LoadedExtension(component, zed).run_slash_command("eco", ["--help", "$(id);", "'a\"", "ä", "*"])
    assert text == "**3**\n<recommend>\n<-->\n<--help $(id); 'a\" ä *>\n"


def test_python_is_told_to_print_utf_8(
    component: Path, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    told = script(tmp_path / "bin" / "ecoroute", 'echo "**$PYTHONUTF8**"')
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, told.parent))
    assert LoadedExtension(component, zed).run_slash_command("eco", [TASK])[0] == "**1**\n"


def test_eco_by_uvx_runs_the_packages_command(component: Path, system: Path, tmp_path: Path) -> None:
    uvx = script(tmp_path / "bin" / "uvx", 'echo "**$***"')
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, uvx.parent))
    text, _ = LoadedExtension(component, zed).run_slash_command("eco", ["explain", "it"])
    assert text == "**--from ecoroute-mcp ecoroute recommend -- explain it**\n"


def test_on_windows_the_command_is_run_without_a_shell(component: Path, system: Path, ecoroute: Path) -> None:
    script(ecoroute.parent / "where.exe", f"echo '{ecoroute}'")
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, ecoroute.parent), os="windows")
    extension = LoadedExtension(component, zed)
    assert extension.run_slash_command("eco", [TASK])[0] == recommended()
    assert extension.ran[-1] == [str(ecoroute), "recommend", "--", TASK]


def refused(component: Path, system: Path, tmp_path: Path, *lines: str, os_name: str = "linux") -> str:
    """What Zed shows when `ecoroute` is this script."""
    stand_in = script(tmp_path / "bin" / "ecoroute", *lines)
    script(tmp_path / "bin" / "where.exe", f"echo '{stand_in}'")
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, stand_in.parent), os=os_name)
    with pytest.raises(Refused) as raised:
        LoadedExtension(component, zed).run_slash_command("eco", [TASK])
    return str(raised.value)


def test_eco_without_a_command_says_how_to_get_one(component: Path, system: Path) -> None:
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=str(system), worktrees=[Worktree(id=7, shell={"PATH": str(system)})])
    for worktree in (None, 7):
        with pytest.raises(Refused, match="Install it with `pipx install ecoroute-mcp`"):
            LoadedExtension(component, zed).run_slash_command("eco", [TASK], worktree)


def test_a_command_that_has_gone_is_said(component: Path, system: Path) -> None:
    zed = Zed(
        manifest=WITH_SLASH_COMMAND,
        path=str(system),
        settings={"ecoroute": {"command": "/nowhere/ecoroute"}},
        worktrees=[Worktree(id=7, shell={"PATH": str(system)})],
    )
    extension = LoadedExtension(component, zed)
    extension.context_server_command("ecoroute")
    with pytest.raises(Refused, match=r"ecoroute ended with status 127: .*/nowhere/ecoroute"):
        extension.run_slash_command("eco", [TASK], worktree=7)


def test_a_command_that_cannot_be_started_is_said(component: Path, system: Path, tmp_path: Path) -> None:
    stand_in = script(system / "where.exe", f"echo '{tmp_path}/gone'")
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=str(stand_in.parent), os="windows")
    with pytest.raises(Refused, match=r"ecoroute could not be run: .*No such file or directory: '.*/gone'"):
        LoadedExtension(component, zed).run_slash_command("eco", [TASK])


def test_what_the_real_command_refuses_is_shown_in_its_own_words(component: Path, system: Path, ecoroute: Path) -> None:
    shell = {"PATH": search_path(ecoroute.parent, system), "ECOROUTE_REGION": "atlantis"}
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=str(system), worktrees=[Worktree(id=7, shell=shell)])
    with pytest.raises(Refused, match=r"ecoroute ended with status 1: ecoroute: ECOROUTE_REGION .*atlantis"):
        LoadedExtension(component, zed).run_slash_command("eco", [TASK], worktree=7)


def test_a_failing_command_is_quoted_even_if_it_printed_an_answer(
    component: Path, system: Path, tmp_path: Path
) -> None:
    said = refused(component, system, tmp_path, "echo '**model**: 1 g'", "echo broken >&2", "exit 3")
    assert said == "ecoroute ended with status 3: broken"
    assert refused(component, system, tmp_path, "exit 3") == "ecoroute ended with status 3: it did not say why"


def test_a_command_that_is_killed_is_said_even_if_it_printed_an_answer(
    component: Path, system: Path, tmp_path: Path
) -> None:
    lines = ("echo '**model**: 1 g'", "kill -9 $$")
    said = refused(component, system, tmp_path, *lines, os_name="windows")
    assert said == "ecoroute was ended by a signal: it did not say why"
    assert refused(component, system, tmp_path, *lines).startswith("ecoroute ended with status 137: ")


def test_rubbish_is_refused(component: Path, system: Path, tmp_path: Path) -> None:
    assert refused(component, system, tmp_path, "exit 0") == "ecoroute printed nothing"
    assert refused(component, system, tmp_path, r"printf '**\377'") == "what ecoroute printed is not UTF-8"
    said = refused(component, system, tmp_path, "echo hello", "echo world")
    assert said == "ecoroute printed no recommendation but: hello"


def test_a_command_that_hangs_is_stopped_when_its_time_is_up(component: Path, system: Path, tmp_path: Path) -> None:
    """The clock is the system's `sleep`, replaced by one that notes the time it is given and does not wait it out.

    Zed reads the output to its end, so that this returns only once the hanging command is gone.
    """
    real = (system / "sleep").readlink()
    (system / "sleep").unlink()
    script(system / "sleep", f'echo "$1" > "{tmp_path}/clock"', f"exec {real} 0.5")
    said = refused(component, system, tmp_path, "echo '**model**: 1 g'", f"exec {real} 600")
    assert said.startswith("ecoroute gave no answer within 60 seconds and was stopped")
    assert (tmp_path / "clock").read_text(encoding="utf-8") == "60\n"


def test_eco_wants_a_task_and_no_other_command_is_ours(component: Path, system: Path, ecoroute: Path) -> None:
    zed = Zed(manifest=WITH_SLASH_COMMAND, path=search_path(system, ecoroute.parent))
    extension = LoadedExtension(component, zed)
    for words in ([], [" "]):
        with pytest.raises(Refused, match="say what is to be done: /eco fix the failing test"):
            extension.run_slash_command("eco", words)
    with pytest.raises(Refused, match="EcoRoute knows `eco` alone, not `echo`"):
        extension.run_slash_command("echo", [TASK])
    with pytest.raises(Refused, match="EcoRoute knows `eco` alone, not `echo`"):
        extension.complete_slash_command("echo", [])
    assert extension.ran == []


def test_the_first_word_of_a_task_is_completed(component: Path, system: Path) -> None:
    extension = LoadedExtension(component, Zed(manifest=WITH_SLASH_COMMAND, path=str(system)))
    for typed in ("r", "re"):
        assert extension.complete_slash_command("eco", [typed]) == [
            ("refactor …", "refactor ", False),
            ("review …", "review ", False),
        ]
    assert extension.complete_slash_command("eco", ["Fi"]) == [("fix …", "fix ", False)]
    every = extension.complete_slash_command("eco", [])
    assert len(every) == 6
    assert not any(runs for _, _, runs in every)
    assert extension.complete_slash_command("eco", ["fix", "re"]) == []
