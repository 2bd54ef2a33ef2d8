"""The loop of a search, with a real study and real children: what is made, recorded and given back, and how it ends."""

from __future__ import annotations

import argparse
import datetime
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmark import front, plan, search, sweep, workbench_report
from benchmark.__main__ import main
from benchmark.bench import NotStarted, ProcessBench
from benchmark.interruption import Interruption
from benchmark.laps import Lap, Tally
from benchmark.objectives import SCORE, SPEED, Axis, Ground, NoFigure, Noise, Objectives, Point, published
from benchmark.search import Search
from benchmark.space import Candidates, Space
from benchmark.trial import Log, Measured, Rejected, TrialConfig, dump, read
from benchmark.workbench import IN_A_ROW, FrontSoFar, Limits, Workbench, until_s
from benchmark.workbench_report import Laps, Screen, summary
from ecoroute_mcp import refresh
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark import scripted_child
from tests.benchmark.test_objectives import score
from tests.benchmark.test_results_branch import git
from tests.benchmark.test_trial import measured as measured_with_gates

ROOT = Path(__file__).resolve().parents[2]
AXES: tuple[Axis, ...] = (SCORE, SPEED)
UNCOMPARED = 999


def config(model: str, batch: int = 1) -> TrialConfig:
    return TrialConfig(model=model, precision="bf16", batch=batch, prompt_tokens=256, generated_tokens=256)


def measured(config: TrialConfig) -> Measured:
    return replace(measured_with_gates(config), gates_failed=())


def point(row: Measured) -> Point:
    """Quality falls with the batch, speed rises with it; both are better for models later in the alphabet."""
    if row.config.batch == UNCOMPARED:
        raise NoFigure("no energy was read")
    good = float(ord(row.config.model[0]))
    return Point(
        row=row,
        ground=Ground(device=row.machine.name, quality="published"),
        axes=AXES,
        values=(good - row.config.batch, good * row.config.batch),
        sds=(0.0, 0.001),
        carbon_g=None,
    )


def entry(one: TrialConfig, trial_s: float = 1.0) -> plan.Entry:
    return plan.Entry(config=one, parameters=None, memory_gb=None, load_s=0.0, trial_s=trial_s)


@pytest.fixture(scope="module")
def empty_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's database without trials, whose tables take longer to make than most tests."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    with Search([config("a")], AXES, point, name="study", storage=f"sqlite:///{path}", worker="none"):
        return path


@pytest.fixture
def folder(tmp_path: Path, empty_study: Path) -> Path:
    shutil.copy(empty_study, tmp_path)
    return tmp_path


