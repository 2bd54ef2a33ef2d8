"""What is written into the settings of editors and agents, and that undoing it gives back the bytes there were."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ecoroute_mcp import clients, jsonc
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.clients import CLIENTS, Change
from ecoroute_mcp.sci import EcoRouteError

FIXTURES = Path(__file__).parent / "settings"
READ = sorted(path.name for path in FIXTURES.glob("*.json") if not path.name.startswith("bad-"))
REFUSED = sorted(path.name for path in FIXTURES.glob("bad-*.json"))
ZED, CODEX, CLAUDE = CLIENTS["zed"], CLIENTS["codex"], CLIENTS["claude-code"]
COMMAND = ("/opt/eco/bin/ecoroute",)
REGION = {"ECOROUTE_REGION": "SWE"}


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def written(change: Change) -> None:
    assert change.changes
    change.write()


# Places.


@pytest.mark.parametrize(
    ("client", "platform", "environ", "path"),
    [
        ("zed", "linux", {}, "home/.config/zed/settings.json"),
        ("zed", "linux", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "xdg/zed/settings.json"),
        ("zed", "linux", {"FLATPAK_XDG_CONFIG_HOME": "{tmp}/flatpak"}, "flatpak/zed/settings.json"),
        ("zed", "win32", {"APPDATA": "{tmp}/roaming"}, "roaming/Zed/settings.json"),
        ("claude-code", "linux", {}, "home/.claude.json"),
        ("claude-code", "darwin", {"CLAUDE_CONFIG_DIR": "{tmp}/claude"}, "claude/.claude.json"),
        ("vscode", "linux", {}, "home/.config/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "xdg/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "relative"}, "home/.config/Code/User/mcp.json"),
        ("vscode", "darwin", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "home/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": "{tmp}/roaming"}, "roaming/Code/User/mcp.json"),
        ("vscode", "win32", {}, "home/AppData/Roaming/Code/User/mcp.json"),
        ("vscode", "linux", {"VSCODE_PORTABLE": "{tmp}/stick"}, "stick/user-data/User/mcp.json"),
        ("cursor", "linux", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "home/.cursor/mcp.json"),
        ("codex", "linux", {}, "home/.codex/config.toml"),
        ("codex", "win32", {"CODEX_HOME": "{tmp}/codex"}, "codex/config.toml"),
    ],
)
def test_each_client_keeps_its_servers_where_it_says(
    tmp_path: Path, client: str, platform: str, environ: dict[str, str], path: str
) -> None:
    filled = {name: value.format(tmp=tmp_path) for name, value in environ.items()}
    found = clients.settings_path(CLIENTS[client], filled, tmp_path / "home", platform)
    assert found == tmp_path / path


def test_each_client_keeps_its_skills_where_it_says(tmp_path: Path) -> None:
    folders = {name: clients.skills_folder(client, {}, tmp_path) for name, client in CLIENTS.items()}
    assert folders == {
        "zed": tmp_path / ".agents" / "skills",
        "claude-code": tmp_path / ".claude" / "skills",
        "vscode": tmp_path / ".copilot" / "skills",
        "cursor": tmp_path / ".cursor" / "skills",
        "codex": tmp_path / ".agents" / "skills",
    }
    chosen = clients.skills_folder(CLAUDE, {"CLAUDE_CONFIG_DIR": str(tmp_path / "c")}, tmp_path)
    assert chosen == tmp_path / "c" / "skills"


def test_an_unknown_client_is_refused_by_name() -> None:
    with pytest.raises(EcoRouteError) as caught:
        clients.named("emacs")
    assert str(caught.value) == "unknown client 'emacs': valid values are zed, claude-code, vscode, cursor, codex"


# What is written.


@pytest.mark.parametrize(
    ("client", "servers"),
    [
        ("zed", {"context_servers": {"ecoroute": {"command": COMMAND[0], "args": ["mcp"], "env": REGION}}}),
        (
            "claude-code",
            {"mcpServers": {"ecoroute": {"type": "stdio", "command": COMMAND[0], "args": ["mcp"], "env": REGION}}},
        ),
        (
            "vscode",
            {"servers": {"ecoroute": {"type": "stdio", "command": COMMAND[0], "args": ["mcp"], "env": REGION}}},
        ),
        ("cursor", {"mcpServers": {"ecoroute": {"command": COMMAND[0], "args": ["mcp"], "env": REGION}}}),
        ("codex", {"mcp_servers": {"ecoroute": {"command": COMMAND[0], "args": ["mcp"], "env": REGION}}}),
    ],
)
def test_a_missing_file_is_made_and_undone(tmp_path: Path, client: str, servers: dict[str, Any]) -> None:
    path = tmp_path / "new" / "settings"
    written(clients.setup(CLIENTS[client], path, COMMAND, REGION))
    content = path.read_text("utf-8")
    assert (tomllib.loads(content) if client == "codex" else json.loads(content)) == servers
    assert [each.name for each in path.parent.iterdir()] == ["settings"]
    assert not clients.setup(CLIENTS[client], path, COMMAND, REGION).changes
    written(clients.undo(CLIENTS[client], path))
    assert list(path.parent.iterdir()) == []
    assert not clients.undo(CLIENTS[client], path).changes


@pytest.mark.parametrize("name", READ)
def test_setup_adds_exactly_the_entry_and_undo_gives_the_bytes_back(tmp_path: Path, name: str) -> None:
    before = (FIXTURES / name).read_bytes()
    path = put(tmp_path / "settings.json", before)
    written(clients.setup(ZED, path, COMMAND, REGION))
    expected = jsonc.parse(before.decode()) or {}
    servers = expected.setdefault("context_servers", {})
    variables = servers.get("ecoroute", {}).get("env", {})
    servers["ecoroute"] = {"command": COMMAND[0], "args": ["mcp"], "env": {**variables, **REGION}}
    assert jsonc.parse(path.read_text("utf-8")) == expected
    again = clients.setup(ZED, path, COMMAND, REGION)
    assert (again.changes, again.diff()) == (False, "")
    written(clients.undo(ZED, path))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_line_and_left_alone(tmp_path: Path, name: str) -> None:
    before = (FIXTURES / name).read_bytes()
    path = put(tmp_path / "settings.json", before)
    with pytest.raises(EcoRouteError) as caught:
        clients.setup(ZED, path, COMMAND, REGION)
    assert re.match(rf"{re.escape(str(path))} line \d+: .+: \w+", str(caught.value))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


def test_variables_set_by_hand_stay(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", (FIXTURES / "ecoroute-env.json").read_bytes())
    written(clients.setup(ZED, path, COMMAND, {}))
    assert json.loads(path.read_text("utf-8"))["context_servers"]["ecoroute"] == {
        "command": COMMAND[0],
        "args": ["mcp"],
        "env": {"ECOROUTE_CANDIDATES": "qwen3:32b, gpt-5", "ECOROUTE_REGION": "POL"},
    }


@pytest.mark.parametrize("name", ["servers.json", "minified.json", "comment-only.json", "ecoroute-disabled.json"])
def test_a_second_setup_is_undone_to_the_first_bytes(tmp_path: Path, name: str) -> None:
    before = (FIXTURES / name).read_bytes()
    path = put(tmp_path / "settings.json", before)
    for command, environment in ((COMMAND, {}), (("/usr/bin/ecoroute",), REGION), (("/a/uvx", "ecoroute"), {})):
        written(clients.setup(ZED, path, command, environment))
    entry = jsonc.parse(path.read_text("utf-8"))["context_servers"]["ecoroute"]
    assert entry == {"command": "/a/uvx", "args": ["ecoroute", "mcp"], "env": REGION}
    written(clients.undo(ZED, path))
    assert path.read_bytes() == before


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_undoing_keeps_what_was_changed_since(tmp_path: Path) -> None:
    """Zed itself writes the model that is picked into this file."""
    path = put(tmp_path / "settings.json", (FIXTURES / "agent.json").read_bytes())
    written(clients.setup(ZED, path, COMMAND, REGION))
    edited(path, "claude-sonnet-4-5-latest", "claude-opus-4-5-latest")
    written(clients.undo(ZED, path))
    expected = (FIXTURES / "agent.json").read_text("utf-8")
    assert path.read_text("utf-8") == expected.replace("claude-sonnet-4-5-latest", "claude-opus-4-5-latest")
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    ("client", "old", "kept"),
    [
        (
            ZED,
            '{"context_servers": {"ecoroute": {"enabled": false, '
            '"settings": {"region": "SWE", "candidates": ["a", "b"]}}}}',
            {"env": {"ECOROUTE_REGION": "SWE", "ECOROUTE_CANDIDATES": "a,b"}},
        ),
        (
            CODEX,
            '[mcp_servers.ecoroute]\ncommand = "old"\nstartup_timeout_sec = 30\n',
            {"startup_timeout_sec": 30},
        ),
    ],
)
def test_what_an_old_entry_says_beside_its_command_is_kept(
    client: clients.Client, old: str, kept: dict[str, Any], tmp_path: Path
) -> None:
    path = put(tmp_path / "settings", old.encode())
    written(clients.setup(client, path, COMMAND, {}))
    text = path.read_text("utf-8")
    read = tomllib.loads(text) if client.dialect == "toml" else jsonc.parse(text)
    assert read[client.servers]["ecoroute"] == {"command": COMMAND[0], "args": [*COMMAND[1:], "mcp"], **kept}
    written(clients.undo(client, path))
    assert path.read_bytes() == old.encode()


def test_undoing_a_change_of_an_old_entry_brings_the_old_one_back(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", (FIXTURES / "ecoroute-extension.json").read_bytes())
    written(clients.setup(ZED, path, COMMAND, REGION))
    edited(path, "mcp-server-time", "mcp-server-clock")
    written(clients.undo(ZED, path))
    assert jsonc.parse(path.read_text("utf-8")) == {
        "context_servers": {
            "time": {"command": "uvx", "args": ["mcp-server-clock"]},
            "ecoroute": {"source": "extension", "settings": {"region": "SWE"}},
        }
    }


def test_an_entry_of_someone_else_is_taken_out_where_undo_is_asked(tmp_path: Path) -> None:
    path = put(tmp_path / "mcp.json", b'{\n  "mcpServers": {\n    "ecoroute": { "command": "ecoroute" }\n  }\n}\n')
    written(clients.undo(CLIENTS["cursor"], path))
    assert path.read_bytes() == b"{\n}\n"


def test_what_was_kept_long_ago_is_not_brought_back(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", b'{"theme": "Old"}')
    written(clients.setup(ZED, path, COMMAND, {}))
    path.write_bytes(b'{"theme": "New"}')
    written(clients.setup(ZED, path, COMMAND, {}))
    written(clients.undo(ZED, path))
    assert path.read_bytes() == b'{"theme": "New"}'
    written(clients.setup(ZED, path, COMMAND, {}))
    path.unlink()
    written(clients.setup(ZED, path, COMMAND, {}))
    written(clients.undo(ZED, path))
    assert list(tmp_path.iterdir()) == []


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    path = put(tmp_path / "dotfiles" / "claude.json", b"{}")
    path.chmod(0o600)
    link = tmp_path / ".claude.json"
    link.symlink_to(path)
    written(clients.setup(CLAUDE, link, COMMAND, {}))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = tmp_path / ".claude.json.before-ecoroute"
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (b"{}", 0o600)
    written(clients.undo(CLAUDE, link))
    assert (path.read_bytes(), link.is_symlink(), kept.exists()) == (b"{}", True, False)


def test_a_file_that_changed_after_it_was_shown_is_not_written(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", b"{}")
    change = clients.setup(ZED, path, COMMAND, {})
    path.write_bytes(b'{"a": 1}')
    with pytest.raises(EcoRouteError, match="has changed meanwhile: run this again"):
        change.write()
    assert path.read_bytes() == b'{"a": 1}'
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = put(tmp_path / "locked" / "settings.json", b"{}")
    path.parent.chmod(0o500)
    try:
        with pytest.raises(EcoRouteError, match="cannot be written"):
            clients.setup(ZED, path, COMMAND, {}).write()
    finally:
        path.parent.chmod(0o700)
    assert path.read_bytes() == b"{}"


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(EcoRouteError, match="cannot be written"):
        clients.setup(ZED, tmp_path / "file" / "settings.json", COMMAND, {}).write()
    with pytest.raises(EcoRouteError, match="is not a file"):
        clients.setup(ZED, tmp_path, COMMAND, {})


@pytest.mark.parametrize(
    ("content", "line"),
    [(b'{\n  // mine\n  "a": 1\n}', 2), (b'{\n  "a": 1,\n}', 3), (b'{\n  "a": [1,\n  ]\n}', 3)],
)
def test_claude_code_reads_plain_json_only(tmp_path: Path, content: bytes, line: int) -> None:
    path = put(tmp_path / ".claude.json", content)
    with pytest.raises(EcoRouteError, match=rf"line {line}: is not JSON \("):
        clients.setup(CLAUDE, path, COMMAND, {})


def test_the_change_is_shown_as_a_diff(tmp_path: Path) -> None:
    path = put(tmp_path / "settings.json", b'{\r\n  "a": 1\r\n}\r\n')
    change = clients.setup(ZED, path, COMMAND, {})
    assert change.diff().splitlines() == [
        f"--- {path}",
        f"+++ {path}",
        "@@ -1,3 +1,9 @@",
        " {",
        '-  "a": 1',
        '+  "a": 1,',
        '+  "context_servers": {',
        '+    "ecoroute": {',
        '+      "command": "/opt/eco/bin/ecoroute",',
        '+      "args": ["mcp"]',
        "+    }",
        "+  }",
        " }",
    ]


# Codex.

CODEX_SETTINGS = '''# mine
model = "gpt-5-codex"
approval_policy = "on-request"  # [mcp_servers.ecoroute]
notify = [
  "notify-send",
  "[mcp_servers.ecoroute]",
]
developer_instructions = """
[mcp_servers.ecoroute]
command = "not a table"
"""

[mcp_servers.time] # the clock
command = "uvx"
args = ["mcp-server-time"]

[projects."/home/me/a b"]
trust_level = "trusted"
'''
CODEX_ENTRY = """
# of old
[mcp_servers.ecoroute]
command = "/opt/old/ecoroute"
args = ["mcp"]
enabled = false

  [mcp_servers."ecoroute".env]
  ECOROUTE_CANDIDATES = "gpt-5" # only these

