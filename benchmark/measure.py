"""One trial: cool, warm, idle, prefill windows, decode windows.

Each phase is one stretch of uninterrupted load: a lead-in that is not counted, ``repeats`` windows back to back, and a
tail that is not counted either, so that the energy counter's last change lies beyond the last window. A window is a
whole number of passes and lasts at least ``window_s``; of a pass that counts in part (a server's, :class:`Work`), the
window holds that part's time, energy and tokens alone. Loading, compiling, warming and judging quality lie outside all
windows. There is this one loop for every :class:`Engine`.

Where it gets hotter than the guard allows, the trial rests between two windows: the load ends with a tail and, once it
is cool, begins anew with a lead-in, so that no window's edge is a change of load.

A trial that fails a gate is kept and says which. The gates: the spread of throughput and of energy, too few changes of
the reading in a window, thermal throttling, temperatures above the guard's limit, other processes at work where the
energy is a processor's, and a server timed by a client that was itself too busy.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmark.meter import THERMAL_EVENTS, Busy, Meter, Recorder, Trace, on_this_machine
from benchmark.rapl import processor
from benchmark.thermal import Guard
from benchmark.trial import Conditions, Machine, Measured, Phase, Quality, TrialConfig, Weights, Window

WARM_S = 1.5
IDLE_SETTLE_S = 1.0
IDLE_S = 3.0
EDGE_S = 0.4
"""Load before the first and after the last window, so that the counter changes on both sides of each."""

THROUGHPUT_CV = 0.02
ENERGY_CV = 0.03
UPDATES = 20
THERMAL_SHARE = 0.01
"""The gates. Thermal throttling may cover this share of the windows' time."""
OTHERS_SHARE = 0.05
"""Of the time that cores were busy, what other processes may take: about as much of the energy above idle is theirs."""
CLIENT_SHARE = 0.3
"""Of a core, what timing a server may take. Against a server that streamed to 16, 64 and 128 requests at a known pace,
speeds were right to 2 % up to this share and wrong by 3 to 10 % above 0.4."""

NOT_SEEN = "not seen: the server at "
"""How the name of a machine begins that is not this one."""

Span = tuple[float, float]
"""Begin and end of a stretch, on the clock of time.perf_counter."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What counts of one pass: its tokens, the seconds of each of its steps, and the stretch in which they were done,
    None for all of the call. ``client_s`` is the processor time that the thread which times a server took in it."""

    tokens: int
    steps: tuple[float, ...] = ()
    span: Span | None = None
    client_s: float = 0.0


class Engine(Protocol):
    """What runs a model: in this process, or a server behind an endpoint.

    Where all of a call counts and does exactly what was asked, ``prefill`` gives None and ``decode`` the seconds of its
    steps; an engine of which less counts gives a :class:`Work`."""

    @property
    def weights(self) -> Weights:
        """Where the weights came from and what was loaded."""

    @property
    def step(self) -> str:
        """What runs the decode step."""

    def prompts(self, batch: int, tokens: int, seed: int) -> Any:
        """``batch`` prompts of ``tokens`` tokens, for :meth:`prefill`."""

    def admit(self, batch: int, slots: int) -> None:
        """Make room for ``batch`` sequences of up to ``slots`` tokens."""

    def prefill(self, prompts: Any) -> Work | None:
        """Read the prompts; return once they are read."""

    def capture(self) -> None:
        """After a first prefill: whatever makes the next passes fast."""

    def decode(self, generated_tokens: int) -> Work | tuple[float, ...]:
        """Generate until each sequence has so many tokens, the prefill's first one included; return once it has."""

    def step_bytes(self, length: float) -> float | None:
        """Bytes that one decode step must move at a cached length; None where that is not known."""

    def memory_used_gb(self) -> float | None:
        """The most device memory held since :meth:`admit`; None where that is not known."""


