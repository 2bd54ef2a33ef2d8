"""What the scale's fit and validation say, as tables."""

from __future__ import annotations

from typing import Any

from benchmark import table


def show(document: dict[str, Any]) -> None:
    """Print a report's document (:attr:`benchmark.scale.Report.document`)."""
    validation = document["grouped_cross_validation"]
    print(
        f"{document['cells']} cells, {document['rows']} rows (model, effort) of {document['models']} models, "
        f"{len(document['benchmarks'])} benchmarks of {document['families']} leaderboard families"
    )
    print(f"structure: {document['structure']}; {document['scale']['unit']}")
    bars = document["bars"]
    table.show(
        "Bars, in grouped cross-validation of all cells",
        ("figure", "bar", "measured", "reached"),
        [
            ("r", f">= {bars['grouped_r']['bar']}", *_verdict(bars["grouped_r"])),
            (
                "90 % intervals cover",
                "{} to {}".format(*bars["grouped_coverage_90"]["bar"]),
                *_verdict(bars["grouped_coverage_90"]),
            ),
        ],
    )
    held_out = {
        "grouped: all": validation["all"],
        "grouped: something known of the model": validation["model_known"],
        "grouped: something known of the row": validation["row_known"],
        "grouped: nothing known": validation["nothing_known"],
        "grouped: all, misfits kept": validation["all_without_dropping_misfits"],
        "grouped: whole model and family held out": validation["whole_model_and_family"]["all"],
        "random cells (for orientation)": document["random_cell_cross_validation"],
    }
    held_out |= {f"family {name}": figures for name, figures in document["per_family"].items()}
    table.show(
        "Held-out cells",
        ("what", "cells", "r", "median |error|", "coverage"),
        [(name, *figures.values()) for name, figures in held_out.items()],
    )
    table.show(
        "What rows share, by grouped cross-validation",
        ("structure", "r, all", "r, row known", "coverage"),
        [
            (name, figures["all"]["r"], figures["row_known"]["r"], figures["all"]["coverage_90"])
            for name, figures in document["structures"].items()
        ],
    )
    theta = document["theta_coverage"]
    print(
        f"theta from half the families against the other half ({theta['pairs']} pairs): {theta['flat']} within 90 % "
        f"without the prior, {theta['shipped']} with it; theta_se is multiplied by {theta['inflation']}\n"
    )
    table.show(
        "Benchmarks",
        ("benchmark", "family", "cells", "loading", "noise sd", "communality"),
        [(name, *figures.values()) for name, figures in document["benchmarks"].items()],
    )
    for reason, names in document["left_out"].items():
        print(f"left out, {reason.replace('_', ' ')}: {', '.join(names) or 'none'}")
    print()
    examples = document["examples_per_tier"]
    table.show(
        "Tiers",
        ("tier", "rows", "top", "bottom"),
        [
            (step, count, *(", ".join(examples.get(step, {}).get(end, [])) for end in ("top", "bottom")))
            for step, count in document["rows_per_tier"].items()
        ],
    )


def _verdict(bar: dict[str, Any]) -> tuple[Any, str]:
    return bar["measured"], "yes" if bar["reached"] else "NO"
