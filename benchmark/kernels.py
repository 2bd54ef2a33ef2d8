# mypy: disable-error-code="misc, untyped-decorator, no-untyped-def, valid-type, import-not-found, import-untyped"
"""The decode step's small work on an NVIDIA GPU, in Triton: what would otherwise be dozens of launches a layer.

A decode step reads every weight once, so its floor is bytes over memory bandwidth. Each tiny launch between two matrix
products costs about as much as moving 6 MB, so the pieces between them are fused: residual with norm; the heads' norm,
rotation and cache write; gate with up; attention over the true length; the routing of a mixture of experts, and its
products for few tokens without copying an expert's weights. The length is read from the device, so that one
captured CUDA graph serves every position and no masked slot is ever read. A product with a single row goes through
:func:`row_times`, which keeps enough loads in flight to come near the bandwidth.

All arithmetic is float32 inside, whatever the tensors hold. Only :mod:`benchmark.engine` calls this, on CUDA tensors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _add_norm(stream, delta, weight, out, width, epsilon, HAS_DELTA: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    x = tl.load(stream + row + at, mask=inside, other=0.0)
    if HAS_DELTA:
        x = (x.to(tl.float32) + tl.load(delta + row + at, mask=inside, other=0.0).to(tl.float32)).to(x.dtype)
        tl.store(stream + row + at, x, mask=inside)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / width + epsilon)
    normed = (wide * scale).to(x.dtype).to(tl.float32) * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, normed.to(x.dtype), mask=inside)


def add_norm(stream: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Add ``delta`` to the residual stream in place; return the stream's RMS norm. Both (rows, width), contiguous."""
    rows, width = stream.shape
    out = torch.empty_like(stream)
    _add_norm[(rows,)](
        stream,
        stream if delta is None else delta,
        weight,
        out,
        width,
        epsilon,
        HAS_DELTA=delta is not None,
        BLOCK=triton.next_power_of_2(width),
        num_warps=8,
    )
    return out


