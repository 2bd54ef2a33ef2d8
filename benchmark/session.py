"""Measuring at a terminal: what to measure, its progress, and where the rows go."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from benchmark import file_lock, local, plan, quality, sensors, summary, sweep, table, trial
from benchmark.command_line import given_path
from benchmark.device_lock import DeviceLock
from benchmark.interruption import Interruption, lasting_output
from benchmark.measure import NOT_SEEN
from benchmark.meter import Meter, NoDevice, NvmlMeter, on_this_machine
from benchmark.rapl import RaplMeter, processor
from benchmark.shapes import SHAPES
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import SECONDS_PER_HOUR, EcoRouteError

DATA = packaged_data()
BUDGET = "30m"

SWEEP = f"""Without a command: finds the NVIDIA device (or takes the CPU), plans what fits its memory, measures the most
useful configurations first until the budget of {BUDGET} is spent, and gives the router this machine's figures."""
SWEEP_EXAMPLES = """examples:
  python -m benchmark --plan                      what would be measured, its memory and time; measures nothing
  python -m benchmark                             half an hour on this machine's device
  python -m benchmark --budget 4h                 the same, further; what is measured already is not measured again
  python -m benchmark --model ./Qwen3-8B          your own weights first, with bits per byte and coding tasks
  python -m benchmark --device cpu --budget 10m   on the CPU, also where there is an NVIDIA device
  python -m benchmark run --help                  one configuration, or a grid of your own
  python -m benchmark summary                     what has been measured

Rows are appended to data/measurements/ in a checkout, else to the user's data folder; the plan says which file.
Ctrl+C ends a run in good order, and the same command goes on from there."""
RUN_EXAMPLES = f"""examples:
  python -m benchmark run --model Qwen3-8B --batch 1 8 32 128        a published shape, random weights: energy and speed
  python -m benchmark run --model ./SmolLM2.gguf --device cpu        real weights: quality too
  python -m benchmark run --model Qwen3-8B --occasion 2              a second look at what is measured already
  python -m benchmark run --model Qwen3-4B --precision bf16 int8 nf4 --batch 1 16
  python -m benchmark run --model Qwen3-8B --eager                   without CUDA graphs
  python -m benchmark run --model qwen3 --endpoint http://127.0.0.1:8000/v1 --batch 1 16
                                                                     what a server of this machine really runs
  python -m benchmark run --configs trials.json --output rows.jsonl  any list of configurations

{textwrap.fill(f"Known shapes: {', '.join(SHAPES)}.", 118)}

Each trial: cool, warm, idle 3 s, windows of prefill, windows of decode. Joules are the device's own energy counter's;
of polled power where it has none, and the row says so; on a CPU those of its packages by RAPL, where that may be read.
A row that should not be trusted says why (gates_failed) and stays: a spread too wide, throttling, too hot, others at
work on the processor, a client too busy to time a server."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device, how its energy is read, and what the user should know of either."""

    device: plan.Device
    meter: Meter | None
    no_energy: str | None
    notices: tuple[str, ...] = ()


def find(
    kind: trial.DeviceKind | None, uuid: str | None = None, memory_gb: float | None = None, root: Path = Path("/")
) -> Machine:
    """The NVIDIA device, or the CPU where there is none or it is asked for; below ``root`` lie the CPU's counters.

    Raises EcoRouteError where the device asked for is not there, or cannot be told from others."""
    notices: list[str] = []
    if kind != "cpu":
        try:
            return _nvidia(NvmlMeter(uuid), memory_gb)
        except NoDevice as error:
            if kind == "cuda" or uuid is not None:
                raise EcoRouteError(f"{error}: run with --device cpu") from error
            notices.append(f"measuring on the CPU: {error}")
    meter: Meter | None = None
    no_energy: str | None = None
    try:
        meter = RaplMeter(root)
    except EcoRouteError as error:
        no_energy = str(error)
        notices.append(f"no energy will be measured: {no_energy}")
    device = plan.Device(
        kind="cpu",
        name=meter.identity.name if meter else processor(root) or platform.machine(),
        uuid=meter.identity.uuid if meter else None,
        memory_gb=plan.available_gb() if memory_gb is None else memory_gb,
        memory_from="available by /proc/meminfo" if memory_gb is None else "as given",
        unified=False,
    )
    return Machine(device=device, meter=meter, no_energy=no_energy, notices=tuple(notices))


