"""Matrices held in 8 or 4 bits: by bitsandbytes, whose only owner this is, or as a checkpoint brings them.

``int8`` and ``int8-pure`` are LLM.int8(): one scale a row, activations quantised row by row and multiplied as integers.
With the default threshold of 6.0 the columns of activations that exceed it are multiplied in floating point instead;
whether there are any is asked on the host, at every product, so such a step cannot be part of a CUDA graph. With the
threshold 0.0 (``int8-pure``) nothing is asked. ``nf4`` is four bits a weight in blocks of 64 with one float32 scale,
not quantised again; products run in bfloat16. All launch on the current stream.

A matrix made of several projections is quantised as one; the projections share its rows (:func:`rows`), which changes
nothing: scales belong to rows, or to blocks that lie within a row.

``gptq`` and ``awq`` are checkpoints quantised beforehand; transformers loads them with gptqmodel's modules, which hold
several weights in one int32.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch

from benchmark.trial import Precision
from ecoroute_mcp.sci import EcoRouteError

BLOCK = 64
LABELS: dict[Precision, str] = {
    "int8": "int8 (threshold 6.0)",
    "int8-pure": "int8 (threshold 0.0)",
    "nf4": f"nf4 (blocks of {BLOCK})",
}
"""What :func:`label` must read off a matrix of each precision."""
ASKS_THE_HOST: frozenset[Precision] = frozenset({"int8"})
"""Precisions whose products wait for the device, so that no CUDA graph can hold them."""


CHECKPOINTS: frozenset[Precision] = frozenset({"gptq", "awq"})
"""Precisions that a checkpoint was quantised to."""


def method(settings: Any) -> str | None:
    """The method that a checkpoint's configuration names, None if it names none."""
    return _setting(settings, "quant_method")


def bits(settings: Any) -> str | None:
    """The bits a weight that a quantised checkpoint's configuration names."""
    return _setting(settings, "bits")


def _setting(settings: Any, name: str) -> str | None:
    held = getattr(settings, "quantization_config", None) or {}
    value = held.get(name) if isinstance(held, dict) else getattr(held, name, None)
    return None if value is None else str(getattr(value, "value", value))


def packed(model: Any) -> list[Any]:
    """The modules of a model that hold several weights in one int32."""
    return [each for each in model.modules() if isinstance(getattr(each, "qweight", None), torch.Tensor)]


def _library() -> Any:
    try:
        library = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise EcoRouteError("int8, int8-pure and nf4 need bitsandbytes: pip install bitsandbytes") from error
    # Its remark that activations are cast to float16 would be printed at every product.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return library


def version() -> str | None:
    """The version of bitsandbytes, or None where it is not installed."""
    try:
        return str(_library().__version__)
    except EcoRouteError:
        return None


def quantise(matrix: torch.Tensor, precision: Precision, bias: torch.Tensor | None = None) -> Any:
    """A bitsandbytes module that multiplies by the transpose of ``matrix`` (height, width), which may then be freed.

    Raises EcoRouteError for a precision that is not bitsandbytes', or where the library is missing."""
    if precision not in LABELS:
        raise EcoRouteError(f"bitsandbytes quantises to {', '.join(LABELS)}; not to {precision}")
    library = _library()
    if precision == "nf4":
        packed = library.nn.Params4bit(
            matrix, requires_grad=False, blocksize=BLOCK, compress_statistics=False, quant_type="nf4"
        ).to(matrix.device)
        return _four_bits(packed, packed.quant_state, bias)
    stored, scales, _ = library.functional.int8_vectorwise_quant(matrix.to(torch.float16))
    return _eight_bits(stored, scales, 6.0 if precision == "int8" else 0.0, bias)