# after it
[tui]
theme = "dark"
"""


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet", CODEX_SETTINGS, CODEX_SETTINGS + CODEX_ENTRY])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_codex_takes_the_entry_and_gives_it_back(tmp_path: Path, content: str, line_end: str) -> None:
    before = content.replace("\n", line_end).encode()
    path = put(tmp_path / "config.toml", before)
    written(clients.setup(CODEX, path, COMMAND, REGION))
    expected = tomllib.loads(before.decode())
    servers = expected.setdefault("mcp_servers", {})
    variables = servers.get("ecoroute", {}).get("env", {})
    servers["ecoroute"] = {"command": COMMAND[0], "args": ["mcp"], "env": {**variables, **REGION}}
    after = path.read_bytes().decode()
    assert tomllib.loads(after) == expected
    assert {line for line in content.splitlines() if "#" in line and "only these" not in line} <= set(
        after.splitlines()
    )
    written(clients.undo(CODEX, path))
    assert path.read_bytes() == before


def test_codex_entry_is_taken_out_of_a_file_changed_since(tmp_path: Path) -> None:
    path = put(tmp_path / "config.toml", CODEX_SETTINGS.encode())
    written(clients.setup(CODEX, path, COMMAND, REGION))
    path.write_text(path.read_text("utf-8") + '\n[tui]\ntheme = "dark"\n', "utf-8")
    written(clients.undo(CODEX, path))
    assert path.read_text("utf-8") == CODEX_SETTINGS + '\n[tui]\ntheme = "dark"\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('model = "gpt-5"\nmodel = "gpt-4"\n', "line 2: is not TOML"),
        ("a = 1\nb = \n", "line 2: is not TOML"),
        ("a = [1,\n", "line 2: is not TOML"),
        ("\ufeffa = 1\n", "line 1: is not TOML"),
        ("a = 1\nmcp_servers = { time = { command = 'uvx' } }\n", "line 2: mcp_servers.ecoroute is not written as"),
        ("[mcp_servers]\necoroute = { command = 'x' }\n", "line 1: mcp_servers.ecoroute is not written as"),
        ("a = 1\nmcp_servers.ecoroute.command = 'x'\n", "line 2: mcp_servers.ecoroute is not written as"),
        ("mcp_servers = 3\n", "line 1: mcp_servers.ecoroute is not written as"),
    ],
)
def test_codex_settings_that_cannot_be_changed_are_refused_with_the_line(
    tmp_path: Path, content: str, says: str
) -> None:
    path = put(tmp_path / "config.toml", content.encode())
    with pytest.raises(EcoRouteError) as caught:
        clients.setup(CODEX, path, COMMAND, REGION)
    assert str(caught.value).startswith(f"{path} {says}")
    assert path.read_bytes() == content.encode()


# The command that starts the server.


def test_the_command_is_the_one_that_runs_first(tmp_path: Path) -> None:
    places = {"ecoroute": "/home/me/.local/bin/ecoroute", "/venv/bin/ecoroute": "/venv/bin/ecoroute"}

    def launches(argv0: str, prefix: str = "/venv", which: dict[str, str] = places) -> list[tuple[str, ...]]:
        executable = f"{prefix}/bin/python"
        return list(clients.launches(argv0=argv0, executable=executable, prefix=prefix, which=which.get))

    assert launches("/venv/bin/ecoroute") == [
        ("/venv/bin/ecoroute",),
        ("/home/me/.local/bin/ecoroute",),
        ("/venv/bin/python", "-m", "ecoroute_mcp"),
    ]
    assert launches("ecoroute")[0] == ("/home/me/.local/bin/ecoroute",)
    assert launches("/src/ecoroute_mcp/__main__.py", which={}) == [("/venv/bin/python", "-m", "ecoroute_mcp")]
    cached = "/home/me/.cache/uv/archive-v0/xv_1tfQ217naZRI9"
    assert launches(f"{cached}/bin/ecoroute", cached, {"uvx": "/usr/bin/uvx"}) == [
        ("/usr/bin/uvx", "--from", "ecoroute-mcp", "ecoroute")
    ]


def script(path: Path, line: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{line}\n", "utf-8")
    path.chmod(0o755)
    return (str(path),)


def test_a_command_counts_only_if_it_starts_this_version_from_another_folder(tmp_path: Path) -> None:
    old = script(tmp_path / "old", "echo ecoroute 0.0.1")
    broken = script(tmp_path / "broken", "exit 3")
    good = script(tmp_path / "good", '[ -z "$PYTHONPATH$(ls)" ] && echo ecoroute 9.9.9')
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": "/somewhere"}
    found = clients.first_that_starts([("/no/such",), old, broken, good], "9.9.9", environ)
    assert found == good
    with pytest.raises(EcoRouteError) as caught:
        clients.first_that_starts([("/no/such",), old, broken], "9.9.9", environ)
    assert "no command starts this EcoRoute (9.9.9)" in str(caught.value)
    assert f"; {old[0]}; {broken[0]}): install it" in str(caught.value)


# The skill.


def test_the_skill_is_put_in_place_and_taken_away(tmp_path: Path) -> None:
    written(clients.install_skill(tmp_path, clients.skill()))
    assert (tmp_path / "eco" / "SKILL.md").read_bytes() == clients.skill()
    assert not clients.install_skill(tmp_path, clients.skill()).changes
    written(clients.remove_skill(tmp_path, clients.skill()))
    assert list(tmp_path.iterdir()) == []
    assert not clients.remove_skill(tmp_path, clients.skill()).changes


def test_a_skill_of_that_name_is_kept_and_brought_back(tmp_path: Path) -> None:
    path = put(tmp_path / "eco" / "SKILL.md", b"mine")
    written(clients.install_skill(tmp_path, clients.skill()))
    written(clients.remove_skill(tmp_path, clients.skill()))
    assert path.read_bytes() == b"mine"
    assert [each.name for each in path.parent.iterdir()] == ["SKILL.md"]
    with pytest.raises(EcoRouteError, match="is not the skill of this version"):
        clients.remove_skill(tmp_path, clients.skill())


def test_the_skill_is_in_the_agents_format_and_holds_nothing_that_ages(catalogue: Catalogue) -> None:
    text = clients.skill().decode()
    _, front, body = text.split("---\n", 2)
    said = yaml.safe_load(front)
    assert set(said) == {"name", "description", "license"}
    assert said["name"] == "eco"
    assert 100 <= len(said["description"]) <= 1024
    assert "<" not in said["description"]
    assert len(body.splitlines()) < 500
    words = set(re.findall(r"[\w.:-]+", body.lower()))
    assert words & {model.id for model in catalogue.models} == set()
    assert words & {row.id for row in catalogue.providers} == set()
    assert re.findall(r"\d", body) == []


def test_the_skill_names_every_argument_of_score_task() -> None:
    sources = (Path(clients.__file__).parent / "server.py").read_text("utf-8")
    signature = sources.partition("async def score_task(")[2].partition(") ->")[0]
    arguments = set(re.findall(r"^ +(\w+):", signature, re.MULTILINE))
    assert arguments
    assert {name for name in arguments if f"`{name}`" not in clients.skill().decode()} == set()