def _nvidia(meter: Meter, memory_gb: float | None) -> Machine:
    identity = meter.identity
    unified = identity.memory_gb is None
    if memory_gb is not None:
        origin = "as given"
    elif identity.memory_gb is not None:
        memory_gb, origin = identity.memory_gb, "NVML"
    else:
        memory_gb, origin = plan.available_gb(), "NVML gives none, so unified memory: available by /proc/meminfo"
    device = plan.Device(
        kind="cuda",
        name=identity.name,
        uuid=identity.uuid,
        memory_gb=memory_gb,
        memory_from=origin,
        unified=unified,
    )
    return Machine(device=device, meter=meter, no_energy=None)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The file that rows go to, and the rows that are there or in the files beside it of this device, or of servers
    elsewhere, which any machine may measure."""

    path: Path
    own: tuple[trial.Measured, ...] = field(repr=False)


def place(device: plan.Device, output: Path | None) -> Place:
    """The file given, else one named for the device in the folder of measurements.

    A file that holds rows of another device of that name is left alone: this device's has part of its UUID in its name,
    or the processor's where that has none.
    Raises EcoRouteError for a file that holds anything but trials."""
    if output is not None:
        return Place(path=output, own=_all_own(device, [trial.read(output)]))
    folder = measurements()
    stem = device.kind if device.uuid is None else slug(device.name)
    path = folder / f"{stem}.jsonl"
    if any(not _own(row, device) for row in trial.read(path).measured):
        mark = slug(device.name) if device.uuid is None else device.uuid.partition("-")[2][:8]
        path = folder / f"{stem}-{mark}.jsonl"
    return Place(path=path, own=_all_own(device, trial.read_all(folder)))


def measurements() -> Path:
    """data/measurements in a checkout, else a folder of the user's."""
    if (DATA / "upstream").is_dir():
        return DATA / "measurements"
    from platformdirs import user_data_path

    return user_data_path("ecoroute", appauthor=False) / "measurements"


