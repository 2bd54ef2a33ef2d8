"""ML.ENERGY's and this project's measurements -> measured_energy.csv: joules per output token of models we know.

Of ML.ENERGY only text workloads that the host did not hold up, only models of the catalogue (the mapping below is by
weights: an "-FP8" upload is the same model served at another precision). The rows are the upstream figures as they
stand; nothing is averaged here.

Of this project's trials (data/measurements) only models that ML.ENERGY does not have, so that two serving stacks are
never pooled for one model; and only what the energy law can carry to other deployments: its devices, the precisions
that models are served at, no failed gate. What is left out stands in the table's comments, with the reason. A file of
trials needs a row of sources.csv with its path as the address.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from benchmark import trial
from benchmark.curate import models
from ecoroute_mcp.catalogue import Precision
from ecoroute_mcp.identity import Identity
from ecoroute_mcp.sci import EcoRouteError

UPSTREAM = "mlenergy_v3.csv"
TEXT_WORKLOADS = ("lm-arena-chat", "gpqa", "sourcegraph-fim")
PROMPT_TOKENS = {
    "gpqa": 250.0,
    "lm-arena-chat": 150.0,
    "sourcegraph-fim": 1500.0,
    "image-chat": 1500.0,
    "video-chat": 3000.0,
}
"""Tokens a request of ML.ENERGY's workloads reads, as far as they can be told: estimates of their kinds of prompt, the
images' and videos' tokens included. Halving or doubling the longest text prompt moves left-out errors by under a point;
the videos' was set so that the law, which never saw them, meets them in the middle."""
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


def host_bound(cells: Mapping[str, str]) -> bool:
    """Whether a row is of the part of ML.ENERGY's v3.0 campaign that the host held up.

    On single B200s all GPQA steps of small batches take 32 to 45 ms, whatever the model, at a third of TDP; the same
    models take 5 to 14 ms in the chat workload there, and no more for GPQA on an H100 or on several B200s.
    """
    one = (cells.get("n_gpus") or "1").strip() in ("1", "1.0")
    campaign = (cells.get("dataset") or "").startswith("v3.0")
    return campaign and one and "B200" in (cells.get("gpu") or "").upper() and cells.get("task") == "gpqa"


WEIGHTS = {"random": "random weights of the true shape", "gguf": "a GGUF file's weights", "checkpoint": "its weights"}


def tables(upstream: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of measured_energy.csv from the folder of inputs, and the trials beside it, ordered by model, device,
    precision, workload, batch."""
    rows = _published(upstream) + _own(upstream)[0]
    rows.sort(
        key=lambda row: (row["model"], row["device"], row["precision"], row["workload"], row["stack"], row["devices"])
    )
    return {"measured_energy.csv": rows}


def notes(upstream: Path) -> dict[str, list[str]]:
    """Which of the project's trials are not in the table, by reason."""
    left_out: dict[str, list[str]] = {}
    for (reason, model), count in sorted(_own(upstream)[1].items()):
        left_out.setdefault(reason, []).append(f"{count} of {model}")
    with (upstream / UPSTREAM).open(encoding="utf-8", newline="") as file:
        held_up = sum(row["model"] in MODELS and host_bound(row) for row in csv.DictReader(file))
    return {
        "measured_energy.csv": [f"ML.ENERGY rows left out, the host held the device up: {held_up}"]
        + [f"trials left out, {reason}: {', '.join(counted)}" for reason, counted in left_out.items()]
    }


def _published(upstream: Path) -> list[dict[str, str]]:
    with (upstream / UPSTREAM).open(encoding="utf-8", newline="") as file:
        measured = [row for row in csv.DictReader(file) if _of_use(row)]
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
                "context_tokens": f"{PROMPT_TOKENS[row['task']] + float(row['avg_output_len']) / 2:.6g}",
                "prompt_per_output": f"{PROMPT_TOKENS[row['task']] / float(row['avg_output_len']):.6g}",
                "decode_j_per_token.low": joules,
                "decode_j_per_token.mid": joules,
                "decode_j_per_token.high": joules,
                "decode_j_per_token.sources": "mlenergy-v3",
                "tokens_per_s": f"{float(row['tokens_per_s']):.6g}",
                "workload": f"{row['task']} {row['model']}",
                "stack": f"vLLM 0.11.1 tp{row['tp']} ep{row['ep']} dp{row['dp']}",
            }
        )
    return rows


