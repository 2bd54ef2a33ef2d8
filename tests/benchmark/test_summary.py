"""What quantised weights take beside bf16, and the bars, from rows made up so that the figures can be told by hand."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import session, summary, workbench_report
from benchmark.__main__ import main
from benchmark.laps import Lap, read
from benchmark.trial import Measured, Precision, Quality, Rows, TrialConfig, dump
from tests.benchmark.test_trial import measured, phase

GRAPHS = "fused kernels, CUDA graphs"
EAGER = "fused kernels, eager"


def row(
    precision: Precision = "bf16",
    joules: float = 1000.0,
    *,
    batch: int = 1,
    step: str = GRAPHS,
    uuid: str | None = "GPU-1",
    seconds: float = 2.0,
    occasion: int = 1,
    fraction: float = 0.8,
    gates: tuple[str, ...] = (),
) -> Measured:
    """A trial of 1,000 tokens a window; idle power is 100 W."""
    config = TrialConfig(
        model="Qwen3-8B",
        precision=precision,
        batch=batch,
        prompt_tokens=256,
        generated_tokens=256,
        occasion=occasion,
        eager=step == EAGER and precision == "bf16",
    )
    trial = measured(config)
    return replace(
        trial,
        decode=phase(joules, joules, seconds=seconds),
        step=step,
        machine=replace(trial.machine, name="NVIDIA H100 80GB HBM3", uuid=uuid),
        bandwidth_fraction=fraction,
        gates_failed=gates,
    )


def contrasts(*rows: Measured) -> list[tuple[str, str, float, float]]:
    found = summary.contrasts([Rows(trials=rows)])
    assert all(each.gross is not None and each.net is not None for each in found)
    return [(each.precision, each.bf16_step, round(each.gross or 0.0, 6), round(each.net or 0.0, 6)) for each in found]


def test_int8_is_set_against_bf16_of_its_own_kind_of_step_first() -> None:
    found = contrasts(
        row(joules=1000, seconds=2.0),  # net 1000 - 200 = 800 J for 1,000 tokens
        row(joules=2000, seconds=10.0, step=EAGER),  # net 1000 J
        row("nf4", joules=800, seconds=4.0),  # net 400 J
        row("int8", joules=3000, seconds=12.0, step=EAGER),  # net 1800 J
    )
    assert found == [
        ("int8", EAGER, 0.5, 0.8),
        ("int8", GRAPHS, 2.0, 1.25),
        ("nf4", GRAPHS, -0.2, -0.5),
        ("nf4", EAGER, -0.6, -0.6),
    ]


def test_only_like_is_compared_with_like() -> None:
    int8 = row("int8", joules=3000)
    elsewhere = row(uuid="GPU-2")
    h200 = replace(row(), machine=replace(row().machine, name="NVIDIA H200"))
    real = replace(row(), weights=replace(row().weights, source="checkpoint"))
    served = replace(row(), config=replace(row().config, precision="as-served", endpoint="http://127.0.0.1:8000"))
    assert contrasts(int8, row(batch=8), h200, real, served, row("fp16")) == []
    (other_board,) = summary.contrasts([Rows(trials=(int8,)), Rows(trials=(elsewhere,))])
    assert (other_board.gross, other_board.same_board) == (2.0, False)


def test_occasions_are_averaged_and_an_unknown_idle_power_leaves_no_net() -> None:
    pair = (row(joules=1000), row(joules=3000, occasion=2))
    assert contrasts(*pair, row("int8", joules=3000)) == [("int8", GRAPHS, 0.5, round(2800 / 1800 - 1, 6))]
    (found,) = summary.contrasts([Rows(trials=(row(), replace(row("int8"), idle_w=None)))])
    assert (found.gross, found.net) == (0.0, None)


def test_of_several_occasions_the_worst_counts_and_says_its_gates() -> None:
    rows = [
        row(fraction=0.75),
        row(fraction=0.69, occasion=2, gates=("software thermal throttling for 3.0 s",)),
        row(joules=430, batch=8),
        row(joules=139, batch=32),
        row(joules=141, batch=32, occasion=2),
        row(joules=1, batch=128, step=EAGER),
    ]
    bars = {bar.figure: bar for bar in summary.bars([Rows(trials=tuple(rows))])}
    what = "Qwen3-8B bf16, 256+256 tokens, NVIDIA H100, batch"
    first = bars[f"{what} 1: fraction of the bandwidth limit"]
    assert (first.value, first.reached) == (0.69, False)
    assert first.gates_failed == ("software thermal throttling for 3.0 s",)
    assert [bars[f"{what} {batch}: J per token, gross"].value for batch in (8, 32, 128)] == [0.43, 0.141, None]
    assert [bars[f"{what} {batch}: J per token, gross"].reached for batch in (8, 32, 128)] == [True, False, None]
    assert (bars["configurations measured"].value, bars["configurations measured"].reached) == (4, False)
    occasions = bars["largest difference of occasions, 2 configurations on one NVIDIA H100 80GB HBM3"]
    assert occasions.value == pytest.approx(141 / 139 - 1)
    assert occasions.reached


def test_boards_are_told_apart_from_occasions_of_one() -> None:
    rows = (row(), row(joules=1020, occasion=2), row(batch=8), row(batch=8, joules=1090, occasion=2, uuid="GPU-2"))
    bars = {bar.figure: bar for bar in summary.bars([Rows(trials=rows)]) if bar.figure.startswith("largest difference")}
    assert {figure: (round(bar.value or 0, 6), bar.reached) for figure, bar in bars.items()} == {
        "largest difference of occasions, 1 configurations on one NVIDIA H100 80GB HBM3": (0.02, True),
        "largest difference of occasions, 1 configurations from one NVIDIA H100 80GB HBM3 to another": (0.09, False),
    }
    # A third board's occasions are compared among themselves, and their mean with the others'.
    more = (row(joules=1100, occasion=3, uuid="GPU-3"), row(joules=1144, occasion=4, uuid="GPU-3"))
    found = summary.medians([Rows(trials=(*rows, *more))]).occasions
    assert [(each.one_board, round(each.difference, 6)) for each in found] == [
        (True, 0.04),
        (False, round(1122 / 1010 - 1, 6)),
        (False, 0.09),
    ]
    (none,) = (bar for bar in summary.bars([Rows(trials=rows[:1])]) if bar.figure.startswith("largest difference"))
    assert (none.figure, none.value) == ("largest difference of occasions, 0 configurations", None)


def test_rows_that_do_not_say_their_board_are_of_no_one_board() -> None:
    one = Rows(trials=(row(uuid=None), row(batch=8)))
    assert summary.medians([one]).occasions == ()
    again = row(joules=1020, occasion=2, uuid=None)
    bars = {bar.figure: bar.value for bar in summary.bars([one, Rows(trials=(again,))])}
    apart = {figure: value for figure, value in bars.items() if figure.startswith("largest difference")}
    assert apart == {
        "largest difference of occasions, 1 configurations on NVIDIA H100 80GB HBM3, boards not told apart": 1.02 - 1
    }
    # Beside a board's own occasions, which are 25 % apart, a row without a board is set against each of them.
    told = (row(joules=1000), row(joules=1250, occasion=2), row(joules=1100, occasion=3, uuid=None))
    found = summary.medians([Rows(trials=told)]).occasions
    assert [(each.one_board, round(each.difference, 6)) for each in found] == [
        (True, 0.25),
        (None, round(1250 / 1100 - 1, 6)),
    ]


def test_a_copied_file_is_no_second_occasion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(), row(occasion=2, joules=1020), row("int8", joules=3000)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(dump, rows)))
    folder = ["summary", "--folder", str(tmp_path)]
    printed = []
    for options in ([], ["--json"]):
        assert main([*folder, *options]) == 0
        printed.append(capsys.readouterr().out)
    (tmp_path / "copy.jsonl").write_bytes(dump(rows[2]) + dump(rows[0]))
    (tmp_path / "later.jsonl").write_bytes(b"".join(map(dump, rows)))
    for options, before in zip(([], ["--json"]), printed, strict=True):
        assert main([*folder, *options]) == 0
        after = capsys.readouterr().out
        assert sorted(after.splitlines()) == sorted(before.splitlines())
    assert json.loads(printed[1])["medians"]["measured"] == 3


def test_a_place_without_measurements_is_refused_as_front_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.txt"
    for place in (tmp_path, tmp_path / "nosuch", file / "rows.jsonl"):
        for command in ("summary", "front"):
            assert main([command, "--folder", str(place)]) == 2
            assert capsys.readouterr().err == (
                f"error: {place} is no file of measurements, nor a folder that holds some: name one, or measure with "
                "`python -m benchmark run`\n"
            )
    file.write_text("text\n", "utf-8")
    assert main(["summary", "--folder", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}, line 1: not a trial (")


def test_the_default_is_where_measuring_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "DATA", tmp_path / "an installed package")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    place = session.measurements()
    assert main(["summary"]) == 2
    assert str(place) in capsys.readouterr().err
    place.mkdir(parents=True)
    (place / "own.jsonl").write_bytes(dump(row()))
    assert main(["summary"]) == 0
    assert "1 measured, 0 rejected" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["summary", "summary --json", "front --json", "sensors"])
def test_who_has_read_enough_ends_a_command_without_a_traceback(command: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(dump(row()) + dump(row(occasion=2)))
    folder = [] if command == "sensors" else ["--folder", str(tmp_path)]
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *command.split(), *folder],
            cwd=Path(__file__).resolve().parents[2],
            stdout=writes,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def test_json_and_print_hold_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quality = Quality(
        bits_per_byte=0.9, text="t", text_sha256="0", text_bytes=9, tokens=3, context=8,
        tasks_passed=3, tasks=20, tasks_sha256="1",
    )  # fmt: skip
    rows = [row(), row("int8", joules=3000, step=EAGER), replace(row("fp16"), quality=quality)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(dump, rows)))
    assert main(["summary", "--folder", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["quantised_against_bf16"]["rows"][0]["gross"] == 2.0
    assert (document["quantised_against_bf16"]["published_int8"]["high"], len(document["bars"])) == (1.47, 9)
    assert document["bars"][-1] == {
        "figure": "configurations measured", "limit": 60, "at_least": True, "form": ".0f", "value": 3,
        "gates_failed": [], "reached": False,
    }  # fmt: skip
    assert [(line["step"], line["memory_used_gb"]) for line in document["trials"]] == [
        (GRAPHS, 20.0), (EAGER, 20.0), (GRAPHS, 20.0),
    ]  # fmt: skip
    assert main(["summary", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "+200.0%" in printed
    assert "bitsandbytes/issues/1867" in printed
    assert "Random weights have no outlier columns" in printed
    assert "3/20" in printed
    assert ">= 60     3         NO" in printed


def test_the_controller_of_a_search_is_read_from_beside_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.jsonl").write_bytes(dump(row()))
    laps = [
        Lap(
            at=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), config=row().config, strategy="random",
            outcome="measured", between_s=between_s, waited_s=9.0, start_s=1.0, load_s=2.0, trial_s=600.0, cpu_s=0.1,
        )
        for between_s in (3.0, 9.0, 6.0)
    ]  # fmt: skip
    beside = workbench_report.Laps.beside(tmp_path / "here.jsonl")
    for lap in laps:
        beside.write(lap)
    assert read(beside.path) == tuple(laps)
    assert main(["summary", "--folder", str(tmp_path), "--json"]) == 0
    controller, minutes = json.loads(capsys.readouterr().out)["bars"][-2:]
    assert controller["figure"] == "search on here, 3 trials: controller's time over a trial's, median"
    assert (controller["value"], controller["reached"]) == (0.01, True)
    assert (minutes["value"], minutes["reached"]) == (pytest.approx((3 * 603 + 18) / 60), True)
    with beside.path.open("a", encoding="utf-8") as file:
        file.write("{}\n")
    assert main(["summary", "--folder", str(tmp_path)]) == 2
    assert "here.controller.ndjson line 4 is no lap of a search" in capsys.readouterr().err