def slug(name: str) -> str:
    """A device's name for a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia ")).strip("-")


def _own(row: trial.Measured, device: plan.Device) -> bool:
    """Whether a row is of a device, or of a server elsewhere. A processor without an id is known by its model alone."""
    if row.machine.name.startswith(NOT_SEEN):
        return True
    return (row.machine.uuid, row.machine.name) == (device.uuid, device.name)


def _all_own(device: plan.Device, files: Sequence[trial.Rows]) -> tuple[trial.Measured, ...]:
    return tuple(row for rows in files for row in rows.measured if _own(row, device))


# -- the sweep: `python -m benchmark`


def sweep_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plan", action="store_true", help="print what would be measured, and measure nothing")
    parser.add_argument(
        "--model", nargs="+", default=[], help="measure these first: GGUF file, folder, hub id or known shape"
    )
    parser.add_argument(
        "--generated",
        metavar="N",
        type=int,
        help="tokens generated for each prompt (default: 256; 64 on a CPU and with unified memory)",
    )
    parser.add_argument("--memory", metavar="GB", type=float, help="memory to plan with, instead of what is found")
    shared_options(parser, budget=BUDGET)


def sweep_run(arguments: argparse.Namespace) -> int:
    """Plan and measure. Returns the exit status."""
    return in_good_order(lambda interruption: _sweep(arguments, interruption))


def _sweep(arguments: argparse.Namespace, interruption: Interruption) -> int:
    if not arguments.plan:
        file_lock.check()
    with interruption.admitted():
        machine = find(arguments.device, arguments.uuid, arguments.memory)
        device = machine.device
        models = arguments.model or (plan.bundled_models() if device.kind == "cpu" else [])
        target = place(device, arguments.output)
        budget_s = sweep.seconds(arguments.budget)
        found = plan.sweep(
            device,
            models,
            plan.Speed.of(device, target.own),
            generated_tokens=arguments.generated,
            quantised=device.kind == "cuda" and installed("bitsandbytes"),
            tasks=with_tasks(arguments, device),
        ).without(row.config.key for row in target.own)
    for notice in machine.notices:
        say(notice)
    if arguments.plan:
        if arguments.json:
            print(json.dumps(document(found, target, budget_s), indent=2))
        else:
            show(found, target, budget_s)
        return 0
    return _measure(arguments, interruption, found.entries, target, [machine], budget_s)


def document(found: plan.Plan, target: Place, budget_s: float) -> dict[str, Any]:
    """A plan as plain data for JSON."""
    timed, later = plan.timetable(found.entries, budget_s)

    def figures(entry: plan.Entry) -> dict[str, Any]:
        return {
            "config": asdict(entry.config),
            "parameters": entry.parameters,
            "memory_gb": entry.memory_gb,
            "trial_s": entry.trial_s,
            "load_s": entry.load_s,
        }

    return {
        "device": {**asdict(found.device), "usable_gb": found.device.usable_gb},
        "speed": asdict(found.speed),
        "budget_s": budget_s,
        "output": str(target.path),
        "measured_already": found.done,
        "total_s": timed[-1].end_s if timed else 0.0,
        "trials": [{**figures(each.entry), "begin_s": each.begin_s, "end_s": each.end_s} for each in timed],
        "later": [figures(entry) for entry in later],
        "left_out": [asdict(each) for each in found.left_out],
    }


def show(found: plan.Plan, target: Place, budget_s: float) -> None:
    """Print a plan."""
    device = found.device
    timed, later = plan.timetable(found.entries, budget_s)
    print(f"{device.name}{f' ({device.uuid})' if device.uuid else ''}")
    print(
        f"memory: {device.memory_gb:.1f} GB ({device.memory_from}), of which {device.usable_gb:.1f} GB are planned with"
    )
    print(f"times: from {found.speed.gb_per_s:.0f} GB/s and {found.speed.tflops:.3g} TFLOP/s, {found.speed.origin}")
    print(f"rows go to {target.path}; {found.done} trials of the plan are measured already\n")
    table.show(
        f"In a budget of {duration(budget_s)}: {len(timed)} trials, "
        f"about {duration(timed[-1].end_s if timed else 0.0)}",
        ("", "model", "precision", "batch", "prompt+gen.", "parameters", "memory GB", "takes", "done after"),
        [
            (
                number, _short(each.entry.config.model), each.entry.config.precision, each.entry.config.batch,
                f"{each.entry.config.prompt_tokens}+{each.entry.config.generated_tokens}",
                None if each.entry.parameters is None else f"{each.entry.parameters / 1e9:.2f} B",
                table.number(each.entry.memory_gb, ".1f"), duration(each.end_s - each.begin_s), duration(each.end_s),
            )
            for number, each in enumerate(timed, start=1)
        ],
    )  # fmt: skip
    if later:
        rest, _ = plan.timetable(later, None)
        models = ", ".join(dict.fromkeys(_short(entry.config.model) for entry in later))
        print(f"{len(later)} more for a later run or a larger --budget (about {duration(rest[-1].end_s)}): {models}\n")
    if found.left_out:
        table.show(
            "Left out",
            ("model", "trials", "why"),
            [(_short(each.model), each.trials, each.reason) for each in found.left_out],
        )


# -- a grid of the user's: `python -m benchmark run`


def options(parser: argparse.ArgumentParser) -> None:
    _grid_options(parser)
    parser.add_argument(
        "--configs", type=given_path, metavar="FILE", help="JSON list of configurations, instead of a grid"
    )
    shared_options(parser, budget=None)


GRID: dict[str, Any] = {
    "model": (), "precision": None, "batch": (1,), "prompt": (256,), "generated": 256, "repeats": 10, "window": "2s",
    "occasion": 1, "endpoint": None, "eager": False,
}  # fmt: skip
"""Options of a grid, and what holds where one is not given."""


def _grid_options(parser: argparse.ArgumentParser) -> None:
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    parser.add_argument("--model", nargs="+", help="architecture name (random weights), GGUF file, folder or hub id")
    held = [precision for precision in trial.PRECISIONS if precision != "as-served"]
    parser.add_argument("--precision", nargs="+", choices=held, help="default: bf16; on a CPU fp32")
    parser.add_argument("--batch", help="sequences decoded together (default: 1)", **several)
    parser.add_argument("--prompt", help="tokens of each prompt (default: 256)", **several)
    parser.add_argument("--generated", metavar="N", type=int, help="tokens generated for each prompt (default: 256)")
    parser.add_argument("--repeats", metavar="N", type=int, help="windows of each phase (default: 10)")
    parser.add_argument("--window", metavar="TIME", help="shortest window (default: 2s)")
    parser.add_argument("--occasion", metavar="N", type=int, help="2 measures the same again, and so on (default: 1)")
    parser.add_argument(
        "--endpoint", metavar="URL", help="measure a server with the OpenAI protocol; --batch is requests at once"
    )
    parser.add_argument("--eager", action="store_true", default=None, help="run the decode step without CUDA graphs")


def shared_options(parser: argparse.ArgumentParser, budget: str | None) -> None:
    """The options of every command that measures; ``budget`` is the default."""
    parser.add_argument(
        "--budget", default=budget, metavar="TIME",
        help=f"time for all trials, such as 30m or 4h (default: {budget or 'no limit'})",
    )  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the NVIDIA device, else the CPU")
    parser.add_argument("--uuid", help="the NVIDIA device, where there are several")
    parser.add_argument(
        "--text", type=given_path, metavar="FILE", help="held-out text for bits per byte of real weights"
    )
    parser.add_argument("--output", type=given_path, metavar="FILE", help="default: a file named for the device")
    parser.add_argument(
        "--tasks", action=argparse.BooleanOptionalAction,
        help="have real weights solve coding tasks (default: on a GPU; on a CPU it takes minutes)",
    )  # fmt: skip
    parser.add_argument("--sensors", type=given_path, metavar="FILE", help="log every sensor there once a second")
    parser.add_argument("--no-publish", action="store_true", help="leave the router's database as it is")
    parser.add_argument("--json", action="store_true", help="print each trial as a line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure a grid. Returns the exit status: 1 where trials ran and every one was rejected."""
    return in_good_order(lambda interruption: _run(arguments, interruption))


