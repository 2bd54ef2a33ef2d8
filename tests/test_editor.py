"""The current model from Zed's settings: where they lie, the dialect they are written in, and what can be wrong."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoroute_mcp import editor
from ecoroute_mcp.editor import CurrentModel, current_model
from ecoroute_mcp.sci import EcoRouteError


def settings_text(provider: str = "anthropic", model: str = "claude-sonnet-4-5") -> str:
    return json.dumps({"agent": {"default_model": {"provider": provider, "model": model}}})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    return tmp_path / "project"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def user(home: Path) -> Path:
    return home / ".config" / "zed" / "settings.json"


def found(cwd: Path, home: Path) -> CurrentModel | None:
    return current_model({}, cwd, home, "linux")


# Places.


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {}, "home/.config/zed"),
        ("linux", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "xdg/zed"),
        ("linux", {"XDG_CONFIG_HOME": ""}, "home/.config/zed"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, "home/.config/zed"),
        ("linux", {"XDG_CONFIG_HOME": "{tmp}/xdg", "FLATPAK_XDG_CONFIG_HOME": "{tmp}/flatpak"}, "flatpak/zed"),
        ("linux", {"APPDATA": "{tmp}/roaming"}, "home/.config/zed"),
        ("freebsd14", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "xdg/zed"),
        ("darwin", {"XDG_CONFIG_HOME": "{tmp}/xdg"}, "home/.config/zed"),
        ("win32", {"APPDATA": "{tmp}/roaming"}, "roaming/Zed"),
        ("win32", {}, "home/AppData/Roaming/Zed"),
    ],
)
def test_the_users_settings_lie_where_zed_keeps_them(
    tmp_path: Path, cwd: Path, home: Path, platform: str, environ: dict[str, str], folder: str
) -> None:
    path = put(tmp_path / folder / "settings.json", settings_text())
    filled = {name: value.format(tmp=tmp_path) for name, value in environ.items()}
    assert current_model(filled, cwd, home, platform) == CurrentModel(
        spelling="anthropic/claude-sonnet-4-5",
        where=str(path),
        note="agent.default_model in the user's Zed settings",
    )


def test_the_project_wins_over_the_user(cwd: Path, home: Path) -> None:
    put(user(home), settings_text())
    path = put(cwd / ".zed" / "settings.json", settings_text("ollama", "qwen3:8b"))
    assert found(cwd, home) == CurrentModel(
        spelling="ollama/qwen3:8b", where=str(path), note="agent.default_model in the project's Zed settings"
    )


@pytest.mark.parametrize(
    "project",
    [
        "",
        "  \r\n",
        "// nothing yet\n",
        "{}",
        '{"agent": {}}',
        '{"agent": null}',
        '{"agent": {"default_model": null}}',
        '{"agent": {"default_model": {"provider": "ollama"}}}',
        '{"agent": {"default_model": {"model": "qwen3:8b"}}}',
        '{"agent": {"default_model": {"provider": "", "model": ""}}}',
        '{"agents": {"default_model": 1}}',
    ],
)
def test_a_project_that_names_no_model_leaves_it_to_the_user(cwd: Path, home: Path, project: str) -> None:
    put(cwd / ".zed" / "settings.json", project)
    assert found(cwd, home) is None
    put(user(home), settings_text())
    current = found(cwd, home)
    assert current is not None
    assert current.where == str(user(home))


def test_no_file_is_no_model(cwd: Path, home: Path) -> None:
    assert found(cwd, home) is None
    put(cwd / ".zed", "a file where the folder would be")
    user(home).parent.mkdir(parents=True)
    user(home).symlink_to(home / "gone")
    assert found(cwd, home) is None


def test_a_link_to_the_settings_is_followed(tmp_path: Path, cwd: Path, home: Path) -> None:
    user(home).parent.mkdir(parents=True)
    user(home).symlink_to(put(tmp_path / "dotfiles" / "zed.json", settings_text()))
    current = found(cwd, home)
    assert current is not None
    assert (current.spelling, current.where) == ("anthropic/claude-sonnet-4-5", str(user(home)))


# The dialect.

REAL = """// Zed settings
//
// see https://zed.dev/docs/configuring-zed
{
  "theme": "One // Dark", /* not a // line comment
  and this spans lines "}" , ] */
  "language_models": {
    "openai_compatible": {"Local \\"box\\"": {"api_url": "http://127.0.0.1:8080/v1", "available_models": [],}},
  },
  "regex": "a\\\\", // a backslash before the closing quote
  "pattern": ",]  ,}  /* kept */",
  "agent": {
    // "default_model": {"provider": "wrong", "model": "wrong"},
    "default_model": {
      "provider": "zed.dev", // hosted
      "model": "claude-sonnet-4-5-latest" , /**/
    } , // trailing

  },
}
// the end"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_comments_trailing_commas_and_urls(cwd: Path, home: Path, line_end: str) -> None:
    path = put(user(home), REAL.replace("\n", line_end).encode())
    current = found(cwd, home)
    assert current is not None
    assert current.spelling == "zed.dev/claude-sonnet-4-5-latest"
    settings = editor._settings(path)
    assert settings["theme"] == "One // Dark"
    assert settings["regex"] == "a\\"
    assert settings["pattern"] == ",]  ,}  /* kept */"
    assert settings["language_models"]["openai_compatible"]['Local "box"']["api_url"] == "http://127.0.0.1:8080/v1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["//", "/*", "*/", ",]", ",}", '"', "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(value=st.dictionaries(st.text(), json_values, min_size=1, max_size=4), ascii_only=st.booleans())
