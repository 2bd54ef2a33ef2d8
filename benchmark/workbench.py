"""A search at work, unattended: which trial next, measuring it in a child, its row on file before anything else.

A row is on file before the study is told of it, so whatever ends the process costs at most the running trial: what the
file holds is adopted by the study at the next start. The first Ctrl+C or SIGTERM, or a terminal that closes, lets the
running trial end and closes everything; a second signal breaks the trial off, which is recorded and goes back to the
study.

**Overhead** is the time in which nothing is measured: from the end of one trial to the beginning of the next, on the
controller's clock. What a child's start, loading a model and waiting for other workers take is counted apart.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from benchmark import plan, sweep
from benchmark.bench import NotStarted, ProcessBench
from benchmark.interruption import Interruption
from benchmark.laps import Lap, Tally
from benchmark.trial import Log, Measured, Rejected, Trial, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

if TYPE_CHECKING:
    from benchmark.objectives import Axis, Point
    from benchmark.search import Asked, Search

LEAST_TIMEOUT_S = 1200.0
TIMEOUT_ESTIMATES = 4.0
"""A trial may take that many times as long as the plan expects it to, model included, and never less than the
least: a hot machine may rest for minutes before and within it."""
REJECTIONS_PER_MEMBER = 2
"""Rejections after which a front member is not measured again in this run; a study counts its own."""
FAILED_STARTS = 2
"""Times in a row that no process could be had to measure in, after which the search ends."""
IN_A_ROW = 10
"""Configurations rejected in a row after which something other than they is amiss."""
WAIT_S = 5.0
"""Between questions to the study while other workers make its last trials."""


def until_s(text: str, now: datetime.datetime) -> float:
    """Seconds from ``now``, a local time without zone, until it is next HH:MM here.

    Raises EcoRouteError for anything but a time of day."""
    try:
        at = datetime.datetime.combine(now.date(), datetime.datetime.strptime(text, "%H:%M").time())
    except ValueError as error:
        raise EcoRouteError(f"--until is a time of day such as 07:00; got {text!r}") from error
    if at <= now:
        at += datetime.timedelta(days=1)
    return at.timestamp() - now.timestamp()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop: after so many trials, or when the schedule's time is over. ``forever`` measures the front again on
    new occasions once the space is exhausted. ``timeout_s`` of a trial; None for the rule above."""

    trials: int | None = None
    forever: bool = False
    timeout_s: float | None = None

    def timeout(self, entry: plan.Entry) -> float:
        if self.timeout_s is not None:
            return self.timeout_s
        return max(LEAST_TIMEOUT_S, TIMEOUT_ESTIMATES * entry.seconds(None))


class FrontSoFar:
    """The front of what was measured. Occasions of one configuration are one point, the mean of the best of them, as
    in :mod:`benchmark.front`.

    ``point`` gives the figures of a row on ``axes``, or raises NoFigure for one that does not compare with the others.
    A row that failed a gate other than those of throttling is not to be trusted, and is left out. The study takes its
    figures all the same: they say where to look next."""

    def __init__(self, point: Callable[[Measured], Point], axes: Sequence[Axis]) -> None:
        self._point, self.axes = point, tuple(axes)
        self._groups: dict[str, list[Point]] = {}
        self._refresh()

    def add(self, row: Measured) -> bool:
        """Take a row in. Returns whether it compares with the others."""
        from benchmark.front import trusted
        from benchmark.objectives import NoFigure

        if not trusted(row):
            return False
        try:
            point = self._point(row)
        except NoFigure:
            return False
        group = self._groups.setdefault(row.config.subject, [])
        group.append(point)
        if len(group) > 1:
            self._refresh()
        else:
            self.points.append(point)
            self._front.add(point.costs, point.sds)
        return True

    def _refresh(self) -> None:
        from benchmark.front import best_of
        from benchmark.objectives import over_occasions
        from benchmark.pareto import Front

        self._front = Front(len(self.axes))
        self.points = [over_occasions(best_of(group)) for group in self._groups.values()]
        for point in self.points:
            self._front.add(point.costs, point.sds)

    @property
    def front(self) -> list[Point]:
        """What nothing dominates."""
        return [point for point, on in zip(self.points, self._front.on_front, strict=True) if on]

    @property
    def within_noise(self) -> list[Point]:
        """The front, and what cannot be told from it."""
        return [point for point, on in zip(self.points, self._front.within_noise, strict=True) if on]

    def best(self) -> list[tuple[Axis, float, Point]]:
        """The best point on each axis, with its figure there."""
        if not self.points:
            return []
        found = [min(self.points, key=lambda point: point.costs[place]) for place in range(len(self.axes))]
        return [
            (axis, point.values[place], point) for place, (axis, point) in enumerate(zip(self.axes, found, strict=True))
        ]


class Display(Protocol):
    """Who is told how a run goes."""

    def started(self, config: TrialConfig, strategy: str) -> None:
        """A trial begins."""

    def finished(self, outcome: Trial) -> None:
        """A trial is over and on file."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A trial to make; of a further occasion the study knows nothing."""

    config: TrialConfig
    strategy: str
    asked: Asked | None = None