def measure(
    config: TrialConfig,
    engine: Engine,
    *,
    meter: Meter | None,
    guard: Guard,
    software: dict[str, str],
    copy_gb_per_s: float | None,
    quality: Quality | None,
    no_energy: str | None = None,
) -> Measured:
    """Measure one configuration on a loaded engine. ``no_energy`` says why there is no meter, where there is none.

    Of an endpoint on this machine, the processes on the device once its model is warm are taken for the server's, and a
    new one is refused; of one on another machine, no energy is read.

    Raises EcoRouteError where the trial cannot be made: a device that stays hot or is shared, or too little memory. An
    interrupt passes through at once; nothing is left running."""
    if config.endpoint is not None and not on_this_machine(config.endpoint):
        meter, no_energy = None, "the server is another machine, whose energy is not read from here"
    if meter is not None:
        if config.endpoint is None:
            meter.check_alone()
        guard.wait_until_cool(meter)
    started_at = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    prompts = engine.prompts(config.batch, config.prompt_tokens, config.seed)
    engine.admit(config.batch, config.prompt_tokens + config.generated_tokens)
    engine.prefill(prompts)
    engine.capture()
    read_tokens = config.batch * config.prompt_tokens
    made_tokens = config.batch * (config.generated_tokens - 1)

    def read() -> Work:
        return engine.prefill(prompts) or Work(tokens=read_tokens)

    def generate() -> Work:
        done = engine.decode(config.generated_tokens)
        return done if isinstance(done, Work) else Work(tokens=made_tokens, steps=done)

    _for_at_least(WARM_S if meter is not None else 0.0, generate)
    course = _course(config, read, generate, guard, meter)
    polled_only = meter is not None and "energy_j" in meter.identity.unavailable
    trace, idle = course.trace, course.idle
    prefill = Phase.of([stretch.metered(trace, polled_only) for stretch in course.readings])
    decode = Phase.of([stretch.metered(trace, polled_only) for stretch in course.makings])
    steps = [seconds for stretch in course.makings for seconds in stretch.steps]
    stretches = (*course.readings, *course.makings)
    conditions = _conditions(trace, [span for stretch in stretches for span in stretch.spans])
    hottest_c = [c for stretch in stretches if (c := stretch.hottest_c(trace)) is not None]
    idle_j = None if idle is None else trace.polled_j(*idle) if polled_only else trace.energy_j(*idle)
    step_bytes = engine.step_bytes(config.prompt_tokens + config.generated_tokens / 2)
    fraction = None
    if step_bytes is not None and copy_gb_per_s is not None:
        fraction = step_bytes / 1e9 / copy_gb_per_s / statistics.fmean(steps)
    return Measured(
        config=config,
        started_at=started_at,
        machine=_machine(config, meter, software),
        weights=engine.weights,
        energy_source="none" if meter is None else "polled" if polled_only else meter.identity.counter,
        idle_w=None if idle is None or idle_j is None else idle_j / (idle[1] - idle[0]),
        idle_s=None if idle is None else idle[1] - idle[0],
        prefill=prefill,
        decode=decode,
        step_ms=percentiles_ms(steps),
        step_gb=None if step_bytes is None else step_bytes / 1e9,
        copy_gb_per_s=copy_gb_per_s,
        bandwidth_fraction=fraction,
        memory_used_gb=engine.memory_used_gb(),
        conditions=conditions,
        quality=quality,
        unavailable={
            **(meter.identity.unavailable if meter is not None else {"energy": no_energy or "no meter"}),
            **_unavailable(config, course.others, step_bytes),
        },
        gates_failed=(
            *gates_failed(prefill, decode, conditions, metered=meter is not None),
            *too_hot(hottest_c, guard.limit_c),
            *shared(course.others),
            *client_busy("prefill", course.readings),
            *client_busy("decode", course.makings),
        ),
        step=engine.step,
        paused_s=course.paused_s,
    )


def gates_failed(prefill: Phase, decode: Phase, conditions: Conditions, *, metered: bool) -> tuple[str, ...]:
    """What keeps a trial from being trusted, in words; empty if nothing does."""
    failed = []
    for name, phase in (("prefill", prefill), ("decode", decode)):
        if phase.tokens_per_s.cv > THROUGHPUT_CV:
            failed.append(f"{name} throughput CV {phase.tokens_per_s.cv:.1%} > {THROUGHPUT_CV:.0%}")
        if not metered:
            continue
        if phase.j_per_token is None:
            failed.append(f"{name} energy was not read in every window")
        elif phase.j_per_token.cv > ENERGY_CV:
            failed.append(f"{name} energy CV {phase.j_per_token.cv:.1%} > {ENERGY_CV:.0%}")
        fewest = min(window.updates for window in phase.windows)
        if fewest < UPDATES:
            failed.append(f"{name} window with {fewest} changes of the reading < {UPDATES}")
    seconds = sum(window.seconds for phase in (prefill, decode) for window in phase.windows)
    for event in THERMAL_EVENTS:
        if conditions.throttled_s.get(event, 0.0) > THERMAL_SHARE * seconds:
            failed.append(f"{event} throttling for {conditions.throttled_s[event]:.1f} s")
    return tuple(failed)


