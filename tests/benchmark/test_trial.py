"""The file of trials: nothing lost, nothing twice, nothing invented; and the statistics, by hand."""

from __future__ import annotations

import datetime
import json
import math
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark import summary
from benchmark.__main__ import main
from benchmark.trial import (
    Conditions,
    Log,
    Machine,
    Measured,
    Phase,
    Quality,
    Rejected,
    Rows,
    Spread,
    TrialConfig,
    Weights,
    Window,
    configs_from,
    dump,
    parse,
    read,
    read_all,
)
from ecoroute_mcp.sci import EcoRouteError

CONFIG = TrialConfig(model="Qwen3-8B", precision="bf16", batch=8, prompt_tokens=256, generated_tokens=256)
NOW = datetime.datetime(2026, 11, 21, 10, 0, tzinfo=datetime.UTC)


def phase(*joules: float | None, seconds: float = 2.0, tokens: int = 1000) -> Phase:
    return Phase.of(
        [Window(seconds=seconds, tokens=tokens, energy_j=energy, polled_j=energy, updates=20) for energy in joules]
    )


def measured(config: TrialConfig = CONFIG, *joules: float) -> Measured:
    return Measured(
        config=config,
        started_at=NOW,
        machine=Machine(name="H100", uuid="GPU-1", driver="580", memory_gb=85.5, software={"torch": "2.11"}),
        weights=Weights(source="random", revision="random weights", dtype="bfloat16", parameters=8),
        energy_source="counter",
        idle_w=100.0,
        idle_s=3.0,
        prefill=phase(*(joules or (900.0, 1100.0))),
        decode=phase(*(joules or (900.0, 1100.0))),
        step_ms={"mean": 6.6, "p50": 6.6, "p90": 6.7, "p99": 6.8, "max": 7.0},
        step_gb=15.6,
        copy_gb_per_s=3000.0,
        bandwidth_fraction=0.78,
        memory_used_gb=20.0,
        conditions=Conditions(
            start_c=40, end_c=60, hottest_c=61, sm_mhz_mean=1980, memory_mhz_mean=2619, throttled_s={"power cap": 1.5}
        ),
        quality=None,
        unavailable={},
        gates_failed=("decode energy CV 14.1% > 3%",),
    )


REJECTED = Rejected(config=CONFIG, at=NOW, reason="the cache does not fit")


def test_spread_by_hand() -> None:
    spread = Spread.of([1.0, 2.0, 3.0, 4.0])
    assert (spread.n, spread.mean) == (4, 2.5)
    assert spread.sd == pytest.approx(math.sqrt(5 / 3))
    assert spread.cv == pytest.approx(math.sqrt(5 / 3) / 2.5)
    half = 3.182 * math.sqrt(5 / 3) / 2
    assert spread.low == pytest.approx(2.5 - half)
    assert spread.high == pytest.approx(2.5 + half)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [-1.0, 0.5], [1.0, math.inf]])
def test_a_spread_of_nothing_is_refused(values: list[float]) -> None:
    with pytest.raises(EcoRouteError):
        Spread.of(values)


def test_net_is_gross_less_idle_for_the_time_the_tokens_took_and_is_not_clamped() -> None:
    figures = phase(900.0, 1100.0)
    assert figures.j_per_token is not None
    assert figures.j_per_token.mean == 1.0
    assert figures.net_j_per_token(100.0) == pytest.approx(1.0 - 100.0 * 2.0 / 1000)
    assert figures.net_j_per_token(600.0) == pytest.approx(-0.2)
    assert figures.net_j_per_token(None) is None


def test_windows_of_different_length_are_each_less_their_own_idling() -> None:
    long = phase(900.0, 900.0, seconds=4.0).windows[0]
    short = phase(1100.0, 1100.0, tokens=500).windows[0]
    # 0.9 - 100 x 4 / 1000 and 2.2 - 100 x 2 / 500, whose mean is 1.15.
    assert Phase.of([long, short]).net_j_per_token(100.0) == pytest.approx((0.5 + 1.8) / 2)


