"""The measuring loop, its gates, rests and interrupts, with the least engine and a recording of an H100 for a meter."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import measure as measuring
from benchmark.measure import Work, gates_failed, measure, percentiles_ms, too_hot
from benchmark.meter import Reading, Recording, ReplayMeter
from benchmark.thermal import Guard
from benchmark.trial import Conditions, Measured, Phase, TrialConfig, Weights, Window
from ecoroute_mcp.sci import EcoRouteError

RECORDING = Recording.load(Path(__file__).parent / "recordings" / "h100-idle-load-idle.jsonl")
CALM = Conditions(start_c=40, end_c=50, hottest_c=51, sm_mhz_mean=1980, memory_mhz_mean=2619, throttled_s={})


def phase(
    energies: tuple[float, ...] = (100.0, 100.0), updates: int = 20, seconds: tuple[float, ...] = (2.0, 2.0)
) -> Phase:
    return Phase.of(
        [
            Window(seconds=lasted, tokens=100, energy_j=energy, polled_j=energy, updates=updates)
            for energy, lasted in zip(energies, seconds, strict=True)
        ]
    )


def test_percentiles_are_of_the_steps_not_of_their_mean() -> None:
    steps = [0.001 * step for step in range(1, 201)]
    assert percentiles_ms(steps) == pytest.approx(
        {"mean": 100.5, "p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0}
    )
    assert percentiles_ms([0.002]) == pytest.approx({"mean": 2.0, "p50": 2.0, "p90": 2.0, "p99": 2.0, "max": 2.0})


def test_a_calm_trial_passes_every_gate() -> None:
    assert gates_failed(phase(), phase(), CALM, metered=True) == ()


def test_each_gate_is_named() -> None:
    assert gates_failed(phase((100.0, 110.0)), phase(), CALM, metered=True) == ("prefill energy CV 6.7% > 3%",)
    assert gates_failed(phase(), phase(seconds=(2.0, 2.1)), CALM, metered=True) == ("decode throughput CV 3.4% > 2%",)
    assert gates_failed(phase(), phase(updates=19), CALM, metered=True) == (
        "decode window with 19 changes of the reading < 20",
    )
    hot = replace(CALM, throttled_s={"software thermal": 0.5, "power cap": 8.0})
    assert gates_failed(phase(), phase(), hot, metered=True) == ("software thermal throttling for 0.5 s",)
    unread = Phase.of([replace(window, energy_j=None) for window in phase().windows])
    assert gates_failed(phase(), unread, CALM, metered=True) == ("decode energy was not read in every window",)
    assert gates_failed(phase(), unread, CALM, metered=False) == ()


def test_a_window_over_the_limit_is_a_gate() -> None:
    assert too_hot([84.0, 85.0], 85.0) == ()
    assert too_hot([84.0, 85.5, 90.0], 85.0) == ("over 85 °C in 2 of 3 windows, 90 °C at most",)
    assert too_hot([], 85.0) == ()


class Metronome:
    """The least engine: a pass of decoding lasts 20 ms, of which the middle 10 ms count, for five tokens."""

    weights = Weights(source="served", revision="none", dtype="not checked", parameters=0)
    step = "a metronome"

    def __init__(self) -> None:
        self.counted: list[tuple[float, float]] = []

    def prompts(self, batch: int, tokens: int, seed: int) -> str:
        return f"{batch} prompts of {tokens} tokens"

    def admit(self, batch: int, slots: int) -> None:
        pass

    def prefill(self, prompts: str) -> None:
        spin(0.01)

    def capture(self) -> None:
        pass

    def decode(self, generated_tokens: int) -> Work:
        spin(0.005)
        begin = time.perf_counter()
        spin(0.01)
        span = (begin, time.perf_counter())
        spin(0.005)
        self.counted.append(span)
        return Work(tokens=5, steps=(0.002,) * 5, span=span)

    def step_bytes(self, length: float) -> float | None:
        return None

    def memory_used_gb(self) -> float | None:
        return None


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.fixture
def cold_zones(tmp_path: Path) -> Path:
    """A machine with one thermal zone, at 40 °C."""
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text("40000\n")
    return tmp_path


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short times about the windows."""
    for name in ("IDLE_S", "IDLE_SETTLE_S", "WARM_S", "EDGE_S"):
        monkeypatch.setattr(measuring, name, 0.25)


METRONOMIC = TrialConfig(
    model="metronome", precision="fp32", batch=2, prompt_tokens=16, generated_tokens=8, repeats=3, window_s=0.25
)


def metronomic(engine: Metronome, guard: Guard, meter: ReplayMeter | None) -> Measured:
    return measure(
        METRONOMIC, engine, meter=meter, guard=guard, software={}, copy_gb_per_s=20.0, quality=None, no_energy="none"
    )


def windows_of(trial: Measured, engine: Metronome) -> list[tuple[float, float]]:
    """When each decode window began and ended, found by the exact sum of the stretches that counted."""
    lengths = [end - begin for begin, end in engine.counted]
    found = []
    for window in trial.decode.windows:
        passes = window.tokens // 5
        (first,) = (
            first
            for first in range(len(lengths) - passes + 1)
            if abs(sum(lengths[first : first + passes]) - window.seconds) < 1e-12
        )
        found.append((engine.counted[first][0], engine.counted[first + passes - 1][1]))
    return found


def passes_between(engine: Metronome, begin: float, end: float) -> int:
    return sum(begin < first and last < end for first, last in engine.counted)


