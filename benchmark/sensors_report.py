"""The sensors at a terminal: every channel with its value, a log for a while, and what logging costs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark import sensors, table
from benchmark.command_line import given_path
from benchmark.sweep import seconds
from ecoroute_mcp.sci import EcoRouteError

EXAMPLES = """examples:
  python -m benchmark sensors                               every channel with its value and unit, and what is absent
  python -m benchmark sensors --log log.jsonl --for 10m     log them once a second for ten minutes
  python -m benchmark sensors --cost                        what that costs here, as a share of a core
  python -m benchmark sensors --record machine.tsv          record this machine, without serial numbers
  python -m benchmark sensors --root machine.tsv            list what a recorded machine has

Nothing here needs root. A trial's own log: python -m benchmark run ... --sensors log.jsonl"""
RATES_S = 1.0
"""Between the two samples of a listing, so that counters have a rate."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument(
        "--root", type=given_path, metavar="PATH", help="a recorded tree or recording, not this machine"
    )
    parser.add_argument("--log", type=given_path, metavar="FILE", help="log every channel once a second, until Ctrl+C")
    parser.add_argument("--for", dest="duration", metavar="TIME", help="end the log (or --cost: 10s) after this long")
    parser.add_argument(
        "--record", type=given_path, metavar="FILE", help="record this machine for --root and for tests"
    )
    parser.add_argument("--cost", action="store_true", help="measure what logging once a second costs")


def run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root: Path = arguments.root or Path("/")
        if root.is_file():
            root = sensors.unpack(root, Path(folder) / "root")
        elif not root.is_dir():
            raise EcoRouteError(f"--root {root}: no such folder or recording")
        duration_s = seconds(arguments.duration) if arguments.duration else None
        if arguments.cost:
            _print_cost(cost(root, Path(folder) / "log.jsonl", duration_s or 10.0), as_json=arguments.json)
        elif arguments.record:
            sensors.pack(root, arguments.record)
            print(f"recorded {arguments.record}")
        elif arguments.log:
            _log(arguments.log, root, duration_s)
        else:
            _list(sensors.Sensors(root), as_json=arguments.json, rates=arguments.root is None)
    return 0


def cost(root: Path, path: Path, duration_s: float) -> dict[str, Any]:
    """Log for that long as a trial would, and say what processor time the logging thread took, kernel's included."""
    with sensors.Logger(path, root=root) as logger:
        time.sleep(duration_s)
    if logger.failure is not None or not logger.rows:
        raise EcoRouteError(f"nothing was logged: {logger.failure or 'run for 1s or longer'}")
    begin_s, values = time.process_time(), logger.sensors.sample().values()
    sensors.line(time.time(), values)
    return {
        "channels": len(logger.sensors.channels),
        "rows": logger.rows,
        "ms_per_row": logger.cpu_s / logger.rows * 1e3,
        "share_of_a_core": logger.cpu_s / logger.rows,
        "ms_per_row_warm": (time.process_time() - begin_s) * 1e3,
        "bytes_per_row": len(sensors.line(time.time(), values)),
    }


def _print_cost(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"{figures['channels']} channels once a second: {figures['ms_per_row']:.2f} ms of processor time a row, "
        f"{figures['share_of_a_core']:.3%} of a core (mean of {figures['rows']} rows; "
        f"{figures['ms_per_row_warm']:.2f} ms right after another), {figures['bytes_per_row']} bytes a row"
    )


def _log(path: Path, root: Path, duration_s: float | None) -> None:
    with sensors.Logger(path, root=root) as logger:
        print(f"logging {len(logger.sensors.channels)} channels to {path}; Ctrl+C ends", file=sys.stderr)
        try:
            time.sleep(threading.TIMEOUT_MAX if duration_s is None else duration_s)
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
    if logger.failure is not None:
        raise EcoRouteError(f"the log ended after {logger.rows} rows: {logger.failure}")
    print(f"{logger.rows} rows in {path}")


def _list(found: sensors.Sensors, *, as_json: bool, rates: bool) -> None:
    values = found.sample()
    if rates:
        time.sleep(RATES_S)
        values = found.sample()
    if as_json:
        document = {
            "machine": found.machine,
            "absent": found.absent,
            "channels": [
                {name: figure for name, figure in asdict(channel).items() if name not in ("scale", "wraps_at")}
                | {"value": values[channel.name]}
                for channel in found.channels
            ],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    table.show(
        ", ".join(found.machine.values()),
        ("channel", "value", "unit", ""),
        [
            (channel.name, _shown(values[channel.name]), channel.unit, "rate" if channel.kind == "counter" else None)
            for channel in found.channels
        ],
    )
    silent = sum(value is None for value in values.values())
    print(f"{len(found.channels)} channels, {silent} of them without a value now")
    if not rates:
        print("a recording stands still: its counters have no rate")
    for name, why in found.absent.items():
        print(f"{name}: {why}")


def _shown(value: float | None) -> str | None:
    if value is None or isinstance(value, int):
        return None if value is None else str(value)
    return f"{value:.6g}"
