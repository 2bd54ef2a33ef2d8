"""A language model in this process, decoding near the memory-bandwidth limit. The only owner of torch and transformers.

transformers builds or loads the model and gives the reference; this module runs the step. A decode step must read every
weight and every cached key and value once, so its floor is those bytes over the memory bandwidth. What keeps a plain
implementation from the floor is launches: some sixty a layer. Here a layer is ten (:mod:`benchmark.kernels`): the
query, key and value matrices are one product, gate and up another; the key-value cache is static; attention reads the
true length from the device; and the whole step, the choice of the next token included, is one CUDA graph that feeds
itself. On a CPU the same step runs through plain torch. That holds for the structures this module knows (Llama, Qwen3
and Qwen3-MoE); every other causal language model runs through transformers' own forward and cache, eagerly, and
:attr:`Engine.step` says which it is.

Batch, prompt length and generated length mean what they say: every sequence has exactly that many tokens, none is
padded or stopped early. Greedy tokens equal those of ``generate``, which a test holds on a real model.
"""

from __future__ import annotations

import copy
import gc
import importlib
import itertools
import math
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from benchmark import quantised
from benchmark.plan import PREFILL_TOKENS, UNREADABLE
from benchmark.shapes import SHAPES as SHAPES
from benchmark.trial import Precision, TrialConfig, Weights, WeightsSource
from ecoroute_mcp.sci import EcoRouteError

DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    **dict.fromkeys(quantised.LABELS, torch.bfloat16),
    **dict.fromkeys(quantised.CHECKPOINTS, torch.float16),
}
"""What weights are loaded as. Of the quantised precisions it is what embedding, head, norms and activations stay in."""

PAIRS_PER_EXPERT = 2
"""Up to so many choices of an expert per expert a mixture multiplies choice by choice; beyond, expert by expert."""


UNLOADABLE = (*UNREADABLE, MemoryError, ImportError, pickle.UnpicklingError, SafetensorError, StrictDataclassError)
"""What transformers and the libraries below it raise where a model's files are not sound, or need what is not there;
and torch's RuntimeError, which :class:`benchmark.sweep.Bench` has to tell from this."""


@dataclass(frozen=True)
class Layer:
    """One decoder layer's weights, fused; ``mlp`` is a module where the layer is a mixture of experts.

    A matrix is a tensor, or the module of :mod:`benchmark.quantised` that holds it."""

    before: torch.Tensor
    qkv: Any
    norms: tuple[torch.Tensor, torch.Tensor] | None
    o: Any
    after: torch.Tensor
    gate_up: Any
    down: Any
    mlp: torch.nn.Module | None

    @property
    def matrices(self) -> list[Any]:
        return [matrix for matrix in (self.qkv, self.o, self.gate_up, self.down) if matrix is not None]


class TorchOps:
    """The step's small work in plain torch: any device, and the reference for the kernels."""

    @staticmethod
    def add_norm(
        stream: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        if delta is not None:
            stream += delta
        return _norm(stream, weight, epsilon)

    @staticmethod
    def gate(gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate) * up

    @staticmethod
    def place(
        qkv: torch.Tensor,
        norms: tuple[torch.Tensor, torch.Tensor] | None,
        rotation: tuple[torch.Tensor, torch.Tensor],
        start: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        heads: int,
        epsilon: float,
    ) -> torch.Tensor:
        batch, groups, _, width = keys.shape
        first = int(start)
        tokens = qkv.shape[0] // batch
        query, key, value = qkv.view(batch, tokens, -1, width).split((heads, groups, groups), dim=2)
        if norms is not None:
            query, key = _norm(query, norms[0], epsilon), _norm(key, norms[1], epsilon)
        cosine, sine = (table[first : first + tokens, None, :] for table in rotation)
        keys[:, :, first : first + tokens] = _rotated(key, cosine, sine).transpose(1, 2)
        values[:, :, first : first + tokens] = value.transpose(1, 2)
        return _rotated(query, cosine, sine).reshape(batch * tokens, heads, width)

    @staticmethod
    def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        length = int(position) + 1
        attended = functional.scaled_dot_product_attention(
            queries[:, :, None, :], keys[:, :, :length], values[:, :, :length], enable_gqa=True
        )
        return attended[:, :, 0]

    @staticmethod
    def row_times(row: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return functional.linear(row, matrix)


def _norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def _rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cosine - high * sine, high * cosine + low * sine), dim=-1)


