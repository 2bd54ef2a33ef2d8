"""`python -m benchmark`: the laboratory's commands. Each is a function of parsed arguments, listed in COMMANDS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark import curate, scale
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError

DATA = packaged_data()


@dataclass(frozen=True)
class Command:
    """A subcommand: its options, and what it does with them. ``run`` returns the exit status."""

    name: str
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _scale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="table of scores (default: data/quality_scores.csv)"
    )
    parser.add_argument("--write", action="store_true", help="write data/quality.csv and data/quality_validation.yaml")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")


def _scale(arguments: argparse.Namespace) -> int:
    scores: Path = arguments.scores or DATA / "quality_scores.csv"
    if arguments.write:
        _only_in_a_checkout()
    report = scale.study(scale.read_cells(scores, scale.model_ids(DATA)))
    if arguments.json:
        print(json.dumps({**report.document, "quality": [vars(row) for row in report.rows]}, indent=2))
    else:
        _print_scale(report.document)
    if arguments.write:
        print(f"wrote {', '.join(scale.write(report, DATA))}", file=sys.stderr)
    return 0


def _print_scale(document: dict[str, Any]) -> None:
    validation = document["grouped_cross_validation"]
    print(
        f"{document['cells']} cells, {document['rows']} rows (model, effort) of {document['models']} models, "
        f"{len(document['benchmarks'])} benchmarks of {document['families']} leaderboard families"
    )
    print(f"structure: {document['structure']}; {document['scale']['unit']}")
    bars = document["bars"]
    _print_table(
        "Bars, in grouped cross-validation of all cells",
        ("figure", "bar", "measured", "reached"),
        [
            ("r", f">= {bars['grouped_r']['bar']}", *_verdict(bars["grouped_r"])),
            (
                "90 % intervals cover",
                "{} to {}".format(*bars["grouped_coverage_90"]["bar"]),
                *_verdict(bars["grouped_coverage_90"]),
            ),
        ],
    )
    held_out = {
        "grouped: all": validation["all"],
        "grouped: something known of the model": validation["model_known"],
        "grouped: something known of the row": validation["row_known"],
        "grouped: nothing known": validation["nothing_known"],
        "grouped: all, misfits kept": validation["all_without_dropping_misfits"],
        "grouped: whole model and family held out": validation["whole_model_and_family"]["all"],
        "random cells (for orientation)": document["random_cell_cross_validation"],
    }
    held_out |= {f"family {name}": figures for name, figures in document["per_family"].items()}
    _print_table(
        "Held-out cells",
        ("what", "cells", "r", "median |error|", "coverage"),
        [(name, *figures.values()) for name, figures in held_out.items()],
    )
    _print_table(
        "What rows share, by grouped cross-validation",
        ("structure", "r, all", "r, row known", "coverage"),
        [
            (name, figures["all"]["r"], figures["row_known"]["r"], figures["all"]["coverage_90"])
            for name, figures in document["structures"].items()
        ],
    )
    theta = document["theta_coverage"]
    print(
        f"theta from half the families against the other half ({theta['pairs']} pairs): {theta['flat']} within 90 % "
        f"without the prior, {theta['shipped']} with it; theta_se is multiplied by {theta['inflation']}\n"
    )
    _print_table(
        "Benchmarks",
        ("benchmark", "family", "cells", "loading", "noise sd", "communality"),
        [(name, *figures.values()) for name, figures in document["benchmarks"].items()],
    )
    for reason, names in document["left_out"].items():
        print(f"left out, {reason.replace('_', ' ')}: {', '.join(names) or 'none'}")
    print()
    examples = document["examples_per_tier"]
    _print_table(
        "Tiers",
        ("tier", "rows", "top", "bottom"),
        [
            (step, count, *(", ".join(examples.get(step, {}).get(end, [])) for end in ("top", "bottom")))
            for step, count in document["rows_per_tier"].items()
        ],
    )


def _verdict(bar: dict[str, Any]) -> tuple[Any, str]:
    return bar["measured"], "yes" if bar["reached"] else "NO"


def _print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A ruled table on a terminal; aligned plain columns in a pipe."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(*header, title=title, title_justify="left")
        for row in texts:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    print(title)
    for line in [list(header), *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print()


def _curate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")


def _only_in_a_checkout() -> None:
    """Raises EcoRouteError where data/ is an installed package's: it has no inputs, and is never written."""
    if not (DATA / "upstream").is_dir():
        raise EcoRouteError(f"{DATA} belongs to an installed package: generate tables in a checkout of the project")


def _curate(arguments: argparse.Namespace) -> int:
    _only_in_a_checkout()
    if arguments.check:
        differing = curate.check(DATA)
        print("\n".join(differing) if differing else "every generated table is as its inputs make it")
        return 1 if differing else 0
    print("\n".join(curate.write(DATA)))
    return 0


COMMANDS = (
    Command("scale", "fit, validate and print the latent-ability scale", _scale_options, _scale),
    Command("curate", "generate the tables of data/ from data/upstream/", _curate_options, _curate),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; 2, with the repair on stderr, for anything the caller can put right."""
    parser = argparse.ArgumentParser(prog="python -m benchmark", description="EcoRoute's laboratory")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.help, description=command.help)
        command.options(subparser)
        subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except EcoRouteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
