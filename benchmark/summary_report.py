"""What the measurements say, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark import summary, table, trial
from benchmark.laps import Lap

EXAMPLES = """examples:
  python -m benchmark summary                       all rows measured here, the bars, and how well they repeat
  python -m benchmark summary --folder results      those of a folder's *.jsonl files, the same row of two files once
  python -m benchmark summary --json                every figure, for a program

J per token: gross is all that the device took; net is that less its idle power, measured in the same trial, for as
long. "of limit" is the share of the copy bandwidth at which a decode step moved the bytes that it must."""


def show(files: Sequence[trial.Rows], searches: Mapping[str, Sequence[Lap]]) -> None:
    """Print the rows of some files, each once, and how well they repeat."""
    outcomes = summary.trials(files)
    lines = [summary.line(outcome) for outcome in outcomes if isinstance(outcome, trial.Measured)]
    medians = summary.medians(files)
    rejected = [outcome for outcome in outcomes if isinstance(outcome, trial.Rejected)]
    table.show(
        "Measured: J per token, decode and prefill, gross and net of idle",
        ("device", "model", "precision", "batch", "prompt+gen.", "tokens/s", "J gross", "J net", "prefill J", "net",
         "CV speed", "CV J", "of limit", "GB", "bits/byte", "tasks", "step", "gates failed"),
        [
            (
                line.device, line.model + ("" if line.weights == "random" else f" ({line.weights})"), line.precision,
                line.batch, f"{line.prompt_tokens}+{line.generated_tokens}" + "'" * (line.occasion - 1),
                table.number(line.decode_tokens_per_s, ".1f"), table.number(line.decode_gross_j, ".4f"),
                table.number(line.decode_net_j, ".4f"), table.number(line.prefill_gross_j, ".5f"),
                table.number(line.prefill_net_j, ".5f"), table.number(line.decode_throughput_cv, ".2%"),
                table.number(line.decode_energy_cv, ".2%"), table.number(line.bandwidth_fraction, ".1%"),
                table.number(line.memory_used_gb, ".1f"), table.number(line.bits_per_byte, ".4f"),
                None if line.tasks is None else f"{line.tasks_passed}/{line.tasks}", line.step,
                "; ".join(line.gates_failed) or None,
            )
            for line in lines
        ],
    )  # fmt: skip
    _contrasts(files)
    _bars((*summary.bars(files), *summary.bars_of_searches(searches)))
    print(f"{medians.measured} measured, {medians.rejected} rejected; a ' marks a second occasion")
    print(
        f"median CV over all phases: throughput {table.number(medians.throughput_cv, '.2%')}, "
        f"energy {table.number(medians.energy_cv, '.2%')}"
    )
    print(f"polled against counted energy differ by a median of {table.number(medians.counter_against_polled, '.2%')}")
    for each in medians.occasions:
        print(f"separate occasions differ by {each.difference:.2%}: {each.configuration}, {each.where}")
    for outcome in rejected:
        print(f"rejected: {outcome.config}: {outcome.reason}")
    for rows in files:
        if rows.torn is not None:
            print(f"an incomplete last line of {len(rows.torn)} characters is left out")


def _contrasts(files: Sequence[trial.Rows]) -> None:
    found = summary.contrasts(files)
    if not found:
        return
    table.show(
        "Decoding with quantised weights against bf16",
        ("device", "model", "batch", "prompt+gen.", "precision", "step", "bf16's step", "J gross", "J net", "tokens/s",
         "same board", "gates failed"),
        [
            (
                each.device, each.model + ("" if each.weights == "random" else f" ({each.weights})"), each.batch,
                f"{each.prompt_tokens}+{each.generated_tokens}", each.precision, each.step, each.bf16_step,
                table.number(each.gross, "+.1%"), table.number(each.net, "+.1%"),
                table.number(each.throughput, "+.1%"), "yes" if each.same_board else "no",
                "; ".join(each.gates_failed) or None,
            )
            for each in found
        ],
    )  # fmt: skip
    published = summary.PUBLISHED_INT8
    print(
        f"Published: {published['low']:+.0%} to {published['high']:+.0%} ({published['source']},\n{published['note']})."
    )
    if any(each.weights == "random" for each in found):
        print(summary.RANDOM_WEIGHTS)
    print()


def _bars(bars: Sequence[summary.Bar]) -> None:
    table.show(
        "Bars; of several occasions the worst counts",
        ("figure", "bar", "measured", "reached", "gates failed by such rows"),
        [
            (
                bar.figure, f"{'>=' if bar.at_least else '<='} {format(bar.limit, bar.form)}",
                table.number(bar.value, bar.form), {True: "yes", False: "NO", None: None}[bar.reached],
                "; ".join(bar.gates_failed) or None,
            )
            for bar in bars
        ],
    )  # fmt: skip
