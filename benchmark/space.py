"""The search space: one readable file of models and settings, and which of their combinations can be tried.

Every combination of the file's lists is a candidate, less what the file excludes (with its reason), what does not exist
(default INT8 asks the host at every product, so it cannot be captured in CUDA graphs), and what the estimate of memory
says does not fit the device: that is never tried, and the reason is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from benchmark import plan
from benchmark.shapes import SHAPES
from benchmark.trial import DeviceKind, Precision, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

Step = Literal["graphs", "eager"]
"""How a decode step is launched: captured once as a CUDA graph with fused attention over the cache's true length, or
op by op over the same cache."""
STEPS: tuple[Step, ...] = get_args(Step)
EAGER_ALONE: tuple[Precision, ...] = ("int8",)
"""Precisions whose step asks the host something at every product: no graph can hold it."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Combinations not to try: those whose settings are among the values given for each, and why."""

    match: dict[str, list[Any]]
    why: str


@dataclass(frozen=True, kw_only=True)
class Space:
    """What may be combined. Lengths are in tokens; ``repeats`` windows of ``window_s`` seconds make a trial."""

    name: str
    models: list[str]
    precisions: list[Precision] = field(default_factory=lambda: ["bf16"])
    batches: list[int] = field(default_factory=lambda: [1])
    prompts: list[int] = field(default_factory=lambda: [256])
    generated: list[int] = field(default_factory=lambda: [256])
    steps: list[Step] = field(default_factory=lambda: ["graphs"])
    exclude: list[Exclusion] = field(default_factory=list)
    repeats: int = 10
    window_s: float = 2.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", self.name):
            raise EcoRouteError(f"a space's name is letters, digits, blanks, '.', '_' and '-'; got {self.name!r}")
        for axis in AXES:
            values = getattr(self, axis)
            if not values:
                raise EcoRouteError(f"{axis} is empty: list at least one value, or leave the line out")
            if len(set(values)) != len(values):
                raise EcoRouteError(f"{axis} lists a value twice: {values}")
        for exclusion in self.exclude:
            strange = sorted(set(exclusion.match) - set(AXES.values()))
            if strange or not exclusion.match:
                raise EcoRouteError(
                    f"an exclusion matches by {', '.join(AXES.values())}; got {', '.join(strange) or 'nothing'}"
                )
            for axis, name in AXES.items():
                wanted = exclusion.match.get(name)
                if wanted is not None and not any(value in wanted for value in getattr(self, axis)):
                    got = ", ".join(map(str, wanted)) or "nothing"
                    raise EcoRouteError(
                        f"an exclusion by {name} names none of {axis}: {got}. Put the name right, or take it out"
                    )

    @classmethod
    def read(cls, path: Path) -> Space:
        """From a YAML file. Raises EcoRouteError, naming file and key, for anything that is not as above."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            return TypeAdapter(cls).validate_python(document, extra="forbid")
        except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise EcoRouteError(f"cannot read a search space from {path}: {error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EcoRouteError(f"{path}: {where or 'the file'}: {first['msg']}") from error
        except EcoRouteError as error:
            raise EcoRouteError(f"{path}: {error}") from error

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that differ for spaces that differ, their names aside."""
        content = json.dumps({**asdict(self), "name": ""}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def candidates(
        self,
        device: plan.Device,
        speed: plan.Speed,
        *,
        quantised: bool = True,
        judged: tuple[int, int] = plan.UNJUDGED,
    ) -> Candidates:
        """Every combination that can be tried on a device, trials of one loaded model together, and what cannot.

        ``quantised``: whether what INT8 and NF4 need is installed; ``judged``: tokens that judging real weights reads
        and writes. Raises EcoRouteError where nothing is left, or a model's file cannot be read."""
        entries: list[plan.Entry] = []
        left_out: dict[tuple[str, str], list[str]] = {}
        for model in self.models:
            shape = plan.shape_of(model)
            for precision, step, prompt, generated, batch in itertools.product(
                self.precisions, self.steps, self.prompts, self.generated, self.batches
            ):
                config = TrialConfig(
                    model=model, precision=precision, batch=batch, prompt_tokens=prompt, generated_tokens=generated,
                    repeats=self.repeats, window_s=self.window_s, device=device.kind, eager=step == "eager",
                )  # fmt: skip
                found = plan.entry(config, shape, speed, plan.UNJUDGED if model in SHAPES else judged)
                reason = self._why_not(config, step, found, device, quantised)
                if reason is None:
                    entries.append(found)
                else:
                    left_out.setdefault((model, reason), []).append(_settings(config))
        if not entries:
            reasons = "; ".join(sorted({reason for _, reason in left_out}))
            raise EcoRouteError(f"nothing of the space {self.name!r} can be tried on {device.name}: {reasons}")
        return Candidates(
            entries=tuple(entries),
            left_out=tuple(
                plan.LeftOut(model=model, trials=", ".join(trials) if len(trials) < 4 else f"{len(trials)} trials",
                             reason=reason)
                for (model, reason), trials in left_out.items()
            ),
        )  # fmt: skip

    def _why_not(
        self, config: TrialConfig, step: Step, found: plan.Entry, device: plan.Device, quantised: bool
    ) -> str | None:
        for exclusion in self.exclude:
            if all(setting(config, name) in values for name, values in exclusion.match.items()):
                return f"excluded: {exclusion.why}"
        kind: DeviceKind = device.kind
        if config.precision in ("int8", "int8-pure", "nf4") and not quantised:
            return "needs bitsandbytes: pip install bitsandbytes"
        if kind == "cuda" and config.precision in EAGER_ALONE and step == "graphs" and "eager" in self.steps:
            return f"{config.precision} runs eagerly in either case: the step 'eager' is tried"
        if kind == "cpu" and step == "graphs" and "eager" in self.steps:
            return "a CPU has no CUDA graphs: the step 'eager' is tried"
        if found.memory_gb is not None and found.memory_gb > device.usable_gb:
            return f"needs more than the {device.usable_gb:.1f} GB that can be used"
        return None


AXES = {
    "models": "model", "precisions": "precision", "batches": "batch", "prompts": "prompt", "generated": "generated",
    "steps": "step",
}  # fmt: skip
"""The space's lists, and a setting's name in each."""


def setting(config: TrialConfig, name: str) -> Any:
    """A configuration's value on an axis, by the names of :data:`AXES`."""
    if name == "step":
        return "eager" if config.eager else "graphs"
    return getattr(config, {"prompt": "prompt_tokens", "generated": "generated_tokens"}.get(name, name))


def _settings(config: TrialConfig) -> str:
    return f"{config.precision} batch {config.batch} {config.prompt_tokens}+{config.generated_tokens}"


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What can be tried, with the memory and time of each, and what cannot, with the reason."""

    entries: tuple[plan.Entry, ...]
    left_out: tuple[plan.LeftOut, ...]

    @property
    def configs(self) -> tuple[TrialConfig, ...]:
        return tuple(entry.config for entry in self.entries)


BITS: dict[str, float] = {precision: 8 * size for precision, size in plan.BYTES_PER_PARAMETER.items()}


def places(configs: Sequence[TrialConfig]) -> list[tuple[float, ...]]:
    """Where each configuration stands among them on every axis, from 0 to 1: models by their parameters, precisions by
    their bits, the rest by value; an axis with one value is left out."""
    columns: list[list[float]] = []
    sizes = {config.model: plan.shape_of(config.model) for config in configs}
    sized = {model: float(shape.parameters) if shape else 0.0 for model, shape in sizes.items()}
    keys: list[list[tuple[Any, ...]]] = [
        [(sized[config.model], config.model) for config in configs],
        [(BITS.get(config.precision, 0.0), config.precision) for config in configs],
        [(config.batch,) for config in configs],
        [(config.prompt_tokens,) for config in configs],
        [(config.generated_tokens,) for config in configs],
        [(config.eager,) for config in configs],
    ]
    for column in keys:
        order = sorted(set(column))
        if len(order) > 1:
            columns.append([order.index(key) / (len(order) - 1) for key in column])
    return list(zip(*columns, strict=True)) if columns else [() for _ in configs]
