"""`python -m benchmark front`: the Pareto front of what was measured, as tables, JSON and CSV."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from benchmark import session, table
from benchmark.command_line import given_path
from benchmark.front import QUALITIES, ZONE, DeviceFront, Fronts, LeftOut, Standing, fronts, read
from benchmark.objectives import LEAST_PAIRS, Axis, Score, published, shipped_sources
from benchmark.trial import Precision, TrialConfig
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.sci import EcoRouteError, Estimate

MILLION = 1_000_000
UNQUANTISED: frozenset[Precision] = frozenset({"bf16", "fp16", "fp32"})

EXAMPLES = """examples:
  python -m benchmark front                                      every device of the measurements, its front
  python -m benchmark front --device H100 --zone SWE             one device, on Sweden's grid
  python -m benchmark front --lengths 256+256 --all              one sort of work; those behind the front too, by rank
  python -m benchmark front --file night.jsonl --csv front.csv   some files; everything as a table for a spreadsheet
  python -m benchmark front --json                               everything, for a program

A configuration is on the front if no other is as good on grams, quality and speed and better on one. It is on it
"within noise" if no other is surely so: by 1.96 standard deviations on every axis, where repeats and occasions say how
much a figure varies. Grams are SCI per million generated tokens, reading the prompt included: gross energy at the plug
times the zone's intensity, plus embodied carbon for the time it took. Their interval holds what all configurations of
a device share too, the grid's and the hardware's doubt, so overlapping intervals do not make two of them equal.

