"""What the measurements say, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark import summary, table, trial


def show(files: Sequence[trial.Rows]) -> None:
    """Print the rows of some files, and how well they repeat."""
    outcomes = [outcome for rows in files for outcome in rows.trials]
    lines = [summary.line(outcome) for outcome in outcomes if isinstance(outcome, trial.Measured)]
    medians = summary.medians(files)
    rejected = [outcome for outcome in outcomes if isinstance(outcome, trial.Rejected)]
    table.show(
        "Measured: J per token, decode and prefill, gross and net of idle",
        ("device", "model", "precision", "batch", "prompt+gen.", "tokens/s", "J gross", "J net", "prefill J", "net",
         "CV speed", "CV J", "of limit", "bits/byte", "gates failed"),
        [
            (
                line.device, line.model + ("" if line.weights == "random" else f" ({line.weights})"), line.precision,
                line.batch, f"{line.prompt_tokens}+{line.generated_tokens}" + "'" * (line.occasion - 1),
                table.number(line.decode_tokens_per_s, ".1f"), table.number(line.decode_gross_j, ".4f"),
                table.number(line.decode_net_j, ".4f"), table.number(line.prefill_gross_j, ".5f"),
                table.number(line.prefill_net_j, ".5f"), table.number(line.decode_throughput_cv, ".2%"),
                table.number(line.decode_energy_cv, ".2%"), table.number(line.bandwidth_fraction, ".1%"),
                table.number(line.bits_per_byte, ".4f"), "; ".join(line.gates_failed) or None,
            )
            for line in lines
        ],
    )  # fmt: skip
    print(f"{medians.measured} measured, {medians.rejected} rejected; a ' marks a second occasion")
    print(
        f"median CV over all phases: throughput {table.number(medians.throughput_cv, '.2%')}, "
        f"energy {table.number(medians.energy_cv, '.2%')}"
    )
    print(f"polled against counted energy differ by a median of {table.number(medians.counter_against_polled, '.2%')}")
    for subject, difference in medians.occasions.items():
        print(f"separate occasions differ by {difference:.2%}: {subject}")
    for outcome in rejected:
        print(f"rejected: {outcome.config}: {outcome.reason}")
    for rows in files:
        if rows.torn is not None:
            print(f"an incomplete last line of {len(rows.torn)} characters is left out")
