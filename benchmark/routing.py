"""The tables that task scoring is trained and judged on: outcomes of tasks by model, from Parquet files.

Nothing is downloaded and nothing of the texts is kept: a folder is named, or there is nothing to do. Rows belong to a
``group``, the underlying problem, and are split by it, never at random.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.routing_metrics import Floats
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.energy import Method
from ecoroute_mcp.refresh import packaged_data, read
from ecoroute_mcp.sci import JOULES_PER_KWH, EcoRouteError

PAIRS = {"mmlu": "mmlu.parquet", "gsm8k": "gsm8k.parquet"}
CODEROUTER = "coderouterbench.parquet"
LIVECODE = "livecodebench_codegen.parquet"
CRUX = "zeroeval_crux.parquet"

SOURCES = {
    "mmlu": "RouteLLM @0b64fda, Apache-2.0",
    "gsm8k": "RouteLLM @0b64fda, Apache-2.0",
    "coderouterbench": "agent-as-a-router @7772d92 (arXiv 2606.22902), labels MIT",
    "livecodebench": "livecodebench.github.io, MIT",
    "crux": "ZeroEval @8c1485e, Apache-2.0",
}

ANSWER_TOKENS = 1_000.0
"""Tokens of an answer without reasoning, for energies that are compared only with each other."""


@dataclass(frozen=True)
class Catalogued:
    """A model of a table that is in the catalogue too: its id there, and the effort it ran at."""

    model: str
    effort: str


CODEROUTER_MODELS = {
    "opus-4-6": Catalogued("claude-opus-4-6", "default"),
    "sonnet-4-6": Catalogued("claude-sonnet-4-6", "default"),
    "gpt-5.4": Catalogued("gpt-5.4", "default"),
    "glm-5": Catalogued("glm-5", "default"),
    "kimi-k2.5": Catalogued("kimi-k2.5", "default"),
    "minimax-M2.7": Catalogued("minimax-m2.7", "default"),
    "qwen3-max": Catalogued("qwen3-max", "default"),
    "qwen3.5-plus": Catalogued("qwen3.5-plus", "default"),
}
ANSWERED = ("opus-4-6", "sonnet-4-6", "gpt-5.4", "kimi-k2.5")
"""Models of CodeRouterBench that answered without reasoning."""
REASONED = ("glm-5", "minimax-M2.7", "qwen3.5-plus")
"""And those that reasoned. The counts of qwen3-max are none of its own: ten values stand for a thousand answers."""
LIVECODE_MODELS = {
    "O4-Mini (High)": Catalogued("o4-mini", "high"),
    "O4-Mini (Medium)": Catalogued("o4-mini", "medium"),
    "O4-Mini (Low)": Catalogued("o4-mini", "low"),
    "O3-Mini-2025-01-31 (High)": Catalogued("o3-mini", "high"),
    "O3-Mini-2025-01-31 (Med)": Catalogued("o3-mini", "medium"),
    "O3-Mini-2025-01-31 (Low)": Catalogued("o3-mini", "low"),
    "Gemini-2.5-Pro": Catalogued("gemini-2.5-pro", "thinking"),
    "Gemini-2.5-Flash-Preview": Catalogued("gemini-2.5-flash", "thinking"),
    "Grok-3-Mini (High)": Catalogued("grok-3-mini", "high"),
    "Claude-3.7-Sonnet (Thinking)": Catalogued("claude-sonnet-3-7", "thinking"),
    "DeepSeek-V3": Catalogued("deepseek-v3", "none"),
    "GPT-4O-2024-08-06": Catalogued("gpt-4o", "none"),
    "GPT-4O-mini-2024-07-18": Catalogued("gpt-4o-mini", "none"),
}
"""The catalogue has one rung a model without stated effort, which is how such models ran here: without reasoning."""


@dataclass(frozen=True)
class Pair:
    """Tasks answered by a strong and a weak model. ``groups`` are subjects."""

    texts: list[str]
    groups: NDArray[np.str_]
    strong: Floats
    weak: Floats


@dataclass(frozen=True)
class Outcomes:
    """Tasks answered by several models. ``quality`` (tasks, models) from 0 to 1, NaN where not tried.

    ``energy`` (tasks, models) in ``unit``; NaN where the tokens are not known. ``text`` is empty where none is given.
    """

    texts: list[str]
    groups: NDArray[np.str_]
    models: tuple[str, ...]
    quality: Floats
    energy: Floats
    unit: str
    columns: pd.DataFrame


def _table(folder: Path, name: str, needed: tuple[str, ...]) -> pd.DataFrame:
    path = folder / name
    if not path.is_file():
        raise EcoRouteError(
            f"{path} is not there: give --data a folder that holds {', '.join([*PAIRS.values(), CODEROUTER])}, "
            f"{LIVECODE} and {CRUX}; nothing is downloaded"
        )
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's for what is no Parquet is a ValueError
        raise EcoRouteError(f"{path} is no Parquet table ({error}): fetch it again") from error
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise EcoRouteError(f"{path} lacks the columns {', '.join(missing)}")
    return table


def _texts(column: Any) -> list[str]:
    return [text if isinstance(text, str) else "" for text in column]


def _groups(table: pd.DataFrame) -> NDArray[np.str_]:
    return np.array([str(group) for group in table["group"]])


def read_pair(folder: Path, name: str) -> Pair:
    """MMLU or GSM8K as RouteLLM answered and decontaminated them: GPT-4 strong, Mixtral weak."""
    table = _table(folder, PAIRS[name], ("prompt", "group", "gpt4_ok", "mixtral_ok"))
    return Pair(
        _texts(table["prompt"]),
        _groups(table),
        table["gpt4_ok"].to_numpy(dtype=np.float64),
        table["mixtral_ok"].to_numpy(dtype=np.float64),
    )


def read_coderouter(folder: Path) -> Outcomes:
    """CodeRouterBench: scores of all graders, as its own replay averages them; energy is dollars by the catalogue."""
    catalogue = {model.id: model for model in read(packaged_data()).models}
    names = tuple(CODEROUTER_MODELS)
    needed = [f"{part}|{name}" for name in names for part in ("score", "in_tok", "out_tok")]
    table = _table(folder, CODEROUTER, ("split", "dimension", "grader", "group", "text", *needed))
    dollars = []
    for name in names:
        model = catalogue[CODEROUTER_MODELS[name].model]
        if model.price_in_usd_per_mtok is None or model.price_out_usd_per_mtok is None:
            raise EcoRouteError(f"{model.id} has no price in data/models.csv")
        dollars.append(
            table[f"in_tok|{name}"].to_numpy(dtype=np.float64) * model.price_in_usd_per_mtok / 1e6
            + table[f"out_tok|{name}"].to_numpy(dtype=np.float64) * model.price_out_usd_per_mtok / 1e6
        )
    return Outcomes(
        _texts(table["text"]),
        _groups(table),
        names,
        np.stack([table[f"score|{name}"].to_numpy(dtype=np.float64) for name in names], axis=1),
        np.stack(dollars, axis=1),
        "USD",
        table[["split", "dimension", "grader"]],
    )


@dataclass(frozen=True)
class Written:
    """Tokens written (tasks, models) by models of CodeRouterBench, and the kind of each task (tasks,)."""

    models: tuple[str, ...]
    kinds: NDArray[np.str_]
    tokens: Floats


def read_written(folder: Path) -> Written:
    """The tasks of CodeRouterBench whose tokens in and out are told apart, for all of ANSWERED and REASONED."""
    models = (*ANSWERED, *REASONED)
    columns = [f"out_tok|{name}" for name in models]
    table = _table(folder, CODEROUTER, ("dimension", *columns))
    told = table[np.isfinite(table[columns].to_numpy(dtype=np.float64)).all(1)]
    return Written(models, told["dimension"].to_numpy().astype(str), told[columns].to_numpy(dtype=np.float64))


def read_livecode(folder: Path) -> Outcomes:
    """LiveCodeBench: pass@1. Energy by the catalogue's law for an answer, times the tokens of the effort."""
    table = _table(folder, LIVECODE, ("group", "difficulty", "contest_date", "text"))
    names = tuple(column.removeprefix("pass1|") for column in table.columns if column.startswith("pass1|"))
    quality = np.stack([table[f"pass1|{name}"].to_numpy(dtype=np.float64) / 100 for name in names], axis=1)
    return Outcomes(
        _texts(table["text"]),
        _groups(table),
        names,
        quality,
        livecode_j(names, len(table)),
        "J per answer",
        table[["difficulty", "contest_date"]],
    )


