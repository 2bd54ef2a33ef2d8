"""What every test shares: no setting of this machine's user reaches a test, and no test reaches the user's database."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.ranking import Router
from tests.stdio_peer import StdioPeer

ROOT = Path(__file__).resolve().parents[1]

# Before numpy and torch are imported, and for every process that a test starts. The matrices are small, so that threads
# would wait for each other longer than they work, and longest on a machine that is busy with other things.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-missing-packages", action="store_true", help="fail what would be skipped for want of a package"
    )


def _unskipped(config: pytest.Config, report: pytest.CollectReport | pytest.TestReport) -> None:
    wanted = ("pip install", "could not import", " brings", "rustup target add")
    if config.option.no_missing_packages and report.skipped and any(each in str(report.longrepr) for each in wanted):
        report.outcome = "failed"
        report.longrepr = str(report.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _unskipped(collector.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _unskipped(item.config, report)
    return report


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process of this run sees an empty home, its own database and none of the user's ECOROUTE settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ECOROUTE_")]:
            patch.delenv(name)
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "FLATPAK_XDG_CONFIG_HOME", "APPDATA"):
            patch.setenv(name, str(home / name.lower()))
        patch.setenv("ECOROUTE_DB", str(home / "ecoroute.db"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYTHONUTF8", "1")
        yield


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """The project's own data."""
    return refresh.read(ROOT / "data")


@pytest.fixture(scope="session")
def router(catalogue: Catalogue) -> Router:
    return Router(catalogue)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server_command() -> list[str]:
    """How every test starts the server: the package under test, with this interpreter, over stdio."""
    return [sys.executable, "-m", "ecoroute_mcp", "mcp"]


@pytest.fixture
def stdio_server(server_command: list[str], tmp_path: Path) -> Iterator[StdioPeer]:
    """A live server in a directory of its own, past the 2025-11-25 handshake, spoken to line by line."""
    with StdioPeer(server_command, cwd=tmp_path, stderr=tmp_path / "stderr.txt") as peer:
        peer.initialize()
        yield peer
