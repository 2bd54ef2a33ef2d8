"""Many trials, unattended: one model loaded at a time, one row written per trial, and a rerun goes on from there."""

from __future__ import annotations

import atexit
import datetime
import gc
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark import quality, tasks
from benchmark.interruption import Interruption
from benchmark.measure import measure
from benchmark.meter import Meter
from benchmark.plan import Schedule, loads_alike
from benchmark.thermal import Guard
from benchmark.trial import DeviceKind, Log, Measured, Precision, Quality, Rejected, Trial, TrialConfig
from ecoroute_mcp.sci import SECONDS_PER_HOUR, EcoRouteError

SECONDS = {"s": 1.0, "m": 60.0, "h": SECONDS_PER_HOUR}
INTERRUPTED = "interrupted"


def grid(
    *,
    models: Iterable[str],
    precisions: Iterable[Precision],
    batches: Sequence[int],
    prompts: Sequence[int],
    generated_tokens: int,
    repeats: int,
    window_s: float,
    occasion: int,
    device: DeviceKind,
    eager: bool = False,
    endpoint: str | None = None,
) -> list[TrialConfig]:
    """Every combination, the trials of one loaded model together."""
    return [
        TrialConfig(
            model=model,
            precision=precision,
            batch=batch,
            prompt_tokens=prompt,
            generated_tokens=generated_tokens,
            repeats=repeats,
            window_s=window_s,
            occasion=occasion,
            device=device,
            eager=eager,
            endpoint=endpoint,
        )
        for model, precision, prompt, batch in itertools.product(models, precisions, prompts, batches)
    ]


def seconds(text: str) -> float:
    """A duration such as 90s, 30m or 2h. Raises EcoRouteError for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in SECONDS or not number.replace(".", "", 1).isdigit():
        raise EcoRouteError(f"a duration is a number and s, m or h, such as 30m; got {text!r}")
    return float(number) * SECONDS[unit]


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """How energy is read, and what real weights are judged by.

    A kind of device without a meter has its reason in ``no_energy``."""

    meters: Mapping[DeviceKind, Meter]
    no_energy: Mapping[DeviceKind, str] = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)
    text: quality.Text = field(default_factory=quality.default_text)
    tasks: bool = True


@dataclass(frozen=True, kw_only=True)
class Session(Instruments):
    """What all trials of a run share: the instruments, and where rows go."""

    log: Log


def run(
    schedule: Schedule,
    session: Session,
    interruption: Interruption,
    *,
    started: Callable[[TrialConfig], None] = lambda config: None,
    finished: Callable[[Trial], None] = lambda trial: None,
) -> int:
    """Measure what a schedule gives out. Returns how many trials it still holds, for want of time.

    A trial that cannot be made is written as rejected and the next one begins. Raises KeyboardInterrupt after an
    interrupt: the running trial is then written as rejected. Raises EcoRouteError, before any model is loaded, where a
    device is shared."""
    for kind in {entry.config.device for entry in schedule.left if entry.config.endpoint is None}:
        if kind in session.meters:
            session.meters[kind].check_alone(loaded=False)
    bench = Bench(session)
    try:
        while (entry := schedule.take()) is not None:
            config = entry.config
            started(config)
            try:
                with interruption.admitted():
                    trial = bench.trial(config)
            except KeyboardInterrupt:
                trial = rejected(config, INTERRUPTED)
            if interruption.asked is not None and isinstance(trial, Rejected):
                trial = rejected(config, INTERRUPTED)  # an interrupted library may raise an error of its own
            session.log.append(trial)
            schedule.finished(measured=isinstance(trial, Measured))
            finished(trial)
            if interruption.asked is not None or (isinstance(trial, Rejected) and trial.reason == INTERRUPTED):
                raise KeyboardInterrupt
    finally:
        bench.close()
    return len(schedule.left)


class Bench:
    """One loaded model, and what is known of the machine. ``loaded`` hears the seconds that loading a model took.

    ``broken`` is set once an error came from torch: whatever is measured after it in this process is not to be trusted
    where the device's context or its memory has suffered."""

    def __init__(self, instruments: Instruments, loaded: Callable[[float], None] = lambda seconds: None) -> None:
        self._instruments = instruments
        self._heard = loaded
        self.broken = False
        self._engine: Any = None
        self._loaded: TrialConfig | None = None
        self._judged: Quality | None = None
        self._unjudged: dict[str, str] = {}
        self._software: dict[str, str] | None = None
        self._copy_gb_per_s: float | None = None
        self._frozen = False

    def trial(self, config: TrialConfig) -> Trial:
        instruments = self._instruments
        try:
            self._load(config)
            measured = measure(
                config,
                self._engine,
                meter=instruments.meters.get(config.device),
                guard=instruments.guard,
                software={"python": platform.python_version(), **(self._software or {})},
                copy_gb_per_s=self._copy_gb_per_s if config.device == "cuda" and config.endpoint is None else None,
                quality=self._judged,
                no_energy=instruments.no_energy.get(config.device),
            )
            return replace(measured, unavailable=measured.unavailable | self._unjudged)
        except EcoRouteError as error:
            return rejected(config, str(error))
        except RuntimeError as error:  # torch's own failures, out of memory among them
            self.broken = True
            return rejected(config, f"{type(error).__name__}: {error}")

    def _load(self, config: TrialConfig) -> None:
        if self._engine is not None and self._loaded is not None and loads_alike(self._loaded, config):
            return
        self.close()
        begin_s = time.monotonic()
        if config.endpoint is not None:
            from benchmark.endpoint import Endpoint

            self._engine, self._loaded = Endpoint(config), config
            self._software = self._engine.software
        else:
            self._load_here(config)
        self._heard(time.monotonic() - begin_s)

    def _load_here(self, config: TrialConfig) -> None:
        from benchmark import engine as engines

        self._software = engines.software()
        if not self._frozen:
            gc.freeze()  # what was imported: else every trial's collection goes through half a million objects
            atexit.register(gc.unfreeze)  # libraries count what is left of them at the end
            self._frozen = True
        if config.device == "cuda" and self._copy_gb_per_s is None:
            self._copy_gb_per_s = engines.copy_gb_per_s()
        self._engine = engines.Engine(config)
        if self._engine.weights.source != "random":
            self._judge()
        self._loaded = config  # not before it is judged: what cannot be judged is not measured by the next trial either

    def _judge(self) -> None:
        judged = quality.judge(self._engine, self._instruments.text)
        if self._instruments.tasks:
            try:
                score = tasks.judge(self._engine)
            except EcoRouteError as error:  # code cannot be run locked in here: the text alone is judged
                self._unjudged = {"tasks": str(error)}
            else:
                judged = replace(judged, tasks_passed=score.passed, tasks=score.total, tasks_sha256=score.sha256)
        self._judged = judged

    def close(self) -> None:
        engine, self._engine = self._engine, None  # an interrupt may break in: nothing is closed twice
        self._loaded, self._judged, self._unjudged = None, None, {}
        if engine is not None:
            engine.close()


def rejected(config: TrialConfig, reason: str) -> Rejected:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Rejected(config=config, at=now, reason=reason[:500])