def too_hot(hottest_c: Sequence[float], limit_c: float) -> tuple[str, ...]:
    """The gate on temperature, from the hottest of each window in which one was read."""
    over = [celsius for celsius in hottest_c if celsius > limit_c]
    return (
        (f"over {limit_c:g} °C in {len(over)} of {len(hottest_c)} windows, {max(over):g} °C at most",) if over else ()
    )


def shared(others: float | None) -> tuple[str, ...]:
    """The gate on other processes, from their share of the time that cores were busy, if it is known."""
    if others is None or others <= OTHERS_SHARE:
        return ()
    return (f"other processes took {others:.1%} of the processor's busy time > {OTHERS_SHARE:.0%}",)


def percentiles_ms(steps: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile and maximum of step times given in seconds, in milliseconds.

    A percentile is the smallest time that at least that share of the steps did not exceed."""
    ordered = sorted(steps)
    found = {"mean": statistics.fmean(ordered)}
    for name, hundredths in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)):
        found[name] = ordered[-(-hundredths * len(ordered) // 100) - 1]
    return {name: value * 1e3 for name, value in found.items()}


@dataclass(frozen=True)
class _Stretch:
    """A window as it was worked: the stretches that count, their tokens, the seconds of their steps, the hottest
    temperature as it ended, if any is known, and the processor time that timing a server took."""

    spans: list[Span]
    tokens: int
    steps: list[float]
    last_c: float | None
    client_s: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(end - begin for begin, end in self.spans)

    def hottest_c(self, trace: Trace) -> float | None:
        seen = [celsius for span in self.spans for celsius in trace.within("temperature_c", *span)]
        return max(seen + ([] if self.last_c is None else [self.last_c]), default=None)

    def metered(self, trace: Trace, polled_only: bool) -> Window:
        polled = _total([trace.polled_j(*span) for span in self.spans])
        return Window(
            seconds=self.seconds,
            tokens=self.tokens,
            energy_j=polled if polled_only else _total([trace.energy_j(*span) for span in self.spans]),
            polled_j=polled,
            updates=sum(trace.updates(*span) for span in self.spans),
        )


def client_busy(name: str, stretches: Sequence[_Stretch]) -> tuple[str, ...]:
    """The gate on a phase of a server whose timing kept this process too busy to be sure of it."""
    share = sum(stretch.client_s for stretch in stretches) / sum(stretch.seconds for stretch in stretches)
    if share <= CLIENT_SHARE:
        return ()
    return (f"{name} was timed by a client busy for {share:.0%} > {CLIENT_SHARE:.0%} of the time",)


@dataclass(frozen=True, kw_only=True)
class _Course:
    """How a trial went: the windows of prefill and of decode, when it idled, and what the meter read throughout.

    ``others`` is other processes' share of the time that cores were busy, where the energy is a processor's."""

    readings: list[_Stretch]
    makings: list[_Stretch]
    idle: Span | None
    trace: Trace
    paused_s: float
    others: float | None = None


def _course(
    config: TrialConfig, read: Callable[[], Work], generate: Callable[[], Work], guard: Guard, meter: Meter | None
) -> _Course:
    """Idle, then the windows of prefill, then those of decode; without a meter there is no need to idle."""
    watch = _Watch(guard, meter)
    if meter is None:
        readings = _windows(config, read, watch, edge_s=0.0)
        makings = _windows(config, generate, watch, edge_s=0.0)
        return _Course(readings=readings, makings=makings, idle=None, trace=Trace(()), paused_s=watch.paused_s)
    served = meter.serving() if config.endpoint is not None else frozenset()
    with Recorder(meter) as recorder:
        time.sleep(IDLE_SETTLE_S)
        meter.busy_cores()
        begin = time.perf_counter()
        time.sleep(IDLE_S)
        idle = (begin, time.perf_counter())
        time.sleep(EDGE_S)
        resting = meter.busy_cores()
        readings = _windows(config, read, watch, edge_s=EDGE_S)
        makings = _windows(config, generate, watch, edge_s=EDGE_S)
        working = meter.busy_cores()
    trace = recorder.trace()
    meter.check_alone(besides=served)  # nobody has come in the meantime
    return _Course(
        readings=readings,
        makings=makings,
        idle=idle,
        trace=trace,
        paused_s=watch.paused_s,
        others=_others(resting, working, served=config.endpoint is not None),
    )


def _others(resting: Busy | None, working: Busy | None, *, served: bool) -> float | None:
    """Other processes' share of the time that cores were busy while the trial worked.

    A server that works for the trial is one of the others: then what they did before, while it idled, stands for them.
    """
    if resting is None or working is None or working.own + working.others <= 0:
        return None
    return (resting.others if served else working.others) / (working.own + working.others)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _for_at_least(seconds: float, work: Callable[[], object]) -> None:
    """Repeat the work until it has lasted that long; at least once."""
    until = time.perf_counter() + seconds
    work()
    while time.perf_counter() < until:
        work()


class _Watch:
    """The guard over one trial: what is hottest now, and how long the trial has rested."""

    def __init__(self, guard: Guard, meter: Meter | None) -> None:
        self._guard, self._meter = guard, meter
        self.paused_s = 0.0

    def hottest_c(self) -> float | None:
        hottest = self._guard.hottest(self._meter)
        return None if hottest is None else hottest[1]

    def over(self, celsius: float | None) -> bool:
        return celsius is not None and celsius > self._guard.limit_c

    def rest(self) -> None:
        self.paused_s += self._guard.rest(self._meter)


def _windows(config: TrialConfig, work: Callable[[], Work], watch: _Watch, *, edge_s: float) -> list[_Stretch]:
    """Run the windows of a phase, resting between them where it gets too hot."""
    windows: list[_Stretch] = []
    last_c, loaded = watch.hottest_c(), False
    while len(windows) < config.repeats:
        if watch.over(last_c):
            if loaded and edge_s:
                _for_at_least(edge_s, work)
            watch.rest()
            loaded = False
        if not loaded:
            _for_at_least(edge_s, work)
            loaded = True
        windows.append(_window(config.window_s, work, watch))
        last_c = windows[-1].last_c
    if edge_s:
        _for_at_least(edge_s, work)
    return windows


def _window(window_s: float, work: Callable[[], Work], watch: _Watch) -> _Stretch:
    """Whole passes until what counts of them has lasted ``window_s``; passes that count in full are one span."""
    spans: list[Span] = []
    tokens = 0
    steps: list[float] = []
    seconds, client_s, before = 0.0, 0.0, time.perf_counter()
    while seconds < window_s:
        done = work()
        now = time.perf_counter()
        begin, end = done.span or (before, now)
        if spans and spans[-1][1] == begin:
            begin = spans.pop()[0]
        spans.append((begin, end))
        tokens += done.tokens
        steps.extend(done.steps)
        client_s += done.client_s
        seconds = sum(last - first for first, last in spans)
        before = now
    return _Stretch(spans, tokens, steps, watch.hottest_c(), client_s)


def _conditions(trace: Trace, spans: Sequence[Span]) -> Conditions:
    def within(name: str) -> list[float]:
        return [value for span in spans for value in trace.within(name, *span)]

    throttled_s: dict[str, float] = {}
    for span in spans:
        for reason, seconds in trace.events_s(*span).items():
            throttled_s[reason] = throttled_s.get(reason, 0.0) + seconds
    temperatures, sm, memory = within("temperature_c"), within("sm_mhz"), within("memory_mhz")
    return Conditions(
        start_c=temperatures[0] if temperatures else None,
        end_c=temperatures[-1] if temperatures else None,
        hottest_c=max(temperatures, default=None),
        sm_mhz_mean=statistics.fmean(sm) if sm else None,
        memory_mhz_mean=statistics.fmean(memory) if memory else None,
        throttled_s=throttled_s,
    )


def _unavailable(config: TrialConfig, others: float | None, step_bytes: float | None) -> dict[str, str]:
    """What a trial does not give, beside what its meter does not, and why."""
    missing = {}
    if others is not None:
        when = "" if config.endpoint is None else ", as far as an idle server tells"
        missing["alone"] = f"a package's energy is every process's: others took {others:.1%} of the busy time{when}"
    if config.endpoint is not None:
        missing["memory_used_gb"] = "what a server reserves is not what it uses"
    if step_bytes is None:
        missing |= dict.fromkeys(("step_gb", "bandwidth_fraction"), "the bytes that a step must move are not known")
    return missing


def _machine(config: TrialConfig, meter: Meter | None, software: dict[str, str]) -> Machine:
    if meter is None:
        here = config.endpoint is None or on_this_machine(config.endpoint)
        name = processor() or platform.machine() if here else f"{NOT_SEEN}{config.endpoint}"
        return Machine(name=name, uuid=None, driver=None, memory_gb=None, software=software)
    identity = meter.identity
    return Machine(
        name=identity.name,
        uuid=identity.uuid,
        driver=identity.driver,
        memory_gb=identity.memory_gb,
        software=software,
    )
