"""The programs that EcoRoute works in: where each keeps its servers and its skills, and the change that adds EcoRoute.

A change is planned first, as the bytes of one file before and after, so that it can be shown; writing it is a step of
its own. What a file held before the first change is kept beside it (``.before-ecoroute``). Undoing gives those bytes
back where the file is still as it was left, and takes only EcoRoute's entry out where someone has changed it since.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ecoroute_mcp import editor, jsonc, toml
from ecoroute_mcp.sci import EcoRouteError, shown

NAME = "ecoroute"
_KEPT = ".before-ecoroute"
_REPAIR = "correct it, then run this again"
_UV_CACHE = re.compile(r"(archive|builds|environments)-v\d+")


@dataclass(frozen=True, kw_only=True)
class Client:
    """One program. ``servers`` is the key of its table of servers; ``dialect`` how its settings are written."""

    name: str
    title: str
    servers: str
    dialect: Literal["jsonc", "json", "toml"]
    says_type: bool = False
    next_step: str


CLIENTS = {
    client.name: client
    for client in (
        Client(
            name="zed",
            title="Zed",
            servers="context_servers",
            dialect="jsonc",
            next_step="type /eco in the agent panel",
        ),
        Client(
            name="claude-code",
            title="Claude Code",
            servers="mcpServers",
            dialect="json",
            says_type=True,
            next_step="start claude again and type /mcp__ecoroute__eco",
        ),
        Client(
            name="vscode",
            title="VS Code",
            servers="servers",
            dialect="jsonc",
            says_type=True,
            next_step="run `MCP: List Servers`, start ecoroute, and type /mcp.ecoroute.eco in the chat",
        ),
        Client(
            name="cursor",
            title="Cursor",
            servers="mcpServers",
            dialect="jsonc",
            next_step="enable ecoroute under Settings, MCP",
        ),
        Client(
            name="codex",
            title="Codex",
            servers="mcp_servers",
            dialect="toml",
            next_step="start codex again and ask it which model is the greenest for a task",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One file as it is and as it will be; None where there is no file. ``kept`` is where ``before`` is kept, or is."""

    path: Path
    before: bytes | None
    after: bytes | None
    kept: Path | None = None
    restores: bool = False
    folder: Path | None = None  # goes too where nothing is left in it

    @property
    def changes(self) -> bool:
        return self.before != self.after

    def diff(self) -> str:
        """What changes, as a unified diff of lines without their ends."""
        old, new = ((content or b"").decode("utf-8", "replace").splitlines() for content in (self.before, self.after))
        was, will = (os.devnull if content is None else str(self.path) for content in (self.before, self.after))
        return "\n".join(difflib.unified_diff(old, new, was, will, lineterm=""))

    def write(self) -> None:
        """Makes the change in one step; the file keeps its permissions. Raises EcoRouteError and changes nothing."""
        target = self.path.resolve()
        try:
            if _content(self.path) != self.before:
                raise EcoRouteError(f"{self.path} has changed meanwhile: run this again")
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.kept is not None and not self.restores:
                if self.before is None:
                    self.kept.unlink(missing_ok=True)
                else:
                    _replace(self.kept, self.before, like=target)
            if self.after is None:
                target.unlink()
            else:
                _replace(target, self.after, like=target)
            if self.kept is not None and self.restores:
                self.kept.unlink(missing_ok=True)
            if self.folder is not None and self.after is None and not any(self.folder.iterdir()):
                self.folder.rmdir()
        except OSError as error:
            raise EcoRouteError(
                f"{self.path} cannot be written ({error}): make it writable, or edit it by hand"
            ) from error


def named(name: str) -> Client:
    """A client by its name. Raises EcoRouteError naming those there are."""
    if name not in CLIENTS:
        raise EcoRouteError(f"unknown client {shown(name)!r}: valid values are {', '.join(CLIENTS)}")
    return CLIENTS[name]


