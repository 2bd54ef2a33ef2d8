"""Zed, as far as an extension can see it: a component of API 0.6.0's world is loaded, and its imports are answered.

Processes are really run, under the capabilities of the manifest as Zed grants them; settings and the worktree are what
a test says. A component that imports anything else is not instantiated, so that nothing can be used unseen.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKTREE, PROJECT, KEY_VALUE_STORE = 1, 2, 3
"""Types of the host's resources."""


class Refused(Exception):
    """The error that the extension gave to Zed; its text is what Zed shows."""


@dataclass(frozen=True, kw_only=True)
class Worktree:
    """A folder open in Zed: its id, and the environment of a shell there."""

    id: int
    shell: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Zed:
    """What surrounds the extension.

    ``path``: the PATH of Zed's own process. ``settings``: by server, as the user wrote them; ``local_settings``: the
    same by worktree. ``os``: linux, mac or windows.
    """

    manifest: Path
    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    local_settings: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    worktrees: Sequence[Worktree] = ()
    os: str = "linux"


class LoadedExtension:
    """A component, initialised as Zed does it, with the commands that it has run."""

    def __init__(self, component: Path, zed: Zed) -> None:
        wasmtime: Any = importlib.import_module("wasmtime")
        self._wit: Any = importlib.import_module("wasmtime.component")
        self._zed = zed
        self._manifest = tomllib.loads(zed.manifest.read_text(encoding="utf-8"))
        self.ran: list[list[str]] = []

        engine, loaded = compiled(component)
        self._store: Any = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.env = [("PWD", "/extension")]
        self._store.set_wasi(wasi)
        linker = self._wit.Linker(engine)
        linker.add_wasip2()
        with linker.root() as root:
            for name, kind in (("worktree", WORKTREE), ("project", PROJECT), ("key-value-store", KEY_VALUE_STORE)):
                root.add_resource(name, self._wit.ResourceType.host(kind), lambda _store, _rep: None)
            root.add_func("get-settings", self._get_settings)
            root.add_func("[method]project.worktree-ids", self._worktree_ids)
            root.add_func("[method]worktree.id", lambda store, tree: self._worktree(store, tree).id)
            root.add_func("[method]worktree.which", self._which)
            root.add_func(
                "[method]worktree.shell-env", lambda store, tree: list(self._worktree(store, tree).shell.items())
            )
            with root.add_instance("zed:extension/process") as process:
                process.add_func("run-command", self._run_command)
            with root.add_instance("zed:extension/platform") as platform:
                platform.add_func("current-platform", lambda _store: (zed.os, "x8664"))
        self._instance: Any = linker.instantiate(self._store, loaded)
        self._call("init-extension")

    # -- what Zed asks

    def context_server_command(self, server: str) -> tuple[str, list[str], dict[str, str]]:
        """Program, arguments and environment with which Zed starts the server."""
        command = self._answer(self._call("context-server-command", server, self._project()))
        return command.command, command.args, dict(command.env)

    def context_server_configuration(self, server: str) -> tuple[str, str, Any]:
        """Instructions, default settings as text, and the schema, parsed as Zed parses it."""
        given = self._answer(self._call("context-server-configuration", server, self._project()))
        return (
            getattr(given, "installation-instructions"),
            getattr(given, "default-settings"),
            json.loads(getattr(given, "settings-schema")),
        )

    def run_slash_command(
        self, command: str, words: list[str], worktree: int | None = None
    ) -> tuple[str, list[tuple[str, str]]]:
        """The text, and of each section the label and the text that it covers (Zed counts in bytes)."""
        borrowed = None if worktree is None else self._borrow(worktree, WORKTREE)
        output = self._answer(self._call("run-slash-command", self._slash_command(command), words, borrowed))
        encoded = output.text.encode()
        return output.text, [
            (section.label, encoded[section.range.start : section.range.end].decode()) for section in output.sections
        ]

    def complete_slash_command(self, command: str, words: list[str]) -> list[tuple[str, str, bool]]:
        """Label, new text, and whether the command runs at once, of each completion."""
        given = self._answer(self._call("complete-slash-command-argument", self._slash_command(command), words))
        return [(each.label, getattr(each, "new-text"), getattr(each, "run-command")) for each in given]

    def _call(self, name: str, *arguments: Any) -> Any:
        function = self._instance.get_func(self._store, name)
        assert function is not None, f"the component exports no {name}"
        return function(self._store, *arguments)

    def _answer(self, result: Any) -> Any:
        """wasmtime tags a result only where its two types could be mistaken for each other."""
        if isinstance(result, self._wit.Variant):
            if result.tag == "ok":
                return result.payload
            result = result.payload
        if isinstance(result, str):
            raise Refused(result)
        return result

    def _slash_command(self, name: str) -> Any:
        return self._record({"name": name, "description": "", "tooltip-text": "", "requires-argument": True})

    def _record(self, fields: Mapping[str, Any]) -> Any:
        record = self._wit.Record()
        for name, value in fields.items():
            setattr(record, name, value)
        return record

    def _borrow(self, representation: int, kind: int) -> Any:
        return self._wit.ResourceHost.borrow(representation, kind).to_any(self._store)

    def _project(self) -> Any:
        return self._borrow(0, PROJECT)

    # -- what the extension asks

    def _worktree(self, store: Any, borrowed: Any) -> Worktree:
        representation = borrowed.to_host(store).rep
        return next(each for each in self._zed.worktrees if each.id == representation)

    def _worktree_ids(self, store: Any, borrowed: Any) -> list[int]:
        borrowed.to_host(store)  # else the borrow outlives the call, which wasmtime forbids
        return [each.id for each in self._zed.worktrees]

    def _which(self, store: Any, borrowed: Any, name: str) -> str | None:
        for folder in self._worktree(store, borrowed).shell["PATH"].split(os.pathsep):
            if os.access(Path(folder, name), os.X_OK):
                return str(Path(folder, name))
        return None

    def _get_settings(self, _store: Any, location: Any, category: str, key: str | None) -> Any:
        if category != "context_servers" or key is None:
            return self._wit.Variant("err", f"Unknown settings category: {category}")
        settings = self._zed.settings
        if location is not None:
            settings = self._zed.local_settings.get(getattr(location, "worktree-id"), settings)
        return self._wit.Variant("ok", json.dumps({"command": None, "settings": settings.get(key, {})}))

    def _run_command(self, _store: Any, command: Any) -> Any:
        self.ran.append([command.command, *command.args])
        granted = [each for each in self._manifest.get("capabilities", []) if each["kind"] == "process:exec"]
        if not any(_allows(each["command"], each["args"], command.command, command.args) for each in granted):
            return f"capability for process:exec {command.command} {command.args} was not listed in the manifest"
        environment = {**os.environ, "PATH": self._zed.path, **dict(command.env)}
        try:
            done = subprocess.run(
                [command.command, *command.args],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=40,
                check=False,
            )
        except OSError as error:
            return str(error)
        status = done.returncode if done.returncode >= 0 else None
        return self._record({"status": status, "stdout": done.stdout, "stderr": done.stderr})


