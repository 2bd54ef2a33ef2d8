"""Training of the difficulties that the router ships: by kind, and by text where the text says something.

The quality scale and the outcomes meet in the models that stand in both: their fitted abilities are regressed on their
θ. A kind's difficulty and spread are the most probable ones given the abilities of all models. Whether a text is read
at all, and how strongly, is decided in folds that keep a group whole: a reading is shipped only if it explains
something there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from benchmark import routing, routing_tokens
from benchmark.routing import Catalogued
from benchmark.routing_fit import latent, logistic
from benchmark.routing_metrics import Floats, Integers
from ecoroute_mcp import wording
from ecoroute_mcp.difficulty import VERSION
from ecoroute_mcp.sci import EcoRouteError

BUCKETS = 4_096
LEAST_TEXTS = 3
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
LEAST_EXPLAINED = 0.05
DIFFICULTIES = np.linspace(-15, 15, 601)
MOST_STEPS = 2_000
FILE = "routing_difficulty.json"
REPORT = "routing_difficulty.md"


@dataclass(frozen=True)
class Link:
    """ability = offset + slope × θ, over the models in both tables; ``residual_sd`` in logits."""

    offset: float
    slope: float
    residual_sd: float
    correlation: float
    models: tuple[tuple[str, float, float], ...]


def linked(names: Sequence[str], ability: Floats, known: dict[str, Catalogued]) -> Link:
    """The link by least squares. Raises EcoRouteError where fewer than five models stand in both tables."""
    thetas = routing.thetas()
    both = []
    for name, value in zip(names, ability, strict=True):
        if name in known:
            ran = known[name]
            # Without reasoning is how a model without stated efforts runs: there it stands as "default".
            effort = "default" if ran.effort == "none" else ran.effort
            if (ran.model, effort) in thetas:
                both.append((name, thetas[ran.model, effort], float(value)))
    if len(both) < 5:
        raise EcoRouteError(f"only {len(both)} models stand in data/quality.csv and in the outcomes: five are needed")
    theta, value = np.array([row[1] for row in both]), np.array([row[2] for row in both])
    slope, offset = np.polyfit(theta, value, 1)
    residual = value - offset - slope * theta
    return Link(
        float(offset),
        float(slope),
        float(residual.std(ddof=2)),
        float(np.corrcoef(theta, value)[0, 1]),
        tuple(both),
    )


def kind_spread(outcomes: Floats, ability: Floats) -> tuple[float, float]:
    """Mean and spread of normal difficulties, the likeliest for outcomes (tasks, models) given abilities (models,).

    By EM on a grid as fine as DIFFICULTIES: many models place a task far more narrowly than its kind does. Raises
    EcoRouteError where no outcome differs from another."""
    tried = np.isfinite(outcomes)
    got = np.where(tried, outcomes, 0.0)
    if got.sum() in (0.0, float(tried.sum())):
        raise EcoRouteError("all or none of these tasks are solved: take tasks that some models solve and some do not")
    p = logistic(ability[None, :] - DIFFICULTIES[:, None]).clip(1e-12, 1 - 1e-12)
    each = got @ np.log(p).T + (tried - got) @ np.log(1 - p).T
    likelihood = np.exp(each - each.max(1, keepdims=True))
    mean, spread = 0.0, 1.0
    for _ in range(MOST_STEPS):
        belief = likelihood * np.exp(-0.5 * ((DIFFICULTIES - mean) / spread) ** 2)
        belief /= belief.sum(1, keepdims=True)
        before = mean, spread
        mean = float((belief @ DIFFICULTIES).mean())
        spread = float(np.sqrt((belief @ (DIFFICULTIES - mean) ** 2).mean()))
        if abs(mean - before[0]) + abs(spread - before[1]) < 1e-5:
            break
    return mean, spread


def idf_of(read: Sequence[wording.Wording]) -> tuple[float, ...]:
    """Idf by bucket, rounded as it is shipped; 0 for a word in fewer than LEAST_TEXTS texts."""
    having = np.zeros(BUCKETS)
    for found in read:
        having[np.unique([bucket % BUCKETS for bucket in found.words])] += 1
    idf = np.where(having >= LEAST_TEXTS, np.log((1 + len(read)) / (1 + having)) + 1, 0.0)
    return tuple(round(float(value), 3) for value in idf)


def word_rows(read: Sequence[wording.Wording], idf: tuple[float, ...]) -> Floats:
    """Weights of words (texts, BUCKETS), by the function that serves."""
    rows = np.zeros((len(read), BUCKETS))
    for row, found in enumerate(read):
        for bucket, value in wording.weighted(found.words, idf).items():
            rows[row, bucket] = value
    return rows


@dataclass(frozen=True)
class TextReading:
    """What a text says of difficulty, as shipped, and the share of variance it explains in grouped folds."""

    document: dict[str, Any]
    explained: float
    penalty: float


def text_reading(texts: Sequence[str], difficulty: Floats, groups: NDArray[np.str_]) -> TextReading:
    """The linear reading of words with the penalty that explains most in folds that keep a group whole.

    The shape is left out on purpose: among contest tasks length tells difficulty, among developers' requests it does
    not, and a short request would pass for an easy one."""
    read = [wording.read(text) for text in texts]
    held_out = {penalty: np.zeros(len(difficulty)) for penalty in PENALTIES}
    for fit, held in GroupKFold(5).split(difficulty, groups=groups):
        idf = idf_of([read[row] for row in fit])
        rows, asked = word_rows([read[row] for row in fit], idf), word_rows([read[row] for row in held], idf)
        for penalty, predicted in held_out.items():
            predicted[held] = Ridge(alpha=penalty).fit(rows, difficulty[fit]).predict(asked)
    total = float(((difficulty - difficulty.mean()) ** 2).sum())
    explained, penalty = max(
        (1 - float(((difficulty - predicted) ** 2).sum()) / total, penalty) for penalty, predicted in held_out.items()
    )
    idf = idf_of(read)
    fitted = Ridge(alpha=penalty).fit(word_rows(read, idf), difficulty)
    return TextReading(
        {
            "idf": list(idf),
            "words": [round(float(value), 4) for value in fitted.coef_],
            "intercept": round(float(fitted.intercept_), 4),
        },
        explained,
        penalty,
    )


@dataclass(frozen=True)
class Trained:
    """The document that the router ships, the report beside it, and the figures of the report that it leaves out."""

    document: dict[str, Any]
    report: str
    validation: dict[str, Any]


def train(folder: Path) -> Trained:
    """Difficulties from the tables of a folder. Raises EcoRouteError where one is missing or too small."""
    livecode = routing.read_livecode(folder)
    fitted = latent(livecode.quality)
    link = linked(livecode.models, fitted.ability, routing.LIVECODE_MODELS)
    # The spread of the fitted difficulties follows their prior; the kind's own is the likeliest without one.
    mean, spread = kind_spread(livecode.quality, fitted.ability)
    written: Integers = np.flatnonzero([bool(text) for text in livecode.texts])
    # Against the mean of all tasks: those with a text are not as hard as the others.
    shift = fitted.difficulty[written] - fitted.difficulty.mean()
    reading = text_reading([livecode.texts[row] for row in written], shift, livecode.groups[written])
    kinds = {"generate": {"mean": round(mean, 4), "spread": round(spread, 4), "tasks": len(livecode.texts)}}
    texts = {}
    if reading.explained >= LEAST_EXPLAINED:
        left = spread * float(np.sqrt(1 - reading.explained))
        texts["generate"] = {**reading.document, "spread": round(left, 4)}
    theta = np.array([row[1] for row in link.models])
    lines = [
        "# Difficulty, trained",
        "",
        "Made by `python -m benchmark route-train --data DIR`; do not edit. P(success) = logistic(offset + slope × θ - "
        "difficulty), θ as in `quality.csv`, difficulty in logits, normal within a kind.",
        "",
        f"**Link.** Over {len(link.models)} models that stand in both tables: offset {link.offset:.3f}, slope "
        f"{link.slope:.3f} logits per unit of θ, correlation {link.correlation:.2f}, residual {link.residual_sd:.2f} "
        "logits: a model may lie that far off the line, and further off outside these θ. There a chance is an "
        "extrapolation, and an answer says so.",
        "",
        "| model | θ | fitted ability |",
        "|---|---|---|",
        *(f"| {name} | {theta:.3f} | {value:.2f} |" for name, theta, value in sorted(link.models, key=lambda r: r[1])),
        "",
        f"**generate.** {len(livecode.texts)} contest tasks, {len(livecode.models)} models: mean {mean:.2f}, spread "
        f"{spread:.2f}. From text, {len(written)} tasks with one: {100 * reading.explained:.0f} % of the variance of "
        f"difficulty is explained by their words in grouped folds (penalty {reading.penalty:g}); "
        + ("shipped." if texts else "not shipped: too little."),
        "",
    ]
    lines += [
        "**Other kinds** have no outcomes here that a test or a run decided and that models near these reached: no "
        "difficulty is given, and no smaller model is offered to try first. Completions were run in CodeRouterBench, "
        "but by models far above those of the link, and nobody runs a completion before taking it.",
        "",
        f"Source: {routing.SOURCES['livecodebench']}",
        "",
    ]
    document = {
        "version": VERSION,
        "generated_by": "python -m benchmark route-train",
        "sources": {"livecodebench": routing.SOURCES["livecodebench"]},
        "link": {
            "offset": round(link.offset, 4),
            "slope": round(link.slope, 4),
            "residual_sd": round(link.residual_sd, 4),
            "models": len(link.models),
            "theta_from": float(theta.min()),
            "theta_to": float(theta.max()),
            "theta_mean": round(float(theta.mean()), 4),
            "theta_squares": round(float(((theta - theta.mean()) ** 2).sum()), 4),
        },
        "kinds": kinds,
        "texts": texts,
    }
    validation = {
        "correlation": link.correlation,
        "models": [{"model": name, "theta": theta, "ability": value} for name, theta, value in link.models],
        "texts": {
            "generate": {
                "tasks": len(written),
                "explained": reading.explained,
                "penalty": reading.penalty,
                "shipped": bool(texts),
            }
        },
    }
    return Trained(document, "\n".join(lines), validation)


def run(folder: Path, as_json: bool, into: Path | None) -> int:
    """Train and print the report; write it and the coefficients into a folder if one is given. Returns exit status."""
    trained = train(folder)
    tokens = routing_tokens.fit(routing.read_written(folder))
    verbosity = routing_tokens.table(tokens)
    if as_json:
        said = {"difficulty": trained.document, "validation": trained.validation, "verbosity": asdict(tokens)}
        print(json.dumps(said, indent=2, allow_nan=False))
    else:
        print(trained.report)
        print(verbosity)
    if into is not None:
        (into / FILE).write_text(
            json.dumps(trained.document, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (into / REPORT).write_text(trained.report, encoding="utf-8")
        (into / routing_tokens.FILE).write_text(verbosity, encoding="utf-8")
        print(f"wrote {FILE}, {REPORT} and {routing_tokens.FILE} into {into}", file=sys.stderr)
    return 0
