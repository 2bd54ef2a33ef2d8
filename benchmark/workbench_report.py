"""`python -m benchmark search`: what to search, what a terminal shows meanwhile, and the summary."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from benchmark import bench, cores, file_lock, laps, plan, quality, sensors, session, sweep, thermal, trial, workbench
from benchmark.bench import NotStarted
from benchmark.command_line import given_path
from benchmark.interruption import Interruption
from benchmark.meter import Meter, Reading
from benchmark.results_branch import ResultsBranch
from benchmark.shapes import SHAPES
from benchmark.trial import Measured, Rejected, Trial, TrialConfig
from ecoroute_mcp import refresh
from ecoroute_mcp.sci import EcoRouteError

if TYPE_CHECKING:
    from benchmark.objectives import Axis, Ground, Objectives, Point, QualityKind, Score
    from benchmark.search import Search
    from benchmark.space import Candidates, Space

DATA = session.DATA
STRATEGIES = ("auto", "grid", "random", "tpe")
ZONE = "WOR"
SPACE = "search_space.yaml"
REFRESH_S = 1.0
"""How often the display is drawn, and at most so often the device is read for it."""
EXAMPLES = """examples:
  python -m benchmark search --until 07:00                     data/search_space.yaml, until the morning
  python -m benchmark search --space mine.yaml --trials 40     a space of your own
  python -m benchmark search --forever --sync git              the front again and again; rows go to a branch meanwhile
  python -m benchmark search --storage postgresql://lab@db/study --until 07:00
                                                               one of any number of machines that share a study
  python -m benchmark search --replay data/measurements --seeds 20
                                                               strategies on recorded rows; measures nothing

