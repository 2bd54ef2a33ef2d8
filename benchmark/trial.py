"""One trial as data: what was to be measured, what came out, and the file that keeps it.

A trial is a :class:`TrialConfig` and its outcome, :class:`Measured` or :class:`Rejected`: a failed trial is a row,
never a zero. Gross energy and the idle power of the same session are both stored; net is derived
(:meth:`Phase.net_j_per_token`), so the two cannot be mixed up. A figure that a device does not give is None, and
``unavailable`` says why.

A file holds one JSON object a line, written whole and synced before the next trial begins. A line torn by a crash is
the last one; readers report it and the next writer cuts it off. A last line that lacks its newline alone is whole. One
writer holds a file at a time, and a configuration that a file has measured cannot be written to it again.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from benchmark import file_lock
from ecoroute_mcp.sci import EcoRouteError

Precision = Literal["bf16", "fp16", "fp32", "int8", "int8-pure", "nf4", "gptq", "awq", "as-served"]
"""``int8`` and ``nf4`` are bitsandbytes', ``int8-pure`` without the part for outliers (threshold 0); ``gptq`` and
``awq`` are checkpoints already quantised; ``as-served`` is what an endpoint holds, which cannot be checked."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
WeightsSource = Literal["random", "gguf", "checkpoint", "served"]
DeviceKind = Literal["cuda", "cpu"]

