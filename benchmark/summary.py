"""What the measurements say: one line a trial, the medians and bars that the measuring itself is judged by, and what
quantised weights take beside bf16."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmark import measure
from benchmark.laps import Lap, Tally
from benchmark.trial import Measured, Phase, Precision, Rejected, Rows, Trial, distinct


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
    tasks_passed: int | None
    tasks: int | None
    step: str
    memory_used_gb: float | None
    energy_source: str
    gates_failed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Decode energy of quantised weights over that of bf16, less one: of one model, batch and lengths on devices of one
    name. ``gross`` and ``net`` are shares, not percent; occasions are averaged. ``same_board`` is whether all rows are
    of one device, ``gates_failed`` what any of them failed."""

    device: str
    model: str
    weights: str
    batch: int
    prompt_tokens: int
    generated_tokens: int
    precision: Precision
    step: str
    bf16_step: str
    gross: float | None
    net: float | None
    throughput: float | None
    same_board: bool
    gates_failed: tuple[str, ...]


QUANTISED: tuple[Precision, ...] = ("int8", "int8-pure", "nf4")
PUBLISHED_INT8: dict[str, Any] = {
    "low": 0.174,
    "high": 1.47,
    "source": "https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1867",
    "note": "of 15 February 2026: default INT8 against FP16, power polled at 10 Hz; RTX 4090D at batch 1, four models "
    "of 4 to 7 billion parameters, +17.4 to +32.7 %; A800 at batch 1, 4 and 8, +122, +147 and +126 %",
}
RANDOM_WEIGHTS = (
    "Random weights have no outlier columns: the part of default INT8 that computes those apart in 16 bits has nothing "
    "to do in such rows, and a trained model's would come on top."
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure, what it is to reach, and whether it does: None where no row can tell. ``value`` is of the worst row
    that the figure is about, or a median or a count where the figure says so; ``gates_failed`` what they failed."""

    figure: str
    limit: float
    at_least: bool
    form: str
    value: float | None
    gates_failed: tuple[str, ...] = ()

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


BAR_DEVICE = "NVIDIA H100"
BAR_MODEL = "Qwen3-8B"
LEAST_FRACTION = 0.70
MOST_J_PER_TOKEN = {8: 0.43, 32: 0.140, 128: 0.060}
MOST_COUNTER_GAP = 0.02
MOST_OCCASION_GAP = 0.05
LEAST_CONFIGURATIONS = 60
MOST_CONTROLLER_SHARE = 0.01
LEAST_SEARCH_MINUTES = 20.0
SECONDS_PER_MINUTE = 60.0
"""Aims set before anything was measured: joules below what serving and plain transformers were published to take."""


@dataclass(frozen=True)
class Occasions:
    """How far apart lies what one configuration took on separate occasions: the largest over the smallest gross decode
    energy, less one. With ``one_board`` the occasions of one board, of the boards with several the worst; where it is
    False the means of several boards of one product; where it is None a row that does not say its board, which may be
    another or the same, and any other, of such pairs the worst.
    """

    configuration: str
    device: str
    one_board: bool | None
    difference: float

    @property
    def where(self) -> str:
        if self.one_board is None:
            return f"on {self.device}, boards not told apart"
        return f"on one {self.device}" if self.one_board else f"from one {self.device} to another"


@dataclass(frozen=True, kw_only=True)
class Medians:
    """How well the measuring repeats. Shares, not percent; None where no row can tell.

    ``counter_against_polled`` is the median size of polled over counted energy, less one, of all decode windows."""

    measured: int
    rejected: int
    throughput_cv: float | None
    energy_cv: float | None
    counter_against_polled: float | None
    occasions: tuple[Occasions, ...]


def trials(files: Iterable[Rows]) -> tuple[Trial, ...]:
    """The rows of some files, each once."""
    return distinct(trial for rows in files for trial in rows.trials)


def _measured(files: Iterable[Rows]) -> list[Measured]:
    return [trial for trial in trials(files) if isinstance(trial, Measured)]


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
        tasks_passed=None if trial.quality is None else trial.quality.tasks_passed,
        tasks=None if trial.quality is None else trial.quality.tasks,
        step=trial.step,
        memory_used_gb=trial.memory_used_gb,
        energy_source=trial.energy_source,
        gates_failed=trial.gates_failed,
    )


def medians(files: Iterable[Rows]) -> Medians:
    files = tuple(files)
    measured = _measured(files)
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
        rejected=sum(isinstance(trial, Rejected) for trial in trials(files)),
        throughput_cv=_median([phase.tokens_per_s.cv for phase in phases]),
        energy_cv=_median([phase.j_per_token.cv for phase in phases if phase.j_per_token is not None]),
        counter_against_polled=_median(gaps),
        occasions=_occasions(measured),
    )


def document(files: Sequence[Rows], searches: Mapping[str, Sequence[Lap]]) -> dict[str, Any]:
    """Every figure as plain data for JSON; ``searches`` as for :func:`bars_of_searches`."""
    return {
        "trials": [asdict(line(trial)) for trial in _measured(files)],
        "medians": asdict(medians(files)),
        "bars": [{**asdict(bar), "reached": bar.reached} for bar in (*bars(files), *bars_of_searches(searches))],
        "quantised_against_bf16": {
            "rows": [asdict(each) for each in contrasts(files)],
            "published_int8": PUBLISHED_INT8,
            "note": RANDOM_WEIGHTS,
        },
        "rejected": [
            {"config": asdict(trial.config), "reason": trial.reason}
            for trial in trials(files)
            if isinstance(trial, Rejected)
        ],
    }


def contrasts(files: Iterable[Rows]) -> tuple[Contrast, ...]:
    """Every quantised configuration against bf16, by what ran bf16's step: first what ran its own, if it is there."""
    subjects: dict[tuple[object, ...], dict[tuple[str, str], list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for trial in _measured(files):
        config = trial.config
        if config.device == "cuda" and config.endpoint is None and trial.decode.j_per_token is not None:
            lengths = (config.prompt_tokens, config.generated_tokens)
            subject = (trial.machine.name, config.model, trial.weights.source, config.batch, *lengths)
            subjects[subject][config.precision, trial.step].append(trial)
    found = []
    for groups in subjects.values():
        plain = {step: rows for (precision, step), rows in groups.items() if precision == "bf16"}
        pairs = [
            (own, plain[bf16_step])
            for (precision, step), own in groups.items()
            if precision in QUANTISED
            for bf16_step in sorted(plain, key=lambda other: (other != step, other))
        ]
        for own, bf16 in pairs:
            config = own[0].config
            found.append(
                Contrast(
                    device=own[0].machine.name,
                    model=config.model,
                    weights=own[0].weights.source,
                    batch=config.batch,
                    prompt_tokens=config.prompt_tokens,
                    generated_tokens=config.generated_tokens,
                    precision=config.precision,
                    step=own[0].step,
                    bf16_step=bf16[0].step,
                    gross=_ratio(own, bf16, _gross),
                    net=_ratio(own, bf16, _net),
                    throughput=_ratio(own, bf16, lambda trial: trial.decode.tokens_per_s.mean),
                    same_board=len({trial.machine.uuid for trial in (*own, *bf16)}) == 1,
                    gates_failed=_gates((*own, *bf16)),
                )
            )
    order = {precision: place for place, precision in enumerate(QUANTISED)}
    return tuple(
        sorted(found, key=lambda each: (each.device, each.model, each.prompt_tokens, each.batch, order[each.precision]))
    )


def _gross(trial: Measured) -> float | None:
    return _mean(trial.decode)


def _net(trial: Measured) -> float | None:
    return trial.decode.net_j_per_token(trial.idle_w)


def _ratio(
    own: Sequence[Measured], bf16: Sequence[Measured], figure: Callable[[Measured], float | None]
) -> float | None:
    """One mean over another, less one. None where a figure is unknown, or bf16's is not positive."""
    means = []
    for trials in (own, bf16):
        values = [value for trial in trials if (value := figure(trial)) is not None]
        if len(values) < len(trials):
            return None
        means.append(statistics.fmean(values))
    return means[0] / means[1] - 1 if means[1] > 0 else None


def bars(files: Iterable[Rows]) -> tuple[Bar, ...]:
    """What the measuring is to reach, and what it does. Of several rows of a configuration the worst counts."""
    files = tuple(files)
    found = medians(files)
    measured = _measured(files)

    def at(batch: int) -> list[Measured]:
        return [
            trial
            for trial in measured
            if trial.machine.name.startswith(BAR_DEVICE)
            and (trial.config.model, trial.config.precision, trial.config.batch) == (BAR_MODEL, "bf16", batch)
            and (trial.config.prompt_tokens, trial.config.generated_tokens) == (256, 256)
            and not trial.config.eager
            and trial.config.endpoint is None
        ]

    what = f"{BAR_MODEL} bf16, 256+256 tokens, {BAR_DEVICE}"
    fractions = [trial.bandwidth_fraction for trial in at(1) if trial.bandwidth_fraction is not None]
    rows = [
        Bar(
            figure=f"{what}, batch 1: fraction of the bandwidth limit",
            limit=LEAST_FRACTION,
            at_least=True,
            form=".1%",
            value=min(fractions, default=None),
            gates_failed=_gates(at(1)),
        )
    ]
    for batch, limit in MOST_J_PER_TOKEN.items():
        joules = [mean for trial in at(batch) if (mean := _gross(trial)) is not None]
        rows.append(
            Bar(
                figure=f"{what}, batch {batch}: J per token, gross",
                limit=limit,
                at_least=False,
                form=".3f",
                value=max(joules, default=None),
                gates_failed=_gates(at(batch)),
            )
        )
    for figure, limit, value in (
        ("median CV of throughput, all phases", measure.THROUGHPUT_CV, found.throughput_cv),
        ("median CV of energy, all phases", measure.ENERGY_CV, found.energy_cv),
        ("counted against polled energy, median over decode windows", MOST_COUNTER_GAP, found.counter_against_polled),
        *(
            (
                f"largest difference of occasions, {len(each)} configurations {where}".rstrip(),
                MOST_OCCASION_GAP,
                max(each, default=None),
            )
            for where, each in _by_place(found.occasions).items()
        ),
    ):
        rows.append(Bar(figure=figure, limit=limit, at_least=False, form=".2%", value=value))
    counted = len({(trial.machine.name, trial.config.subject) for trial in measured})
    rows.append(
        Bar(figure="configurations measured", limit=LEAST_CONFIGURATIONS, at_least=True, form=".0f", value=counted)
    )
    return tuple(rows)


def bars_of_searches(searches: Mapping[str, Sequence[Lap]]) -> tuple[Bar, ...]:
    """What the controller of a search is to reach, and what it does, by the name of the file of its laps."""
    rows = []
    for name, laps in searches.items():
        found = Tally(laps=list(laps)).document()
        spent_s = math.fsum(found[each] for each in ("trials_s", "between_s", "starting_s", "loading_s"))
        rows += [
            Bar(
                figure=f"search on {name}, {len(laps)} trials: controller's time over a trial's, median",
                limit=MOST_CONTROLLER_SHARE,
                at_least=False,
                form=".3%",
                value=found["overhead_median"],
            ),
            Bar(
                figure=f"search on {name}: minutes of trials, loading and the controller",
                limit=LEAST_SEARCH_MINUTES,
                at_least=True,
                form=".1f",
                value=spent_s / SECONDS_PER_MINUTE,
            ),
        ]
    return tuple(rows)


def _gates(trials: Sequence[Measured]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(gate for trial in trials for gate in trial.gates_failed))


def _occasions(measured: Sequence[Measured]) -> tuple[Occasions, ...]:
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for trial in measured:
        if trial.decode.j_per_token is not None:
            groups[trial.machine.name, trial.config.subject].append(trial)
    found = []
    for (device, _), group in groups.items():
        boards: dict[str, list[float]] = defaultdict(list)
        unsaid: list[float] = []
        for trial in group:
            if trial.decode.j_per_token is not None:
                of_board = unsaid if trial.machine.uuid is None else boards[trial.machine.uuid]
                of_board.append(trial.decode.j_per_token.mean)
        configuration = str(replace(group[0].config, occasion=1))
        again = [max(joules) / min(joules) - 1 for joules in boards.values() if len(joules) > 1]
        if again:
            found.append(Occasions(configuration, device, one_board=True, difference=max(again)))
        if len(boards) > 1:
            means = [statistics.fmean(joules) for joules in boards.values()]
            found.append(Occasions(configuration, device, one_board=False, difference=max(means) / min(means) - 1))
        if unsaid and len(group) > 1:
            every = [*unsaid, *(each for joules in boards.values() for each in joules)]
            worst = max(max(every) / min(unsaid), max(unsaid) / min(every)) - 1
            found.append(Occasions(configuration, device, one_board=None, difference=worst))
    return tuple(found)


def _by_place(occasions: Iterable[Occasions]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for each in occasions:
        found[each.where].append(each.difference)
    return found or {"": []}


def _mean(phase: Phase) -> float | None:
    return None if phase.j_per_token is None else phase.j_per_token.mean


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