def rows(module: Any, first: int, last: int, bias: torch.Tensor | None = None) -> Any:
    """A module of the same kind over the rows ``first`` to ``last`` (exclusive) of a quantised one; shares its memory.

    Raises EcoRouteError where a 4-bit block would be cut in two."""
    if module.weight.dtype == torch.int8:
        state = module.state
        return _eight_bits(state.CB[first:last], state.SCB[first:last], state.threshold, bias)
    state = module.weight.quant_state
    width = state.shape[1]
    if first * width % BLOCK or last * width % BLOCK:
        raise EcoRouteError(f"rows of {width} weights do not end where blocks of {BLOCK} do: nf4 is not possible here")
    library = _library()
    part = library.functional.QuantState(
        absmax=state.absmax[first * width // BLOCK : last * width // BLOCK],
        shape=torch.Size((last - first, width)),
        code=state.code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
    )
    packed = library.nn.Params4bit(
        module.weight.data[first * width // 2 : last * width // 2],
        requires_grad=False,
        quant_state=part,
        blocksize=BLOCK,
        compress_statistics=False,
        quant_type="nf4",
        bnb_quantized=True,
    )
    return _four_bits(packed, part, bias)


def _eight_bits(stored: torch.Tensor, scales: torch.Tensor, threshold: float, bias: torch.Tensor | None) -> Any:
    library = _library()
    height, width = stored.shape
    module = library.nn.Linear8bitLt(
        width, height, bias=False, has_fp16_weights=False, threshold=threshold, device="meta"
    )
    module.weight = library.nn.Int8Params(stored, requires_grad=False, has_fp16_weights=False, CB=stored, SCB=scales)
    module.init_8bit_state()
    return _finished(module, bias)


def _four_bits(packed: Any, state: Any, bias: torch.Tensor | None) -> Any:
    height, width = state.shape
    module = _library().nn.Linear4bit(
        width,
        height,
        bias=False,
        compute_dtype=torch.bfloat16,
        compress_statistics=False,
        quant_type="nf4",
        device="meta",
    )
    module.weight, module.quant_state, packed.module = packed, state, module
    return _finished(module, bias)


def _finished(module: Any, bias: torch.Tensor | None) -> Any:
    if bias is not None:
        module.bias = torch.nn.Parameter(bias, requires_grad=False)
    return module.requires_grad_(False).eval()


def label(matrix: Any, precision: Precision = "bf16") -> str:
    """What a matrix is, read off its tensors: a tensor's dtype, or a module's stored form.

    Tensors do not tell ``gptq`` from ``awq``: of int32-packed weights the ``precision`` asked for is repeated, and
    whether the checkpoint names it is checked at loading.

    Raises EcoRouteError for a module whose tensors contradict each other."""
    if isinstance(matrix, torch.Tensor):
        return str(matrix.dtype).removeprefix("torch.")
    shape = (matrix.out_features, matrix.in_features)
    if isinstance(getattr(matrix, "qweight", None), torch.Tensor):
        words = matrix.qweight
        if words.dtype == torch.int32 and words.numel() * 32 % (shape[0] * shape[1]) == 0:
            return f"{precision} ({words.numel() * 32 // (shape[0] * shape[1])} bits)"
        raise EcoRouteError(
            f"a matrix of {shape} is held as {words.dtype} of {tuple(words.shape)}, not as packed int32"
        )
    stored = matrix.weight
    if stored.dtype == torch.int8:
        state = matrix.state
        sound = stored.shape == shape and state.SCB.shape == shape[:1] and state.SCB.dtype == torch.float32
        if sound and state.CB.data_ptr() == stored.data_ptr() and not state.has_fp16_weights:
            return f"int8 (threshold {state.threshold})"
    state = getattr(stored, "quant_state", None)
    if stored.dtype == torch.uint8 and state is not None and not state.nested:
        numbers = shape[0] * shape[1]
        if (
            tuple(state.shape) == shape
            and 2 * stored.numel() == numbers
            and state.absmax.numel() == -(-numbers // BLOCK)
        ):
            return f"{state.quant_type} (blocks of {state.blocksize})"
    dtype = str(stored.dtype).removeprefix("torch.")
    if stored.dtype.is_floating_point:
        return dtype
    raise EcoRouteError(f"a matrix of {shape} is held as {dtype} of {tuple(stored.shape)} without sound scales")


def extra_bytes(matrix: Any) -> int:
    """Bytes that a matrix holds beside its parameters: its scales, or all of it where it is packed into int32."""
    if isinstance(matrix, torch.Tensor):
        return 0
    if isinstance(getattr(matrix, "qweight", None), torch.Tensor):
        return sum(held.nbytes for held in matrix.buffers())
    if matrix.weight.dtype.is_floating_point:
        return 0
    scales = matrix.state.SCB if matrix.weight.dtype == torch.int8 else matrix.weight.quant_state.absmax
    return int(scales.nbytes)