def read_crux(folder: Path) -> Outcomes:
    """CRUX: 0 or 1. Energy goes as parameters times characters written: dense open models, their size in their name."""
    table = _table(folder, CRUX, ("group", "text"))
    names, sizes = [], []
    for column in table.columns:
        size = re.search(r"-(\d+)[bB](?=-|$)", column)
        if column.startswith("score|") and size:
            names.append(column.removeprefix("score|"))
            sizes.append(float(size.group(1)))
    written = np.stack([table[f"out_chars|{name}"].to_numpy(dtype=np.float64) for name in names], axis=1)
    return Outcomes(
        _texts(table["text"]),
        _groups(table),
        tuple(names),
        np.stack([table[f"score|{name}"].to_numpy(dtype=np.float64) for name in names], axis=1),
        np.array(sizes) * written,
        "10^9 parameters x characters",
        table[["group"]],
    )


def livecode_j(names: Sequence[str], tasks: int) -> Floats:
    """Joules (tasks, models) per answer; NaN where a model is not in the catalogue."""
    catalogue = read(packaged_data())
    joules = np.full(len(names), np.nan)
    for number, name in enumerate(names):
        ran = LIVECODE_MODELS.get(name)
        if ran is not None:
            joules[number] = answer_j(ran, catalogue)
    return np.tile(joules, (tasks, 1))


def answer_j(ran: Catalogued, catalogue: Catalogue) -> float:
    """Joules at the facility for an answer of ANSWER_TOKENS, reasoning of that effort added; middle of the interval."""
    method = Method(catalogue)
    model = next(row for row in catalogue.models if row.id == ran.model)
    provider = next(row for row in catalogue.providers if row.id == model.provider)
    multiplier = next(row.output_multiplier for row in catalogue.efforts if row.effort == ran.effort)
    per_token = method.at_facility(method.footprint(model), provider, multiplier)
    return per_token.decode_kwh.mid * JOULES_PER_KWH * ANSWER_TOKENS


def thetas() -> dict[tuple[str, str], float]:
    """The catalogue's quality scale by model id and effort."""
    return {(row.model, row.effort): row.theta for row in read(packaged_data()).quality}
