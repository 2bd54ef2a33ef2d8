"""Measuring at a terminal: what to measure, its progress, and where the rows go."""

from __future__ import annotations

import argparse
import sys
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

from benchmark import summary, table, trial
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError

DATA = packaged_data()


def options(parser: argparse.ArgumentParser) -> None:
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


def run(arguments: argparse.Namespace) -> int:
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
    if output.is_relative_to(DATA) and not (DATA / "upstream").is_dir():
        raise EcoRouteError(f"{DATA} belongs to an installed package: name another file with --output")
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
        f"{table.number(figures.decode_gross_j, '.4f')} J/token gross, "
        f"{table.number(figures.bandwidth_fraction, '.1%')} of the bandwidth limit"
        + "".join(f"; {gate}" for gate in outcome.gates_failed)
    )