def _of_use(row: Mapping[str, str]) -> bool:
    return row["model"] in MODELS and row["task"] in TEXT_WORKLOADS and not host_bound(row)


def _own(upstream: Path) -> tuple[list[dict[str, str]], Counter[tuple[str, str]]]:
    """Rows of the project's trials, and how many were left out by reason and model."""
    data = upstream.parent
    files = sorted((data / "measurements").glob("*.jsonl"))
    left_out: Counter[tuple[str, str]] = Counter()
    if not files:
        return [], left_out
    catalogue = models.tables(upstream)
    identity = Identity([models.as_model(row) for row in catalogue["models.csv"]], ())
    devices = {name: row["id"] for row in models.rows(data / "devices.csv") for name in row["nvml_names"].split("|")}
    sources = {row["url"]: row["id"] for row in models.rows(data / "sources.csv")}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for file in files:
        source = sources.get(f"data/measurements/{file.name}")
        for measured in trial.read(file).measured:
            try:
                if source is None:
                    raise EcoRouteError(f"no row of sources.csv has data/measurements/{file.name}")
                row = _row(measured, identity, devices, source)
            except EcoRouteError as error:
                left_out[str(error), measured.config.model] += 1
                continue
            key = tuple(cell for name, cell in row.items() if name not in FIGURES)
            if key in rows:
                left_out["the same on another occasion", measured.config.model] += 1
            rows.setdefault(key, row)
    return list(rows.values()), left_out


FIGURES = ("decode_j_per_token.low", "decode_j_per_token.mid", "decode_j_per_token.high", "tokens_per_s")


def _row(measured: trial.Measured, identity: Identity, devices: dict[str, str], source: str) -> dict[str, str]:
    """Raises EcoRouteError, with words that many trials share, where the trial has no place in the table."""
    config, joules = measured.config, measured.decode.j_per_token
    device = devices.get(measured.machine.name)
    if device is None or device not in DEVICES.values():
        raise EcoRouteError(f"no energy law was validated for {measured.machine.name}")
    try:
        model = identity.resolve(config.model).model_id
    except EcoRouteError as error:
        raise EcoRouteError("not in the catalogue") from error
    if model in MODELS.values():
        raise EcoRouteError("ML.ENERGY has the model")
    if config.precision not in get_args(Precision):
        raise EcoRouteError(f"{config.precision} is no precision of the law")
    if config.eager:
        raise EcoRouteError("without CUDA graphs, as nobody serves")
    if joules is None:
        raise EcoRouteError("no energy")
    if measured.gates_failed:
        raise EcoRouteError("a gate failed")
    version = measured.machine.software.get("transformers", "of an unknown version")
    return {
        "model": model,
        "device": device,
        "devices": "1",
        "precision": config.precision,
        "batch": str(config.batch),
        "context_tokens": f"{config.prompt_tokens + config.generated_tokens / 2:g}",
        "prompt_per_output": "0",
        "decode_j_per_token.low": f"{joules.low:.6g}",
        "decode_j_per_token.mid": f"{joules.mean:.6g}",
        "decode_j_per_token.high": f"{joules.high:.6g}",
        "decode_j_per_token.sources": source,
        "tokens_per_s": f"{measured.decode.tokens_per_s.mean:.6g}",
        "workload": f"{config.prompt_tokens}+{config.generated_tokens} tokens, {WEIGHTS[measured.weights.source]}",
        "stack": f"EcoRoute benchmark, transformers {version}, {measured.step}",
    }
