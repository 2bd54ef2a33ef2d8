"""`python -m benchmark fit`: fits the energy law, prints how it does on what it has not seen, writes it on request."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark import law, table
from benchmark.command_line import given_path
from benchmark.curate.energy import UPSTREAM
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError

EXAMPLES = """examples:
  python -m benchmark fit                  fit and print; nothing is written
  python -m benchmark fit --write          write data/energy_law.yaml and data/energy_validation.yaml
  python -m benchmark fit --check          exit with 1 where they differ from what the measurements give
  python -m benchmark fit --plot law.svg   predicted against measured, each family predicted unseen
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=given_path, metavar="DIR", help="folder of the data (default: the one shipped)")
    parser.add_argument("--write", action="store_true", help="write energy_law.yaml and energy_validation.yaml there")
    parser.add_argument("--check", action="store_true", help="compare the files there with what would be written")
    parser.add_argument("--plot", type=given_path, metavar="FILE", help="draw predicted against measured (.svg, .png)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    data: Path = arguments.data or packaged_data()
    if not (data / "upstream" / UPSTREAM).is_file():
        raise EcoRouteError(f"{data / 'upstream' / UPSTREAM} is missing: the measurements are in a checkout's data/")
    document = law.study(data)
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    if arguments.plot is not None:
        plot(data, arguments.plot)
    written = law.files(document)
    if arguments.write:
        for name, content in written.items():
            try:
                (data / name).write_bytes(content)
            except OSError as error:
                raise EcoRouteError(f"cannot write {name} ({error}): give --data a folder to be written") from error
    if arguments.check:
        stale = [name for name, text in written.items() if not (data / name).is_file() or differs(data / name, text)]
        if stale:
            raise EcoRouteError(f"{' and '.join(stale)} differ from the measurements: run with --write")
    return 0


def differs(path: Path, content: bytes) -> bool:
    """Whether a written file says something else; figures to a thousandth, for processors differ in the last digits."""
    import yaml

    return not _alike(yaml.safe_load(path.read_bytes()), yaml.safe_load(content))


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(_alike(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_alike, old, new))
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-3, abs_tol=1e-3 if abs(old) >= 1e-3 else 0.0)
    return bool(old == new)


def show(document: Mapping[str, Any]) -> None:
    """Print :func:`benchmark.law.study`'s document as tables."""
    print(
        f"{document['rows']} rows of {document['models']} models of {document['families']} families; errors are of "
        "rows that the fit has not seen, but with the stack factor, the median of the very rows it is tried on\n"
    )
    table.show(
        "Bars",
        ("figure", "bar", "measured", "reached"),
        [
            (name, each["bar"], f"{each['measured']:.1%}", "yes" if each["reached"] else "NO")
            for name, each in document["bars"].items()
        ],
    )
    table.show(
        "Median relative error and bias, by what was left out",
        ("left out", "form", "device", "rows", "median error", "bias"),
        [
            (out, form, device, *_cells(figures))
            for out, forms in (
                ("a family", document["leave_one_family_out"]),
                ("100e9 and more", document["extrapolation"]),
                ("a GPU", {"this law": document["leave_one_gpu_out"]}),
            )
            for form, devices in forms.items()
            for device, figures in devices.items()
        ],
    )
    table.show(
        "Workloads that the fit has not seen",
        ("workload", "rows", "median error", "bias", "inside the interval"),
        [
            (task, *_cells(each), f"{each['coverage_90']:.1%}")
            for task, each in document["workloads_not_fitted"].items()
        ],
    )
    table.show(
        "This law, family by family",
        ("family left out, device", "rows", "median error", "bias"),
        [(name, *_cells(figures)) for name, figures in document["leave_one_family_out_by_family"].items()],
    )
    devices = list(document["coefficients"])
    table.show(
        "Coefficients: 1 is full power for the ideal time",
        ("term", *devices),
        [(term, *(document["coefficients"][each][term] for each in devices)) for term in law.TERMS],
    )
    table.show(
        "Had it been set up otherwise (a family left out)",
        ("otherwise", "device", "rows", "median error", "bias"),
        [
            (name, device, *_cells(figures))
            for name, devices in document["sensitivity"].items()
            for device, figures in devices.items()
            if isinstance(figures, dict)
        ],
    )
    table.show(
        "Stacks: joules over the law's",
        ("stack", "factor", "rows", "median error with it"),
        [
            (name, each["factor"], each["rows"], table.number(each.get("median_error"), ".1%"))
            for name, each in document["stacks"].items()
        ],
    )
    table.show(
        "A machine's models left out in turn, the law alone and calibrated on its other models",
        ("machine", "form", "rows", "median error", "bias"),
        [
            (device, form, *_cells(figures))
            for device, forms in document["calibration_leave_one_model_out"].items()
            for form, figures in forms.items()
        ],
    )


def _cells(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(figures["rows"]), f"{figures['median_error']:.1%}", f"{figures['bias']:+.1%}"


def plot(data: Path, path: Path) -> None:
    """Draw joules per token as measured against as predicted with the row's family left out, and the 90 % interval.

    Raises EcoRouteError without Matplotlib, for a kind of file that it does not write, and where it cannot be written.
    """
    if not path.parent.is_dir():
        raise EcoRouteError(
            f"cannot draw to {path} (there is no such folder): name a file in a folder that can be written"
        )
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise EcoRouteError("drawing needs Matplotlib: pip install matplotlib") from error
    rows = law.measured_rows(data)
    errors = law.left_out(rows, law.by_family)
    width = math.exp(law.half_width_log(rows, errors))
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ecoroute", "font.size": 9})
    figure, axes = pyplot.subplots(figsize=(6, 5))
    for marker, device in zip("ox", sorted({row.device for row in rows}), strict=False):
        for number, family in enumerate(law.FAMILIES):
            chosen = [i for i, row in enumerate(rows) if (row.device, row.family) == (device, family)]
            measured = [rows[i].j_per_token for i in chosen]
            predicted = [rows[i].j_per_token / math.exp(errors[i]) for i in chosen]
            label = f"{family}, {device.split()[0]}" if chosen else None
            axes.plot(predicted, measured, marker, color=f"C{number}", markersize=3, alpha=0.7, label=label)
    ends = [0.03, 40]
    axes.plot(ends, ends, "-", color="0.3", linewidth=1)
    for factor in (width, 1 / width):
        axes.plot(ends, [factor * end for end in ends], ":", color="0.3", linewidth=1)
    axes.set(
        xscale="log", yscale="log", xlabel="predicted J per token, its family unseen", ylabel="measured J per token"
    )
    axes.legend(fontsize=6)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, bbox_inches="tight")
    except ValueError as error:
        raise EcoRouteError(f"cannot draw to {path.name}: {error}") from error
    except OSError as error:
        raise EcoRouteError(f"cannot draw to {path} ({error}): name a file in a folder that can be written") from error
    finally:
        pyplot.close(figure)