def test_plain_json_is_read_as_json(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object], ascii_only: bool
) -> None:
    path = put(tmp_path_factory.getbasetemp() / "any.json", json.dumps(value, ensure_ascii=ascii_only))
    assert editor._settings(path) == value


# What can be wrong.


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{\n  "agent": {\n    "default_model" {}\n  }\n}', 3),
        ('{\r\n  "agent": {\r\n    "default_model" {}\r\n  }\r\n}', 3),
        ('// one\n/* two\nthree */ {\n  "agent": nonsense\n}', 4),
        ('{\n  "agent": {}', 2),
        ("{'agent': {}}", 1),
        ("{}\n{}", 2),
        ('{"agent": "unterminated // text }\n\n', 1),
    ],
)
def test_a_file_that_is_not_json_names_itself_and_the_line(cwd: Path, home: Path, content: str, line: int) -> None:
    put(user(home), settings_text())
    path = put(cwd / ".zed" / "settings.json", content)
    with pytest.raises(EcoRouteError) as caught:
        found(cwd, home)
    assert str(caught.value).startswith(f"{path} line {line}: is not JSON with comments (")
    assert str(caught.value).endswith("correct it, or name the current model yourself")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "expected an object that may hold 'agent', found a list"),
        ('"text"', "expected an object that may hold 'agent', found text"),
        ('{"agent": 3}', "expected an object that may hold 'default_model', found a number"),
        ('{"agent": {"default_model": true}}', "expected an object that may hold 'provider', found true or false"),
        ('{"agent": {"default_model": {"provider": "a", "model": 5}}}', "agent.default_model.model must be printable"),
        (settings_text("a", "b\u0000"), "agent.default_model.model must be printable"),
        (settings_text("\ud800", "b"), "agent.default_model.provider must be printable"),
        (settings_text("a", "b" * 201), "at most 200 characters"),
        (b'{\n"agent": "\xff"}', "line 2: is not UTF-8"),
        (b"\xef\xbb\xbf{}", "line 1: starts with a byte order mark: save it as UTF-8 without one"),
        ("[" * 200_000, "line 1: more than 127 objects and lists inside one another"),
        ("1" * 5000, "line 1: cannot be understood"),
        (b" " * (4 * 1024 * 1024 + 1), "larger than 4194304 bytes"),
    ],
    ids=range(13),
)
def test_what_cannot_be_understood_is_said(cwd: Path, home: Path, content: str | bytes, says: str) -> None:
    path = put(user(home), content)
    with pytest.raises(EcoRouteError) as caught:
        found(cwd, home)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_what_is_not_a_file_is_said_and_never_waited_for(cwd: Path, home: Path) -> None:
    user(home).mkdir(parents=True)
    with pytest.raises(EcoRouteError, match=r"settings\.json is not a file: remove it"):
        found(cwd, home)
    user(home).rmdir()
    os.mkfifo(user(home))
    with pytest.raises(EcoRouteError, match=r"settings\.json is not a file: remove it"):
        found(cwd, home)
    user(home).unlink()
    user(home).symlink_to(user(home))
    with pytest.raises(EcoRouteError, match=r"settings\.json cannot be read"):
        found(cwd, home)


@pytest.mark.parametrize("unit", ['\\"', "/* ", '"', ", ", ",\n", "// ", '"\\', "*/"])
def test_reading_takes_time_in_proportion_to_the_size(cwd: Path, home: Path, unit: str) -> None:
    put(user(home), '{"x": ' + unit * (1_000_000 // len(unit)))
    start = time.perf_counter()
    with pytest.raises(EcoRouteError, match="line"):
        found(cwd, home)
    assert time.perf_counter() - start < 2.0
