"""`python -m benchmark predict`: what the energy law says of a deployment, or of every row of a table."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark import deployments, law, table
from benchmark.command_line import given_path
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import ANY_DEVICE, Coefficients, EnergyLaw
from ecoroute_mcp.energy import Deployment, predict, terms
from ecoroute_mcp.sci import EcoRouteError, Estimate

OLDER_STACK = Estimate(low=1.0, mid=1.6, high=2.56, basis="estimated", sources=("mlenergy-law-v1",))
"""Joules of serving stacks before vLLM 0.10 over the law's; its doubt, from none of it to twice it in logarithms, is a
judgement."""


LARGEST_MEASURED_B = 671.0
"""Parameters (1e9) of the largest model among the rows that the law is fitted on: DeepSeek-V3.1, ML.ENERGY v3.0."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Joules per written token of one deployment, what each term of the law gives, and what was assumed."""

    j_per_token: Estimate
    terms: dict[str, float]
    law: str
    note: str


def laws(data: Path) -> dict[str, EnergyLaw]:
    """The shipped laws by device. Raises EcoRouteError where the data cannot be read."""
    return {each.device: each for each in refresh.read(data).energy_laws}


def predicted(
    known: Mapping[str, EnergyLaw], deployment: Deployment, stack: Estimate | None = None, note: str = ""
) -> Prediction:
    """What the law says of a deployment; ``stack``: its serving stack's joules over the law's own."""
    chosen = known.get(deployment.device.id) or known[ANY_DEVICE]
    joules = Estimate.exact(predict(chosen, deployment), basis="estimated", source=chosen.sources[0])
    joules = joules * chosen.residual_factor
    notes = [note] if note else []
    if chosen.device == ANY_DEVICE:
        notes.append(f"no measurements on {deployment.device.id}: the law of all measured devices")
    if deployment.params_total_b > LARGEST_MEASURED_B:
        notes.append("larger than any model measured")
    if stack is not None:
        notes.append(f"an older serving stack: {stack.mid:g} times the law")
        joules = joules * stack
    return Prediction(
        j_per_token=joules,
        terms=terms(chosen, deployment),
        law=chosen.device,
        note="; ".join(notes),
    )


def stack_of(cells: Mapping[str, str]) -> Estimate | None:
    """The factor of the serving stack that a row's stack, dataset or source names; None for the law's own, or none."""
    text = " ".join(cells.get(name) or "" for name in ("stack", "dataset", "source"))
    version = re.search(r"vllm[ :v=]*(\d+)\.(\d+)", text, re.IGNORECASE)
    if version:
        return OLDER_STACK if (int(version[1]), int(version[2])) < (0, 10) else None
    if re.search(r"ml\.?energy[ :_-]*v[12]\b|text-generation-inference|\btgi\b", text, re.IGNORECASE):
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


# -- the command

