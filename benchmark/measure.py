"""One trial: cool, warm, idle, prefill windows, decode windows.

Each phase is one stretch of uninterrupted load: a lead-in that is not counted, ``repeats`` windows back to back, and a
tail that is not counted either, so that the energy counter's last change lies beyond the last window. A window is a
whole number of passes and lasts at least ``window_s``. Loading, compiling, warming and judging quality lie outside all
windows.

A trial that fails a gate is kept and says which. The gates: the spread of throughput and of energy, too few changes of
the reading in a window, and thermal throttling.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmark.meter import THERMAL_EVENTS, Meter, Recorder, Trace
from benchmark.thermal import Guard
from benchmark.trial import Conditions, Machine, Measured, Phase, Quality, TrialConfig, Window

if TYPE_CHECKING:
    from benchmark.engine import Engine

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

Span = tuple[float, float]


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

    Raises EcoRouteError where the trial cannot be made: a device that stays hot or is shared, or too little memory."""
    if meter is not None:
        meter.check_alone()
        guard.wait_until_cool(meter)
    started_at = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    prompts = engine.prompts(config.batch, config.prompt_tokens, config.seed)
    engine.admit(config.batch, config.prompt_tokens + config.generated_tokens)
    engine.prefill(prompts)
    engine.capture()
    steps: list[float] = []

    def generate() -> None:
        steps.extend(engine.decode(config.generated_tokens))

    def read() -> None:
        engine.prefill(prompts)

    _for_at_least(WARM_S if meter is not None else 0.0, generate)
    read_tokens = config.batch * config.prompt_tokens
    made_tokens = config.batch * (config.generated_tokens - 1)
    if meter is None:
        read_spans, read_counts = _windows(config, read, read_tokens, edge_s=0.0)
        steps.clear()
        made_spans, made_counts = _windows(config, generate, made_tokens, edge_s=0.0)
        idle, trace = None, Trace(())
    else:
        with Recorder(meter) as recorder:
            time.sleep(IDLE_SETTLE_S)
            idle_begin = time.perf_counter()
            time.sleep(IDLE_S)
            idle = (idle_begin, time.perf_counter())
            time.sleep(EDGE_S)
            read_spans, read_counts = _windows(config, read, read_tokens, edge_s=EDGE_S)
            steps.clear()
            made_spans, made_counts = _windows(config, generate, made_tokens, edge_s=EDGE_S)
        trace = recorder.trace()
    unavailable = dict(meter.identity.unavailable) if meter is not None else {"energy": no_energy or "no meter"}
    polled_only = meter is not None and "energy_j" in meter.identity.unavailable
    prefill = Phase.of(_metered(read_spans, read_counts, trace, polled_only))
    decode = Phase.of(_metered(made_spans, made_counts, trace, polled_only))
    span = (read_spans[0][0], made_spans[-1][1])
    conditions = _conditions(trace, span)
    idle_j = None if idle is None else trace.polled_j(*idle) if polled_only else trace.energy_j(*idle)
    step_bytes = engine.step_bytes(config.prompt_tokens + config.generated_tokens / 2)
    fraction = None if copy_gb_per_s is None else step_bytes / 1e9 / copy_gb_per_s / statistics.fmean(steps)
    return Measured(
        config=config,
        started_at=started_at,
        machine=_machine(meter, software),
        weights=engine.weights,
        energy_source="none" if meter is None else "polled" if polled_only else "counter",
        idle_w=None if idle is None or idle_j is None else idle_j / (idle[1] - idle[0]),
        idle_s=None if idle is None else idle[1] - idle[0],
        prefill=prefill,
        decode=decode,
        step_ms=percentiles_ms(steps),
        step_gb=step_bytes / 1e9,
        copy_gb_per_s=copy_gb_per_s,
        bandwidth_fraction=fraction,
        memory_used_gb=engine.memory_used_gb(),
        conditions=conditions,
        quality=quality,
        unavailable=unavailable,
        gates_failed=gates_failed(prefill, decode, conditions, metered=meter is not None),
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


def percentiles_ms(steps: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th and 99th percentile and maximum of step times given in seconds, in milliseconds.

    A percentile is the smallest time that at least that share of the steps did not exceed."""
    ordered = sorted(steps)
    found = {"mean": statistics.fmean(ordered)}
    for name, hundredths in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)):
        found[name] = ordered[-(-hundredths * len(ordered) // 100) - 1]
    return {name: value * 1e3 for name, value in found.items()}


def _for_at_least(seconds: float, work: Callable[[], None]) -> int:
    """Repeat the work until it has lasted that long; at least once. Returns how often it ran."""
    until = time.perf_counter() + seconds
    runs = 0
    while not runs or time.perf_counter() < until:
        work()
        runs += 1
    return runs


def _windows(
    config: TrialConfig, work: Callable[[], None], tokens: int, *, edge_s: float
) -> tuple[list[Span], list[int]]:
    """Run the windows of a phase. Returns each one's begin and end, and the tokens that it worked through."""
    _for_at_least(edge_s, work)
    spans, counts = [], []
    for _ in range(config.repeats):
        begin = time.perf_counter()
        runs = _for_at_least(config.window_s, work)
        spans.append((begin, time.perf_counter()))
        counts.append(runs * tokens)
    if edge_s:
        _for_at_least(edge_s, work)
    return spans, counts


def _metered(spans: Sequence[Span], counts: Sequence[int], trace: Trace, polled_only: bool) -> list[Window]:
    return [
        Window(
            seconds=end - begin,
            tokens=tokens,
            energy_j=trace.polled_j(begin, end) if polled_only else trace.energy_j(begin, end),
            polled_j=trace.polled_j(begin, end),
            updates=trace.updates(begin, end),
        )
        for (begin, end), tokens in zip(spans, counts, strict=True)
    ]


def _conditions(trace: Trace, span: Span) -> Conditions:
    temperatures = trace.within("temperature_c", *span)
    sm, memory = trace.within("sm_mhz", *span), trace.within("memory_mhz", *span)
    return Conditions(
        start_c=temperatures[0] if temperatures else None,
        end_c=temperatures[-1] if temperatures else None,
        hottest_c=max(temperatures, default=None),
        sm_mhz_mean=statistics.fmean(sm) if sm else None,
        memory_mhz_mean=statistics.fmean(memory) if memory else None,
        throttled_s=trace.events_s(*span),
    )


def _machine(meter: Meter | None, software: dict[str, str]) -> Machine:
    if meter is None:
        return Machine(name=_processor(), uuid=None, driver=None, memory_gb=None, software=software)
    identity = meter.identity
    return Machine(
        name=identity.name,
        uuid=identity.uuid,
        driver=identity.driver,
        memory_gb=identity.memory_gb,
        software=software,
    )


def _processor() -> str:
    return platform.processor() or platform.machine()