def test_one_window_without_energy_leaves_the_phase_without() -> None:
    figures = phase(900.0, None)
    assert figures.j_per_token is None
    assert figures.net_j_per_token(100.0) is None
    assert figures.tokens_per_s.mean == 500.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("prompt_tokens", 1), ("generated_tokens", 1), ("repeats", 1), ("occasion", 0), ("window_s", 0.0),
     ("window_s", math.nan), ("precision", "int3")],
)  # fmt: skip
def test_impossible_configurations_are_refused(field: str, value: object) -> None:
    with pytest.raises(EcoRouteError, match=field):
        replace(CONFIG, **{field: value})  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trials.jsonl"
    rows: list[Measured | Rejected] = [REJECTED, measured(), measured(replace(CONFIG, batch=9))]
    with Log(path) as log:
        for row in rows:
            log.append(row)
    found = read(path)
    assert found.trials == tuple(rows)
    assert found.measured == (rows[1], rows[2])
    assert found.torn is None
    assert path.read_bytes().count(b"\n") == 3


def test_what_is_measured_is_left_out_of_the_next_run_and_what_was_rejected_is_tried_again(tmp_path: Path) -> None:
    other, again = replace(CONFIG, batch=9), replace(CONFIG, occasion=2)
    with Log(tmp_path / "trials.jsonl") as log:
        log.append(replace(REJECTED, config=other))
        log.append(measured())
        assert log.remaining([CONFIG, other, again, other]) == [other, again]
    with Log(tmp_path / "trials.jsonl") as log:
        assert log.remaining([CONFIG, other, again]) == [other, again]
        with pytest.raises(EcoRouteError, match="raise its occasion"):
            log.append(measured())


def test_a_file_that_measures_a_configuration_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(2 * dump(measured()))
    with pytest.raises(EcoRouteError, match=r"line 2: measures Qwen3-8B bf16, batch 8, 256\+256 tokens a second time"):
        read(path)


def test_every_possible_tear_of_the_last_line_leaves_the_others_and_the_next_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    last = dump(measured(replace(CONFIG, batch=9)))
    for kept in range(0, len(last), 61):
        path.write_bytes(dump(measured()) + last[:kept])
        rows = read(path)
        assert rows.trials == (measured(),)
        assert rows.torn == (last[:kept].decode() or None)
        with Log(path) as log:
            assert log.torn == rows.torn
            log.append(measured(replace(CONFIG, batch=10)))
        assert [trial.config.batch for trial in read(path).trials] == [8, 10]


def test_a_broken_line_before_the_last_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(dump(measured()) + b'{"outcome": "measured"}\n' + dump(REJECTED))
    with pytest.raises(EcoRouteError, match=r"trials\.jsonl, line 2: not a trial"):
        read(path)
    document = json.loads(dump(REJECTED))
    path.write_text(json.dumps({**document, "note": "a column nobody knows"}) + "\n")
    with pytest.raises(EcoRouteError, match="note"):
        read(path)


def test_a_whole_last_line_without_its_newline_is_kept_and_the_next_run_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    first, second, third = (measured(replace(CONFIG, batch=batch)) for batch in (1, 2, 3))
    path.write_bytes(dump(first) + dump(second).removesuffix(b"\n"))
    rows = read(path)
    assert (rows.trials, rows.torn) == ((first, second), None)
    assert read(path) == rows  # reading changes nothing
    with Log(path) as log:
        assert log.torn is None
        assert log.remaining(trial.config for trial in (first, second, third)) == [third.config]
        log.append(third)
    assert path.read_bytes() == b"".join(map(dump, (first, second, third)))
    path.write_bytes(dump(first).removesuffix(b"\n"))
    with Log(path):
        pass
    assert path.read_bytes() == dump(first)


