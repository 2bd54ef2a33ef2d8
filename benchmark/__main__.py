"""`python -m benchmark`: the laboratory's commands. Each is a function of parsed arguments, listed in COMMANDS."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from benchmark import curate, scale, summary, trial
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


def _run_options(parser: argparse.ArgumentParser) -> None:
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    parser.add_argument(
        "--model", nargs="+", default=[], help="architecture name (random weights), GGUF file, folder or hub id"
    )
    parser.add_argument("--precision", nargs="+", choices=trial.PRECISIONS, default=["bf16"])
    parser.add_argument("--batch", default=[1], help="sequences decoded together", **several)
    parser.add_argument("--prompt", default=[256], help="tokens of each prompt", **several)
    parser.add_argument("--generated", default=256, metavar="N", type=int, help="tokens generated for each prompt")
    parser.add_argument("--repeats", default=10, metavar="N", type=int, help="windows of each phase")
    parser.add_argument("--window", default="2s", metavar="TIME", help="shortest window")
    parser.add_argument("--occasion", default=1, metavar="N", type=int, help="2 measures the same again, and so on")
    parser.add_argument("--configs", type=Path, metavar="FILE", help="JSON list of configurations, instead of a grid")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--uuid", help="the NVIDIA device, where there are several")
    parser.add_argument("--text", type=Path, metavar="FILE", help="held-out text for bits per byte of real weights")
    parser.add_argument("--budget", metavar="TIME", help="begin no further trial after this long, such as 30m")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: data/measurements/DEVICE.jsonl")
    parser.add_argument("--json", action="store_true", help="print each trial as a line of JSON")


def _run(arguments: argparse.Namespace) -> int:
    try:
        from benchmark import quality, sweep
    except ImportError as error:
        raise EcoRouteError(
            f"{error}: measuring needs the extra `benchmark`: pip install 'ecoroute-mcp[benchmark]'"
        ) from error
    plan = (
        trial.configs_from(arguments.configs)
        if arguments.configs
        else sweep.grid(
            models=arguments.model,
            precisions=arguments.precision,
            batches=arguments.batch,
            prompts=arguments.prompt,
            generated_tokens=arguments.generated,
            repeats=arguments.repeats,
            window_s=sweep.seconds(arguments.window),
            occasion=arguments.occasion,
            device=arguments.device,
        )
    )
    if not plan:
        raise EcoRouteError("nothing to measure: name a --model, such as Qwen3-0.6B, or give --configs")
    output: Path = arguments.output or DATA / "measurements" / f"{arguments.device}.jsonl"
    if output.is_relative_to(DATA):
        _only_in_a_checkout()
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with trial.Log(output) as log, Progress(*columns, console=Console(stderr=True)) as progress:
        if log.torn is not None:
            progress.console.print(f"cut off an incomplete last line of {output} ({len(log.torn)} characters)")
        remaining = log.remaining(plan)
        task = progress.add_task("measuring", total=len(remaining))

        def started(config: trial.TrialConfig) -> None:
            progress.update(task, description=str(config))

        def finished(outcome: trial.Trial) -> None:
            progress.advance(task)
            if arguments.json:
                print(trial.dump(outcome).decode(), end="", flush=True)
            else:
                progress.console.print(_in_short(outcome), markup=False, highlight=False)

        try:
            left = sweep.run(
                remaining,
                log,
                uuid=arguments.uuid,
                text=quality.text_from(arguments.text) if arguments.text else None,
                budget_s=sweep.seconds(arguments.budget) if arguments.budget else None,
                started=started,
                finished=finished,
            )
        except KeyboardInterrupt:
            progress.console.print(f"interrupted: completed trials are in {output}; the same command goes on from here")
            return 130
    if left:
        print(f"out of time with {left} trials left: the same command goes on from here", file=sys.stderr)
    return 0


def _in_short(outcome: trial.Trial) -> str:
    if isinstance(outcome, trial.Rejected):
        return f"{outcome.config}: rejected: {outcome.reason}"
    figures = summary.line(outcome)
    return (
        f"{outcome.config}: {figures.decode_tokens_per_s:.1f} tokens/s, "
        f"{_number(figures.decode_gross_j, '.4f')} J/token gross, "
        f"{_number(figures.bandwidth_fraction, '.1%')} of the bandwidth limit"
        + "".join(f"; {gate}" for gate in outcome.gates_failed)
    )


def _summary_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="folder of *.jsonl files (default: data/measurements)"
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def _summary(arguments: argparse.Namespace) -> int:
    files = trial.read_all(arguments.folder or DATA / "measurements")
    outcomes = [outcome for rows in files for outcome in rows.trials]
    lines = [summary.line(outcome) for outcome in outcomes if isinstance(outcome, trial.Measured)]
    medians = summary.medians(files)
    rejected = [outcome for outcome in outcomes if isinstance(outcome, trial.Rejected)]
    if arguments.json:
        document = {"trials": [asdict(line) for line in lines], "medians": asdict(medians)}
        document["rejected"] = [{"config": asdict(outcome.config), "reason": outcome.reason} for outcome in rejected]
        print(json.dumps(document, indent=2))
        return 0
    _print_table(
        "Measured: J per token, decode and prefill, gross and net of idle",
        ("device", "model", "precision", "batch", "prompt+gen.", "tokens/s", "J gross", "J net", "prefill J", "net",
         "CV speed", "CV J", "of limit", "bits/byte", "gates failed"),
        [
            (
                line.device, line.model + ("" if line.weights == "random" else f" ({line.weights})"), line.precision,
                line.batch, f"{line.prompt_tokens}+{line.generated_tokens}" + "'" * (line.occasion - 1),
                _number(line.decode_tokens_per_s, ".1f"), _number(line.decode_gross_j, ".4f"),
                _number(line.decode_net_j, ".4f"), _number(line.prefill_gross_j, ".5f"),
                _number(line.prefill_net_j, ".5f"), _number(line.decode_throughput_cv, ".2%"),
                _number(line.decode_energy_cv, ".2%"), _number(line.bandwidth_fraction, ".1%"),
                _number(line.bits_per_byte, ".4f"), "; ".join(line.gates_failed) or None,
            )
            for line in lines
        ],
    )  # fmt: skip
    print(f"{medians.measured} measured, {medians.rejected} rejected; a ' marks a second occasion")
    print(
        f"median CV over all phases: throughput {_number(medians.throughput_cv, '.2%')}, "
        f"energy {_number(medians.energy_cv, '.2%')}"
    )
    print(f"polled against counted energy differ by a median of {_number(medians.counter_against_polled, '.2%')}")
    for subject, difference in medians.occasions.items():
        print(f"separate occasions differ by {difference:.2%}: {subject}")
    for outcome in rejected:
        print(f"rejected: {outcome.config}: {outcome.reason}")
    for rows in files:
        if rows.torn is not None:
            print(f"an incomplete last line of {len(rows.torn)} characters is left out")
    return 0


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


COMMANDS = (
    Command("scale", "fit, validate and print the latent-ability scale", _scale_options, _scale),
    Command("curate", "generate the tables of data/ from data/upstream/", _curate_options, _curate),
    Command("run", "measure speed, energy and quality of models on this machine", _run_options, _run),
    Command("summary", "print what the measurements say", _summary_options, _summary),
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