def _listed(arguments: argparse.Namespace) -> list[trial.TrialConfig]:
    """The configurations of --configs. Raises EcoRouteError where what they say themselves is given too."""
    given = [f"--{name}" for name in (*GRID, "device") if getattr(arguments, name) is not None]
    if given:
        raise EcoRouteError(
            f"{', '.join(given)} and --configs exclude each other: leave out the one, or write it into each "
            f"configuration of {arguments.configs}"
        )
    return trial.configs_from(arguments.configs)


def _run(arguments: argparse.Namespace, interruption: Interruption) -> int:
    file_lock.check()
    with interruption.admitted():
        wanted = _listed(arguments) if arguments.configs else None
        for name, usual in GRID.items():
            if getattr(arguments, name) is None:
                setattr(arguments, name, usual)
        if (wanted is None and not arguments.model) or wanted == []:
            raise EcoRouteError("nothing to measure: name a --model, such as Qwen3-0.6B, or give --configs")
        window_s = sweep.seconds(arguments.window)
        budget_s = sweep.seconds(arguments.budget) if arguments.budget else None
        kinds = [arguments.device] if wanted is None else sorted({config.device for config in wanted})
        machines = [find(kind, arguments.uuid) for kind in kinds]
        device = machines[0].device
        configs = wanted or sweep.grid(
            models=arguments.model,
            precisions=_precisions(arguments, device),
            batches=arguments.batch,
            prompts=arguments.prompt,
            generated_tokens=arguments.generated,
            repeats=arguments.repeats,
            window_s=window_s,
            occasion=arguments.occasion,
            device=device.kind,
            eager=arguments.eager,
            endpoint=arguments.endpoint,
        )
        target = place(device, arguments.output)
        done = {row.config.key for row in target.own}
        speed = plan.Speed.of(device, target.own)
        tasks = with_tasks(arguments, device)
        entries = [estimated(config, speed, tasks) for config in configs if config.key not in done]
    for machine in machines:
        for notice in machine.notices:
            say(notice)
    return _measure(arguments, interruption, entries, target, machines, budget_s)