@pytest.mark.parametrize("change", [(b'"batch":8', b'"batch":0'), (b'"idle_w"', b'"idle_kw"')])
def test_a_whole_last_line_that_is_no_trial_is_refused_with_or_without_its_newline(
    change: tuple[bytes, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    for end in (b"\n", b""):
        content = dump(REJECTED) + dump(measured()).replace(*change).removesuffix(b"\n") + end
        path.write_bytes(content)
        with pytest.raises(EcoRouteError, match="line 2"):
            Log(path)
        assert path.read_bytes() == content


def test_what_is_no_file_of_trials_is_told_with_its_repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "trials.jsonl"
    file.write_bytes(dump(measured()))
    folder = tmp_path / "folder"
    (folder / "x.jsonl").mkdir(parents=True)
    for place in (folder, file / "rows.jsonl"):
        with pytest.raises(EcoRouteError, match=f"^cannot read trials from {place} .*: name a file of them$"):
            read(place)
        with pytest.raises(EcoRouteError, match=f"^cannot write trials to {place} .*: name another file$"):
            Log(place)
    with pytest.raises(EcoRouteError, match=r"^cannot write trials to /proc/x/y\.jsonl .*: name another file$"):
        Log(Path("/proc/x/y.jsonl"))
    predict = ["predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--measured", str(folder)]
    for command, said in (
        (
            ["run", "--device", "cpu", "--model", "Qwen3-0.6B", "--output", str(folder)],
            f"cannot read trials from {folder}",
        ),
        (["summary", "--folder", str(folder)], f"{folder} is no file of measurements, nor a folder that holds some"),
        (predict, f"cannot read trials from {folder} ("),
    ):
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with Log(path), pytest.raises(EcoRouteError, match="another run is writing"):
        Log(path)
    with Log(path):
        pass


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmark.trial import Log
from tests.benchmark.test_trial import CONFIG, measured
with Log(Path(sys.argv[1])) as log:
    for config in log.remaining(replace(CONFIG, batch=batch) for batch in range(1, 400)):
        log.append(measured(config))
        print(config.batch, flush=True)
"""


def test_kill_at_any_moment_loses_no_synced_row_and_doubles_none(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    chance = random.Random(0)
    reported = 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                reported = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        batches = [trial.config.batch for trial in read(path).trials]
        assert batches == list(range(1, len(batches) + 1))
        assert len(batches) >= reported
    with Log(path) as log:
        assert len(log.remaining(replace(CONFIG, batch=batch) for batch in range(1, 400))) == 399 - len(batches)


def test_a_list_of_configurations_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    row = {"model": "Qwen3-8B", "precision": "bf16", "batch": 8, "prompt_tokens": 256, "generated_tokens": 256}
    path.write_text(json.dumps([row]))
    assert configs_from(path) == [CONFIG]
    path.write_text(json.dumps([{**row, "sequence_length": 512}]))
    with pytest.raises(EcoRouteError, match="sequence_length"):
        configs_from(path)
    for content in (b"[", b"\xff\xfe[", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(
            EcoRouteError, match=r"^cannot read configurations from .*plan\.json \(.*: name a JSON file"
        ):
            configs_from(path)
    with pytest.raises(EcoRouteError, match=r"cannot read configurations from .*: name a JSON file"):
        configs_from(tmp_path)


def test_summary_shows_every_row_and_the_medians(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(tmp_path / "a.jsonl") as log:
        log.append(measured())
        log.append(measured(replace(CONFIG, occasion=2), 990.0, 1110.0))
        log.append(replace(REJECTED, config=replace(CONFIG, batch=512)))
    first = summary.line(measured())
    assert first.decode_gross_j == 1.0
    assert first.decode_net_j == pytest.approx(0.8)
    medians = summary.medians(read_all(tmp_path))
    assert (medians.measured, medians.rejected) == (2, 1)
    assert medians.throughput_cv == 0.0
    assert medians.counter_against_polled == 0.0
    difference = medians.occasions[0].difference
    assert difference == pytest.approx(0.05)
    assert main(["summary", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in ("256+256'", "1.0500", "14.1% > 3%", "2 measured, 1 rejected", "differ by 5.00%", "does not fit"):
        assert part in shown
    assert main(["summary", "--folder", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trials"][0]["decode_net_j"] == pytest.approx(0.8)
    assert document["rejected"][0]["reason"] == "the cache does not fit"


def test_polled_against_counted_energy_is_a_median_of_sizes() -> None:
    windows = [
        Window(seconds=2.0, tokens=10, energy_j=100.0, polled_j=polled, updates=20) for polled in (99.0, 102.0, 97.0)
    ]
    trial = replace(measured(), decode=Phase.of(windows))
    assert summary.medians([Rows(trials=(trial,))]).counter_against_polled == pytest.approx(0.02)


IMPOSSIBLE: list[tuple[tuple[str, ...], object, str]] = [
    (("decode", "j_per_token", "mean"), -5.0, "mean must be finite and positive; got -5.0"),
    (("decode", "j_per_token", "mean"), 0.0, "mean must be finite and positive; got 0.0"),
    (("decode", "j_per_token", "mean"), 3.0, "high must be finite and at least the mean 3.0; got "),
    (("decode", "tokens_per_s", "mean"), 499.0, "low must be finite and at most the mean 499.0; got 500.0"),
    (("decode", "tokens_per_s", "sd"), -1.0, "sd must be finite and not below 0; got -1.0"),
    (("decode", "tokens_per_s", "cv"), -0.1, "cv must be finite and not below 0; got -0.1"),
    (("decode", "tokens_per_s", "n"), 1, "n must be finite and not below 2; got 1"),
    (("decode", "tokens_per_s", "n"), 3, "a phase of 2 windows has no spread of 3 values"),
    (("decode", "windows", "0", "seconds"), 0.0, "seconds must be finite and positive; got 0.0"),
    (("decode", "windows", "0", "tokens"), 0, "tokens must be finite and not below 1; got 0"),
    (("decode", "windows", "0", "energy_j"), -1.0, "energy_j must be finite and not below 0; got -1.0"),
    (("idle_w",), -1.0, "idle_w must be finite and not below 0; got -1.0"),
    (("step_ms", "p50"), -1.0, "step_ms must be finite and not below 0 throughout; got "),
    (("bandwidth_fraction",), 0.0, "bandwidth_fraction must be finite and positive; got 0.0"),
    (("started_at",), "2026-11-21T10:00:00", "started_at must be a time with its zone, such as "),
    (("quality", "bits_per_byte"), -0.9, "bits_per_byte must be finite and positive; got -0.9"),
    (("quality", "tasks_passed"), 21, "tasks_passed must be at most the tasks; got 21 of 20"),
    (("decode", "j_per_token", "mean"), math.nan, "decode.j_per_token.mean: Input should be a finite number"),
    (("decode", "j_per_token", "high"), math.inf, "decode.j_per_token.high: Input should be a finite number"),
    (("step_ms", "p99"), math.inf, "step_ms.p99: Input should be a finite number"),
    (("conditions", "throttled_s", "power cap"), math.nan, "power cap: Input should be a finite number"),
]


@pytest.mark.parametrize(("where", "value", "said"), IMPOSSIBLE, ids=str)
def test_a_figure_that_no_measurement_has_is_refused_by_file_and_line(
    where: tuple[str, ...], value: object, said: str, tmp_path: Path
) -> None:
    quality = Quality(
        bits_per_byte=0.9, text="t", text_sha256="0", text_bytes=9, tokens=3, context=8,
        tasks_passed=3, tasks=20, tasks_sha256="1",
    )  # fmt: skip
    document = json.loads(dump(replace(measured(), quality=quality)))
    inner: Any = document
    for name in where[:-1]:
        inner = inner[int(name) if isinstance(inner, list) else name]
    assert where[-1] in inner
    inner[where[-1]] = value
    path = tmp_path / "trials.jsonl"
    path.write_text(f"{dump(REJECTED).decode()}{json.dumps(document)}\n")
    with pytest.raises(EcoRouteError, match=f"^{re.escape(str(path))}, line 2: .*{re.escape(said)}"):
        read(path)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-9, 123456.789])
def test_values_all_alike_have_a_spread_whatever_the_last_digit_of_their_mean(value: float) -> None:
    for count in range(2, 40):
        assert Spread.of([value] * count).mean == pytest.approx(value, rel=1e-12)


def test_a_line_reads_back_as_the_trial_it_is_and_any_other_is_refused() -> None:
    for trial in (measured(), Rejected(config=CONFIG, at=NOW, reason="too hot")):
        assert parse(dump(trial)) == trial
    with pytest.raises(EcoRouteError, match=r"^not a trial \(rejected\.reason: Field required\)$"):
        parse(b'{"outcome": "rejected", "config": %s, "at": "2026-11-21T10:00:00Z"}' % CONFIG.key.encode())