@triton.jit
def _gate(gate_up, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(gate_up + row * 2 * width + at, mask=inside, other=0.0)
    up = tl.load(gate_up + row * 2 * width + width + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    gated = (wide * tl.sigmoid(wide)).to(gate.dtype).to(tl.float32) * up.to(tl.float32)
    tl.store(out + row * width + at, gated.to(gate.dtype), mask=inside)


def gate(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for (rows, 2 x width), gate first. Returns (rows, width)."""
    rows, twice = gate_up.shape
    out = gate_up.new_empty((rows, twice // 2))
    _gate[(triton.cdiv(twice // 2, 1024), rows)](gate_up, out, twice // 2, BLOCK=1024, num_warps=4)
    return out


@triton.jit
def _place(
    qkv, q_norm, k_norm, cosines, sines, start, queries, keys, values, tokens, slots, epsilon,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr, HAS_NORM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    sequence = row // tokens
    place = tl.load(start) + row % tokens
    at = tl.arange(0, HALF)
    source = qkv + (row * (HEADS + 2 * GROUPS) + head) * 2 * HALF
    low = tl.load(source + at)
    high = tl.load(source + HALF + at)
    if head < HEADS + GROUPS:
        dtype = low.dtype
        if HAS_NORM:
            weight = q_norm if head < HEADS else k_norm
            wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
            scale = tl.rsqrt((tl.sum(wide_low * wide_low) + tl.sum(wide_high * wide_high)) / (2 * HALF) + epsilon)
            low = ((wide_low * scale).to(dtype).to(tl.float32) * tl.load(weight + at).to(tl.float32)).to(dtype)
            high = (wide_high * scale).to(dtype).to(tl.float32)
            high = (high * tl.load(weight + HALF + at).to(tl.float32)).to(dtype)
        cosine = tl.load(cosines + place * HALF + at).to(tl.float32)
        sine = tl.load(sines + place * HALF + at).to(tl.float32)
        wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
        low = (wide_low * cosine - wide_high * sine).to(dtype)
        high = (wide_high * cosine + wide_low * sine).to(dtype)
    if head < HEADS:
        target = queries + (row * HEADS + head) * 2 * HALF
    elif head < HEADS + GROUPS:
        target = keys + ((sequence * GROUPS + head - HEADS) * slots + place) * 2 * HALF
    else:
        target = values + ((sequence * GROUPS + head - HEADS - GROUPS) * slots + place) * 2 * HALF
    tl.store(target + at, low)
    tl.store(target + HALF + at, high)


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
    """Norm and rotate the heads of ``qkv`` (batch x tokens, heads + 2 groups, width) and write keys and values to the
    cache (batch, groups, slots, width) from slot ``start`` (a device integer) on.

    Returns the queries, (rows, heads, width)."""
    batch, groups, slots, width = keys.shape
    rows = qkv.shape[0]
    queries = qkv.new_empty((rows, heads, width))
    q_norm, k_norm = norms or (qkv, qkv)
    _place[(rows, heads + 2 * groups)](
        qkv, q_norm, k_norm, *rotation, start, queries, keys, values, rows // batch, slots, epsilon,
        HEADS=heads, GROUPS=groups, HALF=width // 2, HAS_NORM=norms is not None, num_warps=1,
    )  # fmt: skip
    return queries


@triton.jit
def _attend(
    queries, keys, values, position, out, peaks, sums, slots, scale,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    split = tl.program_id(2)
    length = (tl.load(position) + 1).to(tl.int32)
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(begin + share, length)
    each: tl.constexpr = HEADS // GROUPS
    lane = tl.arange(0, ROWS)
    at = tl.arange(0, WIDTH)
    head = group * each + lane
    rows = (sequence * HEADS + head)[:, None] * WIDTH
    query = tl.load(queries + rows + at[None, :], mask=lane[:, None] < each, other=0.0)
    base = (sequence * GROUPS + group) * slots
    peak = tl.full((ROWS,), -1.0e30, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    gathered = tl.zeros((ROWS, WIDTH), tl.float32)
    for first in range(begin, end, BLOCK):
        slot = first + tl.arange(0, BLOCK)
        known = slot < end
        key = tl.load(keys + (base + slot)[:, None] * WIDTH + at[None, :], mask=known[:, None], other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
        score = tl.where(known[None, :], score, -1.0e30)
        higher = tl.maximum(peak, tl.max(score, 1))
        share_of = tl.exp2(score - higher[:, None])
        fade = tl.exp2(peak - higher)
        value = tl.load(values + (base + slot)[:, None] * WIDTH + at[None, :], mask=known[:, None], other=0.0)
        gathered = gathered * fade[:, None] + tl.dot(share_of.to(value.dtype), value, input_precision=PRECISION)
        total = total * fade + tl.sum(share_of, 1)
        peak = higher
    index = (sequence * HEADS + head) * SPLITS + split
    if SPLITS == 1:
        gathered = gathered / total[:, None]
    else:
        tl.store(peaks + index, peak, mask=lane < each)
        tl.store(sums + index, total, mask=lane < each)
    tl.store(out + index[:, None] * WIDTH + at[None, :], gathered.to(out.dtype.element_ty), mask=lane[:, None] < each)


@triton.jit
def _join(parts, peaks, sums, out, WIDTH: tl.constexpr, SPLITS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    at = tl.arange(0, WIDTH)
    peak = tl.load(peaks + row * SPLITS + split)
    fade = tl.exp2(peak - tl.max(peak))
    total = tl.sum(tl.load(sums + row * SPLITS + split) * fade)
    part = tl.load(parts + (row * SPLITS + split)[:, None] * WIDTH + at[None, :])
    joined = tl.sum(part * fade[:, None], 0) / total
    tl.store(out + row * WIDTH + at, joined.to(out.dtype.element_ty))


LOG2_E = 1.4426950408889634
BLOCKS_IN_FLIGHT = 264
"""Programs that fill a Hopper chip's 132 multiprocessors twice; attention is split along the sequence to reach it."""


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """One token's attention over the slots 0 to ``position`` (a device integer) of the cache.

    ``queries`` (batch, heads, width); ``keys`` and ``values`` (batch, groups, slots, width). Returns as ``queries``."""
    batch, groups, slots, width = keys.shape
    heads = queries.shape[1]
    wanted = max(1, min(BLOCKS_IN_FLIGHT // (batch * groups), triton.cdiv(slots, 64)))
    splits = 1 << (wanted.bit_length() - 1)
    out = torch.empty_like(queries)
    parts = queries.new_empty((batch, heads, splits, width), dtype=torch.float32) if splits > 1 else out
    peaks = queries.new_empty((2, batch, heads, splits), dtype=torch.float32)
    _attend[(batch, groups, splits)](
        queries, keys, values, position, parts, peaks[0], peaks[1], slots, LOG2_E / width**0.5,
        HEADS=heads, GROUPS=groups, WIDTH=width, SPLITS=splits, ROWS=max(16, triton.next_power_of_2(heads // groups)),
        BLOCK=64, PRECISION="ieee", num_warps=4, num_stages=3 if queries.element_size() == 2 else 1,
    )  # fmt: skip
    if splits > 1:
        _join[(batch * heads,)](parts, peaks[0], peaks[1], out, WIDTH=width, SPLITS=splits, num_warps=4)
    return out


@triton.autotune(
    configs=[
        triton.Config({"ROWS": rows, "BLOCK": block}, num_warps=warps)
        for rows, block, warps in ((1, 2048, 4), (2, 1024, 4), (2, 2048, 4), (4, 1024, 4), (4, 512, 2), (8, 512, 4))
    ],
    key=["height", "width"],
)
@triton.jit
def _row_times(row, matrix, out, height, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    line = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        inside = at < width
        x = tl.load(row + at, mask=inside, other=0.0).to(tl.float32)
        weights = tl.load(
            matrix + line.to(tl.int64)[:, None] * width + at[None, :],
            mask=(line < height)[:, None] & inside[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
        total += weights.to(tl.float32) * x[None, :]
    tl.store(out + line, tl.sum(total, 1).to(out.dtype.element_ty), mask=line < height)


def row_times(row: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """``row`` (1, width) times the transpose of ``matrix`` (height, width). Returns (1, height)."""
    height, width = matrix.shape
    out = row.new_empty((1, height))
    _row_times[lambda meta: (triton.cdiv(height, meta["ROWS"]),)](row, matrix, out, height, width)
    return out


@triton.jit
def _route(
    logits, chosen, weights, experts,
    CHOICES: tl.constexpr, NORMED: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    lane = tl.arange(0, LANES)
    logit = tl.load(logits + token * experts + at, mask=at < experts, other=float("-inf")).to(tl.float32)
    share = tl.exp(logit - tl.max(logit))
    share = tl.where(at < experts, share / tl.sum(share), -1.0)
    best = tl.zeros((LANES,), tl.float32)
    index = tl.zeros((LANES,), tl.int32)
    for choice in tl.static_range(CHOICES):
        peak = tl.max(share)
        where = tl.min(tl.where(share == peak, at, BLOCK))
        best = tl.where(lane == choice, peak, best)
        index = tl.where(lane == choice, where, index)
        share = tl.where(at == where, -1.0, share)
    if NORMED:
        best = best / tl.sum(best)
    tl.store(chosen + token * CHOICES + lane, index, mask=lane < CHOICES)
    tl.store(weights + token * CHOICES + lane, best.to(weights.dtype.element_ty), mask=lane < CHOICES)


def route(logits: torch.Tensor, choices: int, normed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's ``choices`` likeliest experts by softmax of ``logits`` (tokens, experts), and their shares.

    Returns the experts (tokens, choices), int32, and the shares in the logits' type; these add up to 1 if ``normed``.
    Of equal shares the first counts."""
    tokens, experts = logits.shape
    chosen = logits.new_empty((tokens, choices), dtype=torch.int32)
    weights = logits.new_empty((tokens, choices))
    _route[(tokens,)](
        logits, chosen, weights, experts, CHOICES=choices, NORMED=normed,
        BLOCK=triton.next_power_of_2(experts), LANES=triton.next_power_of_2(choices), num_warps=1,
    )  # fmt: skip
    return chosen, weights


@triton.jit
def _experts_gate(
    x, matrices, chosen, out, width, height, CHOICES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    pair = tl.program_id(0).to(tl.int64)
    expert = tl.load(chosen + pair).to(tl.int64)
    line = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    gates = matrices + (expert * 2 * height + line)[:, None] * width
    ups = matrices + ((expert * 2 + 1) * height + line)[:, None] * width
    gate = tl.zeros((ROWS, BLOCK), tl.float32)
    up = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(0, width, BLOCK):
        at = first + tl.arange(0, BLOCK)
        known = (line < height)[:, None] & (at < width)[None, :]
        token = tl.load(x + pair // CHOICES * width + at, mask=at < width, other=0.0).to(tl.float32)
        gate += tl.load(gates + at[None, :], mask=known, other=0.0).to(tl.float32) * token[None, :]
        up += tl.load(ups + at[None, :], mask=known, other=0.0).to(tl.float32) * token[None, :]
    dtype = out.dtype.element_ty
    wide = tl.sum(gate, 1).to(dtype).to(tl.float32)
    gated = (wide * tl.sigmoid(wide)).to(dtype).to(tl.float32) * tl.sum(up, 1).to(dtype).to(tl.float32)
    tl.store(out + pair * height + line, gated.to(dtype), mask=line < height)


@triton.jit
def _experts_down(
    x, matrices, chosen, weights, out, width, height, CHOICES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for choice in tl.static_range(CHOICES):
        pair = token * CHOICES + choice
        expert = tl.load(chosen + pair).to(tl.int64)
        weight = tl.load(weights + pair).to(tl.float32)
        rows = matrices + (expert * height + line)[:, None] * width
        for first in range(0, width, BLOCK):
            at = first + tl.arange(0, BLOCK)
            known = (line < height)[:, None] & (at < width)[None, :]
            gated = tl.load(x + pair * width + at, mask=at < width, other=0.0).to(tl.float32) * weight
            total += tl.load(rows + at[None, :], mask=known, other=0.0).to(tl.float32) * gated[None, :]
    tl.store(out + token * height + line, tl.sum(total, 1).to(out.dtype.element_ty), mask=line < height)


def mix(
    x: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The weighted sum of what each token's chosen experts make of it, for few tokens.

    ``x`` (tokens, width); ``gate_up`` (experts, 2 x height, width), gate first; ``down`` (experts, width, height);
    ``chosen`` and ``weights`` (tokens, choices) as of :func:`route`. Returns as ``x``. Every pair of token and expert
    reads its weights where they lie. Programs that run at the same time work on the same rows for all pairs, so that
    an expert that several tokens chose comes from memory once and from the cache after."""
    tokens, width = x.shape
    choices, height = chosen.shape[1], down.shape[2]
    gated = x.new_empty((tokens * choices, height))
    _experts_gate[(tokens * choices, triton.cdiv(height, 4))](
        x, gate_up, chosen, gated, width, height,
        CHOICES=choices, ROWS=4, BLOCK=min(512, triton.next_power_of_2(width)), num_warps=4,
    )  # fmt: skip
    out = torch.empty_like(x)
    _experts_down[(tokens, triton.cdiv(width, 4))](
        gated, down, chosen, weights, out, height, width,
        CHOICES=choices, ROWS=4, BLOCK=min(1024, triton.next_power_of_2(height)), num_warps=4,
    )  # fmt: skip
    return out