@functools.cache
def compiled(component: Path) -> tuple[Any, Any]:
    """The engine and the component; to be forgotten with ``cache_clear`` before the interpreter ends."""
    engine = importlib.import_module("wasmtime").Engine()
    return engine, importlib.import_module("wasmtime.component").Component.from_file(engine, str(component))


def _allows(command: str, arguments: Sequence[str], wanted: str, wanted_arguments: Sequence[str]) -> bool:
    """Zed's rule: ``*`` stands for any one argument, ``**`` for all that follow."""
    if command not in (wanted, "*"):
        return False
    for position, argument in enumerate(arguments):
        if argument == "**":
            return True
        if position >= len(wanted_arguments) or argument not in ("*", wanted_arguments[position]):
            return False
    return len(arguments) == len(wanted_arguments)


def api_version(component: bytes) -> tuple[int, int, int]:
    """The version in the custom section ``zed:api-version`` of the component's main module, read as Zed reads it."""
    found = list(_custom_sections(component, b"zed:api-version"))
    assert len(found) == 1, f"{len(found)} sections zed:api-version"
    major, minor, patch = (int.from_bytes(found[0][at : at + 2], "big") for at in (0, 2, 4))
    return major, minor, patch


def _custom_sections(binary: bytes, wanted: bytes) -> list[bytes]:
    """Contents of every custom section so named, in this binary and in the modules and components that it nests."""
    found, at = [], 8
    is_component = binary[4:8] != b"\x01\x00\x00\x00"
    while at < len(binary):
        kind = binary[at]
        size, start = _leb128(binary, at + 1)
        content, at = binary[start : start + size], start + size
        if kind == 0:
            length, name_at = _leb128(content, 0)
            if content[name_at : name_at + length] == wanted:
                found.append(content[name_at + length :])
        elif is_component and kind in (1, 4):
            found += _custom_sections(content, wanted)
    return found


def _leb128(binary: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = binary[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
