"""`python -m benchmark frontier`: closed models' joules per written token, what dominates, and vendors' own figures."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark import table, vendors
from benchmark.command_line import given_path
from benchmark.frontier import SAMPLES, Frontier
from ecoroute_mcp import refresh

EXAMPLES = """examples:
  python -m benchmark frontier          every model without published weights, lowest joules first
  python -m benchmark frontier --json   the same with ranges, sources and the share of every input
"""

_NAMES = {
    "size": "parameters",
    "device": "hardware",
    "precision": "precision",
    "batch": "batch",
    "context": "context",
    "cache": "KV cache",
    "stack": "serving stack",
    "law": "the law's residual",
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=given_path, metavar="DIR", help="folder of the data (default: the one shipped)")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N", help=f"draws of every range (default: {SAMPLES})"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    data: Path = arguments.data or refresh.packaged_data()
    frontier = Frontier(refresh.read(data), samples=arguments.samples)
    checks = frontier.checks(vendors.read(data / "vendor_figures.csv"))
    if arguments.json:
        print(json.dumps({**frontier.document, "vendor_figures": checks}, indent=2))
        return 0
    show(frontier.document, checks)
    return 0


def show(document: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> None:
    assumed, router = document["assumed"], document["router"]
    table.show(
        f"Joules of the accelerators per token written: 5th, 50th and 95th percentile of {document['samples']} samples",
        ("model", "total 1e9", "active 1e9", "from", "5 %", "50 %", "95 %", "router", "dominates"),
        [
            (
                row["id"],
                _range(row["params_total_b"]),
                _range(row["params_active_b"]),
                _origin(row["params_active_b"]),
                *(_figure(row["j_per_token"][end]) for end in ("low", "mid", "high")),
                _range(row["router_j_per_token"]),
                ", ".join(f"{_NAMES[name]} {share:.0%}" for name, share in _first(row["shares_of_log_variance"], 2)),
            )
            for row in document["models"]
        ],
    )
    if document["unknown"]:
        table.show(
            "Without a prediction", ("model", "why"), [(row["id"], row["reason"]) for row in document["unknown"]]
        )
    counts = Counter(_NAMES[row["dominates"]] for row in document["models"])
    print("Most of the doubt: " + ", ".join(f"{name} for {number} models" for name, number in counts.most_common()))
    print(
        f"Devices, equally likely: {', '.join(assumed['devices'])}; FP4, FP8 or bf16; batch {_range(assumed['batch'])}"
    )
    print(
        f"Tokens read {_range(assumed['input_tokens'])}, written {_range(assumed['output_tokens'])}, without reasoning"
    )
    for where, beside in router.items():
        if beside["models"]:
            print(
                f"The router's interval holds ours ({where}) for {beside['holds']} of {beside['models']}; in the "
                f"median its middle is {beside['mid']:.2f} of ours, its low end {beside['low']:.2f} (up to "
                f"{beside['highest_low']:.2f}), its high end {beside['high']:.2f} (down to {beside['lowest_high']:.2f})"
            )
    print("A total that its source states as one number has no doubt here")
    print()
    table.show(
        "Beside what vendors published (a check, no input), at the same boundary",
        ("figure", "boundary", "theirs", "if it is", "ours", "ours / theirs", "inside"),
        [
            (
                row["figure"],
                row["boundary"],
                f"{row['theirs']:g} {row['unit']}",
                row["model"] or row["reason"],
                _range(row["ours"]),
                None if row["ratio"] is None else f"{row['ratio']['mid']:.2g}",
                None if row["inside"] is None else "yes" if row["inside"] else "no",
            )
            for row in checks
        ],
    )


def _origin(interval: Mapping[str, Any]) -> str:
    source = interval["sources"][0]
    if source.startswith("regression:"):
        return f"{interval['basis']}, {source.rpartition(':')[2].replace('+', ' and ')}"
    return str(interval["basis"])


def _first(shares: Mapping[str, float], number: int) -> list[tuple[str, float]]:
    return list(shares.items())[:number]


def _range(interval: Mapping[str, Any] | None) -> str | None:
    if interval is None:
        return None
    if interval["low"] == interval["high"]:
        return _figure(interval["mid"])
    return f"{_figure(interval['mid'])} ({_figure(interval['low'])} to {_figure(interval['high'])})"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