class Workbench:
    """The loop of a search. ``rows`` are what is measured already; ``record`` gets every lap."""

    def __init__(
        self,
        *,
        search: Search,
        bench: ProcessBench,
        log: Log,
        schedule: plan.Schedule,
        front: FrontSoFar,
        interruption: Interruption,
        limits: Limits,
        rows: Iterable[Measured] = (),
        record: Callable[[Lap], None] = lambda lap: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._search, self._bench, self._log, self._schedule = search, bench, log, schedule
        self.front, self._interruption, self.limits = front, interruption, limits
        self._entries = {entry.config.key: entry for entry in schedule.left}
        self._known: dict[str, Measured] = {}
        self._occasions: dict[str, int] = {}
        self._rejections: Counter[str] = Counter()
        self._in_a_row: set[str] = set()
        self._not_started = 0
        self._record, self._clock, self._pause = record, clock, pause
        self._waited_s = 0.0
        self.tally = Tally()
        for row in rows:
            self._learn(row)
        schedule.left = [entry for entry in schedule.left if entry.config.key not in self._known]

    def run(self, display: Display) -> None:
        """Until a limit is reached, nothing is left or an interrupt is asked for; :attr:`tally` says which.

        Raises KeyboardInterrupt where a trial or a wait was broken off, and NotStarted where no child can be had."""
        self.tally.ended = "broken off"
        self._last_s, self._last_cpu_s = self._clock(), time.process_time()
        while (why := self._over()) is None:
            job = self._next()
            if isinstance(job, _Job):
                if self._interruption.asked is None:  # else leaving the search gives it back
                    self._make(job, display)
            elif job is not None:
                why = job
                break
        self.tally.ended = why

    def _over(self) -> str | None:
        if self._interruption.asked is not None:
            return "asked to end"
        if self.limits.trials is not None and len(self.tally.laps) >= self.limits.trials:
            return f"{self.limits.trials} trials are made"
        if self._schedule.budget_left_s <= 0:
            return "the time is over"
        if len(self._in_a_row) >= IN_A_ROW:
            self.tally.failed = True
            return f"{IN_A_ROW} configurations in a row were rejected: put right what their rows say, and start again"
        return None

    def _next(self) -> _Job | str | None:
        """A trial to make; why there is none, in words; None to ask again."""
        with self._interruption.admitted():
            asked = self._search.ask(self._fits)
        if asked is not None:
            known = self._known.get(asked.config.key)
            if known is None:
                return _Job(config=asked.config, strategy=asked.strategy, asked=asked)
            with self._interruption.admitted():  # on file, and the study had not heard of it
                self._search.tell(asked, known)
            return None
        timely = any(map(self._fits, self._search.configs))
        if self._search.waiting_for and timely:
            self._wait()
            return None
        if self.limits.forever and (again := self._again()) is not None:
            return again
        left = self._search.left
        return f"no time for any of the {left} left" if left else "nothing is left to try"

    def _fits(self, config: TrialConfig) -> bool:
        return self._schedule.fits(self._entries[config.key])

    def _wait(self) -> None:
        begin_s = self._clock()
        with self._interruption.admitted():
            self._pause(WAIT_S)
        self._waited_s += self._clock() - begin_s

    def _again(self) -> _Job | None:
        """The member of the front, within noise, that was measured on the fewest occasions, on a further one."""
        found = []
        for point in self.front.within_noise:
            subject = point.row.config.subject
            config = replace(point.row.config, occasion=self._occasions[subject] + 1)
            base = self._entries.get(replace(config, occasion=1).key)
            if base is None or self._rejections[config.key] >= REJECTIONS_PER_MEMBER:
                continue
            entry = replace(base, config=config)
            if self._schedule.fits(entry):
                found.append(entry)
        if not found:
            return None
        entry = min(found, key=lambda each: each.config.occasion)
        self._entries[entry.config.key] = entry
        return _Job(config=entry.config, strategy="again")

    def _make(self, job: _Job, display: Display) -> None:
        config, entry = job.config, self._entries[job.config.key]
        self._schedule.begin(entry)
        display.started(config, job.strategy)
        begin_s = self._clock()
        try:
            with self._interruption.admitted():
                outcome = self._bench.measure(config, self.limits.timeout(entry))
        except KeyboardInterrupt:
            self._log.append(sweep.rejected(config, sweep.INTERRUPTED))
            raise  # leaving the search gives the trial back
        except NotStarted:
            self._schedule.finished(measured=False)
            self._not_started += 1
            if self._not_started >= FAILED_STARTS:
                self.tally.ended = "no process could be had to measure in"
                raise
            if job.asked is not None:
                self._search.give_back(job.asked)
            return
        end_s = self._clock()
        self._log.append(outcome)
        self._lap(job, outcome, begin_s, end_s)
        self._schedule.finished(measured=isinstance(outcome, Measured))
        self._not_started = 0
        self._in_a_row = self._in_a_row | {config.subject} if isinstance(outcome, Rejected) else set()
        if isinstance(outcome, Measured):
            self._learn(outcome)
        else:
            self._rejections[config.key] += 1
        display.finished(outcome)
        if job.asked is not None:
            with self._interruption.admitted():
                self._search.tell(job.asked, outcome)

    def _lap(self, job: _Job, outcome: Trial, begin_s: float, end_s: float) -> None:
        timing = self._bench.timing
        cpu_s = time.process_time()
        lap = Lap(
            at=datetime.datetime.now(datetime.UTC).replace(microsecond=0),
            config=job.config,
            strategy=job.strategy,
            outcome=outcome.outcome,
            between_s=begin_s - self._last_s - self._waited_s,
            waited_s=self._waited_s,
            start_s=timing.start_s,
            load_s=timing.load_s,
            trial_s=timing.trial_s,
            cpu_s=cpu_s - self._last_cpu_s,
        )
        self._last_s, self._last_cpu_s, self._waited_s = end_s, cpu_s, 0.0
        self.tally.laps.append(lap)
        self._record(lap)

    def _learn(self, row: Measured) -> None:
        self._known[row.config.key] = row
        self.front.add(row)
        subject = row.config.subject
        self._occasions[subject] = max(row.config.occasion, self._occasions.get(subject, 0))