Only one device and one scale of quality are compared at a time. Lengths are part of a configuration, and a long prompt
costs: for one sort of work, --lengths compares what was measured at it. A model with random weights has the published
score of its released weights: what a precision loses is not in it, so of such rows a quantised one looks as good as
bf16. Two models a point or two apart may be in the other order by another evaluator: see data/shape_quality.csv.
"?" marks a configuration that failed a gate other than throttling: shown where it would stand, it keeps no other off
the front. Crowding says how far a configuration's neighbours on its rank lie apart; "end" is best or worst of an axis.
Hypervolume is how much of the space up to the reference (the worst of each axis) the front dominates: it grows as a
search finds better ones, and can be compared between fronts with one reference only."""


def options(parser: argparse.ArgumentParser) -> None:
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument(
        "--folder", type=given_path, metavar="FOLDER", help="its *.jsonl files (default: where run writes)"
    )
    rows.add_argument("--file", type=given_path, nargs="+", metavar="FILE", help="these files of measurements")
    parser.add_argument("--zone", default=ZONE, help=f"grid zone of the grams (default: {ZONE}, the world's mean)")
    parser.add_argument(
        "--quality",
        choices=QUALITIES,
        default="auto",
        help="bits-per-byte: rows with real weights; published: scores of released weights; auto: the first where a "
        "row has it, else the second (default)",
    )
    parser.add_argument("--device", metavar="NAME", help="only devices with this in their name")
    parser.add_argument(
        "--lengths", type=_lengths, metavar="P+G", help="only trials of this many prompt and generated tokens: 256+256"
    )
    parser.add_argument("--all", action="store_true", help="print the configurations off the front too")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--csv", type=given_path, metavar="FILE", help="write everything as a table, one configuration a line"
    )


def _lengths(text: str) -> tuple[int, int]:
    read_, _, written = text.partition("+")
    try:
        return int(read_), int(written)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"prompt and generated tokens look like 256+256; got {text!r}") from error


def run(arguments: argparse.Namespace) -> int:
    data = refresh.packaged_data()
    catalogue = refresh.read(data)
    scores = published(data)
    files = read(arguments.file or [arguments.folder or session.measurements()])
    found = fronts(
        [trial for rows in files for trial in rows.trials],
        catalogue,
        scores=scores,
        usual=[row for rows in read([data / "measurements"]) for row in rows.measured],
        sources=shipped_sources(data, catalogue.sources),
        zone=arguments.zone,
        quality=arguments.quality,
        device=arguments.device,
        lengths=arguments.lengths,
    )
    if arguments.csv is not None:
        try:
            arguments.csv.write_text(as_csv(found, scores), encoding="utf-8")
        except OSError as error:
            raise EcoRouteError(f"cannot write {arguments.csv} ({error.strerror}): name another file") from error
    for rows in files:
        if rows.torn is not None:
            print(f"an incomplete last line of {len(rows.torn)} characters is left out", file=sys.stderr)
    if arguments.json:
        print(json.dumps(document(found, scores, catalogue), indent=2, allow_nan=False))
    else:
        show(found, scores, every=arguments.all)
    return 0


def show(found: Fronts, scores: Mapping[str, Score], *, every: bool) -> None:
    """Print the front of each ground, what is on it within noise, and with ``every`` the rest; and what is left out."""
    for front in found.fronts:
        _show_front(front, found, scores, every)
    if found.left_out:
        table.show(
            "Rows left out",
            ("device", "configuration", "why"),
            [(each.device, each.row.config, each.reason) for each in found.left_out],
        )


def _show_front(front: DeviceFront, found: Fronts, scores: Mapping[str, Score], every: bool) -> None:
    metered = front.axes[0].name == "carbon"
    grams = f"grams in zone {found.zone.zone}" if metered else "no energy was read, so no grams"
    table.show(
        f"{front.ground.device}: quality is {_scale(front, scores)}; {grams}",
        ("stands", "model", "precision", "batch", "prompt+gen.", "g CO2e/Mtoken", "interval", "J/token",
         _quality_unit(front, scores), "tokens/s", "crowding", "occasions", "gates failed"),
        [
            (
                each.stands, _model(each), each.point.row.config.precision, each.point.row.config.batch,
                f"{each.point.row.config.prompt_tokens}+{each.point.row.config.generated_tokens}",
                *_grams(each.point.carbon_g), None if each.energy_j is None else _figure(each.energy_j.mid),
                _figure(_values(each)["quality"]), _figure(_values(each)["speed"]), _crowding(each), len(each.rows),
                "; ".join(each.gates_failed) or None,
            )
            for each in front.standings
            if every or each.within_noise
        ],
    )  # fmt: skip
    lossy = {each.point.row.config.precision for each in front.standings if every or each.within_noise} - UNQUANTISED
    if lossy and front.quality == "published":
        print(f"The scores are of released weights: what {' or '.join(sorted(lossy))} loses is not in them")
    members = sum(each.on_front for each in front.standings)
    noisy = sum(each.within_noise and not each.on_front for each in front.standings)
    others = len(front.standings) - members - noisy
    print(
        f"{members} on the front, {noisy} more within noise, {others} behind"
        + ("" if every or not others else " (--all prints them)")
    )
    noise = front.noise
    origin = f"from {noise.pairs} pairs" if noise.pairs >= LEAST_PAIRS else _few(noise.pairs)
    print(f"Between occasions, standard deviation: energy {noise.energy:.1%}, speed {noise.speed:.1%}, {origin}")
    if front.reference is not None and front.box:
        at = ", ".join(
            _with_unit(axis, value, front, scores) for axis, value in zip(front.axes, front.reference, strict=True)
        )
        print(
            f"Hypervolume {_figure(front.hypervolume)} of at most {_figure(front.box)}, up to the reference {at}: the "
            "worst of each axis; in logarithms of grams and speed, and quality as it is"
        )
    print()


def document(found: Fronts, scores: Mapping[str, Score], catalogue: Catalogue) -> dict[str, Any]:
    """Everything as plain data for JSON. ``crowding`` is null for a configuration that does not judge and for an end of
    its rank, which ``end_of_rank`` tells apart."""
    records = list(_records(found, scores))
    cited = {name for record in records for name in _cited(record)} | set(found.zone.intensity_g_per_kwh.sources)
    return {
        "zone": {"zone": found.zone.zone, "intensity_g_per_kwh": asdict(found.zone.intensity_g_per_kwh)},
        "fronts": [
            {
                "device": front.ground.device,
                "quality": _scale(front, scores),
                "axes": [
                    {
                        "name": axis.name,
                        "unit": axis.unit,
                        "lower_is_better": axis.lower_is_better,
                        "scale": "logarithmic" if axis.ratio else "linear",
                        "reference": None if front.reference is None else front.reference[place],
                    }
                    for place, axis in enumerate(front.axes)
                ],
                "hypervolume": front.hypervolume,
                "hypervolume_at_most": front.box,
                "noise": {
                    **asdict(front.noise),
                    "from": "own" if front.noise.pairs >= LEAST_PAIRS else "own or shipped",
                },
                "configurations": [_record(standing, front, scores) for standing in front.standings],
            }
            for front in found.fronts
        ],
        "left_out": [_left_out(each) for each in found.left_out],
        "sources": {source.id: source.url for source in catalogue.sources if source.id in cited},
    }


def as_csv(found: Fronts, scores: Mapping[str, Score]) -> str:
    """Every configuration and every row left out as a line; nested figures as dotted columns, lists joined by |."""
    lines = [dict(_flat(record)) for record in _records(found, scores)]
    columns = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO()
    intensity = found.zone.intensity_g_per_kwh.mid
    text.write(f"# written by `python -m benchmark front`: zone {found.zone.zone}, {intensity:g} g CO2e per kWh\n")
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _records(found: Fronts, scores: Mapping[str, Score]) -> Iterator[dict[str, Any]]:
    for front in found.fronts:
        for standing in front.standings:
            yield {"device": front.ground.device, **_record(standing, front, scores)}
    for each in found.left_out:
        yield _left_out(each)


def _record(standing: Standing, front: DeviceFront, scores: Mapping[str, Score]) -> dict[str, Any]:
    point = standing.point
    score = scores[point.row.config.model] if front.quality == "published" else None
    crowding = standing.crowding
    return {
        "stands": standing.stands,
        "configuration": _configuration(point.row.config),
        "weights": point.row.weights.source,
        "step": point.row.step,
        "on_front": standing.on_front,
        "within_noise": standing.within_noise,
        "rank": standing.rank,
        "crowding": crowding if crowding is not None and math.isfinite(crowding) else None,
        "end_of_rank": crowding == math.inf,
        "judges": standing.judges,
        "g_per_million_tokens": None if point.carbon_g is None else asdict(point.carbon_g.scaled(MILLION)),
        "j_per_token": None if standing.energy_j is None else asdict(standing.energy_j),
        "quality": {
            "value": _values(standing)["quality"],
            "scale": _scale(front, scores),
            "kind": front.quality,
            "basis": "measured" if score is None else "published",
            "setting": None if score is None else score.setting,
            "evaluator": None if score is None else score.evaluator,
            "sources": [] if score is None else [score.source],
        },
        "tokens_per_s": _values(standing)["speed"],
        "sds": {axis.name: sd for axis, sd in zip(point.axes, point.sds, strict=True)},
        "measured_at": [row.started_at.isoformat() for row in standing.rows],
        "gates_failed": list(standing.gates_failed),
        "reason": None,
    }


def _left_out(each: LeftOut) -> dict[str, Any]:
    return {
        "device": each.device,
        "stands": "left out",
        "configuration": _configuration(each.row.config),
        "reason": each.reason,
    }


def _configuration(config: TrialConfig) -> dict[str, Any]:
    names = ("model", "precision", "batch", "prompt_tokens", "generated_tokens", "eager", "endpoint")
    return {name: getattr(config, name) for name in names}


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, "|".join(map(str, value)) if isinstance(value, list | tuple) else value


def _cited(record: Mapping[str, Any]) -> Iterator[str]:
    for figure in ("g_per_million_tokens", "j_per_token", "quality"):
        yield from (record.get(figure) or {}).get("sources", ())


def _scale(front: DeviceFront, scores: Mapping[str, Score]) -> str:
    row = front.standings[0].point.row
    if front.quality == "published":
        return f"{scores[row.config.model].benchmark}, published"
    return f"bits per byte of {row.quality.text} ({row.quality.text_sha256[:12]})" if row.quality else front.quality


def _quality_unit(front: DeviceFront, scores: Mapping[str, Score]) -> str:
    row = front.standings[0].point.row
    return scores[row.config.model].benchmark if front.quality == "published" else "bits/byte"


def _values(standing: Standing) -> dict[str, float]:
    point = standing.point
    return {axis.name: value for axis, value in zip(point.axes, point.values, strict=True)}


def _with_unit(axis: Axis, value: float, front: DeviceFront, scores: Mapping[str, Score]) -> str:
    if axis.name == "carbon":
        return f"{_figure(MILLION * value)} g/Mtoken"
    return f"{_figure(value)} {_quality_unit(front, scores) if axis.name == 'quality' else axis.unit}"


def _few(pairs: int) -> str:
    if not pairs:
        return "from the shipped rows: none of its own was measured twice"
    return f"from its own {pairs} pair{'' if pairs == 1 else 's'} or the shipped rows', the larger"


def _model(standing: Standing) -> str:
    row = standing.point.row
    marks: list[str] = [row.weights.source] if row.weights.source != "random" else []
    marks += ["eager"] if row.config.eager else []
    marks += [row.config.endpoint] if row.config.endpoint is not None else []
    return row.config.model + (f" ({', '.join(marks)})" if marks else "")


def _grams(carbon_g: Estimate | None) -> tuple[str | None, str | None]:
    if carbon_g is None:
        return None, None
    grams = carbon_g.scaled(MILLION)
    return _figure(grams.mid), f"{_figure(grams.low)} to {_figure(grams.high)}"


def _crowding(standing: Standing) -> str | None:
    crowding = standing.crowding
    return None if crowding is None else f"{crowding:.2f}" if math.isfinite(crowding) else "end"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
