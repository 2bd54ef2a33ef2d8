"""What EcoRoute costs on top of the SDK: `python tests/perf/latency.py [--json]` measures and prints; no assertion.

Both servers run on this machine in the same minutes, and their samples alternate, so that a busy machine slows both.

* start: from spawning the process to the reply to `initialize`, the median of alternating starts. One start of each,
  which builds the database and fills the file cache, is thrown away.
* memory: VmRSS of the server process after `initialize`, and again after its first tool call (Linux only).
* round trip: one `score_task` over stdio, less one call of the minimal server's `echo` with the same text.
* ranking: one recommendation over a catalogue in which every real model stands many times under other ids.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ecoroute_mcp import store
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.ranking import Request, Router
from tests.stdio_peer import StdioPeer

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = [sys.executable, str(ROOT / "tests" / "perf" / "minimal_server.py")]
OURS = [sys.executable, "-m", "ecoroute_mcp", "mcp"]
TASK = "fix the failing pytest in our payment module"
MODELS = 10_000


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measured figure beside its bar, both in the unit that the name says."""

    what: str
    minimal: float | None
    ours: float
    compared: float
    bar: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.compared <= self.bar


def first_call(peer: StdioPeer) -> None:
    tools = {tool["name"] for tool in peer.request("tools/list", {})["result"]["tools"]}
    call(peer, minimal="echo" in tools)


def call(peer: StdioPeer, *, minimal: bool) -> None:
    result = peer.call("echo", text=TASK) if minimal else peer.call("score_task", task=TASK, region="SWE")
    if result.get("isError", False):
        raise SystemExit(f"the call failed: {result['content'][0]['text']}")


def rss_mb(peer: StdioPeer) -> float:
    status = Path(f"/proc/{peer.process.pid}/status").read_text(encoding="ascii")
    resident_kb = next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]
    return int(resident_kb) / 1024


def started(command: list[str], directory: Path) -> tuple[StdioPeer, float]:
    """A server past its handshake, and the seconds that took."""
    begin_s = time.perf_counter()
    peer = StdioPeer(command, cwd=directory, stderr=directory / "stderr.txt")
    peer.initialize()
    return peer, time.perf_counter() - begin_s


def starts_and_memory(directory: Path, starts: int) -> list[Line]:
    took_ms: dict[str, list[float]] = {"minimal": [], "ours": []}
    idle_mb: dict[str, list[float]] = {"minimal": [], "ours": []}
    used_mb: dict[str, list[float]] = {"minimal": [], "ours": []}
    for number in range(starts + 1):
        for name, command in (("minimal", MINIMAL), ("ours", OURS)):
            peer, seconds = started(command, directory)
            with peer:
                if number == 0:
                    continue
                took_ms[name].append(1000 * seconds)
                idle_mb[name].append(rss_mb(peer))
                first_call(peer)
                used_mb[name].append(rss_mb(peer))
    return [
        ratio("spawn to initialize, median", took_ms, bar=1.35, unit="ms"),
        ratio("memory after initialize", idle_mb, bar=1.3, unit="MB"),
        ratio("memory after a call", used_mb, bar=1.3, unit="MB"),
    ]


def ratio(what: str, samples: dict[str, list[float]], *, bar: float, unit: str) -> Line:
    minimal, ours = statistics.median(samples["minimal"]), statistics.median(samples["ours"])
    return Line(what=what, minimal=minimal, ours=ours, compared=ours / minimal, bar=bar, unit=unit)


def round_trips(directory: Path, calls: int) -> list[Line]:
    took_ms: dict[str, list[float]] = {"minimal": [], "ours": []}
    minimal, _ = started(MINIMAL, directory)
    ours, _ = started(OURS, directory)
    with minimal, ours:
        for number in range(calls + 20):
            for name, peer in (("minimal", minimal), ("ours", ours)):
                begin_s = time.perf_counter()
                call(peer, minimal=name == "minimal")
                if number >= 20:
                    took_ms[name].append(1000 * (time.perf_counter() - begin_s))
    return [
        more(f"score_task round trip, p{share}", *(percentile(took_ms[name], share) for name in took_ms), bar=bar)
        for share, bar in ((50, 3.0), (95, 6.0))
    ]


def more(what: str, minimal: float, ours: float, *, bar: float) -> Line:
    return Line(what=what, minimal=minimal, ours=ours, compared=ours - minimal, bar=bar, unit="ms")


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def replicated(catalogue: Catalogue, models: int) -> Catalogue:
    """The catalogue grown to this many models: each real one again and again under new ids, with its evidence."""
    copies = -(-models // len(catalogue.models))
    again = ("", *(f"-copy{number}" for number in range(1, copies)))
    grown = tuple(replace(model, id=model.id + mark) for mark in again for model in catalogue.models)[:models]
    kept = {model.id for model in grown}
    return replace(
        catalogue,
        models=grown,
        quality=tuple(
            replace(row, model=row.model + mark)
            for mark in again
            for row in catalogue.quality
            if row.model + mark in kept
        ),
        measured_energy=tuple(
            replace(row, model=row.model + mark)
            for mark in again
            for row in catalogue.measured_energy
            if row.model + mark in kept
        ),
    )


def ranking(catalogue: Catalogue, models: int, calls: int) -> Line:
    router = Router(replicated(catalogue, models))
    request = Request(task=TASK, region="SWE")
    took_ms = []
    for _ in range(calls):
        begin_s = time.perf_counter()
        router.recommend(request)
        took_ms.append(1000 * (time.perf_counter() - begin_s))
    median = statistics.median(took_ms)
    return Line(
        what=f"ranking {models:,} models, median", minimal=None, ours=median, compared=median, bar=30.0, unit="ms"
    )


def shown(line: Line) -> str:
    minimal = "" if line.minimal is None else f"{line.minimal:.2f}"
    if line.minimal is None:
        compared, bar = f"{line.compared:.2f} ms", f"<= {line.bar:g} ms"
    elif "round trip" in line.what:
        compared, bar = f"{line.compared:+.2f} ms", f"<= +{line.bar:g} ms"
    else:
        compared, bar = f"{line.compared:.2f}x", f"<= {line.bar:g}x"
    verdict = "holds" if line.holds else "MISSED"
    return f"{line.what:<32}{minimal:>10}{line.ours:>10.2f} {line.unit:<3}{compared:>13}{bar:>12}  {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure EcoRoute's server against a minimal one of the same SDK.")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--starts", type=int, default=15, help="starts of each server (default 15)")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each server (default 1000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ.update(
            ECOROUTE_DB=str(directory / "ecoroute.db"), PYTHONPATH=str(ROOT), XDG_CONFIG_HOME=str(directory)
        )
        lines = starts_and_memory(directory, arguments.starts)
        lines += round_trips(directory, arguments.calls)
        lines.append(ranking(store.load(directory / "ecoroute.db"), MODELS, 50))
    if arguments.json:
        for line in lines:
            print(json.dumps({**asdict(line), "holds": line.holds}))
        return
    print(f"{'':<32}{'minimal':>10}{'ecoroute':>10}    {'compared':>13}{'bar':>12}")
    for line in lines:
        print(shown(line))


if __name__ == "__main__":
    main()
