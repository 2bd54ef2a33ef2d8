"""The shape of the code, read from its syntax: who imports whom, who owns which library, what must not exist."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROUTER = ROOT / "ecoroute_mcp"
LABORATORY = ROOT / "benchmark"

ORDER: tuple[frozenset[str], ...] = (
    frozenset({"sci"}),
    frozenset({"catalogue", "jsonc", "patterns", "toml", "wording"}),
    frozenset({"difficulty", "kind"}),
    frozenset({"identity", "zones", "energy", "task", "editor"}),
    frozenset({"choices", "clients"}),
    frozenset({"cascade"}),
    frozenset({"ranking"}),
    frozenset({"store"}),
    frozenset({"refresh"}),
    frozenset({"render"}),
    frozenset({"server"}),
    frozenset({"__main__"}),
)
"""From the ground up. A module imports from lower layers only; modules of one layer do not know each other."""

OWNERS = {
    "mcp": {"server"},
    "mcp_types": {"server"},
    "sqlite3": {"store"},
    "csv": {"refresh"},
    "yaml": {"refresh"},
    "numpy": set(),
    "rich": {"render", "__main__"},
    "platformdirs": {"__main__"},
    "argparse": {"__main__"},
}
"""Who may import a library of the router's. Nobody needs numpy yet: it costs a server 11 MB and 50 ms at its start."""

LABORATORY_OWNERS = {
    "fcntl": {"file_lock"},
    "moocore": {"pareto"},
    "optuna": {"search"},
    "pandas": {"routing"},
    "pyarrow": set(),
    "pynvml": {"meter", "sensors"},
    "sqlalchemy": {"search"},
}
"""The same for the laboratory's, where a module may also name a library for importlib, since it may be absent."""

BANNED_NAMES = {"utils", "util", "helpers", "common", "manager", "core", "types", "constants", "misc"}
BANNED_IN_ROUTER = {
    "torch", "transformers", "bitsandbytes", "sklearn", "scipy", "pandas", "pynvml", "optuna", "benchmark", "tests"
}  # fmt: skip


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if path.stem != "__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything a module imports, wherever in the file the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide who is meant"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def layer(module: str) -> int:
    for position, names in enumerate(ORDER):
        if module in names:
            return position
    raise AssertionError(f"ecoroute_mcp/{module}.py has no place in ORDER: give it one")


@pytest.mark.parametrize("path", modules(ROUTER), ids=lambda path: path.stem)
def test_a_module_of_the_router_imports_only_from_lower_layers(path: Path) -> None:
    own = layer(path.stem)
    upward = [
        name
        for name in imported(parsed(path))
        if name.startswith("ecoroute_mcp.") and name != "ecoroute_mcp.__version__" and layer(name.split(".")[1]) >= own
    ]
    assert upward == []


@pytest.mark.parametrize("path", modules(ROUTER), ids=lambda path: path.stem)
def test_each_foreign_library_has_its_owner(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(parsed(path))}
    strangers = {top: OWNERS[top] for top in tops if top in OWNERS and path.stem not in OWNERS[top]}
    assert strangers == {}
    assert tops & BANNED_IN_ROUTER == set()


@pytest.mark.parametrize("path", modules(LABORATORY), ids=lambda path: path.stem)
def test_each_library_of_the_laboratory_is_used_by_its_owners_alone(path: Path) -> None:
    tree = parsed(path)
    named = {name.split(".")[0] for name in imported(tree)}
    named |= {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    users = {name for name, owners in LABORATORY_OWNERS.items() if name in named}
    assert users == {name for name, owners in LABORATORY_OWNERS.items() if path.stem in owners}


@pytest.mark.parametrize("path", [*modules(ROUTER), ROUTER / "__init__.py"], ids=lambda path: path.stem)
def test_only_the_command_reads_the_environment(path: Path) -> None:
    if path.stem == "__main__":
        return
    tree = parsed(path)
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "expanduser", "home"}
    ]
    assert reads == []
    assert not {"os.environ", "os.getenv"} & set(imported(tree))


@pytest.mark.parametrize("path", [*modules(ROUTER), *modules(LABORATORY)], ids=lambda path: str(path.relative_to(ROOT)))
def test_joules_per_kwh_stands_in_sci_alone(path: Path) -> None:
    if path == ROUTER / "sci.py":
        return
    values = [node.lineno for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant) and node.value == 3.6e6]
    assert values == []


@pytest.mark.parametrize("path", [*modules(ROUTER), *modules(LABORATORY)], ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_named_for_the_domain_and_catch_what_they_mean(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    broad = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {name.id for name in caught if isinstance(name, ast.Name)}
            if node.type is None or names & {"Exception", "BaseException"}:
                broad.append(node.lineno)
    assert broad == []


def test_the_face_holds_no_physics_no_files_and_no_queries() -> None:
    path = ROUTER / "server.py"
    tops = {name.split(".")[0] for name in imported(parsed(path))}
    assert not tops & {"math", "os", "pathlib", "csv", "json5", "numpy", "sqlite3", "yaml"}


def test_importing_the_package_pulls_in_no_heavy_library() -> None:
    code = "import sys, ecoroute_mcp; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"mcp", "torch", "sklearn", "transformers", "pandas", "scipy", "rich"} & set(loaded.stdout.split())


def test_importing_the_domain_pulls_in_no_face_and_no_laboratory() -> None:
    names = [path.stem for path in modules(ROUTER) if path.stem not in {"server", "__main__", "render"}]
    code = "import sys, importlib\n" + "".join(f"importlib.import_module('ecoroute_mcp.{name}')\n" for name in names)
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"mcp", "torch", "sklearn", "transformers", "pandas", "scipy", "rich", "benchmark"} & set(
        loaded.stdout.split()
    )
