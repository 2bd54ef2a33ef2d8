"""Each kernel against plain torch: on a CUDA device, or small in Triton's interpreter, which test_engine.py starts."""

from __future__ import annotations

import os
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")
pytest.importorskip("triton", reason="needs triton, which torch brings on Linux")

GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1", allow_module_level=True)

from benchmark import engine as engines  # noqa: E402
from benchmark import kernels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
DEVICE = "cuda" if GPU else "cpu"
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 1e-2}
HEADS = [(32, 8, 128), (9, 3, 64), (8, 8, 64), (64, 8, 128)] if GPU else [(6, 2, 16)]
BATCHES = [1, 8, 40] if GPU else [2]
DTYPES = ["float32", "bfloat16"] if GPU else ["float32", "float16"]  # the interpreter has no sound bfloat16


def near(ours: Any, theirs: Any, dtype: str) -> None:
    assert ours.shape == theirs.shape
    difference = (ours.double() - theirs.double()).norm() / theirs.double().norm()
    assert float(difference) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "groups", "width"), HEADS)
@pytest.mark.parametrize("batch", BATCHES)
def test_place_and_attend(dtype: str, heads: int, groups: int, width: int, batch: int) -> None:
    make = {"device": DEVICE, "dtype": getattr(torch, dtype)}
    slots = 512 if GPU else 160
    torch.manual_seed(0)
    for tokens, first in ((1, slots // 2 + 44), (5, 0)):
        rows = batch * tokens
        qkv = torch.randn(rows, (heads + 2 * groups) * width, **make)
        norms = (torch.randn(width, **make), torch.randn(width, **make))
        rotation = (torch.randn(slots, width // 2, **make), torch.randn(slots, width // 2, **make))
        start = torch.tensor(first, device=DEVICE)
        caches = [torch.full((batch, groups, slots, width), float("nan"), **make) for _ in range(4)]
        for normed in (norms, None):
            ours = kernels.place(qkv, normed, rotation, start, caches[0], caches[1], heads, 1e-6)
            theirs = engines.TorchOps.place(qkv, normed, rotation, start, caches[2], caches[3], heads, 1e-6)
            near(ours, theirs, dtype)
            for mine, other in ((caches[0], caches[2]), (caches[1], caches[3])):
                near(mine[:, :, first : first + tokens], other[:, :, first : first + tokens], dtype)
        assert int(caches[0].isnan().sum()) == caches[0].numel() - batch * groups * tokens * width
    query = torch.randn(batch, heads, width, **make)
    keys, values = (torch.randn(batch, groups, slots, width, **make) for _ in range(2))
    for last in (0, 1, 63, 64, slots // 2 + 44, slots - 1):
        at = torch.tensor(last, device=DEVICE)
        beyond = keys.clone()
        beyond[:, :, last + 1 :] = float("nan")  # no slot past the position may be read into a result
        near(kernels.attend(query, beyond, values, at), engines.TorchOps.attend(query, keys, values, at), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_norm_and_gate(dtype: str) -> None:
    make = {"device": DEVICE, "dtype": getattr(torch, dtype)}
    torch.manual_seed(0)
    rows, width = (40, 4096) if GPU else (3, 72)
    stream, delta, weight = (
        torch.randn(rows, width, **make),
        torch.randn(rows, width, **make),
        torch.randn(width, **make),
    )
    mine, other = stream.clone(), stream.clone()
    near(kernels.add_norm(mine, delta, weight, 1e-6), engines.TorchOps.add_norm(other, delta, weight, 1e-6), dtype)
    near(mine, other, dtype)
    both = torch.cat((stream, delta), 1)
    near(kernels.gate(both), engines.TorchOps.gate(both), dtype)


@pytest.mark.skipif(not GPU, reason="is tuned on the device that runs it")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(576, 1536), (4097, 4096), (1000, 576)])
def test_row_times(dtype: str, height: int, width: int) -> None:
    make = {"device": DEVICE, "dtype": getattr(torch, dtype)}
    torch.manual_seed(0)
    row, matrix = torch.randn(1, width, **make), torch.randn(height, width, **make)
    near(kernels.row_times(row, matrix), row.double() @ matrix.double().T, dtype)


MIXTURES = (
    [(1, 128, 8, 2048, 768), (8, 128, 8, 2048, 768), (5, 60, 4, 1408, 500)]
    if GPU
    else [(1, 8, 2, 64, 24), (3, 12, 3, 96, 33)]
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(("tokens", "experts", "choices", "width", "height"), MIXTURES)
def test_a_mixture_of_experts(
    dtype: str, normed: bool, tokens: int, experts: int, choices: int, width: int, height: int
) -> None:
    """Against transformers' own router and experts, in float64 where the device's would round."""
    import transformers
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    settings = transformers.Qwen3MoeConfig(
        hidden_size=width, moe_intermediate_size=height, num_experts=experts, num_experts_per_tok=choices,
        norm_topk_prob=normed, experts_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    block = Qwen3MoeSparseMoeBlock(settings).requires_grad_(False)
    for weights in block.parameters():
        weights.copy_(torch.randn(weights.shape) / width**0.5)
    block = block.to(device=DEVICE, dtype=getattr(torch, dtype))
    x = torch.randn(tokens, width, device=DEVICE, dtype=getattr(torch, dtype))
    logits, shares, indices = block.gate(x)
    chosen, weights = kernels.route(logits, choices, normed)
    assert torch.equal(logits.gather(1, chosen.long()), logits.gather(1, indices))  # of equal ones, either comes first
    near(weights, shares, dtype)
    expected = block.double().experts(x.double(), indices, shares.double())
    block = block.to(getattr(torch, dtype))
    ours = kernels.mix(x, block.experts.gate_up_proj, block.experts.down_proj, indices.to(chosen.dtype), shares)
    near(ours, expected, dtype)
