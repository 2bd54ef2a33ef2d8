"""Which model the editor uses now, as far as Zed's settings say.

Zed writes the model that was picked last to ``agent.default_model`` of its settings file, which is JSON with comments
and trailing commas (see :mod:`ecoroute_mcp.jsonc`).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecoroute_mcp import jsonc
from ecoroute_mcp.sci import EcoRouteError

_MOST_BYTES = 4 * 1024 * 1024
_MOST_CHARACTERS = 200  # of a provider's or model's name


@dataclass(frozen=True)
class CurrentModel:
    """A model as the editor names it, ``provider/model``, and the settings file that says so."""

    spelling: str
    where: str
    note: str


def current_model(environ: Mapping[str, str], cwd: Path, home: Path, platform: str) -> CurrentModel | None:
    """The model in use according to Zed: the project's settings under ``cwd`` first, then the user's.

    ``platform`` is spelled as ``sys.platform``. None where no file exists or none names a model. Raises EcoRouteError,
    naming file and line, where a file is there but cannot be read or understood: it may name another model than the
    next one.
    """
    places = (
        (cwd / ".zed" / "settings.json", "the project's Zed settings"),
        (zed_folder(environ, home, platform) / "settings.json", "the user's Zed settings"),
    )
    for path, whose in places:
        settings = _settings(path)
        model = _member(path, _member(path, settings, "agent"), "default_model")
        provider, name = _name(path, model, "provider"), _name(path, model, "model")
        if provider and name:
            note = f"agent.default_model in {whose}"
            return CurrentModel(spelling=f"{provider}/{name}", where=str(path), note=note)
    return None


def zed_folder(environ: Mapping[str, str], home: Path, platform: str) -> Path:
    """Where Zed keeps the user's settings (zed-industries/zed: crates/paths/src/paths.rs, read 2026-11-21)."""
    if platform == "win32":
        roaming = environ.get("APPDATA", "")
        return (Path(roaming) if roaming else home / "AppData" / "Roaming") / "Zed"
    if platform == "darwin":
        return home / ".config" / "zed"
    if flatpak := environ.get("FLATPAK_XDG_CONFIG_HOME", ""):
        return Path(flatpak) / "zed"
    chosen = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (chosen if chosen.is_absolute() else home / ".config") / "zed"  # a relative one is to be ignored


def _settings(path: Path) -> Any:
    found = content(path, otherwise="name the current model yourself")
    if found is None:
        return {}
    try:
        settings = jsonc.parse(text(path, found))
    except jsonc.JsoncError as error:
        raise EcoRouteError(f"{path} {error}: correct it, or name the current model yourself") from error
    return {} if settings is None else settings


def content(path: Path, *, otherwise: str) -> bytes | None:
    """A settings file's bytes; None where there is none. Raises EcoRouteError, which ends in ``otherwise``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EcoRouteError(f"{path} is not a file: remove it, or {otherwise}")
        with path.open("rb") as file:
            found = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EcoRouteError(f"{path} cannot be read ({error}): {otherwise}") from error
    if len(found) > _MOST_BYTES:
        raise EcoRouteError(f"{path} is larger than {_MOST_BYTES} bytes: {otherwise}")
    return found


def text(path: Path, found: bytes) -> str:
    """A settings file's text. Raises EcoRouteError naming the line that is not UTF-8."""
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise EcoRouteError(f"{path} line {line}: is not UTF-8: save it as UTF-8") from error


def _member(path: Path, value: Any, name: str) -> Any:
    """A key of an object; None where object or key are absent."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise EcoRouteError(f"{path}: expected an object that may hold {name!r}, found {_kind(value)}")
    return value.get(name)


def _name(path: Path, model: Any, key: str) -> str:
    value = _member(path, model, key)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MOST_CHARACTERS:
        raise EcoRouteError(
            f"{path}: agent.default_model.{key} must be printable text of at most {_MOST_CHARACTERS} characters"
        )
    return value.strip()


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
