"""Many trials, unattended: one model loaded at a time, one row written per trial, and a rerun goes on from there."""

from __future__ import annotations

import datetime
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import get_args

from benchmark import quality
from benchmark.measure import measure
from benchmark.meter import Meter, NvmlMeter
from benchmark.thermal import Guard
from benchmark.trial import DeviceKind, Log, Precision, Quality, Rejected, Trial, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

DEVICES: tuple[DeviceKind, ...] = get_args(DeviceKind)
SECONDS = {"s": 1, "m": 60, "h": 3600}


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
        )
        for model, precision, prompt, batch in itertools.product(models, precisions, prompts, batches)
    ]


def seconds(text: str) -> float:
    """A duration such as 90s, 30m or 2h. Raises EcoRouteError for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit not in SECONDS or not number.replace(".", "", 1).isdigit():
        raise EcoRouteError(f"a duration is a number and s, m or h, such as 30m; got {text!r}")
    return float(number) * SECONDS[unit]


def run(
    plan: Sequence[TrialConfig],
    log: Log,
    *,
    uuid: str | None = None,
    guard: Guard | None = None,
    text: quality.Text | None = None,
    budget_s: float | None = None,
    started: Callable[[TrialConfig], None] = lambda config: None,
    finished: Callable[[Trial], None] = lambda trial: None,
) -> int:
    """Measure what the log has not; after ``budget_s`` no further trial begins. Returns how many were left over.

    A trial that cannot be made is written as rejected and the next one begins. An interrupt writes the running trial as
    rejected, then passes on. Raises EcoRouteError, before any model is loaded, where the device cannot be measured."""
    from benchmark import engine as engines

    guard, text = guard or Guard(), text or quality.default_text()
    begin_s = time.monotonic()
    remaining = log.remaining(plan)
    meter: Meter | None = None
    if any(config.device == "cuda" for config in remaining):
        meter = NvmlMeter(uuid)
        meter.check_alone()
    software = {"python": platform.python_version(), **engines.software()}
    bandwidth = engines.copy_gb_per_s() if meter is not None else None
    loaded: tuple[object, ...] | None = None
    engine: engines.Engine | None = None
    judged: Quality | None = None
    for position, config in enumerate(remaining):
        if budget_s is not None and time.monotonic() - begin_s > budget_s:
            return len(remaining) - position
        started(config)
        trial: Trial
        try:
            wanted = (config.model, config.precision, config.device, config.seed)
            if engine is None or wanted != loaded:
                if engine is not None:
                    engine.close()
                engine, loaded, judged = None, wanted, None
                engine = engines.Engine(config)
                if engine.weights.source != "random":
                    judged = quality.judge(engine, text)
            trial = measure(
                config,
                engine,
                meter=meter if config.device == "cuda" else None,
                guard=guard,
                software=software,
                copy_gb_per_s=bandwidth if config.device == "cuda" else None,
                quality=judged,
                no_energy="a CPU's energy is not read yet",
            )
        except (
            EcoRouteError,
            RuntimeError,
        ) as error:  # torch's own failures, out of memory among them, are RuntimeErrors
            trial = _rejected(
                config, f"{type(error).__name__}: {error}" if isinstance(error, RuntimeError) else str(error)
            )
        except KeyboardInterrupt:
            log.append(_rejected(config, "interrupted"))
            raise
        log.append(trial)
        finished(trial)
    return 0


def _rejected(config: TrialConfig, reason: str) -> Rejected:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Rejected(config=config, at=now, reason=reason[:500])
