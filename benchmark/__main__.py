"""`python -m benchmark`: the laboratory's commands. Each is a function of parsed arguments, listed in COMMANDS."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import (
    check_report,
    curate,
    front,
    front_report,
    frontier_report,
    kinds,
    laps,
    law_report,
    prediction,
    scale,
    scale_report,
    sensors_report,
    session,
    summary,
    summary_report,
    workbench_report,
)
from benchmark.command_line import given_path
from benchmark.interruption import lead_nowhere
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError

DATA = packaged_data()
OWN = sys.stdlib_module_names | {"benchmark", "ecoroute_mcp"}
"""Modules whose absence is a fault of the program; any other is a library that was not installed."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
"""What to install for a module, where that has another name."""


@dataclass(frozen=True)
class Command:
    """A subcommand: its options, and what it does with them. ``run`` returns the exit status."""

    name: str
    help: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: str | None = None


def _scale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scores", type=given_path, metavar="FILE", help="table of scores (default: data/quality_scores.csv)"
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
        scale_report.show(report.document)
    if arguments.write:
        print(f"wrote {', '.join(scale.write(report, DATA))}", file=sys.stderr)
    return 0


def _curate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    parser.add_argument("--json", action="store_true", help="print the names as JSON")


def _only_in_a_checkout() -> None:
    """Raises EcoRouteError where data/ is an installed package's: it has no inputs, and is never written."""
    if not (DATA / "upstream").is_dir():
        raise EcoRouteError(f"{DATA} belongs to an installed package: generate tables in a checkout of the project")


def _curate(arguments: argparse.Namespace) -> int:
    _only_in_a_checkout()
    if arguments.check:
        differing = curate.check(DATA)
        if arguments.json:
            print(json.dumps({"differ": differing}, indent=2))
        else:
            print("\n".join(differing) if differing else "every generated table is as its inputs make it")
        return 1 if differing else 0
    written = curate.write(DATA)
    print(json.dumps({"written": written}, indent=2) if arguments.json else "\n".join(written))
    return 0


def _summary_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=given_path, metavar="FOLDER", help="folder of *.jsonl files (default: where run writes)"
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def _summary(arguments: argparse.Namespace) -> int:
    folder = arguments.folder or session.measurements()
    files = front.read([folder])
    beside = sorted(folder.glob(f"*{laps.LAPS}"))
    searches = {path.name.removesuffix(laps.LAPS): laps.read(path) for path in beside}
    if arguments.json:
        print(json.dumps(summary.document(files, searches), indent=2))
    else:
        summary_report.show(files, searches)
    return 0


def _route_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=given_path, metavar="DIR", required=True, help="folder of Parquet tables of outcomes"
    )


def _route_train_options(parser: argparse.ArgumentParser) -> None:
    _route_options(parser)
    parser.add_argument("--write", action="store_true", help="write data/routing_difficulty.json and its report")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def _route_train(arguments: argparse.Namespace) -> int:
    if arguments.write:
        _only_in_a_checkout()
    # Reading tables takes pandas and a second: only for those who ask.
    from benchmark import routing_train

    return routing_train.run(arguments.data, arguments.json, DATA if arguments.write else None)


def _route_eval_options(parser: argparse.ArgumentParser) -> None:
    _route_options(parser)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--output", type=given_path, metavar="FILE", help="write the Markdown report here")


def _route_eval(arguments: argparse.Namespace) -> int:
    from benchmark import routing_report

    return routing_report.run(arguments.data, arguments.json, arguments.output)


COMMANDS = (
    Command("scale", "fit, validate and print the latent-ability scale", _scale_options, _scale),
    Command("curate", "generate the tables of data/ from data/upstream/", _curate_options, _curate),
    Command(
        "run",
        "measure speed, energy and quality of models on this machine",
        session.options,
        session.run,
        session.RUN_EXAMPLES,
    ),
    Command(
        "search",
        "search a space of configurations for the front of carbon, quality and speed, unattended",
        workbench_report.options,
        workbench_report.run,
        workbench_report.EXAMPLES,
    ),
    Command("fit", "fit and validate the energy law", law_report.options, law_report.run, law_report.EXAMPLES),
    Command(
        "predict",
        "predict the energy of models that nobody measured",
        prediction.options,
        prediction.run,
        prediction.EXAMPLES,
    ),
    Command(
        "frontier",
        "predict closed models, with what dominates the doubt, beside what vendors published",
        frontier_report.options,
        frontier_report.run,
        frontier_report.EXAMPLES,
    ),
    Command("kind-train", "train what reads the kind of a task from its text", kinds.options, kinds.train_run),
    Command("kind-eval", "judge the reading of kinds on labelled turns", kinds.options, kinds.eval_run),
    Command(
        "route-train", "train the difficulties of tasks from outcomes of models", _route_train_options, _route_train
    ),
    Command(
        "route-eval", "judge task scoring by every protocol, beside its baselines", _route_eval_options, _route_eval
    ),
    Command(
        "front",
        "print and export the Pareto front of what was measured: grams, quality, speed",
        front_report.options,
        front_report.run,
        front_report.EXAMPLES,
    ),
    Command(
        "check",
        "fail where a measured configuration exceeds its budget or regressed",
        check_report.options,
        check_report.run,
        check_report.EXAMPLES,
    ),
    Command("summary", "print what the measurements say", _summary_options, _summary, summary_report.EXAMPLES),
    Command(
        "sensors",
        "list or log every sensor of this machine",
        sensors_report.options,
        sensors_report.run,
        sensors_report.EXAMPLES,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; 2, with the repair on stderr, for anything the caller can put right,
    and 1 where whoever reads its output has read enough."""
    given = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="python -m benchmark",
        description=f"EcoRoute's laboratory. {session.SWEEP}",
        epilog=session.SWEEP_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    session.sweep_options(parser)
    parser.set_defaults(run=session.sweep_run)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            epilog=command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.options(subparser)
        subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(given)
    if arguments.command is not None and given[0] != arguments.command:
        parser.error(f"the options of {arguments.command} come after it")
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except EcoRouteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OWN:
            raise
        print(
            f"error: this command needs {missing}: pip install {DISTRIBUTIONS.get(missing, missing)}, "
            "or all of the laboratory with pip install 'ecoroute-mcp[benchmark]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        lead_nowhere(sys.stdout)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