class Night:
    """A search over some configurations in a folder, which may be gone on with by another one there."""

    def __init__(self, folder: Path, candidates: Sequence[TrialConfig], trial_s: Sequence[float] | None = None) -> None:
        self.folder, self.candidates = folder, tuple(candidates)
        self._trial_s = trial_s or [1.0] * len(candidates)
        self.rows = folder / "rows.jsonl"
        self.printed: list[str] = []

    def started(self, config: TrialConfig, strategy: str) -> None:
        self.printed.append(f"{config.model} {config.batch}")
        self.left_then = len(self.schedule.left)

    def finished(self, outcome: Measured | Rejected) -> None:
        self.printed.append(outcome.outcome)

    def study(self) -> Search:
        return Search(
            self.candidates, AXES, point, name="study", storage=f"sqlite:///{self.folder / 'study.db'}", worker="one",
            strategy="grid",
        )  # fmt: skip

    def run(
        self,
        limits: Limits = Limits(),  # noqa: B008
        budget_s: float | None = None,
        child: Sequence[str] = ("--measuring",),
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Workbench:
        """The whole of it. Raises what the loop does, with ``work`` left to look at."""
        self.schedule = plan.Schedule(list(map(entry, self.candidates, self._trial_s)), budget_s, clock)
        command = [sys.executable, scripted_child.__file__, *child]
        with (
            Interruption(breaking=2) as interruption, Log(self.rows) as log, self.study() as study,
            ProcessBench(command) as measuring,
        ):  # fmt: skip
            self.work = Workbench(
                search=study, bench=measuring, log=log, schedule=self.schedule, front=FrontSoFar(point, AXES),
                interruption=interruption, limits=limits, rows=read(self.rows).measured,
                record=Laps.beside(self.rows).write, pause=pause,
            )  # fmt: skip
            self.work.run(self)
        return self.work

    def on_file(self) -> list[tuple[str, int, int, str]]:
        return [
            (row.config.model, row.config.batch, row.config.occasion, row.outcome) for row in read(self.rows).trials
        ]

    def left(self) -> int:
        with self.study() as study:
            return study.left


# -- when to stop


def test_until_is_the_next_such_time() -> None:
    now = datetime.datetime(2026, 6, 10, 23, 10, 30)
    assert until_s("07:00", now) == 7 * 3600 + 49 * 60 + 30
    assert until_s("23:11", now) == 30
    assert until_s("23:10", now) == 86400 - 30
    assert until_s("07:00", datetime.datetime(2026, 6, 10, 7, 0)) == 86400
    for text in ("7", "25:00", "noon", "90m"):
        with pytest.raises(EcoRouteError, match="--until is a time of day such as 07:00"):
            until_s(text, now)


def test_a_trial_may_take_four_times_its_estimate_and_ten_minutes_in_any_case() -> None:
    short, long = (replace(entry(config("a"), trial_s), load_s=50.0) for trial_s in (20.0, 350.0))
    assert (Limits().timeout(short), Limits().timeout(long)) == (1200.0, 1600.0)
    assert Limits(timeout_s=30.0).timeout(long) == 30.0


def test_options_of_a_time_and_of_trials() -> None:
    parser = argparse.ArgumentParser()
    workbench_report.options(parser)
    limits, time_s = workbench_report._limits(parser.parse_args(["--budget", "90m", "--trial-timeout", "5m"]))
    assert (limits, time_s) == (Limits(timeout_s=300.0), 5400.0)
    limits, time_s = workbench_report._limits(parser.parse_args(["--budget", "1s", "--until", "07:00", "--forever"]))
    assert (limits, time_s) == (Limits(forever=True), 1.0)
    with pytest.raises(EcoRouteError, match="--trials is 1 or more; got 0"):
        workbench_report._limits(parser.parse_args(["--trials", "0"]))


def test_names_that_stand_twice_agree() -> None:
    assert (workbench_report.STRATEGIES, workbench_report.ZONE) == (search.STRATEGIES, front.ZONE)


# -- the front


def test_the_front_takes_occasions_together_and_leaves_out_what_does_not_compare() -> None:
    found = FrontSoFar(point, AXES)
    assert found.best() == []
    slow, fast = measured(config("b", 1)), measured(config("b", 8))
    worse = measured(config("a", 1))
    assert [found.add(row) for row in (slow, fast, worse)] == [True, True, True]
    assert [each.row for each in found.front] == [slow, fast]
    assert [(axis.name, value, each.row) for axis, value, each in found.best()] == [
        ("quality", 97.0, slow), ("speed", 784.0, fast),
    ]  # fmt: skip
    throttled = replace(measured(config("c", 1)), gates_failed=("decode power cap throttling for 3.0 s",))
    untrusted = replace(measured(config("d", 1)), gates_failed=("decode energy CV 4.0% > 3%",))
    assert [found.add(row) for row in (throttled, untrusted, measured(config("z", UNCOMPARED)))] == [True, False, False]
    clean, third = (measured(replace(config("c", 1), occasion=occasion)) for occasion in (2, 3))
    (joined,) = (each for each in found.points if each.row.config.model == "c")
    assert (joined.row, joined.sds) == (throttled, (0.0, 0.001))  # as long as there is no better one
    assert found.add(clean)
    assert len(found.points) == 4
    (joined,) = (each for each in found.points if each.row.config.model == "c")
    assert (joined.row, joined.sds) == (clean, (0.0, 0.001))
    assert found.add(third)
    (joined,) = (each for each in found.points if each.row.config.model == "c")
    assert joined.row == third
    assert joined.sds[1] == pytest.approx(0.001 / 2**0.5)


def test_the_front_of_a_search_is_the_one_that_its_rows_print() -> None:
    """On the shipped measurements, where one configuration throttled on one of its occasions and not on another."""
    data = refresh.packaged_data()
    rows = [row for rows in front.read([data / "measurements"]) for row in rows.measured]
    catalogue, scores = refresh.read(data), published(data)
    printed = front.fronts(rows, catalogue, scores=scores, usual=rows, quality="published", device="H100")
    (whole,) = printed.fronts
    objectives = Objectives(catalogue, zone=front.ZONE, quality="published", noise=whole.noise, scores=scores)
    live = FrontSoFar(objectives.point, whole.axes)
    for row in sorted(rows, key=lambda row: (row.started_at, row.config.occasion)):
        if row.machine.name == whole.ground.device:
            live.add(row)

    def figures(points: Iterable[Point]) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        return {point.row.config.subject: (point.values, point.sds) for point in points}

    standings = whole.standings
    assert figures(live.points) == figures(each.point for each in standings if each.judges)
    assert figures(live.front) == figures(each.point for each in standings if each.on_front and each.judges)
    assert figures(live.within_noise) == figures(each.point for each in standings if each.within_noise and each.judges)


# -- the loop


def test_every_candidate_is_measured_put_on_file_and_told(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b"), config("b", 8)])
    work = night.run()
    assert work.tally.ended == "nothing is left to try"
    assert night.on_file() == [("a", 1, 1, "measured"), ("b", 1, 1, "measured"), ("b", 8, 1, "measured")]
    assert night.printed == ["a 1", "measured", "b 1", "measured", "b 8", "measured"]
    assert night.left() == 0
    assert [each.row.config for each in work.front.front] == [config("b"), config("b", 8)]
    laps = work.tally.laps
    assert [(lap.config, lap.strategy, lap.outcome) for lap in laps] == [
        (each, "grid", "measured") for each in night.candidates
    ]
    assert [lap.start_s > 0.01 for lap in laps] == [True, False, False]  # one child for all
    assert all(0 <= lap.between_s < 5 and 0 <= lap.cpu_s < 5 and lap.waited_s == 0 for lap in laps)
    lines = [json.loads(line) for line in (folder / "rows.controller.ndjson").read_text().splitlines()]
    assert [line["config"]["batch"] for line in lines] == [1, 1, 8]
    assert [line["trial_s"] for line in lines] == [lap.trial_s for lap in laps]
    before = night.rows.read_bytes()
    assert night.run().tally.laps == []
    assert night.rows.read_bytes() == before


def test_overhead_is_the_time_between_trials_as_a_share_of_theirs() -> None:
    def lap(between_s: float, trial_s: float, outcome: str = "measured") -> Lap:
        return Lap(
            at=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), config=config("a"), strategy="grid",
            outcome=outcome, between_s=between_s, waited_s=5.0, start_s=10.0, load_s=20.0, trial_s=trial_s, cpu_s=0.25,
        )  # fmt: skip

    tally = Tally(laps=[lap(0.5, 50.0), lap(0.25, 50.0), lap(3.0, 100.0, "rejected")], ended="the time is over")
    assert tally.document() == {
        "ended": "the time is over", "trials": 3, "rejected": 1, "trials_s": 200.0, "between_s": 3.75,
        "starting_s": 30.0, "loading_s": 60.0, "waiting_s": 15.0, "overhead_median": 0.01,
        "overhead_total": 0.01875, "controller_cpu_s": 0.75,
    }  # fmt: skip
    assert Tally().document()["overhead_median"] is None


def test_so_many_trials_are_made_and_the_next_run_makes_the_others(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b"), config("c")])
    assert night.run(Limits(trials=2)).tally.ended == "2 trials are made"
    assert [row[0] for row in night.on_file()] == ["a", "b"]
    assert night.left_then == 1
    night.run()
    assert [row[0] for row in night.on_file()] == ["a", "b", "c"]
    assert night.left_then == 0


def test_a_configuration_that_ends_its_child_is_tried_twice_and_costs_the_others_nothing(folder: Path) -> None:
    night = Night(folder, [config("a"), config("killed"), config("z")])
    work = night.run()
    assert sorted(night.on_file()) == [
        ("a", 1, 1, "measured"), ("killed", 1, 1, "rejected"), ("killed", 1, 1, "rejected"), ("z", 1, 1, "measured"),
    ]  # fmt: skip
    reasons = {row.reason for row in read(night.rows).trials if isinstance(row, Rejected)}
    assert reasons == {"its process was ended by SIGKILL, as the kernel does where memory runs out"}
    assert (work.tally.rejected, work.tally.failed, night.left()) == (2, False, 0)


def test_a_trial_that_would_not_end_in_time_is_not_begun_and_shorter_ones_are(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b"), config("c")], trial_s=[1000.0, 1.0, 2.0])
    assert night.run(budget_s=100.0).tally.ended == "no time for any of the 1 left"
    assert [row[0] for row in night.on_file()] == ["b", "c"]
    assert night.run(budget_s=0.0).tally.ended == "the time is over"
    night.run()
    assert [row[0] for row in night.on_file()] == ["b", "c", "a"]


def test_forever_measures_the_front_again_the_least_measured_first(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b"), config("b", 8)])
    work = night.run(Limits(forever=True, trials=7))
    assert [row[:3] for row in night.on_file()] == [
        ("a", 1, 1), ("b", 1, 1), ("b", 8, 1), ("b", 1, 2), ("b", 8, 2), ("b", 1, 3), ("b", 8, 3),
    ]  # fmt: skip
    assert [lap.strategy for lap in work.tally.laps] == ["grid"] * 3 + ["again"] * 4
    assert len(work.front.points) == 3
    again = night.run(Limits(forever=True, trials=1))
    assert (again.tally.laps[0].config.batch, again.tally.laps[0].config.occasion) == (1, 4)


def test_forever_ends_where_the_front_cannot_be_measured_again(folder: Path) -> None:
    night = Night(folder, [config("a")])
    night.rows.write_bytes(dump(measured(config("a"))))
    work = night.run(Limits(forever=True), child=())  # a child that rejects everything
    assert night.on_file() == [("a", 1, 1, "measured"), ("a", 1, 2, "rejected"), ("a", 1, 2, "rejected")]
    assert work.tally.ended == "nothing is left to try"


def test_what_is_on_file_and_not_in_the_study_is_told_and_not_measured(folder: Path) -> None:
    """As after a kill between the two; also where the row lacks a figure, so that it cannot be adopted."""
    night = Night(folder, [config("a"), config("z", UNCOMPARED)])
    night.rows.write_bytes(b"".join(dump(measured(each)) for each in night.candidates))
    work = night.run(child=("--never-ready",))
    assert (work.tally.laps, night.left()) == ([], 0)


def test_what_another_worker_gives_back_is_waited_for(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b")])
    waited: list[float] = []
    with night.study() as other:
        asked = other.ask()
        assert asked is not None

        def pause(seconds: float) -> None:
            waited.append(seconds)
            other.give_back(asked)

        work = night.run(pause=pause)
    assert (waited, [row[0] for row in night.on_file()]) == ([5.0], ["b", "a"])
    assert [lap.waited_s > 0 for lap in work.tally.laps] == [False, True]


def test_after_too_many_rejections_in_a_row_the_search_ends(folder: Path) -> None:
    night = Night(folder, [config(f"reject:{number}") for number in range(IN_A_ROW + 5)])
    work = night.run()
    assert len(work.tally.laps) == IN_A_ROW
    assert (work.tally.failed, work.tally.ended) == (
        True, "10 configurations in a row were rejected: put right what their rows say, and start again",
    )  # fmt: skip


def test_without_a_child_the_search_ends_and_blames_no_configuration(folder: Path) -> None:
    night = Night(folder, [config("a"), config("b")])
    with pytest.raises(NotStarted, match="NVML finds no NVIDIA device"):
        night.run(child=("--never-ready",))
    assert (night.on_file(), night.left()) == ([], 2)
    assert night.work.tally.ended == "no process could be had to measure in"


# -- being stopped


def test_the_first_signal_lets_the_running_trial_end(folder: Path) -> None:
    night = Night(folder, [config("interrupt-and-answer"), config("z")])
    work = night.run()
    assert work.tally.ended == "asked to end"
    assert night.on_file() == [("interrupt-and-answer", 1, 1, "measured")]
    assert night.left() == 1
    night.run()
    assert [row[0] for row in night.on_file()] == ["interrupt-and-answer", "z"]


def test_a_signal_while_the_study_chooses_begins_no_trial(folder: Path) -> None:
    night = Night(folder, [config("a")])
    looks = 0

    def clock() -> float:
        """Looked at by the schedule's beginning, by the loop and then by the study, for what fits."""
        nonlocal looks
        looks += 1
        if looks == 3:
            signal.raise_signal(signal.SIGINT)
        return 0.0

    assert night.run(clock=clock).tally.ended == "asked to end"
    assert looks > 3
    assert (night.on_file(), night.left()) == ([], 1)


def test_the_second_signal_breaks_the_trial_off_and_gives_it_back(folder: Path) -> None:
    night = Night(folder, [config("a"), config("interrupt-twice")])
    with pytest.raises(KeyboardInterrupt):
        night.run()
    assert night.work.tally.ended == "broken off"
    rows = read(night.rows).trials
    assert [row.outcome for row in rows] == ["measured", "rejected"]
    assert isinstance(rows[1], Rejected)
    assert rows[1].reason == sweep.INTERRUPTED
    assert night.left() == 1  # an interrupted trial does not count against its configuration


# -- what the user sees


def test_the_screen_shows_the_best_the_front_and_what_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = Night(folder, [config("a"), config("b"), config("b", 8)])
    work = night.run(Limits(trials=3))
    schedule = plan.Schedule([entry(config("c"), 600.0)])
    screen = Screen(work, schedule, None, title="study x", as_json=False, plain=True)
    with screen:
        screen.started(config("c"), "tpe")
        console = Console(file=io.StringIO(), width=120)
        console.print(screen.render())
        shown = console.file.getvalue()  # type: ignore[attr-defined]
    words = " ".join(shown.split())
    for wanted in (
        "study x",
        "│ quality │ 97 score │ b bf16, batch 1, 256+256 tokens │",
        "│ speed │ 784 tokens/s │ b bf16, batch 8, 256+256 tokens │",
        "now c bf16, batch 1, 256+256 tokens (by tpe), for 0 s",
        "trials 3 made, 0 rejected, 1 left; about",
        "front 2 of 3, 2 within noise",
    ):
        assert wanted in words
    screen.finished(measured(config("b", 8)))
    printed = capsys.readouterr().out
    assert printed.startswith("3 (grid) b bf16, batch 8, 256+256 tokens: ")
    assert summary(work, 100.0)[:4] == [
        "3 trials are made: 3 trials, 0 rejected, in 2 min",
        "front: 2 of 3 configurations, 2 within noise",
        "best quality: 97 score, b bf16, batch 1, 256+256 tokens",
        "best speed: 784 tokens/s, b bf16, batch 8, 256+256 tokens",
    ]


def test_rows_as_json_are_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = Night(folder, [config("a")])
    work = night.run()
    screen = Screen(work, plan.Schedule([]), None, title="study x", as_json=True, plain=True)
    screen.finished(measured(config("a")))
    assert capsys.readouterr().out.encode() == dump(measured(config("a")))


# -- the command


@pytest.fixture
def space(folder: Path) -> Path:
    path = folder / "space.yaml"
    path.write_text("name: small\nmodels: [Qwen3-0.6B]\nprecisions: [fp32]\n")
    return path


def test_a_second_search_on_the_same_file_is_refused(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for needed in ("torch", "transformers"):
        pytest.importorskip(needed, reason=f"needs {needed}: pip install '.[benchmark]'")
    rows = tmp_path / "rows.jsonl"
    with Log(rows):
        assert main(["search", "--device", "cpu", "--space", str(space), "--output", str(rows)]) == 2
    assert f"another run is writing to {rows}: wait for it, or name another file" in capsys.readouterr().err


def test_quality_is_one_that_all_models_have() -> None:
    scores = {"Qwen3-8B": score(80.0)}
    assert workbench_report._quality("auto", ["Qwen3-8B"], scores) == "published"
    assert workbench_report._quality("auto", ["./mine"], scores) == "bits-per-byte"
    assert workbench_report._quality("bits-per-byte", ["./mine"], scores) == "bits-per-byte"
    for wanted, models, lacking in (
        ("auto", ["Qwen3-8B", "./mine"], "quality is published here, and ./mine has no published score"),
        ("published", ["./mine"], "quality is published here, and ./mine has no published score"),
        ("bits-per-byte", ["Qwen3-8B"], "quality is bits-per-byte here, and Qwen3-8B has no bits per byte"),
    ):
        with pytest.raises(EcoRouteError, match=lacking):
            workbench_report._quality(wanted, models, scores)


def test_a_study_is_of_one_benchmark_and_keeps_the_name_that_it_began_with() -> None:
    space, catalogue = Space(name="small", models=["Qwen3-8B"]), refresh.read(refresh.packaged_data())

    def study(points: float, benchmark: str, *, energy: bool) -> str:
        objectives = Objectives(
            catalogue, zone="WOR", quality="published", noise=Noise(energy=0.01, speed=0.01, pairs=9),
            scores={"Qwen3-8B": score(points, benchmark)},
        )  # fmt: skip
        aim = workbench_report._Aim(
            space=space, candidates=Candidates(entries=(), left_out=()), objectives=objectives, energy=energy,
            ground=objectives.ground("GPU", None), expected=None, notices=(),
        )  # fmt: skip
        return aim.study.replace(objectives.digest, "DIGEST") if (points, benchmark) == (80.0, "MMLU") else aim.study

    begins = f"small {space.digest} on GPU by published"
    assert study(80.0, "MMLU", energy=True) == f"{begins}, DIGEST"
    assert study(80.0, "MMLU", energy=False) == f"{begins} MMLU 0-shot CoT"
    assert study(80.0, "GPQA", energy=False) == f"{begins} GPQA 0-shot CoT"
    assert study(60.0, "GPQA", energy=True) != study(61.0, "GPQA", energy=True)


@pytest.mark.slow
def test_a_real_search_of_smollm2_drains_and_its_rows_are_on_the_branch(smollm2_folder: Path, tmp_path: Path) -> None:
    checkout, remote = tmp_path / "checkout", tmp_path / "remote.git"
    for words in (["--bare", str(remote)], [str(checkout)]):
        subprocess.run(["git", "init", "-q", *words], check=True)
    git(checkout, "remote", "add", "origin", str(remote))
    space, text, rows = tmp_path / "space.yaml", tmp_path / "text.txt", checkout / "rows.jsonl"
    space.write_text(
        f"name: small\nmodels: [{smollm2_folder}]\nprecisions: [bf16]\nbatches: [1, 2, 3]\nprompts: [16]\n"
        "generated: [8]\nrepeats: 2\nwindow_s: 1.0\n"
    )
    text.write_text("An assignment statement evaluates the expression list and assigns the resulting object.")
    command = [
        sys.executable, "-m", "benchmark", "search", "--device", "cpu", "--space", str(space), "--text", str(text),
        "--output", str(rows), "--strategy", "grid", "--json", "--sync", "git", "--sync-branch", "night",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed = [process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        printed += process.stdout.readlines()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 130, said
    on_file = rows.read_text()
    assert "".join(printed) == on_file
    batches = [row.config.batch for row in read(rows).measured]
    assert batches in ([1], [1, 2]), said  # the second had begun, or had not
    assert git(remote, "show", "night:rows.jsonl") == on_file.strip()
    assert len(git(remote, "show", "night:rows.controller.ndjson").splitlines()) == len(batches)
    assert f"asked to end: {len(batches)} trials, 0 rejected" in said
    assert "results branch night: " in said
    assert "cores are not divided: the processor is what is measured" in said
    assert said.count("ending after the running trial; once more breaks it off\n") == 1