@pytest.mark.usefixtures("brisk")
def test_of_a_pass_that_counts_in_part_the_window_holds_that_part_alone(cold_zones: Path) -> None:
    engine = Metronome()
    trial = metronomic(engine, Guard(zones=cold_zones), ReplayMeter(RECORDING))
    windows = windows_of(trial, engine)
    for (_, end), (begin, _) in itertools.pairwise(windows):
        assert passes_between(engine, end, begin) == 0  # back to back
    assert engine.counted[-1][1] - windows[-1][1] >= 0.24  # the tail
    for window in trial.decode.windows:
        assert window.tokens % 5 == 0
        assert window.seconds >= window.tokens / 5 * 0.01
        assert window.energy_j is not None
        assert 60 < window.energy_j / window.seconds < 750  # the recording's watts, over the part that counts
    for window in trial.prefill.windows:  # passes that count in full, from the window's begin to its end
        assert window.tokens % 32 == 0
        assert window.seconds >= max(0.25, window.tokens / 32 * 0.01)
    assert trial.step_ms == pytest.approx(dict.fromkeys(("mean", "p50", "p90", "p99", "max"), 2.0))
    assert trial.step == "a metronome"
    assert trial.paused_s == 0


@pytest.mark.usefixtures("brisk")
def test_a_step_of_unknown_bytes_has_no_fraction_and_says_so(cold_zones: Path) -> None:
    trial = metronomic(Metronome(), Guard(zones=cold_zones), None)
    assert (trial.step_gb, trial.bandwidth_fraction) == (None, None)
    for name in ("step_gb", "bandwidth_fraction"):
        assert trial.unavailable[name] == "the bytes that a step must move are not known"


class Thermometer(ReplayMeter):
    """The recording, with temperatures of our choosing."""

    def __init__(self, celsius: Callable[[], float | None]) -> None:
        super().__init__(RECORDING)
        self._celsius = celsius

    def read(self, *, slow: bool = True) -> Reading:
        reading = super().read(slow=slow)
        return replace(reading, temperature_c=self._celsius()) if slow else reading


@pytest.mark.usefixtures("brisk")
def test_a_hot_device_rests_between_windows_and_warms_anew_uncounted(cold_zones: Path) -> None:
    """Hot from the thirtieth pass of decoding on, until it has rested for forty seconds of a clock of the test's."""
    engine = Metronome()
    pauses: list[float] = []
    rests: list[float] = []

    def celsius() -> float:
        return 88.0 if len(engine.counted) >= 30 and sum(pauses) < 40 else 55.0

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        rests.append(time.perf_counter())

    guard = Guard(zones=cold_zones, clock=lambda: sum(pauses), pause=pause)
    trial = metronomic(engine, guard, Thermometer(celsius))
    assert trial.paused_s == 40
    assert passes_between(engine, rests[0], rests[-1]) == 0
    windows = windows_of(trial, engine)
    gaps = [(end, begin) for (_, end), (begin, _) in itertools.pairwise(windows)]
    ((end, begin),) = [gap for gap in gaps if passes_between(engine, *gap)]
    assert end + 0.25 < rests[0]  # a tail before the rest
    assert rests[-1] + 0.25 < begin  # a lead-in after it
    assert all(window.energy_j is not None for window in trial.decode.windows)
    assert "over 85 °C in 1 of 6 windows, 88 °C at most" in trial.gates_failed
    assert trial.conditions.hottest_c in (55.0, 88.0)  # 88 if the recorder looked within the window


@pytest.mark.usefixtures("brisk")
def test_a_device_that_stays_hot_aborts_the_trial(cold_zones: Path) -> None:
    engine = Metronome()
    pauses: list[float] = []
    meter = Thermometer(lambda: 91.0 if engine.counted else 55.0)
    guard = Guard(zones=cold_zones, patience_s=30, clock=lambda: sum(pauses), pause=pauses.append)
    with pytest.raises(EcoRouteError, match=r"^aborted: the device is still at 91 °C after 30 s of rest"):
        metronomic(engine, guard, meter)
    assert "meter" not in {thread.name for thread in threading.enumerate()}


def test_without_a_meter_a_hot_zone_still_rests_the_trial(cold_zones: Path) -> None:
    engine = Metronome()
    pauses: list[float] = []
    zone = cold_zones / "thermal_zone0" / "temp"

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            zone.write_text("70000\n")

    class Heater(Metronome):
        def decode(self, generated_tokens: int) -> Work:
            if not pauses:
                zone.write_text("96500\n")
            return super().decode(generated_tokens)

    engine = Heater()
    trial = metronomic(engine, Guard(zones=cold_zones, clock=lambda: sum(pauses), pause=pause), None)
    assert trial.paused_s == 7
    assert trial.energy_source == "none"
    assert trial.gates_failed[-1:] != ("over 85 °C in 1 of 6 windows, 96.5 °C at most",)  # it rested before the first


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("metered", [True, False])
def test_an_interrupt_stops_at_once_and_leaves_no_thread(cold_zones: Path, metered: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    threads = set(threading.enumerate())
    engine = Metronome()
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        metronomic(engine, Guard(zones=cold_zones), ReplayMeter(RECORDING) if metered else None)
    assert time.perf_counter() - begin < 0.4 + 0.1
    timer.join()
    signal.signal(signal.SIGINT, before)
    assert set(threading.enumerate()) <= threads