EXAMPLES = """examples:
  python -m benchmark predict --params-total-b 235 --params-active-b 22 --bytes-per-param 1 --gpu "H100 SXM" --gpus 8 \\
    --batch 64
  python -m benchmark predict --params-total-b 8 --gpu "B200 SXM" --batch 32 --context 4000 --json
  python -m benchmark predict --params-total-b 4 --gpu H100 --batch 1 --measured data/measurements/h100-80gb-hbm3.jsonl
  python -m benchmark predict --csv rows.csv > predicted.csv

--csv takes total_params_b, gpu and avg_batch, and where given active_params_b, n_gpus, precision, avg_output_len, task,
architecture and dataset (whose vLLM version tells an older stack); every other column is carried along and none that
is an outcome (joules, power, throughput) is looked at.
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params-total-b", type=float, metavar="X", help="parameters of the model, in 1e9")
    parser.add_argument("--params-active-b", type=float, metavar="Y", help="of those, active per token (default: all)")
    parser.add_argument("--bytes-per-param", type=float, default=2.0, metavar="Z", help="as loaded (default: 2, bf16)")
    parser.add_argument("--gpu", metavar="NAME", help="a row of data/devices.csv, by its id or NVML name")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="devices that serve it together (default: 1)")
    parser.add_argument("--batch", type=float, metavar="B", help="sequences decoded together")
    parser.add_argument(
        "--context", type=float, default=0.0, metavar="C", help="tokens that a written one attends to (default: 0)"
    )
    parser.add_argument(
        "--measured",
        type=given_path,
        metavar="FILE",
        help="this machine's trials (JSON lines): calibrate the law on them",
    )
    parser.add_argument(
        "--csv", type=given_path, metavar="FILE", help="predict every row of a table instead, to stdout"
    )
    parser.add_argument("--data", type=given_path, metavar="DIR", help="folder of the data (default: the one shipped)")
    parser.add_argument("--json", action="store_true", help="print the prediction as JSON")


def run(arguments: argparse.Namespace) -> int:
    data: Path = arguments.data or refresh.packaged_data()
    if arguments.csv is not None:
        return _table(arguments.csv, data)
    missing = [name for name in ("params_total_b", "gpu", "batch") if getattr(arguments, name) is None]
    if missing:
        flags = ", ".join("--" + name.replace("_", "-") for name in missing)
        raise EcoRouteError(f"predict needs {flags}, or --csv FILE; see predict --help")
    found = deployments.devices(data)
    device, note = deployments.named_device(arguments.gpu, found)
    deployment = Deployment(
        device=device,
        devices=arguments.gpus,
        params_total_b=arguments.params_total_b,
        params_active_b=arguments.params_total_b if arguments.params_active_b is None else arguments.params_active_b,
        bytes_per_param=arguments.bytes_per_param,
        batch=arguments.batch,
        context_tokens=arguments.context,
    )
    known = laws(data)
    if arguments.measured is not None:
        known = {device.id: on_machine(known, data, arguments.measured, device.id)}
    result = predicted(known, deployment, note=note)
    if arguments.json:
        print(json.dumps(asdict(result), indent=2))
        return 0
    joules = result.j_per_token
    print(
        f"{joules.mid:.4g} J per written token ({joules.low:.4g} to {joules.high:.4g}), accelerators alone, estimated"
    )
    if result.note:
        print(f"note: {result.note}")
    print()
    table.show(
        f"Terms of the law ({result.law})",
        ("term", "J per token", "share"),
        [(term, f"{value:.4g}", f"{value / joules.mid:.0%}") for term, value in result.terms.items() if value],
    )
    return 0


def _table(path: Path, data: Path) -> int:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EcoRouteError(f"cannot read {path}: {error}") from error
    out, failed = predict_csv(text, data)
    print(out, end="")
    if failed:
        print(f"{failed} rows could not be predicted: their predicted_note says why", file=sys.stderr)
    return 1 if failed else 0


def on_machine(known: Mapping[str, EnergyLaw], data: Path, path: Path, device_id: str) -> EnergyLaw:
    """The law of a device, calibrated on a machine's own trials at 16 bits. Raises EcoRouteError without one."""
    base = known.get(device_id, known[ANY_DEVICE])
    rows = [row for row in law.own_rows(data, [path]) if row.device == device_id]
    if not rows:
        raise EcoRouteError(f"{path} has no trial of {device_id} at 16 bits with CUDA graphs that failed no gate")
    joules = [predict(base, row.deployment) for row in rows]
    machine = law.calibrated(rows, joules, math.log(base.residual_factor.high))
    scaled = Coefficients(**{term: value * machine.factor for term, value in asdict(base.coefficients).items()})
    factor = math.exp(machine.half_width_log)
    return replace(
        base,
        coefficients=scaled,
        device=f"{base.device}, calibrated on {machine.models} models measured on this machine",
        residual_factor=replace(base.residual_factor, low=1 / factor, high=factor),
    )
