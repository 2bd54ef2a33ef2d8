"""Deployments out of tables: a model's sizes, a device by any of its names, a precision, a batch, a workload."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.curate.energy import PROMPT_TOKENS, host_bound
from ecoroute_mcp.catalogue import Device
from ecoroute_mcp.energy import STORED_BYTES, Deployment
from ecoroute_mcp.sci import EcoRouteError, shown

DEVICE_COLUMNS = ("id", "tdp_w", "memory_gb", "bandwidth_gb_per_s", "bf16_dense_tflops", "nvml_names", "sources")


def devices(data: Path) -> dict[str, Device]:
    """The rows of data/devices.csv as far as the law needs them, by id. Raises EcoRouteError as ``table``, or for a
    cell that is no number."""
    path = data / "devices.csv"
    found = {}
    for row in table(path, DEVICE_COLUMNS):
        try:
            found[row["id"]] = Device(
                id=row["id"],
                tdp_w=float(row["tdp_w"]),
                memory_gb=float(row["memory_gb"]),
                bandwidth_gb_per_s=float(row["bandwidth_gb_per_s"]),
                bf16_dense_tflops=float(row["bf16_dense_tflops"]) if row["bf16_dense_tflops"] else None,
                nvml_names=tuple(filter(None, row["nvml_names"].split("|"))),
                sources=tuple(row["sources"].split("|")),
            )
        except ValueError as error:
            raise EcoRouteError(f"{path}, {shown(row['id'])!r}: {error}: mend the row") from error
    return found


def table(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a table of the data, comments left out.

    Raises EcoRouteError where it cannot be read, or lacks one of the ``columns`` or, where there are such, rows."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader((line for line in file if not line.startswith("#")), restval="")
            rows, header = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EcoRouteError(f"cannot read {path} ({error}): name a folder that holds the project's tables") from error
    missing = [column for column in columns if column not in header]
    if missing or (columns and not rows):
        lacks = f"the columns {', '.join(missing)}" if missing else "rows"
        raise EcoRouteError(f"{path} lacks {lacks}: name a folder that holds the project's tables")
    return rows


def named_device(name: str, known: Mapping[str, Device]) -> tuple[Device, str]:
    """The device of a usual spelling, and a remark where it fits several. Raises EcoRouteError where none fits."""
    wanted = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    wanted = [word for word in wanted if word not in ("nvidia", "tensor", "core", "gpu", "geforce")]
    fitting = []
    for device in known.values():
        spellings = [device.id, *device.nvml_names]
        words = {word for each in spellings for word in re.sub(r"[^a-z0-9]+", " ", each.lower()).split()}
        if name in spellings or (wanted and all(word in words for word in wanted)):
            fitting.append(device)
    exact = [device for device in fitting if name in (device.id, *device.nvml_names)]
    if not fitting:
        raise EcoRouteError(f"unknown GPU {shown(name)!r}: data/devices.csv has {', '.join(known)}")
    chosen = (exact or fitting)[0]
    others = ", ".join(device.id for device in fitting if device is not chosen)
    return chosen, f"{name} taken as {chosen.id}, not {others}" if not exact and others else ""


PRECISION_BYTES = {
    "fp32": 4.0,
    "float32": 4.0,
    "bf16": 2.0,
    "bfloat16": 2.0,
    "fp16": 2.0,
    "float16": 2.0,
    "half": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "w8a8": 1.0,
    "w8a16": 1.0,
    "w4a16": 0.53,
    "mxfp4": 0.53,  # 4 bits and one 8-bit scale for 32 of them
    "nvfp4": STORED_BYTES["fp4"],
    "fp4": STORED_BYTES["fp4"],
    "int4": 0.53,
    "nf4": 0.53,
    "awq": 0.53,
    "gptq": 0.53,
}


def read(cells: Mapping[str, str], known: Mapping[str, Device]) -> tuple[Deployment, str]:
    """A deployment from a row's cells, and remarks on what was assumed. Raises EcoRouteError naming the cell to mend.

    Needed: total_params_b, gpu, avg_batch (else max_num_seqs). Used where given: active_params_b (absent: dense),
    n_gpus (1), precision (bf16), avg_output_len and task (their prompt and context), architecture. Outcomes such as
    tokens_per_s and avg_power_w are never looked at.
    """
    remarks = []
    total_b = _number(cells, "total_params_b")
    if total_b is None:
        raise EcoRouteError("total_params_b is missing")
    active_b = _number(cells, "active_params_b")
    batch = _number(cells, "avg_batch")
    if batch is None:
        batch = _number(cells, "max_num_seqs")
        if batch is None:
            raise EcoRouteError("avg_batch is missing")
        remarks.append("avg_batch taken as max_num_seqs")
    if not cells.get("gpu"):
        raise EcoRouteError("gpu is missing")
    device, remark = named_device(cells["gpu"], known)
    remarks += [remark] if remark else []
    precision = _precision(cells.get("precision") or "bf16")
    task = cells.get("task") or ""
    written = _number(cells, "avg_output_len")
    read = PROMPT_TOKENS.get(task)
    if task and read is None:
        remarks.append(f"prompt length of task {shown(task)!r} not known: taken as none")
    if not task:
        remarks.append("task is missing: prompts taken as none")
    if written is None:
        remarks.append("avg_output_len is missing: prompts and what is written are not counted")
    held_up = host_bound(cells)
    if held_up:
        remarks.append("of the part of ML.ENERGY's v3.0 campaign that the host held up")
    count = _number(cells, "n_gpus") or 1.0
    if not count.is_integer():
        raise EcoRouteError(f"n_gpus must be a whole number, not {count:g}")
    return (
        Deployment(
            device=device,
            devices=int(count),
            params_total_b=total_b,
            params_active_b=total_b if active_b is None else active_b,
            bytes_per_param=PRECISION_BYTES[precision],
            batch=batch,
            context_tokens=(read or 0.0) + (written or 0.0) / 2,
            prompt_per_output=read / written if read and written else 0.0,
            recurrent="mamba" in (cells.get("architecture") or "").lower(),
            host_bound=held_up,
        ),
        "; ".join(remarks),
    )


def _precision(text: str) -> str:
    """The precision that a cell names: exactly, or within a longer word such as fp8-dynamic. Raises EcoRouteError."""
    wanted = text.strip().lower()
    within = [name for name in PRECISION_BYTES if name in wanted]
    if wanted not in PRECISION_BYTES and not within:
        raise EcoRouteError(f"unknown precision {shown(text)!r}: one of {', '.join(PRECISION_BYTES)}")
    return wanted if wanted in PRECISION_BYTES else max(within, key=len)


def _number(cells: Mapping[str, str], name: str) -> float | None:
    text = (cells.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise EcoRouteError(f"{name} must be a positive number, not {shown(text)!r}")
    return value
