"""`python -m benchmark predict`: what the energy law says of a deployment, or of every row of a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmark import deployments, law
from ecoroute_mcp.catalogue import ANY_DEVICE, Coefficients, EnergyLaw, Structure
from ecoroute_mcp.energy import Deployment, predict, terms
from ecoroute_mcp.sci import EcoRouteError, Estimate

OLDER_STACK = Estimate(low=1.0, mid=1.6, high=2.2, basis="estimated", sources=("mlenergy-law-v1",))
"""Joules of serving stacks before vLLM 0.10 over the law's."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Joules per written token of one deployment, what each term of the law gives, and what was assumed."""

    j_per_token: Estimate
    terms: dict[str, float]
    stack_factor: float
    law: str
    note: str


def laws(data: Path) -> dict[str, EnergyLaw]:
    """The shipped laws by device. Raises EcoRouteError where the file is missing."""
    path = data / law.LAW
    if not path.is_file():
        raise EcoRouteError(f"{path} is missing: run `python -m benchmark fit --write`")
    found = {}
    for row in yaml.safe_load(path.read_text("utf-8")):
        factor = Estimate(
            basis="estimated", **{**row["residual_factor"], "sources": tuple(row["residual_factor"]["sources"])}
        )
        found[row["device"]] = EnergyLaw(
            **{
                **row,
                "coefficients": Coefficients(**row["coefficients"]),
                "structure": Structure(**row["structure"]),
                "residual_factor": factor,
                "sources": tuple(row["sources"]),
            }
        )
    return found


def predicted(
    known: Mapping[str, EnergyLaw], deployment: Deployment, stack: Estimate | None = None, note: str = ""
) -> Prediction:
    """What the law says of a deployment; ``stack``: its serving stack's joules over the law's own."""
    law = known.get(deployment.device.id, known[ANY_DEVICE])
    mid = predict(law, deployment)
    joules = Estimate.exact(mid, basis="estimated", source=law.sources[0]) * law.residual_factor
    notes = [note] if note else []
    if law.device == ANY_DEVICE:
        notes.append(f"no measurements on {deployment.device.id}: the law of all measured devices")
    if deployment.params_total_b > 700:
        notes.append("larger than any model measured")
    if stack is not None:
        joules = joules * stack
    return Prediction(
        j_per_token=joules,
        terms=terms(law, deployment),
        stack_factor=1.0 if stack is None else stack.mid,
        law=law.device,
        note="; ".join(notes),
    )


def stack_of(cells: Mapping[str, str]) -> Estimate | None:
    """The factor of the serving stack that a row's stack, dataset or source names; None for the law's own, or none."""
    text = " ".join(cells.get(name) or "" for name in ("stack", "dataset", "source"))
    version = re.search(r"vllm[ :v=]*(\d+)\.(\d+)", text, re.IGNORECASE)
    if version:
        return OLDER_STACK if (int(version[1]), int(version[2])) < (0, 10) else None
    if re.search(r"\bv[12](\.\d+)?\b", text) or re.search(r"text-generation-inference|\btgi\b", text, re.IGNORECASE):
        return OLDER_STACK
    return None


PREDICTED_COLUMNS = (
    "predicted_j_per_output_token_low",
    "predicted_j_per_output_token",
    "predicted_j_per_output_token_high",
    "predicted_note",
)


def predict_csv(text: str, data: Path) -> tuple[str, int]:
    """The table with PREDICTED_COLUMNS added, and how many rows could not be predicted: those say why in their note.

    Columns are those of data/upstream/mlenergy_v3.csv, see deployments.read; others are carried along. Raises
    EcoRouteError for a text without a header or with a predicted column already.
    """
    reader = csv.DictReader(io.StringIO(text))
    header = list(reader.fieldnames or [])
    if "total_params_b" not in header:
        raise EcoRouteError("the table needs a header with total_params_b, gpu and avg_batch; see predict --help")
    taken = [name for name in PREDICTED_COLUMNS if name in header]
    if taken:
        raise EcoRouteError(f"the table has a column {taken[0]} already: remove it")
    known, found = laws(data), deployments.devices(data)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=[*header, *PREDICTED_COLUMNS], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    failed = 0
    for cells in reader:
        given = {name: value or "" for name, value in cells.items() if name is not None}
        try:
            deployment, note = deployments.read(given, found)
            result = predicted(known, deployment, stack_of(given), note)
        except EcoRouteError as error:
            failed += 1
            writer.writerow(
                {**given, **dict.fromkeys(PREDICTED_COLUMNS[:3], ""), "predicted_note": f"not predicted: {error}"}
            )
            continue
        figures = (result.j_per_token.low, result.j_per_token.mid, result.j_per_token.high)
        cells_out = dict(zip(PREDICTED_COLUMNS[:3], (f"{figure:.6g}" for figure in figures), strict=True))
        writer.writerow({**given, **cells_out, "predicted_note": result.note})
    return out.getvalue(), failed