def _precisions(arguments: argparse.Namespace, device: plan.Device) -> list[trial.Precision]:
    if arguments.endpoint is None:
        return arguments.precision or ["fp32" if device.kind == "cpu" else "bf16"]
    if arguments.precision or arguments.eager:
        raise EcoRouteError("a server holds what it holds: leave out --precision and --eager with --endpoint")
    return ["as-served"]


def estimated(config: trial.TrialConfig, speed: plan.Speed, tasks: bool) -> plan.Entry:
    """A configuration with its memory and time, as far as these can be told."""
    try:
        shape = None if config.endpoint else plan.shape_of(config.model)
    except EcoRouteError:
        shape = None  # loading will say it again, in the trial's row
    judged = plan.judged_tokens(tasks) if config.model not in SHAPES else plan.UNJUDGED
    return plan.entry(config, shape, speed, judged)


# -- what both share


def in_good_order(work: Callable[[Interruption], int], interruption: Interruption | None = None) -> int:
    """Run a command that measures, which signals may stop, at once or as ``interruption`` has it; its status."""
    with lasting_output(), interruption or Interruption() as interruption:
        try:
            return work(interruption)
        except KeyboardInterrupt:
            by = f" by {signal.Signals(interruption.asked).name}" if interruption.asked else ""
            say(f"interrupted{by}: what was measured is on file, and the same command goes on from there")
            return interruption.status


def hold(machine: Machine, command: str | None, stack: ExitStack) -> None:
    """Take an NVIDIA device for this command alone until the stack is left; a processor has no holder.

    Raises EcoRouteError where another command holds it."""
    if machine.device.kind == "cuda" and machine.meter is not None:
        said = " ".join(("python -m benchmark", command or "")).strip()
        stack.enter_context(DeviceLock(machine.meter.identity, said))


def _occupied(device: plan.Device, entries: Sequence[plan.Entry]) -> bool:
    """Whether one of the trials needs the device: it runs there, or a server of this machine does it."""
    endpoints = {entry.config.endpoint for entry in entries if entry.config.device == device.kind}
    return any(endpoint is None or _serves_here(endpoint) for endpoint in endpoints)


def _serves_here(endpoint: str) -> bool:
    try:
        return on_this_machine(endpoint)
    except EcoRouteError:
        return False  # nobody's address: the trial's row will say it


def check_installed() -> None:
    """Raises EcoRouteError where what measuring in a process needs is not installed."""
    missing = [name for name in ("torch", "transformers") if not installed(name)]
    if missing:
        raise EcoRouteError(
            f"measuring in this process needs {' and '.join(missing)}, which the extra `benchmark` brings: "
            "pip install 'ecoroute-mcp[benchmark]'"
        )


def with_tasks(arguments: argparse.Namespace, device: plan.Device) -> bool:
    """Whether real weights are to solve coding tasks."""
    return device.kind == "cuda" if arguments.tasks is None else bool(arguments.tasks)


def installed(module: str) -> bool:
    """Whether a module is there; it is not imported."""
    return importlib.util.find_spec(module) is not None