STUDENT_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % points of Student's t for 1 to 30 degrees of freedom; beyond, the last is used, which is a little too wide."""
ROUNDING = 1e-9
"""By which share of a mean its bounds may lie on the wrong side, where its values are all alike."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What one trial measures. ``occasion`` numbers separate measurements of the same thing.

    ``eager`` does without CUDA graphs; ``endpoint`` is the base URL of a server that runs the model, None for this
    process."""

    model: str
    precision: Precision
    batch: int
    prompt_tokens: int
    generated_tokens: int
    repeats: int = 10
    window_s: float = 2.0
    seed: int = 0
    occasion: int = 1
    device: DeviceKind = "cuda"
    eager: bool = False
    endpoint: str | None = None

    def __post_init__(self) -> None:
        least = {"batch": 1, "prompt_tokens": 2, "generated_tokens": 2, "repeats": 2, "occasion": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise EcoRouteError(f"{name} must be at least {value}; got {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise EcoRouteError(f"precision is one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if not 0 < self.window_s < math.inf:
            raise EcoRouteError(f"window_s must be positive; got {self.window_s}")
        if (self.precision == "as-served") != (self.endpoint is not None):
            raise EcoRouteError("an endpoint's precision is 'as-served', and no other's is: its weights are not seen")

    @property
    def key(self) -> str:
        """The same for two trials exactly if they measure the same thing on the same occasion."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def subject(self) -> str:
        """The key without the occasion: what two occasions have in common."""
        return json.dumps({**asdict(self), "occasion": 0}, sort_keys=True)

    def __str__(self) -> str:
        occasion = f", occasion {self.occasion}" if self.occasion > 1 else ""
        lengths = f"{self.prompt_tokens}+{self.generated_tokens} tokens"
        eager = ", eager" if self.eager else ""
        return f"{self.model} {self.precision}, batch {self.batch}, {lengths}{eager}{occasion}"


def _check(figures: object, **bounds: tuple[bool, str]) -> None:
    """Raises EcoRouteError, naming the first figure that is not within its bounds."""
    for name, (holds, wanted) in bounds.items():
        if not holds:
            raise EcoRouteError(f"{name} must be {wanted}; got {getattr(figures, name)}")


def _within(found: float | None, least: float = 0.0) -> tuple[bool, str]:
    """Whether a figure is finite and not below the least, or unknown."""
    return found is None or least <= found < math.inf, f"finite and not below {least:g}"


def _positive(found: float | None) -> tuple[bool, str]:
    return found is None or 0 < found < math.inf, "finite and positive"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over repeats: its sample standard deviation, coefficient of variation and Student's 95 % interval.

    Raises EcoRouteError for figures that no values have."""

    n: int
    mean: float
    sd: float
    cv: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check(
            self,
            n=_within(self.n, 2),
            mean=_positive(self.mean),
            sd=_within(self.sd),
            cv=_within(self.cv),
            low=(-math.inf < self.low <= self.mean * (1 + ROUNDING), f"finite and at most the mean {self.mean}"),
            high=(self.mean * (1 - ROUNDING) <= self.high < math.inf, f"finite and at least the mean {self.mean}"),
        )

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises EcoRouteError for fewer than two values, or a mean that is not positive."""
        if len(values) < 2:
            raise EcoRouteError(f"a spread needs two values or more; got {len(values)}")
        mean = statistics.fmean(values)
        if not 0 < mean < math.inf:
            raise EcoRouteError(f"a spread needs a positive, finite mean; got {mean}")
        sd = statistics.stdev(values)
        half = STUDENT_T_975[min(len(values) - 1, len(STUDENT_T_975)) - 1] * sd / math.sqrt(len(values))
        return cls(n=len(values), mean=mean, sd=sd, cv=sd / mean, low=mean - half, high=mean + half)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of uninterrupted work. ``tokens`` counts what the phase is about: tokens read, or tokens generated.

    ``energy_j`` is the energy counter's, or the polled power's where ``polled`` says so; ``polled_j`` is always the
    latter. ``updates`` is how often the reading behind ``energy_j`` changed within the window."""

    seconds: float
    tokens: int
    energy_j: float | None
    polled_j: float | None
    updates: int

    def __post_init__(self) -> None:
        _check(
            self,
            seconds=_positive(self.seconds),
            tokens=_within(self.tokens, 1),
            energy_j=_within(self.energy_j),
            polled_j=_within(self.polled_j),
            updates=_within(self.updates),
        )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The windows of prefill or of decode, and their spreads: joules per token are gross."""

    windows: tuple[Window, ...]
    tokens_per_s: Spread
    j_per_token: Spread | None

    def __post_init__(self) -> None:
        for spread in (self.tokens_per_s, self.j_per_token):
            if spread is not None and spread.n != len(self.windows):
                raise EcoRouteError(f"a phase of {len(self.windows)} windows has no spread of {spread.n} values")

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Phase:
        joules = [window.energy_j / window.tokens for window in windows if window.energy_j is not None]
        return cls(
            windows=tuple(windows),
            tokens_per_s=Spread.of([window.tokens / window.seconds for window in windows]),
            j_per_token=Spread.of(joules) if len(joules) == len(windows) else None,
        )

    def net_j_per_token(self, idle_w: float | None) -> float | None:
        """Gross less the idle power for as long as each window's tokens took; may be negative, never clamped."""
        if self.j_per_token is None or idle_w is None:
            return None
        idle_j = statistics.fmean(idle_w * window.seconds / window.tokens for window in self.windows)
        return self.j_per_token.mean - idle_j


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the weights came from and what was loaded, read off the loaded tensors."""

    source: WeightsSource
    revision: str
    dtype: str
    parameters: int | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The device and what drove it."""

    name: str
    uuid: str | None
    driver: str | None
    memory_gb: float | None
    software: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The device during the trial's windows; ``throttled_s`` maps each reason seen to the seconds it was in force."""

    start_c: float | None
    end_c: float | None
    hottest_c: float | None
    sm_mhz_mean: float | None
    memory_mhz_mean: float | None
    throttled_s: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Bits per byte of a text; comparable only between rows with the same ``text_sha256``.

    ``tasks_passed`` of ``tasks`` coding tasks; likewise comparable only within one ``tasks_sha256``."""

    bits_per_byte: float
    text: str
    text_sha256: str
    text_bytes: int
    tokens: int
    context: int
    tasks_passed: int | None = None
    tasks: int | None = None
    tasks_sha256: str | None = None

    def __post_init__(self) -> None:
        _check(self, bits_per_byte=_positive(self.bits_per_byte), tasks_passed=_within(self.tasks_passed))
        if self.tasks_passed is not None and (self.tasks is None or self.tasks_passed > self.tasks):
            raise EcoRouteError(f"tasks_passed must be at most the tasks; got {self.tasks_passed} of {self.tasks}")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A completed trial. ``energy_source`` says how joules were read; ``gates_failed`` why not to trust it.

    ``step_ms`` holds percentiles of single decode steps, each timed on its own. ``bandwidth_fraction`` is the bytes
    that a step must move, at the mean cached length, over the mean step's time and the run's copy bandwidth.
    ``step`` says what ran the decode step; ``paused_s`` how long the trial rested to cool between windows."""

    config: TrialConfig
    started_at: datetime.datetime
    machine: Machine
    weights: Weights
    energy_source: Literal["counter", "polled", "rapl", "none"]
    idle_w: float | None
    idle_s: float | None
    prefill: Phase
    decode: Phase
    step_ms: dict[str, float]
    step_gb: float | None
    copy_gb_per_s: float | None
    bandwidth_fraction: float | None
    memory_used_gb: float | None
    conditions: Conditions
    quality: Quality | None
    unavailable: dict[str, str]
    gates_failed: tuple[str, ...]
    step: str = "fused kernels, CUDA graphs"
    paused_s: float = 0.0
    outcome: Literal["measured"] = "measured"

    def __post_init__(self) -> None:
        _check(
            self,
            started_at=(self.started_at.tzinfo is not None, "a time with its zone, such as 2026-11-21T10:00:00Z"),
            idle_w=_within(self.idle_w),
            idle_s=_within(self.idle_s),
            step_ms=(all(_within(found)[0] for found in self.step_ms.values()), "finite and not below 0 throughout"),
            step_gb=_positive(self.step_gb),
            copy_gb_per_s=_positive(self.copy_gb_per_s),
            bandwidth_fraction=_positive(self.bandwidth_fraction),
            memory_used_gb=_within(self.memory_used_gb),
            paused_s=_within(self.paused_s),
        )


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A trial that could not be completed, and why."""

    config: TrialConfig
    at: datetime.datetime
    reason: str
    outcome: Literal["rejected"] = "rejected"


Trial = Measured | Rejected
_TRIAL: TypeAdapter[Measured | Rejected] = TypeAdapter(
    Annotated[Trial, Field(discriminator="outcome")], config=ConfigDict(allow_inf_nan=False)
)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a file holds. ``torn`` is an incomplete last line's text; ``whole_bytes`` is where the complete ones end.
    ``unended`` is whether the last of these lacks its newline."""

    trials: tuple[Trial, ...] = ()
    torn: str | None = None
    whole_bytes: int = field(default=0, repr=False)
    unended: bool = False

    @property
    def measured(self) -> tuple[Measured, ...]:
        return tuple(trial for trial in self.trials if isinstance(trial, Measured))


def dump(trial: Trial) -> bytes:
    """One line, newline included."""
    return _TRIAL.dump_json(trial) + b"\n"


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def parse(line: bytes) -> Trial:
    """What :func:`dump` wrote. Raises EcoRouteError, naming the field, for a line that is not a trial."""
    try:
        return _TRIAL.validate_json(line, extra="forbid")
    except ValidationError as error:
        raise EcoRouteError(f"not a trial ({_first(error)})") from error


def read(path: Path) -> Rows:
    """Every complete line of a file; none of one that is not there.

    Raises EcoRouteError for what cannot be read, and, naming file and line, for a line that is not a trial."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Rows()
    except OSError as error:
        raise EcoRouteError(f"cannot read trials from {path} ({error}): name a file of them") from error
    whole, ended, rest = content.rpartition(b"\n")
    unended = _complete(rest)
    if unended:
        whole, rest = whole + ended + rest, b""
    trials = []
    keys: set[str] = set()
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            trial = parse(line)
        except EcoRouteError as error:
            raise EcoRouteError(f"{path}, line {number}: {error}") from error
        if isinstance(trial, Measured):
            if trial.config.key in keys:
                raise EcoRouteError(
                    f"{path}, line {number}: measures {trial.config} a second time; remove one of the lines"
                )
            keys.add(trial.config.key)
        trials.append(trial)
    return Rows(
        trials=tuple(trials),
        torn=rest.decode(errors="replace") or None,
        whole_bytes=len(content) - len(rest),
        unended=unended,
    )


def _complete(rest: bytes) -> bool:
    """Whether what follows the last newline is a JSON object: one that was torn is none."""
    try:
        return isinstance(json.loads(rest), dict)
    except (ValueError, RecursionError):
        return False


def read_all(folder: Path) -> tuple[Rows, ...]:
    """The files of a folder, by name."""
    return tuple(read(path) for path in sorted(folder.glob("*.jsonl")))


def distinct(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Each row once: the same one may stand in several files."""
    return tuple({dump(trial): trial for trial in trials}.values())


class Log:
    """A file of trials, held open by one writer. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises EcoRouteError if another process writes to the file, if it holds anything but trials, or where it
        cannot be written."""
        file_lock.check()
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        except OSError as error:
            raise EcoRouteError(f"cannot write trials to {path} ({error}): name another file") from error
        try:
            file_lock.take(self._file)
            rows = read(path)
            if rows.torn is not None:
                self._file.truncate(rows.whole_bytes)
                os.fsync(self._file.fileno())
            if rows.unended:
                self._file.write(b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise EcoRouteError(f"another run is writing to {path}: wait for it, or name another file") from error
        except OSError as error:
            self._file.close()
            raise EcoRouteError(f"cannot write trials to {path} ({error}): name another file") from error
        except EcoRouteError:
            self._file.close()
            raise
        self.torn = rows.torn
        self._done = {trial.config.key for trial in rows.measured}

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def remaining(self, plan: Iterable[TrialConfig]) -> list[TrialConfig]:
        """The plan's configurations that the file has not measured, each once; a rejected one is tried again."""
        first = {config.key: config for config in plan if config.key not in self._done}
        return list(first.values())

    def append(self, trial: Trial) -> None:
        """Write one line and sync it.

        Raises EcoRouteError for a configuration that the file has measured already, or where the line cannot be
        written."""
        if trial.config.key in self._done:
            raise EcoRouteError(
                f"{self.path} has measured {trial.config} already: raise its occasion to measure it again"
            )
        try:
            self._file.write(dump(trial))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise EcoRouteError(
                f"cannot write the row of {trial.config} to {self.path} ({error}): make room and start again; an "
                "incomplete line is cut off then"
            ) from error
        if isinstance(trial, Measured):
            self._done.add(trial.config.key)


def config_of(key: bytes) -> TrialConfig:
    """The configuration of a :attr:`TrialConfig.key`. Raises EcoRouteError for any other text."""
    try:
        return TypeAdapter(TrialConfig).validate_json(key, extra="forbid")
    except ValidationError as error:
        raise EcoRouteError(f"not a configuration ({_first(error)})") from error


def configs_from(path: Path) -> list[TrialConfig]:
    """Configurations from a JSON file: a list of objects with the fields of TrialConfig. Unknown fields are refused.

    Raises EcoRouteError for a file that cannot be read or holds anything else."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[TrialConfig]).validate_python(document, extra="forbid")
    except ValidationError as error:
        raise EcoRouteError(f"{path}: {_first(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise EcoRouteError(
            f"cannot read configurations from {path} ({error}): name a JSON file, a list of objects, in UTF-8"
        ) from error
