"""ML.ENERGY's measurements -> measured_energy.csv: joules per output token of deployments of models we know.

Only text workloads, only models of the catalogue (the mapping below is by weights: an "-FP8" upload is the same model
served at another precision). The rows are the upstream figures as they stand; nothing is averaged here.
"""

from __future__ import annotations

import csv
from pathlib import Path

UPSTREAM = "mlenergy_v3.csv"
TEXT_WORKLOADS = ("lm-arena-chat", "gpqa", "sourcegraph-fim")
PRECISIONS = {"bfloat16": "bf16", "fp8": "fp8"}
DEVICES = {"H100": "H100 SXM", "B200": "B200 SXM"}
MODELS = {
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-14B": "qwen3-14b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b-2507",
    "Qwen/Qwen3-30B-A3B-Thinking-2507": "qwen3-30b-a3b-2507",
    "Qwen/Qwen3-235B-A22B-Instruct-2507": "qwen3-235b-a22b-2507",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "qwen3-235b-a22b-2507",
    "Qwen/Qwen3-235B-A22B-Thinking-2507": "qwen3-235b-a22b-2507",
    "Qwen/Qwen3-235B-A22B-Thinking-2507-FP8": "qwen3-235b-a22b-2507",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": "qwen3-coder-30b-a3b",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": "qwen3-coder-480b-a35b",
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": "qwen3-coder-480b-a35b",
    "deepseek-ai/DeepSeek-V3.1": "deepseek-v3.1",
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1-0528",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.3-70b",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
}


def tables(upstream: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of measured_energy.csv from the folder of inputs, ordered by model, device, precision, workload, batch."""
    with (upstream / UPSTREAM).open(encoding="utf-8", newline="") as file:
        measured = [row for row in csv.DictReader(file) if row["model"] in MODELS and row["task"] in TEXT_WORKLOADS]
    rows = []
    for row in measured:
        joules = f"{float(row['j_per_output_token']):.6g}"
        rows.append(
            {
                "model": MODELS[row["model"]],
                "device": DEVICES[row["gpu"]],
                "devices": row["n_gpus"],
                "precision": PRECISIONS[row["precision"]],
                "batch": f"{float(row['avg_batch']):.6g}",
                "decode_j_per_token.low": joules,
                "decode_j_per_token.mid": joules,
                "decode_j_per_token.high": joules,
                "decode_j_per_token.sources": "mlenergy-v3",
                "tokens_per_s": f"{float(row['tokens_per_s']):.6g}",
                "workload": f"{row['task']} {row['model']}",
                "stack": f"vLLM 0.11.1 tp{row['tp']} ep{row['ep']} dp{row['dp']}",
            }
        )
    rows.sort(
        key=lambda row: (row["model"], row["device"], row["precision"], row["workload"], row["stack"], row["devices"])
    )
    return {"measured_energy.csv": rows}
