"""What every command of both programs has: options are asked of their help texts, as a person would."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmark import front, kinds
from benchmark.__main__ import DATA
from benchmark.__main__ import main as benchmark
from ecoroute_mcp.__main__ import main as ecoroute
from ecoroute_mcp.sci import EcoRouteError

WITHOUT_JSON = {
    "ecoroute": "prints what its commands print",
    "ecoroute mcp": "speaks the Model Context Protocol, which is JSON",
}
PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {"python -m benchmark": benchmark, "ecoroute": ecoroute}


def help_of(program: str, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        PROGRAMS[program]([*command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_prints_json_or_says_why_not(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = help_of(program, capsys)
    listed = said.partition("\ncommands:\n")[2].partition("\n\n")[0]
    commands = re.findall(r"^    ([a-z][a-z-]*)", listed, re.MULTILINE)
    assert {"python -m benchmark": "curate", "ecoroute": "install-skill"}[program] in commands
    helps = {program: said} | {f"{program} {each}": help_of(program, capsys, each) for each in commands}
    lacking = {name for name, text in helps.items() if not re.search(r"^  --json ", text, re.MULTILINE)}
    assert lacking == {name for name in WITHOUT_JSON if name.split()[0] == program.split()[0]}


def test_what_curate_would_change_is_a_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark(["curate", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"differ": []}


def test_the_report_of_a_training_of_kinds_has_lines_for_people() -> None:
    report = json.loads(Path(DATA / "kind_report.json").read_text("utf-8"))
    lines = list(kinds.trained_lines(report))
    assert len(lines) == 7
    assert lines[0] == f"{report['training_turns']} turns, {report['clear']} of them clear to both readers"
    assert lines[3] == (
        f"folds: macro-F1 {report['folds']['macro_f1']}, accuracy {report['folds']['accuracy']}, "
        f"calibration error {report['folds']['calibration_error']}"
    )


PATHS: tuple[tuple[str, ...], ...] = (
    ("--device", "cpu", "--output"),
    ("--device", "cpu", "--text"),
    ("scale", "--scores"),
    ("summary", "--folder"),
    ("run", "--device", "cpu", "--configs"),
    ("run", "--device", "cpu", "--model", "Qwen3-0.6B", "--sensors"),
    ("search", "--plain", "--space"),
    ("search", "--plain", "--replay"),
    ("fit", "--data"),
    ("fit", "--plot"),
    ("predict", "--csv"),
    ("predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--data"),
    ("predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--measured"),
    ("frontier", "--data"),
    ("kind-train", "--data"),
    ("kind-eval", "--data"),
    ("route-train", "--data"),
    ("route-eval", "--data", "x", "--output"),
    ("front", "--folder"),
    ("front", "--file"),
    ("front", "--csv"),
    ("check", "--budget"),
    ("check", "--budget", "x", "--file"),
    ("check", "--budget", "x", "--baseline"),
    ("check", "--budget", "x", "--output"),
    ("sensors", "--root"),
    ("sensors", "--log"),
    ("sensors", "--record"),
)


@pytest.mark.parametrize("command", PATHS, ids=" ".join)
def test_a_path_that_nothing_can_have_is_refused_before_anything_is_done(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, said in (
        ("/tmp/" + 5_000 * "x", f"'/tmp/{55 * 'x'}': File name too long: name another"),
        (str(tmp_path / "loop"), ": Too many levels of symbolic links: name another"),
        ("no-\udcff-text", "'no--text': not a name in UTF-8: rename it"),
        ("no\0name", "'noname': holds a NUL, which no name can: name another"),
        ("", "the name is empty: name a file or folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            benchmark([*command, path])
        assert stopped.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"error: argument {command[-1]}: " in line
        assert line.endswith(said)


def test_options_of_a_grid_are_not_passed_over_beside_a_list_of_configurations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text("[]")
    listed = ["run", "--configs", str(tmp_path / "plan.json")]
    for given in (["--batch", "1"], ["--occasion", "2"], ["--eager"], ["--device", "cpu"], ["--window", "2s"]):
        assert benchmark([*listed, *given]) == 2
        assert capsys.readouterr().err == (
            f"error: {given[0]} and --configs exclude each other: leave out the one, or write it into each "
            f"configuration of {tmp_path / 'plan.json'}\n"
        )
    assert benchmark(listed) == 2
    assert "nothing to measure" in capsys.readouterr().err


def test_tables_that_are_none_are_told_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("devices.csv", kinds.TURNS, "recording.tsv", "deep.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(range(256)) if name != "deep.yaml" else 10_000 * b"[")
    folder = str(tmp_path)
    predict = ["predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--data"]
    for command, said in (
        ([*predict, folder], f"cannot read {tmp_path / 'devices.csv'} ('utf-8' codec"),
        ([*predict, f"{folder}/devices.csv"], f"cannot read {tmp_path / 'devices.csv' / 'devices.csv'} ([Errno 20]"),
        (["kind-eval", "--data", folder], f"{tmp_path / kinds.TURNS} is no gzipped table of turns (Not a gzipped"),
        (["sensors", "--root", f"{folder}/recording.tsv"], f"{tmp_path / 'recording.tsv'} is no recording ('utf-8'"),
        (["sensors", "--record", folder], f"cannot record to {folder} (Is a directory): name another file"),
        (["sensors", "--log", "/dev/full"], "cannot log to /dev/full: "),
        (["check", "--budget", f"{folder}/deep.yaml"], f"{tmp_path / 'deep.yaml'}: is not YAML: maximum recursion"),
    ):
        assert benchmark(command) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")


DEVICES_HEADER = "id,tdp_w,memory_gb,bandwidth_gb_per_s,bf16_dense_tflops,nvml_names,sources\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " lacks the columns id, tdp_w, memory_gb, bandwidth_gb_per_s, bf16_dense_tflops, nvml_names, sources: "),
        ("id,tdp_w,memory_gb,nvml_names,price\nH100 SXM,700,80,,1\n", " lacks the columns bandwidth_gb_per_s, bf16_de"),
        (DEVICES_HEADER, " lacks rows: name a folder that holds the project's tables\n"),
        (DEVICES_HEADER + "H100 SXM,700\n", ", 'H100 SXM': could not convert string to float: '': mend the row\n"),
    ],
    ids=["empty", "other columns", "no rows", "a short row"],
)
def test_a_table_of_devices_that_is_another_is_told_by_its_name(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "devices.csv").write_text(text, "utf-8")
    predict = ["predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--data", str(tmp_path)]
    assert benchmark(predict) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'devices.csv'}{said}")


def test_a_table_of_turns_that_is_damaged_inside_is_told_by_its_name(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(random.Random(1).randbytes(4_000).hex().encode()))
    whole[10:110] = 100 * b"\xff"
    (tmp_path / kinds.TURNS).write_bytes(whole)
    with pytest.raises(EcoRouteError, match=r"is no gzipped table of turns \(Error -3 while decompressing"):
        kinds.turns(tmp_path, DATA / "kind_labels.csv", "training")


def test_measurements_are_not_read_from_a_name_that_is_too_long() -> None:
    with pytest.raises(EcoRouteError, match=r"^/x{59}: File name too long: name another file or folder$"):
        front.read([Path("/" + 5_000 * "x")])


def test_a_folder_of_tables_whose_name_is_too_long_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECOROUTE_DB", str(tmp_path / "sci.db"))
    assert ecoroute(["refresh", "--data", "/" + 5_000 * "x"]) == 1
    assert capsys.readouterr().err == f"ecoroute: /{59 * 'x'}: File name too long: name another folder\n"


def without(missing: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that finds none of these modules."""
    begin = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()))"
    return subprocess.run(
        [
            *(sys.executable, "-c", f"{begin}; from benchmark.__main__ import main; sys.exit(main())"),
            *(" ".join(missing), *arguments),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WINDOWS_LACKS = ("fcntl", "resource", "pwd", "grp", "termios")


@pytest.mark.parametrize(
    ("missing", "command", "status", "said"),
    [
        (WINDOWS_LACKS, ("predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1"), 0, ""),
        (WINDOWS_LACKS, ("--plan", "--device", "cpu"), 0, ""),
        (WINDOWS_LACKS, ("search", "--replay", "data/measurements", "--seeds", "1"), 0, ""),
        (WINDOWS_LACKS, ("search", "--device", "cpu"), 2, "error: measuring and logging need POSIX file locks, which "),
        (WINDOWS_LACKS, ("--device", "cpu"), 2, "error: measuring and logging need POSIX file locks, which this sys"),
        (WINDOWS_LACKS, ("run", "--model", "Qwen3-0.6B"), 2, "error: measuring and logging need POSIX file locks, "),
        (WINDOWS_LACKS, ("sensors", "--log", "x"), 2, "error: measuring and logging need POSIX file locks, which "),
        (("moocore",), ("front",), 2, "error: this command needs moocore: pip install moocore, or all of the lab"),
        (("sklearn",), ("fit",), 2, "error: this command needs sklearn: pip install scikit-learn, or all of the "),
        (("torch",), ("run", "--device", "cpu", "--model", "x", "--output", "x"), 2, "error: measuring in this proc"),
        (("pynvml",), ("sensors",), 0, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_installed_is_said_in_a_line(
    missing: tuple[str, ...], command: tuple[str, ...], status: int, said: str
) -> None:
    done = without(missing, *command)
    assert done.returncode == status, done.stderr
    last = (done.stderr.splitlines() or [""])[-1]
    assert last.startswith(said)
    assert "Traceback" not in done.stderr
    if missing == ("pynvml",):
        assert "nvml: needs nvidia-ml-py: pip install nvidia-ml-py" in done.stdout


def test_a_search_that_is_refused_leaves_no_file_of_rows(tmp_path: Path) -> None:
    search = ("search", "--plain", "--device", "cpu", "--output", str(tmp_path / "rows" / "cpu.jsonl"))
    done = without((), *search, "--space", str(tmp_path))
    assert (done.returncode, str(tmp_path) in done.stderr) == (2, True)
    done = without(("torch", "transformers"), *search)
    assert done.returncode == 2
    assert done.stderr.startswith("error: measuring in this process needs torch and transformers, which the extra ")
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_pythons_own_that_is_missing_is_a_fault_of_the_program() -> None:
    done = without(("gzip",), "kind-train", "--data", "x")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: import of gzip halted; None in sys.modules"


def test_a_module_that_a_library_does_not_name_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moocore.py").write_text("raise ModuleNotFoundError('not built for this processor')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = without((), "front")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: not built for this processor"