def settings_path(client: Client, environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """The user's file that lists the client's servers (each client's documentation, read 2026-11-21)."""
    if client.name == "zed":
        return editor.zed_folder(environ, home, platform) / "settings.json"
    if client.name == "claude-code":
        return _folder(environ, "CLAUDE_CONFIG_DIR", home) / ".claude.json"
    if client.name == "cursor":
        return home / ".cursor" / "mcp.json"
    if client.name == "codex":
        return _folder(environ, "CODEX_HOME", home / ".codex") / "config.toml"
    if portable := environ.get("VSCODE_PORTABLE", ""):
        return Path(portable) / "user-data" / "User" / "mcp.json"
    if platform == "win32":
        folder = _folder(environ, "APPDATA", home / "AppData" / "Roaming")
    elif platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = _folder(environ, "XDG_CONFIG_HOME", home / ".config")
    return folder / "Code" / "User" / "mcp.json"


def skills_folder(client: Client, environ: Mapping[str, str], home: Path) -> Path:
    """The user's folder of agent skills that the client reads (each client's documentation, read 2026-11-21)."""
    if client.name == "claude-code":
        return _folder(environ, "CLAUDE_CONFIG_DIR", home / ".claude") / "skills"
    return home / {"cursor": ".cursor", "vscode": ".copilot"}.get(client.name, ".agents") / "skills"


def _folder(environ: Mapping[str, str], variable: str, otherwise: Path) -> Path:
    chosen = Path(environ.get(variable, ""))
    return chosen if chosen.is_absolute() else otherwise


# -- the command that starts the server


def launches(
    *, argv0: str, executable: str, prefix: str, which: Callable[[str], str | None]
) -> Iterable[tuple[str, ...]]:
    """Commands that may start this very EcoRoute from anywhere, the likeliest to last first.

    ``uvx`` runs from a cache that is swept, so there the command is ``uvx`` itself.
    """
    uvx = which("uvx")
    if uvx is not None and any(_UV_CACHE.fullmatch(part) for part in Path(prefix).parts):
        yield (uvx, "--from", "ecoroute-mcp", "ecoroute")
        return
    called = which(argv0) if Path(argv0).stem == NAME else None
    beside = which(str(Path(executable).with_name(NAME)))
    found = [str(Path(each).absolute()) for each in (called, beside, which(NAME)) if each is not None]
    yield from ((each,) for each in dict.fromkeys(found))
    yield (executable, "-m", "ecoroute_mcp")


def first_that_starts(commands: Iterable[tuple[str, ...]], version: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The first command that, in a folder of nothing, answers ``--version`` with ours. Raises EcoRouteError."""
    clean = {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    tried = []
    for command in commands:
        try:
            with tempfile.TemporaryDirectory() as nowhere:
                done = subprocess.run(
                    [*command, "--version"],
                    cwd=nowhere,
                    env=clean,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            tried.append(f"{' '.join(command)} ({error})")
            continue
        if done.returncode == 0 and done.stdout.strip() == f"{NAME} {version}":
            return command
        tried.append(" ".join(command))
    raise EcoRouteError(
        f"no command starts this EcoRoute ({version}) from another folder (tried: {'; '.join(tried)}): install it, for "
        "example with `pipx install ecoroute-mcp`, and run the installed `ecoroute setup`"
    )


# -- servers


def entry(client: Client, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the client's table of servers says of EcoRoute."""
    said: dict[str, Any] = {"type": "stdio"} if client.says_type else {}
    said |= {"command": command[0], "args": [*command[1:], "mcp"]}
    return said | ({"env": dict(environment)} if environment else {})


def setup(client: Client, path: Path, command: Sequence[str], environment: Mapping[str, str]) -> Change:
    """The change that adds EcoRoute to the client's servers, or brings its entry up to date.

    What an entry there already says beside its command is kept; the region and the candidates that the Zed extension
    was given become variables. Raises EcoRouteError naming file and line.
    """
    before = _content(path)
    text = _text(path, before)
    existing = _entry(client, path, text)
    said = existing if isinstance(existing, dict) else {}
    kept_variables = said.get("env")
    variables = {
        **_given_to_the_extension(said.get("settings")),
        **(kept_variables if isinstance(kept_variables, dict) else {}),
        **environment,
    }
    others = {name: value for name, value in said.items() if name not in _REPLACED}
    wanted = entry(client, command, variables) | others
    if existing == wanted:
        return Change(path=path, before=before, after=before)
    kept = path.with_name(path.name + _KEPT)
    first = _content(kept)
    if existing is None or first is None:
        return Change(path=path, before=before, after=_with(client, path, text, wanted), kept=kept)
    if _with(client, path, _text(path, first), existing) == before:
        return Change(path=path, before=before, after=_with(client, path, _text(path, first), wanted))
    return Change(path=path, before=before, after=_with(client, path, text, wanted))


_REPLACED = ("type", "source", "command", "args", "env", "settings", "enabled", "disabled")
"""What an entry says of how the server is started, and whether: who sets it up wants it on."""


def _given_to_the_extension(settings: Any) -> dict[str, str]:
    """The Zed extension's settings as the variables that it makes of them itself."""
    given = settings if isinstance(settings, dict) else {}
    region, candidates = given.get("region"), given.get("candidates")
    variables = {"ECOROUTE_REGION": region} if isinstance(region, str) else {}
    if isinstance(candidates, list):
        variables["ECOROUTE_CANDIDATES"] = ",".join(map(str, candidates))
    return variables


def undo(client: Client, path: Path) -> Change:
    """The change that takes EcoRoute out again. Raises EcoRouteError naming file and line."""
    before = _content(path)
    text = _text(path, before)
    existing = _entry(client, path, text)
    kept = path.with_name(path.name + _KEPT)
    first = _content(kept)
    if existing is None:
        return Change(path=path, before=before, after=before)
    if first is not None:
        if _with(client, path, _text(path, first), existing) == before:
            return Change(path=path, before=before, after=first, kept=kept, restores=True)
    elif _with(client, path, "", existing) == before:
        return Change(path=path, before=before, after=None)
    original = None if first is None else _entry(client, path, _text(path, first))
    if original is not None and original != existing:
        return Change(path=path, before=before, after=_with(client, path, text, original), kept=kept, restores=True)
    held = first is not None and _servers(client, path, _text(path, first)) is not None
    after = _without(client, path, text, keep_empty=held)
    return Change(path=path, before=before, after=after, kept=kept, restores=True)


def _entry(client: Client, path: Path, text: str) -> Any:
    """What the settings say of EcoRoute now; None for nothing."""
    servers = _servers(client, path, text)
    return servers.get(NAME) if isinstance(servers, dict) else None


def _servers(client: Client, path: Path, text: str) -> Any:
    try:
        settings = toml.parse(text) if client.dialect == "toml" else jsonc.parse(text)
        if client.dialect == "json" and text.strip():
            json.loads(text)
    except json.JSONDecodeError as error:
        raise EcoRouteError(f"{path} line {error.lineno}: is not JSON ({error.msg}): {_REPAIR}") from error
    except (jsonc.JsoncError, toml.TomlError) as error:
        raise EcoRouteError(f"{path} {error}: {_REPAIR}") from error
    return settings.get(client.servers) if isinstance(settings, dict) else None


def _with(client: Client, path: Path, text: str, wanted: Any) -> bytes:
    place = (client.servers, NAME)
    try:
        if client.dialect == "toml":
            return toml.with_table(text, place, wanted).encode()
        return jsonc.with_member(text, place, wanted).encode()
    except (jsonc.JsoncError, toml.TomlError) as error:
        raise EcoRouteError(f"{path} {error}") from error


def _without(client: Client, path: Path, text: str, *, keep_empty: bool) -> bytes:
    place = (client.servers, NAME)
    try:
        if client.dialect == "toml":
            return toml.without_table(text, place).encode()
        left = jsonc.without_member(text, place)
        if not keep_empty and not _servers(client, path, left):
            left = jsonc.without_member(left, place[:1])
        return left.encode()
    except (jsonc.JsoncError, toml.TomlError) as error:
        raise EcoRouteError(f"{path} {error}") from error


# -- skills


def skill() -> bytes:
    """The skill that comes with EcoRoute: inside the package when installed from a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    place = Path("skills", "eco", "SKILL.md")
    inside = here / place
    return (inside if inside.is_file() else here.parent / place).read_bytes()


def install_skill(folder: Path, skill: bytes) -> Change:
    """The change that puts the skill into a folder of skills."""
    path = folder / "eco" / "SKILL.md"
    before = _content(path)
    kept = path.with_name(path.name + _KEPT)
    return Change(
        path=path, before=before, after=skill, kept=kept if before not in (None, skill) and not kept.exists() else None
    )


def remove_skill(folder: Path, skill: bytes) -> Change:
    """The change that takes the skill out again. Raises EcoRouteError where it was changed since."""
    path = folder / "eco" / "SKILL.md"
    before = _content(path)
    if before is None:
        return Change(path=path, before=None, after=None)
    if before != skill:
        raise EcoRouteError(f"{path} is not the skill of this version: install it again first, or remove it by hand")
    kept = path.with_name(path.name + _KEPT)
    return Change(path=path, before=before, after=_content(kept), kept=kept, restores=True, folder=path.parent)


# -- files


def _content(path: Path) -> bytes | None:
    return editor.content(path, otherwise="edit it by hand")


def _text(path: Path, content: bytes | None) -> str:
    return "" if content is None else editor.text(path, content)


def _replace(path: Path, content: bytes, *, like: Path) -> None:
    """Writes a file whole or not at all, with the permissions of ``like`` where that exists."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if like.exists():
            os.chmod(name, stat.S_IMODE(like.stat().st_mode))
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