def software() -> dict[str, str]:
    """Versions of what runs the model."""
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": str(torch.version.cuda or "none"),
    }
    bitsandbytes = quantised.version()
    return versions if bitsandbytes is None else {**versions, "bitsandbytes": bitsandbytes}


def copy_gb_per_s(seconds: float = 0.5) -> float:
    """Device-to-device copy bandwidth of the CUDA device in GB/s, bytes read plus bytes written; the median copy."""
    size = 2**31
    source, target = (torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(2))
    source.random_(0, 256)
    rates: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(rates) < 20:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        rates.append(2 * size / begin.elapsed_time(end) / 1e6)
    del source, target
    torch.cuda.empty_cache()
    return sorted(rates)[len(rates) // 2]


@contextmanager
def _reading(model: str) -> Iterator[None]:
    """Raises EcoRouteError, naming the model and the repair, for whatever reading its files raises."""
    try:
        yield
    except UNLOADABLE as error:
        said = f"{type(error).__name__}: {error}"
        if Path(model).suffix == ".gguf":
            raise EcoRouteError(
                f"cannot load {model} ({said}): it is damaged, cut off, or of a structure that transformers does not "
                "read; fetch it again, or name another"
            ) from error
        if os.path.isdir(model):
            raise EcoRouteError(
                f"cannot load {model} ({said}): a file of that folder is missing, damaged or cut off, or it is no "
                "causal language model's; fetch it again, or name another"
            ) from error
        raise EcoRouteError(
            f"cannot load {model!r}: it is no shape we know ({', '.join(SHAPES)}), no GGUF file, "
            f"and as a folder or hub id it failed: {error}"
        ) from error


def _load(config: TrialConfig) -> tuple[Any, WeightsSource, str]:
    """The transformers model on its device, how its weights came about, and their revision."""
    dtype = DTYPES[config.precision]
    if config.precision in quantised.CHECKPOINTS:
        return _load_quantised(config)
    if config.model in SHAPES:
        class_name, fields = SHAPES[config.model]
        settings = getattr(transformers, class_name)(**fields)
        torch.manual_seed(config.seed)
        with torch.device(config.device):
            model = transformers.AutoModelForCausalLM.from_config(settings, dtype=dtype)
        return model.eval(), "random", "random weights"
    path = Path(config.model)
    if path.suffix == ".gguf":
        if not os.path.isfile(path):
            raise EcoRouteError(f"no such GGUF file: {config.model}")
        with _reading(config.model):
            model = _whole(config.model, str(path.parent), gguf_file=path.name, dtype=dtype)
            types = _gguf_types(path)
        return model.to(config.device).eval(), "gguf", types
    with _reading(config.model):
        model = _whole(config.model, config.model, dtype=dtype)
    revision = getattr(model.config, "_commit_hash", None) or "local folder"
    return model.to(config.device).eval(), "checkpoint", revision


def _whole(model: str, place: str, **options: Any) -> Any:
    """What transformers loads from a place. Raises EcoRouteError where weights are missing, which it would draw."""
    loaded, found = transformers.AutoModelForCausalLM.from_pretrained(place, output_loading_info=True, **options)
    missing = sorted(found["missing_keys"])
    if missing:
        raise EcoRouteError(
            f"{model} lacks {len(missing)} of its model's tensors, {missing[0]} among them, which would be random: "
            "fetch it again, or name another"
        )
    return loaded


def _load_quantised(config: TrialConfig) -> tuple[Any, WeightsSource, str]:
    """A GPTQ or AWQ checkpoint, by transformers and the library that it leaves this to."""
    needed = f"{config.precision} needs a checkpoint that was quantised so: a folder or hub id"
    if config.model in SHAPES or Path(config.model).suffix == ".gguf":
        raise EcoRouteError(f"{needed}; {config.model} is none")
    with _reading(config.model):
        settings = transformers.AutoConfig.from_pretrained(config.model)
        method = quantised.method(settings)
        if method != config.precision:
            raise EcoRouteError(f"{needed}; {config.model} says {method or 'nothing'} of quantisation")
        try:
            model = _whole(config.model, config.model, dtype=DTYPES[config.precision], device_map={"": config.device})
        except ImportError as error:
            raise EcoRouteError(
                f"a {config.precision} checkpoint needs gptqmodel: pip install gptqmodel optimum ({error})"
            ) from error
    return model.eval(), "checkpoint", getattr(model.config, "_commit_hash", None) or "local folder"


def _gguf_types(path: Path) -> str:
    """The tensor types that a GGUF file holds, the commonest first: what was dequantised to the trial's precision."""
    tensors = importlib.import_module("gguf").GGUFReader(str(path)).tensors
    elements: dict[str, int] = {}
    for tensor in tensors:
        elements[tensor.tensor_type.name] = elements.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    return "dequantised from " + ", ".join(sorted(elements, key=lambda name: -elements[name]))


class Engine:
    """A loaded model. :meth:`admit` makes room for a batch, :meth:`prefill` reads prompts, :meth:`decode` generates.

    Raises EcoRouteError where the device, the model's structure or its loaded weights are not what the trial says.
    """

    def __init__(self, config: TrialConfig) -> None:
        if config.device == "cuda" and not torch.cuda.is_available():
            raise EcoRouteError("torch sees no CUDA device: use --device cpu, or a torch built for CUDA")
        if config.device == "cuda" and torch.cuda.device_count() > 1:
            raise EcoRouteError("several CUDA devices are visible: choose one with CUDA_VISIBLE_DEVICES")
        self.device = torch.device(config.device)
        self.on_gpu = config.device == "cuda"
        self.precision = config.precision
        if config.precision not in DTYPES:
            raise EcoRouteError(f"the engine in process holds {', '.join(DTYPES)}; not {config.precision}")
        self.captures = self.on_gpu and not config.eager and config.precision not in quantised.ASKS_THE_HOST
        self.model, source, revision = _load(config)
        self.model.requires_grad_(False)
        self.source_path = config.model
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        parameters += sum(each.in_features * each.out_features for each in quantised.packed(self.model))
        self.ends = _end_tokens(self.model.generation_config)
        self.ops: Any = importlib.import_module("benchmark.kernels") if self.on_gpu else TorchOps
        self._read_structure()
        self.weights = Weights(source=source, revision=revision, dtype=self._check_label(), parameters=parameters)
        self.batch = 0
        self.stepping: Any = None
        self.reading: Any = None
        self._tokenizer: Any = None

    def _read_structure(self) -> None:
        head = self.model.get_output_embeddings()
        if head is None:
            raise EcoRouteError(f"{type(self.model).__name__} has no output head: name a causal language model")
        self.head = head.weight.detach()
        self.vocabulary = self.head.shape[0]
        if self._experts() and self.on_gpu and self.head.dtype != torch.bfloat16:
            raise EcoRouteError(
                "a mixture of experts on a GPU needs bf16: the experts' product takes nothing else there"
            )
        if self._experts() and self.precision in quantised.LABELS:
            raise EcoRouteError(
                f"{self.precision} is not possible for a mixture of experts: bitsandbytes quantises single matrices"
            )
        settings = self.model.config
        self.fused = (
            self.precision not in quantised.CHECKPOINTS
            and type(self.model).__name__ in ("LlamaForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
            and not (settings.attention_bias or getattr(settings, "mlp_bias", False))
            and settings.hidden_act == "silu"
            and not getattr(settings, "use_sliding_window", False)
        )
        if not self.fused:
            self.captures = False
            self._replace_matrices()
            self._free()
            return
        body = self.model.model
        self.heads: int = settings.num_attention_heads
        self.groups: int = settings.num_key_value_heads
        self.width: int = body.layers[0].self_attn.head_dim
        self.epsilon: float = settings.rms_norm_eps
        self.layers = [self._fused(layer) for layer in body.layers]
        self._free()
        self.embedding = body.embed_tokens.weight.detach()
        self.last_norm = body.norm.weight.detach()

    def _experts(self) -> list[torch.Tensor]:
        """The weights of which a token reads only its own experts' share."""
        return [weights for name, weights in self.model.named_parameters() if ".experts." in name]

    def _matrices(self) -> list[Any]:
        """What the precision speaks of: the layers' matrices, without embedding, head, norms and stacked experts."""
        if self.fused:
            return [matrix for layer in self.layers for matrix in layer.matrices]
        head = self.model.get_output_embeddings()
        linear = [each for each in self.model.modules() if isinstance(each, torch.nn.Linear) and each is not head]
        held = quantised.packed(self.model)
        return [*held, *(each for each in linear if not any(each is other for other in held))]

    def _replace_matrices(self) -> None:
        """Quantise every matrix of a model that runs through transformers' forward, where the precision asks for it."""
        if self.precision not in quantised.LABELS:
            return
        wanted = {id(matrix) for matrix in self._matrices()}
        if not wanted:
            raise EcoRouteError(f"{type(self.model).__name__} has no matrix that bitsandbytes takes: use bf16")
        for owner in list(self.model.modules()):
            for name, child in list(owner.named_children()):
                if id(child) in wanted:
                    bias = None if child.bias is None else child.bias.detach()
                    setattr(owner, name, quantised.quantise(child.weight.detach(), self.precision, bias))

    def _check_label(self) -> str:
        """What is loaded, in words. Raises EcoRouteError where it is not what the precision says."""
        kept = str(DTYPES[self.precision]).removeprefix("torch.")
        wanted = quantised.LABELS.get(self.precision, kept)
        if self.precision in quantised.CHECKPOINTS:
            wanted = f"{self.precision} ({quantised.bits(self.model.config)} bits)"
        packed = (torch.int8, torch.uint8) if wanted != kept else ()
        found = {quantised.label(matrix, self.precision) for matrix in self._matrices()}
        others: set[str] = set()
        wide: set[str] = set()
        for name, weights in self.model.named_parameters():
            if weights.dtype in packed:
                continue
            if weights.dtype == torch.float32 and weights.ndim < 2 and self._keeps_wide(name):
                wide.add("float32 norms")
            else:
                others.add(quantised.label(weights))
        wrong = sorted((found - {wanted}) | (others - {kept}))
        if wrong:
            raise EcoRouteError(f"asked for {self.precision}, but the loaded weights are {', '.join(wrong)}")
        return ", ".join(dict.fromkeys((wanted, kept, *(wide if kept != "float32" else ()))))

    def _keeps_wide(self, name: str) -> bool:
        """Whether transformers keeps this parameter in float32 whatever else is asked for."""
        kept = getattr(self.model, "_keep_in_fp32_modules", None) or ()
        strict = getattr(self.model, "_keep_in_fp32_modules_strict", None) or ()
        return bool(set(name.split(".")) & {*kept, *strict})

    def _fused(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        dense = hasattr(mlp, "gate_proj")
        norms = (attention.q_norm.weight.detach(), attention.k_norm.weight.detach()) if hasattr(
            attention, "q_norm"
        ) else None  # fmt: skip
        return Layer(
            before=layer.input_layernorm.weight.detach(),
            qkv=self._joined(attention, "q_proj", "k_proj", "v_proj"),
            norms=norms,
            o=self._joined(attention, "o_proj"),
            after=layer.post_attention_layernorm.weight.detach(),
            gate_up=self._joined(mlp, "gate_proj", "up_proj") if dense else None,
            down=self._joined(mlp, "down_proj") if dense else None,
            mlp=None if dense else mlp,
        )

    def _joined(self, owner: Any, *names: str) -> Any:
        """The named projections' weights as one matrix, quantised where the precision asks for it.

        Each projection keeps its rows of it, so nothing is held twice and transformers' own forward uses the same."""
        projections = [getattr(owner, name) for name in names]
        parts = [projection.weight.detach() for projection in projections]
        heights = [part.shape[0] for part in parts]
        matrix: Any = torch.cat(parts) if len(parts) > 1 else parts[0]
        del parts
        if self.precision in quantised.LABELS:
            matrix = quantised.quantise(matrix, self.precision)
        first = 0
        for name, projection, height in zip(names, projections, heights, strict=True):
            if isinstance(matrix, torch.Tensor):
                projection.weight = torch.nn.Parameter(matrix[first : first + height], requires_grad=False)
            else:
                setattr(owner, name, quantised.rows(matrix, first, first + height))
            first += height
        return matrix

    @property
    def step(self) -> str:
        """What runs the decode step, in words."""
        if not self.fused:
            return "transformers' forward, eager"
        if not self.on_gpu:
            return "fused torch operations"
        return "fused kernels, CUDA graphs" if self.captures else "fused kernels, eager"

    def step_bytes(self, length: float) -> float | None:
        """Bytes that one decode step must move at a cached length: weights once, keys and values once.

        The embedding table counts only where it is also the output head. Of a mixture of experts, the expected share of
        experts that the batch touches when each token draws its own at random: 1 - (1 - k/n) ** batch. A state that
        does not grow is read and written. None where the cache does not say what it holds; transformers' own does so
        only after a first prefill."""
        cached = self._cached_bytes(length)
        if cached is None:
            return None
        head = self.model.get_output_embeddings()
        apart = {id(weights) for weights in self._experts()}
        embedding = self.model.get_input_embeddings().weight
        if embedding is not head.weight and embedding.data_ptr() != head.weight.data_ptr():
            apart.add(id(embedding))
        moved = float(sum(weights.nbytes for weights in self.model.parameters() if id(weights) not in apart))
        moved += sum(quantised.extra_bytes(matrix) for matrix in self._matrices())
        experts = self._experts()
        if experts:
            settings = self.model.config.get_text_config()
            touched = 1 - (1 - settings.num_experts_per_tok / settings.num_experts) ** self.batch
            moved += touched * sum(weights.nbytes for weights in experts)
        return moved + cached

    def _cached_bytes(self, length: float) -> float | None:
        if self.fused:
            numbers = 2 * len(self.layers) * self.batch * self.groups * self.width * length
            return float(numbers * self.head.element_size())
        layers = getattr(self.read_past, "layers", None)
        if layers is None:
            return None
        total = 0.0
        for layer in layers:
            keys = getattr(layer, "keys", None)
            if keys is not None and keys.numel():
                window = getattr(layer, "sliding_window", None)
                each = (keys.nbytes + layer.values.nbytes) / keys.shape[-2]
                total += each * (length if window is None else min(length, window))
            else:
                states = [
                    *_tensors(getattr(layer, "conv_states", None)),
                    *_tensors(getattr(layer, "recurrent_states", None)),
                ]
                if not states:
                    return None
                total += 2 * sum(state.nbytes for state in states)
        return total

    def admit(self, batch: int, slots: int) -> None:
        """Make room for ``batch`` sequences of up to ``slots`` tokens, and forget the last ones."""
        self.stepping, self.reading = None, None
        self.past: Any = None
        self.read_past: Any = None
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self._free()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.batch, self.slots = batch, slots
        self.position = torch.zeros((), dtype=torch.int64, device=self.device)
        self.prompts_read = torch.zeros((batch, 0), dtype=torch.int64, device=self.device)
        self.tokens = torch.zeros((batch,), dtype=torch.int64, device=self.device)
        self.history = torch.zeros((slots, batch), dtype=torch.int64, device=self.device)
        if not self.fused:
            return
        make = {"dtype": self.head.dtype, "device": self.device}
        shape = (batch, self.groups, slots, self.width)
        try:
            self.keys = [torch.zeros(shape, **make) for _ in self.layers]
            self.values = [torch.zeros(shape, **make) for _ in self.layers]
        except torch.OutOfMemoryError as error:
            self.keys, self.values = [], []
            raise EcoRouteError(f"the cache of {batch} sequences of {slots} tokens does not fit the device") from error
        places = torch.arange(slots, device=self.device)[None]
        cosine, sine = self.model.model.rotary_emb(torch.zeros((1, 1), **make), places)
        half = self.width // 2
        self.rotation = (cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous())

    def _free(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def _times(self, x: torch.Tensor, matrix: Any) -> torch.Tensor:
        product: torch.Tensor
        if not isinstance(matrix, torch.Tensor):
            product = matrix(x)
        else:
            product = self.ops.row_times(x, matrix) if x.shape[0] == 1 else functional.linear(x, matrix)
        return product

    def _pass(self, tokens: torch.Tensor, start: torch.Tensor, rows: slice) -> torch.Tensor:
        """Hidden states (sequences x tokens, hidden) of tokens (sequences, tokens) placed from slot ``start`` on."""
        count, length = tokens.shape
        stream = functional.embedding(tokens.reshape(-1), self.embedding)
        delta: torch.Tensor | None = None
        for index, layer in enumerate(self.layers):
            keys, values = self.keys[index][rows], self.values[index][rows]
            x = self.ops.add_norm(stream, delta, layer.before, self.epsilon)
            queries = self.ops.place(
                self._times(x, layer.qkv), layer.norms, self.rotation, start, keys, values, self.heads, self.epsilon
            )
            if length == 1:
                attended = self.ops.attend(queries, keys, values, start)
            else:  # a whole prompt, from slot 0
                attended = functional.scaled_dot_product_attention(
                    queries.view(count, length, self.heads, self.width).transpose(1, 2),
                    keys[:, :, :length],
                    values[:, :, :length],
                    is_causal=True,
                    enable_gqa=True,
                ).transpose(1, 2)
            delta = self._times(attended.reshape(count * length, -1), layer.o)
            x = self.ops.add_norm(stream, delta, layer.after, self.epsilon)
            if layer.gate_up is not None and layer.down is not None:
                delta = self._times(self.ops.gate(self._times(x, layer.gate_up)), layer.down)
            else:
                delta = self._mixed(layer.mlp, x.view(count, length, -1))
        hidden: torch.Tensor = self.ops.add_norm(stream, delta, self.last_norm, self.epsilon)
        return hidden

    def _mixed(self, mlp: Any, x: torch.Tensor) -> torch.Tensor:
        """A mixture of experts' output (sequences x tokens, hidden) for x (sequences, tokens, hidden)."""
        settings = self.model.config
        rows = x.reshape(-1, x.shape[-1])
        if self.on_gpu and rows.shape[0] * settings.num_experts_per_tok <= PAIRS_PER_EXPERT * settings.num_experts:
            logits = self._times(rows, mlp.gate.weight)
            chosen, weights = self.ops.route(logits, settings.num_experts_per_tok, settings.norm_topk_prob)
            few: torch.Tensor = self.ops.mix(rows, mlp.experts.gate_up_proj, mlp.experts.down_proj, chosen, weights)
            return few
        mixed = mlp(x)
        many: torch.Tensor = (mixed[0] if isinstance(mixed, tuple) else mixed).reshape(rows.shape)
        return many

    def prefill(self, prompts: torch.Tensor) -> None:
        """Read prompts (batch, tokens) into the cache and choose each sequence's first token. Waits for the device."""
        batch, length = prompts.shape
        if batch != self.batch or not 2 <= length <= self.slots:
            raise EcoRouteError(
                f"admitted {self.batch} sequences of up to {self.slots} tokens; got {batch} of {length}"
            )
        if self.prompts_read.shape != prompts.shape:
            self.reading, self.stepping = None, None
            self.prompts_read = prompts.clone()
            self.prompt_tokens = length
        self.prompts_read.copy_(prompts)
        if self.reading is None:
            self._read()
        else:
            self.reading.replay()
        self._wait()

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each sequence's next token by transformers' own forward, from where its cache stands."""
        with torch.no_grad():
            given: dict[str, Any] = {} if self.past is None else {self._past_name: self.past}
            output = self.model(tokens, use_cache=True, **given)
        if self.past is None:
            names = [name for name in ("past_key_values", "cache_params") if getattr(output, name, None) is not None]
            if not names:
                raise EcoRouteError(f"{type(self.model).__name__} keeps no cache, so it cannot decode token by token")
            self._past_name: str = names[0]
        self.past = getattr(output, self._past_name)
        chosen: torch.Tensor = output.logits[:, -1].argmax(-1)
        return chosen

    def _read(self) -> None:
        if not self.fused:
            self.past, self.read_past = None, None
            self.tokens.copy_(self._forward(self.prompts_read))
            self.read_past = self.past
            self.history[0] = self.tokens
            self.rewind()
            return
        zero = torch.zeros((), dtype=torch.int64, device=self.device)
        batch, length = self.prompts_read.shape
        each = max(1, PREFILL_TOKENS // length)
        for begin in range(0, batch, each):
            rows = slice(begin, min(begin + each, batch))
            hidden = self._pass(self.prompts_read[rows], zero, rows).view(rows.stop - begin, length, -1)
            self.tokens[rows] = self._times(hidden[:, -1].contiguous(), self.head).argmax(-1)
        self.history[0] = self.tokens
        self.position.fill_(length)

    def _step(self) -> None:
        """One token for every sequence: read ``tokens`` at ``position``, write the next ones, move on."""
        if self.fused:
            hidden = self._pass(self.tokens[:, None], self.position, slice(None))
            self.tokens.copy_(self._times(hidden, self.head).argmax(-1))
        else:
            self.tokens.copy_(self._forward(self.tokens[:, None]))
        self.position += 1
        self.history.index_copy_(0, (self.position - self.prompt_tokens)[None], self.tokens[None])

    def capture(self) -> None:
        """After a first prefill: on a GPU, warm the kernels and capture prefill and step as CUDA graphs.

        A step that is to run eagerly (:attr:`step`) is only warmed."""
        if not self.on_gpu:
            return
        if not self.captures:
            for _ in range(2):
                self._read()
                self._step()
            self._read()
            self._wait()
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._read()
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self._wait()
        stepping, reading = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(stepping):
            self._step()
        with torch.cuda.graph(reading, pool=stepping.pool()):  # the two never run at once
            self._read()
        self.stepping, self.reading = stepping, reading
        self.reading.replay()
        self._wait()

    def rewind(self) -> None:
        """Back to the end of the prompt: the next decode generates the same tokens again.

        A cache of transformers' is copied for it, which costs about as much as one of its steps' growth."""
        self.position.fill_(self.prompt_tokens)
        self.tokens.copy_(self.history[0])
        if not self.fused:
            self.past = None
            self.past = copy.deepcopy(self.read_past)

    def decode(self, generated_tokens: int) -> tuple[float, ...]:
        """Generate from the prompt's end until each sequence has ``generated_tokens``, the prefill's included.

        Returns the seconds of each of the ``generated_tokens - 1`` steps. Waits for the device."""
        steps = generated_tokens - 1
        if steps < 1 or self.prompt_tokens + steps > self.slots:
            raise EcoRouteError(f"{generated_tokens} tokens after {self.prompt_tokens} do not fit {self.slots} slots")
        self.rewind()
        if self.stepping is None:
            moments = [time.perf_counter()]
            for _ in range(steps):
                self._step()
                self._wait()
                moments.append(time.perf_counter())
            return tuple(after - before for before, after in itertools.pairwise(moments))
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        marks[0].record()
        for mark in marks[1:]:
            self.stepping.replay()
            mark.record()
        self._wait()
        return tuple(before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(marks))

    def generated(self, count: int) -> list[list[int]]:
        """The first ``count`` generated token ids of each sequence."""
        rows: list[list[int]] = self.history[:count].T.tolist()
        return rows

    def prompts(self, batch: int, tokens: int, seed: int) -> torch.Tensor:
        """Random token ids (batch, tokens), the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.vocabulary, (batch, tokens), generator=generator).to(self.device)

    def reference(self, prompts: torch.Tensor, generated_tokens: int) -> list[list[int]]:
        """Greedy tokens of transformers' own ``generate`` for the same prompts."""
        settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=generated_tokens, pad_token_id=0)
        self.model.generation_config.eos_token_id = None  # no token ends a sequence: its length is what was asked
        with torch.inference_mode():
            full = self.model.generate(prompts, attention_mask=torch.ones_like(prompts), generation_config=settings)
        rows: list[list[int]] = full[:, prompts.shape[1] :].tolist()
        return rows

    @property
    def tokenizer(self) -> Any:
        """The model's own tokenizer. Raises EcoRouteError where it has none, as a shape with random weights, or where
        its files are not sound."""
        if self._tokenizer is None:
            if self.weights.source == "random":
                raise EcoRouteError(f"{self.source_path} has random weights and no tokenizer: name a real model")
            path = Path(self.source_path)
            with _reading(self.source_path):
                if path.suffix == ".gguf":
                    self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
                else:
                    self._tokenizer = transformers.AutoTokenizer.from_pretrained(self.source_path)
        return self._tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a text by the model's own tokenizer, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @property
    def chat(self) -> bool:
        """Whether the tokenizer has a chat template, which :meth:`complete` then applies."""
        return bool(self.tokenizer.chat_template)

    def complete(self, text: str, tokens: int) -> str:
        """The greedy continuation of a text: at most ``tokens`` tokens, up to the first that ends a text.

        With a chat template the text is what the user says and the continuation is the answer; templates that can do
        without a stretch of thinking are asked to. Forgets what was admitted. Raises EcoRouteError where the model has
        no tokenizer."""
        tokenizer = self.tokenizer
        if self.chat:
            said = [{"role": "user", "content": text}]
            prompt = tokenizer.apply_chat_template(
                said, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        else:
            ids = tokenizer(text)["input_ids"]
        ends = self.ends | ({tokenizer.eos_token_id} - {None})
        self.admit(1, len(ids) + tokens)
        self.prefill(torch.tensor([ids], device=self.device))
        found = [int(self.tokens[0])]
        while found[-1] not in ends and len(found) < tokens:
            self._step()
            found.append(int(self.tokens[0]))
        answer: str = tokenizer.decode(found, skip_special_tokens=True)
        return answer

    def nats(self, tokens: Sequence[int], context: int) -> float:
        """Negative log-likelihood, in nats, of all tokens but the first.

        Runs of ``context`` tokens are scored apart; each run begins with the last token of the one before."""
        total = 0.0
        for begin in range(0, len(tokens) - 1, context - 1):
            run = torch.tensor(tokens[begin : begin + context], device=self.device)
            logits = self.model(run[None, :-1], use_cache=False).logits[0].float()
            total += float(functional.cross_entropy(logits, run[1:], reduction="sum"))
        if not math.isfinite(total):
            raise EcoRouteError("the model's log-likelihood is not finite: its weights or precision are unsound")
        return total

    def memory_used_gb(self) -> float | None:
        """The most device memory that tensors have held since :meth:`admit`, in GB; None on a CPU."""
        return torch.cuda.max_memory_allocated() / 1e9 if self.on_gpu else None

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def close(self) -> None:
        """Give the device's memory back."""
        self.stepping, self.reading = None, None
        for name in ("model", "layers", "keys", "values", "embedding", "head", "past", "read_past"):
            self.__dict__.pop(name, None)
        self._free()


def _end_tokens(settings: Any) -> frozenset[int]:
    """The tokens that end a text, of a model's generation settings."""
    ends = getattr(settings, "eos_token_id", None)
    return frozenset(() if ends is None else [ends] if isinstance(ends, int) else ends)


def _tensors(held: Any) -> list[torch.Tensor]:
    """The tensors of a state: one, or several in a list or by name."""
    if isinstance(held, torch.Tensor):
        return [held]
    parts = held.values() if isinstance(held, dict) else held or ()
    return [part for part in parts if isinstance(part, torch.Tensor)]
