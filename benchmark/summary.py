"""What the committed measurements say: one line a trial, and the medians that the measuring itself is judged by."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.trial import Measured, Phase, Rejected, Rows


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial's figures. Joules are per token: of the prompt in prefill, generated in decode."""

    device: str
    model: str
    weights: str
    precision: str
    batch: int
    prompt_tokens: int
    generated_tokens: int
    occasion: int
    decode_tokens_per_s: float
    decode_gross_j: float | None
    decode_net_j: float | None
    prefill_gross_j: float | None
    prefill_net_j: float | None
    decode_throughput_cv: float
    decode_energy_cv: float | None
    bandwidth_fraction: float | None
    bits_per_byte: float | None
    energy_source: str
    gates_failed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Medians:
    """How well the measuring repeats. Shares, not percent; None where no row can tell.

    ``counter_against_polled`` is the median size of polled over counted energy, less one, of all decode windows;
    ``occasions`` maps what was measured on separate occasions to the largest difference of gross decode energy."""

    measured: int
    rejected: int
    throughput_cv: float | None
    energy_cv: float | None
    counter_against_polled: float | None
    occasions: dict[str, float]


def line(trial: Measured) -> Line:
    decode, prefill = trial.decode, trial.prefill
    return Line(
        device=trial.machine.name,
        model=trial.config.model,
        weights=trial.weights.source,
        precision=trial.config.precision,
        batch=trial.config.batch,
        prompt_tokens=trial.config.prompt_tokens,
        generated_tokens=trial.config.generated_tokens,
        occasion=trial.config.occasion,
        decode_tokens_per_s=decode.tokens_per_s.mean,
        decode_gross_j=_mean(decode),
        decode_net_j=decode.net_j_per_token(trial.idle_w),
        prefill_gross_j=_mean(prefill),
        prefill_net_j=prefill.net_j_per_token(trial.idle_w),
        decode_throughput_cv=decode.tokens_per_s.cv,
        decode_energy_cv=None if decode.j_per_token is None else decode.j_per_token.cv,
        bandwidth_fraction=trial.bandwidth_fraction,
        bits_per_byte=None if trial.quality is None else trial.quality.bits_per_byte,
        energy_source=trial.energy_source,
        gates_failed=trial.gates_failed,
    )


def medians(files: Iterable[Rows]) -> Medians:
    trials = [trial for rows in files for trial in rows.trials]
    measured = [trial for trial in trials if isinstance(trial, Measured)]
    phases = [phase for trial in measured for phase in (trial.prefill, trial.decode)]
    gaps = [
        abs(window.polled_j / window.energy_j - 1)
        for trial in measured
        if trial.energy_source == "counter"
        for window in trial.decode.windows
        if window.polled_j is not None and window.energy_j
    ]
    return Medians(
        measured=len(measured),
        rejected=sum(isinstance(trial, Rejected) for trial in trials),
        throughput_cv=_median([phase.tokens_per_s.cv for phase in phases]),
        energy_cv=_median([phase.j_per_token.cv for phase in phases if phase.j_per_token is not None]),
        counter_against_polled=_median(gaps),
        occasions=_occasions(measured),
    )


def document(files: Sequence[Rows]) -> dict[str, Any]:
    """Every figure as plain data for JSON."""
    trials = [trial for rows in files for trial in rows.trials]
    return {
        "trials": [asdict(line(trial)) for trial in trials if isinstance(trial, Measured)],
        "medians": asdict(medians(files)),
        "rejected": [
            {"config": asdict(trial.config), "reason": trial.reason} for trial in trials if isinstance(trial, Rejected)
        ],
    }


def _occasions(measured: Sequence[Measured]) -> dict[str, float]:
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for trial in measured:
        groups[trial.machine.name, trial.config.subject].append(trial)
    found = {}
    for (device, _), group in groups.items():
        joules = [mean for trial in group if (mean := _mean(trial.decode)) is not None]
        if len(joules) > 1:
            found[f"{group[0].config} on {device}"] = max(joules) / min(joules) - 1
    return found


def _mean(phase: Phase) -> float | None:
    return None if phase.j_per_token is None else phase.j_per_token.mean


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