The same command goes on after any stop. Ctrl+C lets the running trial end and closes everything; a second one breaks
the trial off. So does a terminal that closes, but for the second: under nohup or tmux the search goes on. A trial that
would not end before --until or --budget is not begun."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", type=given_path, metavar="FILE", help=f"what to combine (default: data/{SPACE})")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="auto", help="auto: corners of the grid, random, TPE from 20 points"
    )
    parser.add_argument("--until", metavar="HH:MM", help="stop at that local time, the next one")
    parser.add_argument("--trials", metavar="N", type=int, help="stop after so many trials")
    parser.add_argument(
        "--forever", action="store_true", help="measure the front on further occasions once the space is exhausted"
    )
    parser.add_argument("--storage", metavar="URL", help="the study's database (default: SQLite beside the rows)")
    parser.add_argument(
        "--grace", metavar="TIME", help="for how long a silent worker keeps its trial (default: 1m, at least 20s)"
    )
    parser.add_argument("--zone", default=ZONE, help=f"where carbon is counted (default: {ZONE}, the world's mean)")
    parser.add_argument(
        "--quality", choices=("auto", "published", "bits-per-byte"), default="auto",
        help="auto: bits per byte where all weights are real, else published scores",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all chance (default: 0)")
    parser.add_argument(
        "--trial-timeout", metavar="TIME", help="for one trial (default: 4 times the estimate, at least 20m)"
    )
    parser.add_argument("--sync", choices=("git",), help="commit rows to a branch now and then, and push it")
    parser.add_argument("--sync-every", metavar="TIME", default="10m", help="default: 10m")
    parser.add_argument("--sync-remote", metavar="NAME", default="origin", help="default: origin")
    parser.add_argument("--sync-branch", metavar="NAME", help="default: results/HOST-FILE")
    parser.add_argument("--plain", action="store_true", help="lines instead of a table, also on a terminal")
    parser.add_argument(
        "--replay", type=given_path, metavar="FOLDER", help="run the strategies on recorded rows instead"
    )
    parser.add_argument("--seeds", metavar="N", type=int, default=20, help="seeds of a replay (default: 20)")
    session.shared_options(parser, budget=None)


def run(arguments: argparse.Namespace) -> int:
    """Search. Returns the exit status."""
    interruption = Interruption(breaking=2, answer="ending after the running trial; once more breaks it off")
    return session.in_good_order(lambda interruption: _run(arguments, interruption), interruption)


def _limits(arguments: argparse.Namespace) -> tuple[workbench.Limits, float | None]:
    """When to stop, and the seconds until then where a time limits them."""
    if arguments.trials is not None and arguments.trials < 1:
        raise EcoRouteError(f"--trials is 1 or more; got {arguments.trials}")
    times = []
    if arguments.until is not None:
        times.append(workbench.until_s(arguments.until, datetime.datetime.now()))
    if arguments.budget is not None:
        times.append(sweep.seconds(arguments.budget))
    timeout_s = sweep.seconds(arguments.trial_timeout) if arguments.trial_timeout else None
    if timeout_s == 0:
        raise EcoRouteError("--trial-timeout is longer than nothing: give it such as 20m, or leave it out")
    limits = workbench.Limits(trials=arguments.trials, forever=arguments.forever, timeout_s=timeout_s)
    return limits, min(times, default=None)


# -- what is searched, and by which figures


def _quality(wanted: str, models: Sequence[str], scores: Mapping[str, Score]) -> QualityKind:
    """The kind of quality to search by. Raises EcoRouteError where a model of the space has none of that kind."""
    shapes = [model for model in models if model in SHAPES]
    kind: QualityKind = "published" if wanted == "published" or (wanted == "auto" and shapes) else "bits-per-byte"
    lacking = [model for model in models if model not in scores] if kind == "published" else shapes
    if lacking:
        figure = "published score in data/shape_quality.csv" if kind == "published" else "bits per byte: random weights"
        raise EcoRouteError(
            f"quality is {kind} here, and {', '.join(lacking)} has no {figure}. Leave it out of the space, or choose "
            "another --quality"
        )
    return kind


@dataclass(frozen=True, kw_only=True)
class _Aim:
    """What a search is about: its candidates, the figures that they are judged by, and what the user should know."""

    space: Space
    candidates: Candidates
    objectives: Objectives
    energy: bool
    ground: Ground
    expected: list[int] | None
    notices: tuple[str, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.objectives.axes(energy=self.energy)

    @property
    def study(self) -> str:
        """The same for workers whose results compare, and no others. A digest stands for the scores too, so that
        "published" is enough beside it, as studies have it that began when there was one benchmark."""
        name, quality = f"{self.space.name} {self.space.digest} on {self.ground.device}", self.objectives.quality
        by = quality if self.energy and quality == "published" else self.ground.quality
        return f"{name} by {by}, {self.objectives.digest}" if self.energy else f"{name} by {by}"

    def point(self, row: Measured) -> Point:
        """The figures of a row. Raises NoFigure for one that does not compare with this search's own."""
        from benchmark.objectives import NoFigure

        found = self.objectives.point(row, energy=self.energy)
        if found.ground != self.ground:
            raise NoFigure(f"measured on {found.ground.device} by {found.ground.quality}: not to be compared here")
        return found


def _aim(
    arguments: argparse.Namespace, space: Space, machine: session.Machine, rows: Sequence[Measured], text: quality.Text
) -> _Aim:
    # A search needs Optuna and its front numpy: only for those who search.
    from benchmark import expectation
    from benchmark.objectives import Noise, Objectives, published

    device = machine.device
    catalogue = refresh.read(DATA)
    scores = published(DATA)
    kind = _quality(arguments.quality, space.models, scores)
    shipped = [row for file in trial.read_all(DATA / "measurements") for row in file.measured]
    objectives = Objectives(
        catalogue, zone=arguments.zone, quality=kind, noise=Noise.known(rows, shipped), scores=scores
    )
    candidates = space.candidates(
        device,
        plan.Speed.of(device, rows),
        quantised=session.installed("bitsandbytes"),
        judged=plan.judged_tokens(session.with_tasks(arguments, device)),
    )
    notices = [f"left out: {each.model}, {each.trials}: {each.reason}" for each in candidates.left_out]
    energy = machine.meter is not None and objectives.knows(device.name)
    if not energy:
        unknown = f": no row of data/devices.csv has {device.name!r} among its nvml_names" if machine.meter else ""
        notices.append(f"searching by quality and speed, without carbon{unknown}")
    return _Aim(
        space=space,
        candidates=candidates,
        objectives=objectives,
        energy=energy,
        ground=objectives.ground(device.name, text.sha256),
        expected=expectation.fronts(candidates.configs, device.name, catalogue, scores),
        notices=tuple(notices),
    )


def _study(arguments: argparse.Namespace, aim: _Aim, output: Path, interruption: Interruption) -> Search:
    from benchmark.search import GRACE_S, Search
    from benchmark.space import AXES

    return Search(
        aim.candidates.configs,
        aim.axes,
        aim.point,
        choices={name: getattr(aim.space, axis) for axis, name in AXES.items()},
        name=aim.study,
        storage=arguments.storage or f"sqlite:///{output.absolute().with_suffix('.study.db')}",
        worker=f"{platform.node()}:{os.getpid()}",
        strategy=arguments.strategy,
        seed=arguments.seed,
        expected=aim.expected,
        say=session.say,
        stop=lambda: interruption.asked is not None,
        grace_s=GRACE_S if arguments.grace is None else int(sweep.seconds(arguments.grace)),
    )


def known_rows(device: plan.Device, target: session.Place) -> list[Measured]:
    """What was measured on this kind of device, on whatever board, each configuration once: of several the first in the
    file that is written to, then this board's, then others' in the folder of measurements."""
    others = [row for file in trial.read_all(session.measurements()) for row in file.measured]
    found: dict[str, Measured] = {}
    for row in (*trial.read(target.path).measured, *target.own, *others):
        if row.machine.name == device.name and row.config.device == device.kind:
            found.setdefault(row.config.key, row)
    return list(found.values())


def _divided(device: plan.Device) -> cores.Division:
    """Keep this process to the small cores, where there are such and a GPU does the work."""
    if device.kind == "cpu":
        return cores.Division(why="the processor is what is measured")
    division = cores.divide(cores.usable())
    if division.controller:
        cores.pin(division.controller)
    return division


@dataclass(frozen=True)
class Laps:
    """The file of laps beside a file of rows: a JSON object a line."""

    path: Path

    @classmethod
    def beside(cls, rows: Path) -> Laps:
        return cls(rows.with_suffix(laps.LAPS))

    def write(self, lap: laps.Lap) -> None:
        """A lap that cannot be written is said and left out: no trial is worth less for it."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(lap), "at": lap.at.isoformat()}) + "\n")
        except OSError as error:
            session.say(f"the controller's time is not kept: cannot write {self.path} ({error})")


# -- the command


def _run(arguments: argparse.Namespace, interruption: Interruption) -> int:
    if arguments.replay is not None:
        return _replay(arguments)
    file_lock.check()
    from benchmark.space import Space

    begin_s = time.monotonic()
    limits, time_s = _limits(arguments)
    failure: NotStarted | None = None
    branch: ResultsBranch | None = None
    with ExitStack() as stack:
        with interruption.admitted():
            space = Space.read(arguments.space or DATA / SPACE)
            text = quality.text_from(arguments.text) if arguments.text else quality.default_text()
            machine = session.find(arguments.device, arguments.uuid)
            device = machine.device
            target = session.place(device, arguments.output)
            session.hold(machine, arguments.command, stack)
            session.check_installed()
            if machine.meter is not None:
                machine.meter.check_alone(loaded=False)
            log = stack.enter_context(trial.Log(target.path))
            rows = known_rows(device, target)
            aim = _aim(arguments, space, machine, rows, text)
            laps = Laps.beside(target.path)
            if arguments.sync is not None:
                branch = stack.enter_context(_branch(arguments, (target.path, laps.path)))
            division = _divided(device)
            search = stack.enter_context(_study(arguments, aim, target.path, interruption))
            adopted = search.adopt(rows)
            if arguments.sensors:
                stack.enter_context(sensors.Logger(arguments.sensors))
        for notice in (*machine.notices, *aim.notices):
            session.say(notice)
        if log.torn is not None:
            session.say(f"cut off an incomplete last line of {target.path} ({len(log.torn)} characters)")
        session.say(
            f"controller on cores {cores.spelled(division.controller)}, trials on {cores.spelled(division.trials)}: "
            f"{division.why}" if division.controller else f"cores are not divided: {division.why}"
        )  # fmt: skip
        known = f", {adopted} of them measured before and new to it" if adopted else ""
        session.say(f"study {aim.study!r}: {len(search.configs)} candidates{known}; {search.left} left")
        session.say(f"rows go to {target.path}")
        time_left_s = None if time_s is None else time_s - (time.monotonic() - begin_s)
        schedule = plan.Schedule(aim.candidates.entries, time_left_s)
        child = bench.command(
            device=device.kind,
            uuid=arguments.uuid,
            text=arguments.text,
            tasks=session.with_tasks(arguments, device),
            own_cores=division.trials,
        )
        front = workbench.FrontSoFar(aim.point, aim.axes)
        work = workbench.Workbench(
            search=search,
            bench=stack.enter_context(bench.ProcessBench(child)),
            log=log,
            schedule=schedule,
            front=front,
            interruption=interruption,
            limits=limits,
            rows=rows,
            record=laps.write,
        )
        screen = Screen(work, schedule, machine.meter, title=aim.study, as_json=arguments.json, plain=arguments.plain)
        try:
            with screen:
                work.run(screen)
        except KeyboardInterrupt:
            session.say(
                "broken off: what was not told to the study is free again, or taken over from the file next time"
            )
        except NotStarted as error:
            failure = error
    for line in summary(work, time.monotonic() - begin_s):
        session.say(line)
    if work.tally.laps:
        session.say(f"each trial's overhead is in {laps.path}")
    if branch is not None:
        session.say(branch.summary())
    if not arguments.no_publish:
        session.say(session.published(target, [machine]))
    if failure is not None:
        raise failure
    return interruption.status if interruption.asked is not None else int(work.tally.failed)


def _branch(arguments: argparse.Namespace, paths: Sequence[Path]) -> ResultsBranch:
    host = session.slug(platform.node()) or "machine"
    return ResultsBranch(
        paths,
        branch=arguments.sync_branch or f"results/{host}-{paths[0].stem}",
        remote=arguments.sync_remote,
        every_s=sweep.seconds(arguments.sync_every),
        say=session.say,
    )


def summary(work: workbench.Workbench, took_s: float) -> list[str]:
    """A run in a few lines."""
    tally, front = work.tally, work.front
    figures = tally.document()
    lines = [
        f"{tally.ended}: {figures['trials']} trials, {figures['rejected']} rejected, in {session.duration(took_s)}",
        f"front: {len(front.front)} of {len(front.points)} configurations, {len(front.within_noise)} within noise",
        *(f"best {axis.name}: {value:.6g} {axis.unit}, {session.described(point.row.config)}"
          for axis, value, point in front.best()),
    ]  # fmt: skip
    if figures["overhead_median"] is not None:
        lines.append(
            f"controller: {figures['overhead_median']:.3%} of a trial's time in the median, "
            f"{figures['overhead_total']:.3%} in all; {figures['controller_cpu_s']:.1f} s of processor time. "
            f"Apart from that {session.duration(figures['starting_s'])} of starting children, "
            f"{session.duration(figures['loading_s'])} of loading models and "
            f"{session.duration(figures['waiting_s'])} of waiting for other workers"
        )
    return lines


class Screen:
    """What the user sees of a run: a live table on a terminal, or lines for each trial. Use as a context manager."""

    def __init__(
        self,
        work: workbench.Workbench,
        schedule: plan.Schedule,
        meter: Meter | None,
        *,
        title: str,
        as_json: bool,
        plain: bool,
    ) -> None:
        self._work, self._schedule, self._meter = work, schedule, meter
        self._title, self._as_json = title, as_json
        self._now: tuple[TrialConfig, str, float] | None = None
        self._last = self._front = ""
        self._best: list[tuple[str, str, str]] = []
        self._reading: Reading | None = None
        self._read_s = 0.0
        console = Console(stderr=True)
        self._live: Live | None = None
        if console.is_terminal and not plain:
            # Standard output stays itself where it is a pipe: rows as JSON go there.
            self._live = Live(
                get_renderable=self.render,
                console=console,
                refresh_per_second=1 / REFRESH_S,
                redirect_stdout=sys.stdout.isatty(),
            )

    def __enter__(self) -> Screen:
        self._look()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._now = None
        if self._live is not None:
            self._live.stop()

    def started(self, config: TrialConfig, strategy: str) -> None:
        """A trial begins."""
        self._now = (config, strategy, time.monotonic())
        if self._live is None:
            session.say(f"begun: {session.described(config)} (by {strategy})")

    def finished(self, outcome: Trial) -> None:
        """A trial is over and on file."""
        laps = self._work.tally.laps
        self._now = None
        self._last = session.in_short(outcome)
        self._look()
        if self._as_json:
            print(trial.dump(outcome).decode().rstrip(), flush=True)
        elif self._live is None or isinstance(outcome, Rejected):
            print(f"{len(laps)} ({laps[-1].strategy}) {self._last}", flush=True)

    def _look(self) -> None:
        """Keep the front as it is now: the thread that draws must not look while it changes."""
        front = self._work.front
        self._front = f"{len(front.front)} of {len(front.points)}, {len(front.within_noise)} within noise"
        self._best = [
            (axis.name, f"{value:.6g} {axis.unit}", session.described(point.row.config))
            for axis, value, point in front.best()
        ]

    def left_s(self) -> float | None:
        """Seconds until the end, as far as that can be told."""
        limits, laps = self._work.limits, self._work.tally.laps
        known = []
        if not limits.forever:
            known.append(self._schedule.left_s())
        elif self._schedule.budget_left_s < float("inf"):
            known.append(self._schedule.budget_left_s)
        if limits.trials is not None and laps:
            each_s = sum(lap.start_s + lap.load_s + lap.trial_s for lap in laps) / len(laps)
            known.append(each_s * (limits.trials - len(laps)))
        return min(known, default=None)

    def _device(self) -> str:
        """Temperature and power, read now or less than :data:`REFRESH_S` ago."""
        now_s = time.monotonic()
        if self._meter is not None and now_s - self._read_s >= REFRESH_S:
            self._read_s = now_s
            with suppress(EcoRouteError, OSError):
                self._reading = self._meter.read()
        celsius = self._reading.temperature_c if self._reading is not None else None
        watts = self._reading.power_w if self._reading is not None else None
        zone_c = thermal.hottest_zone_c()
        parts = [
            "" if celsius is None else f"{celsius:.0f} °C",
            "" if watts is None else f"{watts:.0f} W",
            "" if zone_c is None else f"hottest thermal zone {zone_c:.0f} °C",
        ]
        return ", ".join(part for part in parts if part) or "not read"

    def render(self) -> RenderableType:
        """The whole display as it is now."""
        tally = self._work.tally
        state = Table.grid(padding=(0, 2))
        if (now := self._now) is not None:
            config, strategy, begin_s = now
            since = session.duration(time.monotonic() - begin_s)
            state.add_row("now", f"{session.described(config)} (by {strategy}), for {since}")
        left_s = self.left_s()
        ends = "no end is set" if left_s is None else f"about {session.duration(left_s)} left"
        state.add_row(
            "trials", f"{len(tally.laps)} made, {tally.rejected} rejected, {len(self._schedule.left)} left; {ends}"
        )
        state.add_row("device", self._device())
        state.add_row("front", self._front)
        if self._last:
            state.add_row("last", self._last)
        best = Table("best", "value", "configuration")
        for row in self._best:
            best.add_row(*row)
        return Group(self._title, best, state)


# -- strategies on recorded rows


def _replay(arguments: argparse.Namespace) -> int:
    from benchmark import replay

    return replay.run(arguments.replay, zone=arguments.zone, seeds=arguments.seeds, as_json=arguments.json)
