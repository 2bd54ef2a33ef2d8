"""What a user gets: the wheel alone, without the checkout around it, holds and runs all that it promises."""

from __future__ import annotations

import configparser
import email.parser
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, and the source archive, as `python -m build` makes them."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return {"wheel": next(out.glob("*.whl")), "sdist": next(out.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def names(archives: dict[str, Path]) -> set[str]:
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="module")
def installed(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the unpacked wheel."""
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        wheel.extractall(target)
    return target


def committed(folder: str, pattern: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern) if "__pycache__" not in path.parts}


def test_the_wheel_holds_both_packages_and_every_data_file_that_they_read(names: set[str]) -> None:
    for package in ("ecoroute_mcp", "benchmark"):
        assert committed(package, "**/*.py") <= names
    for pattern in ("*.csv", "*.yaml"):
        wanted = {f"ecoroute_mcp/{path}" for path in committed("data", pattern)}
        assert wanted
        assert wanted <= names


def test_the_wheel_leaves_out_tests_and_the_inputs_of_generated_tables(names: set[str]) -> None:
    assert {name for name in names if name.startswith(("tests/", "data/", "zed-extension/", ".ci/"))} == set()
    assert {name for name in names if "/upstream/" in name} == set()
    assert {name for name in names if "__pycache__" in name or "node_modules" in name} == set()
    assert {name.split("/")[0] for name in names} == {"ecoroute_mcp", "benchmark", "ecoroute_mcp-0.1.0.dist-info"}


def test_the_wheel_says_what_it_is(archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        points = configparser.ConfigParser()
        points.read_string(wheel.read("ecoroute_mcp-0.1.0.dist-info/entry_points.txt").decode())
        metadata = email.parser.Parser().parsestr(wheel.read("ecoroute_mcp-0.1.0.dist-info/METADATA").decode())
        assert "ecoroute_mcp-0.1.0.dist-info/licenses/LICENSE" in wheel.namelist()
    assert dict(points["console_scripts"]) == {"ecoroute": "ecoroute_mcp.__main__:main"}
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("ecoroute-mcp", "0.1.0", "MIT")
    always = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert not [
        line for line in always if line.startswith(("torch", "transformers", "scikit-learn", "nvidia", "pandas"))
    ]
    tests = [line for line in metadata.get_all("Requires-Dist", []) if "'test'" in line]
    assert tests
    assert not [line for line in tests if line.startswith(("torch", "transformers"))]


def test_the_source_archive_builds_again(archives: dict[str, Path]) -> None:
    with tarfile.open(archives["sdist"]) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/conftest.py"} <= held
    assert committed("data", "**/*.csv") <= held
    assert {name for name in held if "node_modules" in name or name.startswith((".git/", ".venv"))} == set()


def run_installed(installed: Path, directory: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "ECOROUTE_DB"}}
    environment |= {"PYTHONPATH": str(installed), "ECOROUTE_DB": str(directory / "fresh.db")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_wheel_alone_answers_the_first_question(installed: Path, tmp_path: Path) -> None:
    asked = ("ecoroute_mcp", "recommend", "fix the failing pytest in our payment module")
    structured = json.loads(run_installed(installed, tmp_path, *asked, "--json"))
    assert structured["recommended"]["model"] in run_installed(installed, tmp_path, *asked)


def test_the_wheel_alone_fits_the_quality_scale(installed: Path, tmp_path: Path) -> None:
    assert "tier" in run_installed(installed, tmp_path, "benchmark", "scale").lower()