class _Left(ProgressColumn):
    """The time until the end of the plan or of the budget."""

    def __init__(self, schedule: plan.Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    def render(self, task: Task) -> Text:
        return Text(f"about {duration(self._schedule.left_s())} left", style="progress.remaining")


def _measure(
    arguments: argparse.Namespace,
    interruption: Interruption,
    entries: Sequence[plan.Entry],
    target: Place,
    machines: Sequence[Machine],
    budget_s: float | None,
) -> int:
    text = quality.text_from(arguments.text) if arguments.text else quality.default_text()
    with ExitStack() as stack:
        for machine in machines:
            if _occupied(machine.device, entries):
                hold(machine, arguments.command, stack)
        if any(entry.config.endpoint is None for entry in entries):
            check_installed()
        log = stack.enter_context(trial.Log(target.path))
        logger = stack.enter_context(sensors.Logger(arguments.sensors)) if arguments.sensors else None
        if log.torn is not None:
            say(f"cut off an incomplete last line of {target.path} ({len(log.torn)} characters)")
        remaining = {config.key for config in log.remaining(entry.config for entry in entries)}
        unique = {entry.config.key: entry for entry in entries if entry.config.key in remaining}
        schedule = plan.Schedule(list(unique.values()), budget_s)
        total = len(unique)
        say(f"{total} trials, about {duration(schedule.left_s())}; rows go to {target.path}")
        session = sweep.Session(
            log=log,
            meters={found.device.kind: found.meter for found in machines if found.meter is not None},
            no_energy={found.device.kind: found.no_energy for found in machines if found.no_energy is not None},
            text=text,
            tasks=with_tasks(arguments, machines[0].device),
        )
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), _Left(schedule),
        )  # fmt: skip
        console = Console(stderr=True)
        ended: list[bool] = []
        with Progress(
            *columns,
            console=console,
            refresh_per_second=1,
            disable=not console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),  # rows that go to a pipe stay there
        ) as progress:
            task = progress.add_task("measuring", total=total)

            def started(config: trial.TrialConfig) -> None:
                progress.update(task, description=described(config))
                if progress.disable:
                    say(f"{total - len(schedule.left)}/{total} {described(config)}")

            def finished(outcome: trial.Trial) -> None:
                ended.append(isinstance(outcome, trial.Measured))
                progress.advance(task)
                print(trial.dump(outcome).decode().rstrip() if arguments.json else in_short(outcome), flush=True)

            left = sweep.run(schedule, session, interruption, started=started, finished=finished)
    if logger is not None:
        lost = f", then failed: {logger.failure}" if logger.failure else ""
        say(f"logged {logger.rows} rows of {len(logger.sensors.channels)} sensors to {arguments.sensors}{lost}")
    if left:
        say(f"out of time with {left} trials left: the same command goes on from here")
    if not arguments.no_publish:
        say(published(target, machines))
    if ended and not any(ended):
        say("nothing was measured: every trial was rejected, for the reasons above")
        return 1
    return 0


def published(target: Place, machines: Sequence[Machine]) -> str:
    """Give the router what was measured on these devices, and say what came of it.

    Rows of other devices, which a file may hold too, are left out. Raises EcoRouteError where the router's files cannot
    be written."""
    rows = {row.config.key: row for row in (*target.own, *trial.read(target.path).measured)}
    energetic = [
        row
        for row in rows.values()
        if row.decode.j_per_token is not None and any(_own(row, machine.device) for machine in machines)
    ]
    if not energetic:
        return "nothing for the router: no trial of this device has energy"
    return local.publish(energetic)


def in_short(outcome: trial.Trial) -> str:
    """A finished trial on one line."""
    if isinstance(outcome, trial.Rejected):
        return f"{described(outcome.config)}: rejected: {outcome.reason}"
    figures = summary.line(outcome)
    parts = [f"{figures.decode_tokens_per_s:.1f} tokens/s"]
    if figures.decode_gross_j is not None:
        parts.append(f"{figures.decode_gross_j:.4f} J/token gross, {table.number(figures.decode_net_j, '.4f')} net")
    if figures.bandwidth_fraction is not None:
        parts.append(f"{figures.bandwidth_fraction:.1%} of the bandwidth limit")
    if figures.bits_per_byte is not None:
        parts.append(f"{figures.bits_per_byte:.4f} bits/byte")
    return f"{described(outcome.config)}: {', '.join(parts)}" + "".join(f"; {gate}" for gate in outcome.gates_failed)


def described(config: trial.TrialConfig) -> str:
    """A configuration for a person, without the folder of its model."""
    return str(config).replace(config.model, _short(config.model), 1)


def _short(model: str) -> str:
    """A model's name; of a path, its last part."""
    return Path(model).name if Path(model).is_absolute() or Path(model).suffix == ".gguf" else model


def duration(seconds: float) -> str:
    """Rounded for a person: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / SECONDS_PER_HOUR:.1f} h"


def say(text: str) -> None:
    """Tell the user something that is no result."""
    print(text, file=sys.stderr, flush=True)
