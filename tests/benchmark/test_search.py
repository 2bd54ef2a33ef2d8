"""Choosing the next configuration, and the study that workers share: strategies, claims, deaths, outages."""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from benchmark import search
from benchmark.objectives import SCORE, SPEED, Axis, Ground, NoFigure, Point
from benchmark.search import REJECTIONS_PER_CONFIG, TPE_FROM, Asked, Chooser, Search
from benchmark.space import Space
from benchmark.trial import Measured, Rejected, TrialConfig
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_space import SPEED as RATES
from tests.benchmark.test_space import device
from tests.benchmark.test_trial import measured

AXES: tuple[Axis, ...] = (SCORE, SPEED)
SCORES = {"Qwen3-0.6B": 40.0, "Qwen3-1.7B": 60.0, "Qwen3-8B": 80.0}


def configs(**lists: object) -> tuple[TrialConfig, ...]:
    wanted = {"models": list(SCORES), "batches": [1, 8, 64], **lists}
    return Space(name="x", **wanted).candidates(device(), RATES).configs  # type: ignore[arg-type]


def point(row: Measured) -> Point:
    """Quality by model; speed rises with the batch and falls with the model's quality."""
    score = SCORES[row.config.model]
    if row.config.batch == 7:
        raise NoFigure("no energy was read")
    return Point(
        row=row,
        ground=Ground(device=row.machine.name, quality="published"),
        axes=AXES,
        values=(score, 1000 * row.config.batch / score),
        sds=(0.0, 0.01),
        carbon_g=None,
    )


def opened(path: Path, candidates: tuple[TrialConfig, ...], worker: str = "one", **options: object) -> Search:
    return Search(
        candidates, AXES, point, name="study", storage=f"sqlite:///{path}", worker=worker, **options  # type: ignore[arg-type]
    )  # fmt: skip


def rejected(asked: Asked, reason: str = "out of memory") -> Rejected:
    return Rejected(config=asked.config, at=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), reason=reason)


def states(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [state for (state,) in connection.execute("select state from trials order by number")]


# -- strategies


def test_grid_takes_every_candidate_in_order_and_then_nothing(tmp_path: Path) -> None:
    candidates = configs()
    taken = []
    with opened(tmp_path / "s.db", candidates, strategy="grid") as study:
        while (asked := study.ask()) is not None:
            taken.append(asked.config)
            study.tell(asked, measured(asked.config))
        assert study.left == 0
        assert study.history() == [
            (config, (SCORES[config.model], 1000 * config.batch / SCORES[config.model])) for config in candidates
        ]
    assert taken == list(candidates)


def test_random_draws_differ_by_seed_alone() -> None:
    def order(seed: int) -> list[int]:
        chooser, free, drawn = Chooser(configs(), "random", seed), list(range(9)), []
        while free:
            index, strategy = chooser.choose([], free)
            assert strategy == "random"
            free.remove(index)
            drawn.append(index)
        return drawn

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(9))


def test_auto_begins_with_the_corners_that_are_expected_foremost() -> None:
    candidates = configs()
    expected = [2, 9, 1, 9, 9, 9, 1, 9, 0]  # of 0.6B, 1.7B and 8B at batch 1, 8 and 64
    chooser = Chooser(candidates, "auto", 0, expected)
    free, drawn = list(range(9)), []
    for _ in range(4):
        index, strategy = chooser.choose([], free)
        free.remove(index)
        drawn.append((candidates[index].model, candidates[index].batch, strategy))
    assert drawn[0] == ("Qwen3-8B", 64, "corner")
    assert sorted(drawn[1:3]) == [("Qwen3-0.6B", 64, "corner"), ("Qwen3-8B", 1, "corner")]
    assert drawn[3][2] == "random"


def test_draws_favour_what_is_expected_in_front_by_four_for_each_front() -> None:
    chooser = Chooser(configs(), "auto", 0, [2, 3] + [9] * 7)
    drawn = [chooser.choose([], [0, 1])[0] for _ in range(1000)]
    assert 760 <= drawn.count(0) <= 840


def test_a_corner_that_cannot_be_tried_is_stood_in_for_by_the_candidate_nearest_to_it() -> None:
    candidates = tuple(each for each in configs() if (each.model, each.batch) != ("Qwen3-8B", 64))
    chooser = Chooser(candidates, "auto", 0)
    corners = set()
    free = list(range(len(candidates)))
    while True:
        index, strategy = chooser.choose([], free)
        if strategy != "corner":
            break
        free.remove(index)
        corners.add((candidates[index].model, candidates[index].batch))
    assert corners == {("Qwen3-0.6B", 1), ("Qwen3-0.6B", 64), ("Qwen3-8B", 1), ("Qwen3-1.7B", 64)}


def test_from_twenty_points_on_tpe_looks_where_costs_are_low() -> None:
    candidates = configs(batches=list(range(1, 41)), models=["Qwen3-0.6B"])
    history = [(index, ((index - 12.0) ** 2,)) for index in range(0, 40, 2)]
    assert len(history) == TPE_FROM
    free = list(range(1, 40, 2))
    chosen = [Chooser(candidates, "tpe", seed).choose(history, free) for seed in range(20)]
    assert {strategy for _, strategy in chosen} == {"tpe"}
    assert sum(abs(index - 12) <= 6 for index, _ in chosen) >= 15
    _, before = Chooser(candidates, "tpe", 0).choose(history[1:], free)
    assert before == "random"


# -- the study


def test_a_rejected_trial_is_failed_never_a_number_and_left_alone_after_the_second(tmp_path: Path) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[1])
    with opened(tmp_path / "s.db", candidates) as study:
        for _ in range(REJECTIONS_PER_CONFIG):
            asked = study.ask()
            assert asked is not None
            study.tell(asked, rejected(asked))
        assert study.ask() is None
        assert study.history() == []
    assert states(tmp_path / "s.db") == ["FAIL", "FAIL"]
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("select count(*) from trial_values").fetchone() == (0,)


def test_a_row_without_all_figures_is_failed_with_the_reason(tmp_path: Path) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[7])
    with opened(tmp_path / "s.db", candidates) as study:
        asked = study.ask()
        assert asked is not None
        study.tell(asked, measured(asked.config))
    with sqlite3.connect(tmp_path / "s.db") as connection:
        said = connection.execute("select value_json from trial_user_attributes where key = 'rejected'").fetchall()
    assert said == [('"no energy was read"',)]


def test_rows_of_an_earlier_run_are_adopted_once_and_not_asked_for(tmp_path: Path) -> None:
    candidates = configs()
    rows = [measured(config) for config in candidates[:4]]
    elsewhere = measured(replace(candidates[0], batch=3))
    with opened(tmp_path / "s.db", candidates, strategy="grid") as study:
        assert study.adopt([*rows, elsewhere]) == 4
        assert study.adopt(rows) == 0
        asked = study.ask()
        assert asked is not None
        assert asked.config == candidates[4]


def test_what_is_given_back_is_free_again_and_leaving_gives_back(tmp_path: Path) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[1])
    for _ in range(REJECTIONS_PER_CONFIG + 1):  # giving back is no rejection
        with opened(tmp_path / "s.db", candidates) as study:
            asked = study.ask()
            assert asked is not None
            assert asked.config == candidates[0]
            with pytest.raises(EcoRouteError, match="is not told yet"):
                study.ask()


def test_a_second_run_of_the_same_study_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    candidates = configs()
    for number in range(9):
        with opened(tmp_path / "s.db", candidates, worker=f"run {number}") as study:
            assert len(study.history()) == number
            asked = study.ask()
            assert asked is not None
            study.tell(asked, measured(asked.config))
    with opened(tmp_path / "s.db", candidates) as study:
        assert study.ask() is None
        assert study.waiting_for == 0


def test_two_workers_never_get_the_same_configuration(tmp_path: Path) -> None:
    candidates = configs()
    with (
        opened(tmp_path / "s.db", candidates, worker="one", strategy="grid") as one,
        opened(tmp_path / "s.db", candidates, worker="two", strategy="grid") as two,
    ):
        seen = []
        for _ in range(4):
            first, second = one.ask(), two.ask()
            assert first is not None
            assert second is not None
            seen += [first.config.key, second.config.key]
            one.tell(first, measured(first.config))
            two.tell(second, measured(second.config))
        last = one.ask()
        assert last is not None
        assert two.ask() is None
        assert two.waiting_for == 1
        one.tell(last, measured(last.config))
        assert two.ask() is None
        assert two.waiting_for == 0
    assert len({*seen, last.config.key}) == 9


def test_the_older_of_two_trials_of_one_configuration_stands(tmp_path: Path) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[1])
    with opened(tmp_path / "s.db", candidates) as study:
        asked = study.ask()
        assert asked is not None
        study._add(candidates[0], optuna.trial.TrialState.WAITING, "late")  # another worker's, chosen meanwhile
        with opened(tmp_path / "s.db", candidates, worker="two") as other:
            assert other.ask() is None
            assert other.waiting_for == 1
        study.tell(asked, measured(asked.config))
        assert len(study.history()) == 1
    assert states(tmp_path / "s.db") == ["COMPLETE", "FAIL"]


DIES = """
    import os, signal, sys
    from pathlib import Path
    from tests.benchmark import test_search as t
    study = t.opened(Path(sys.argv[1]), t.configs(), worker="dies", strategy="grid", heartbeat_s=1, grace_s=2)
    assert study.ask().config == t.configs()[0]
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_trial_of_a_worker_that_died_is_retried_after_its_heartbeat_ran_out(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(DIES), str(path)], check=False)
    assert killed.returncode == -9
    candidates = configs()
    with opened(path, candidates, worker="lives", strategy="grid", heartbeat_s=1, grace_s=2) as study:
        asked = study.ask()
        assert asked is not None
        assert asked.config == candidates[1]
        study.tell(asked, measured(asked.config))
        made = [asked.config]
        strategies = []
        while len(made) < 9:
            asked = study.ask()
            if asked is None:
                continue  # the dead worker's is still taken to be alive
            made.append(asked.config)
            strategies.append(asked.strategy)
            study.tell(asked, measured(asked.config))
        assert study.ask() is None
    assert sorted(config.key for config in made) == sorted(config.key for config in candidates)
    assert strategies.count("retry") == 1
    assert states(path).count("FAIL") == 1
    trials = optuna.load_study(study_name="study", storage=f"sqlite:///{path}").trials
    assert [(trial.state.name, trial.user_attrs["worker"]) for trial in trials].count(("FAIL", "dies")) == 1
    assert [trial.user_attrs["worker"] for trial in trials].count("lives") == 9  # the retried one among them


def test_a_grace_in_which_a_living_worker_may_be_silent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EcoRouteError, match=r"a grace of 19 s is too short: workers show themselves every 10 s, .* 20 s"
    ):
        opened(tmp_path / "s.db", configs(), grace_s=19)
    with opened(tmp_path / "s.db", configs(), grace_s=20) as study:
        assert study.left == 9


def test_what_was_taken_for_dead_and_lived_is_handed_in_late(tmp_path: Path) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[1])
    with opened(tmp_path / "s.db", candidates) as study:
        asked = study.ask()
        assert asked is not None
        trial = study._trials()[asked.number]
        study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
        study._add(candidates[0], optuna.trial.TrialState.WAITING, "retry")
        study.tell(asked, measured(asked.config))
        assert len(study.history()) == 1
        assert study.ask() is None
    assert states(tmp_path / "s.db") == ["FAIL", "COMPLETE"]


def test_a_rejected_configuration_is_tried_again_after_all_others(tmp_path: Path) -> None:
    candidates = configs(batches=[1])
    asked_for = []
    with opened(tmp_path / "s.db", candidates, strategy="grid") as study:
        while (asked := study.ask()) is not None:
            asked_for.append(asked.config.model)
            study.tell(asked, rejected(asked))
    assert asked_for == ["Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-8B"] * REJECTIONS_PER_CONFIG


def test_machines_with_other_candidates_share_a_study_of_one_space(tmp_path: Path) -> None:
    choices = {"model": list(SCORES), "precision": ["bf16"], "batch": [1, 8, 64], "prompt": [256], "generated": [256],
               "step": ["graphs"]}  # fmt: skip
    for candidates in (configs(models=["Qwen3-0.6B"]), configs(models=["Qwen3-8B"])):
        with opened(tmp_path / "s.db", candidates, strategy="grid", choices=choices) as study:
            asked = study.ask()
            assert asked is not None
            assert asked.config == candidates[0]
            study.tell(asked, measured(asked.config))


def test_what_a_wait_broke_off_is_told_on_leaving_and_not_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = configs(models=["Qwen3-0.6B"], batches=[1])
    leave: list[bool] = []
    with opened(tmp_path / "s.db", candidates, stop=lambda: bool(leave)) as study:
        asked = study.ask()
        assert asked is not None
        leave.append(True)
        with monkeypatch.context() as away:
            away.setattr(study._storage, "set_trial_state_values", _gone)
            with pytest.raises(KeyboardInterrupt):
                study.tell(asked, measured(asked.config))
    assert states(tmp_path / "s.db") == ["COMPLETE"]


def test_leaving_while_the_database_is_away_says_what_was_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with opened(tmp_path / "s.db", configs(), say=said.append, stop=lambda: True) as study:
        assert study.ask() is not None
        monkeypatch.setattr(study._storage, "set_trial_state_values", _gone)
    assert said[-1].startswith("the study could not be told of the last trial")
    assert states(tmp_path / "s.db") == ["RUNNING"]


def _gone(*_: object) -> None:
    raise optuna.exceptions.StorageInternalError("gone")


def test_a_beat_that_is_missed_puts_off_taking_others_for_dead(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db", configs()) as study:
        study._reaps_from = 1.0
        pulse = search._Pulse(_gone, study._missed, 0.01)
        while study._reaps_from == 1.0:
            pass
        pulse.stop()


def test_a_wait_for_the_database_says_so_once_and_ends_when_the_user_leaves(tmp_path: Path) -> None:
    said: list[str] = []
    asks = iter([False, False, True])
    study = opened(tmp_path / "s.db", configs(), say=said.append, stop=lambda: next(asks))

    def fails() -> None:
        raise optuna.exceptions.StorageInternalError("gone")

    with study, pytest.raises(KeyboardInterrupt):
        study._patiently(fails)
    assert said == ["the study's database does not answer, waiting for it: gone"]


@pytest.mark.parametrize(("failures", "lines"), [(1, 0), (2, 2)])
def test_that_another_worker_was_faster_once_is_not_worth_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, lines: int
) -> None:
    monkeypatch.setattr(search, "RETRY_S", (0.0,))
    said: list[str] = []
    faster: list[Exception] = [sqlalchemy.exc.IntegrityError("create", None, Exception("duplicate key"))] * failures

    def made() -> str:
        if faster:
            raise faster.pop()
        return "made"

    with opened(tmp_path / "s.db", configs(), say=said.append) as study:
        assert study._patiently(made) == "made"
    assert len(said) == lines


def test_a_commit_whose_answer_was_lost_counts_and_the_database_is_said_to_be_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RETRY_S", (0.0,))
    said: list[str] = []
    with opened(tmp_path / "s.db", configs(), say=said.append) as study:
        asked = study.ask()
        assert asked is not None
        commit = study._storage.set_trial_state_values

        def unheard(trial_id: int, state: optuna.trial.TrialState, values: Sequence[float] | None = None) -> bool:
            monkeypatch.setattr(study._storage, "set_trial_state_values", commit)
            commit(trial_id, state, values)
            raise optuna.exceptions.StorageInternalError("terminating connection")

        monkeypatch.setattr(study._storage, "set_trial_state_values", unheard)
        study.tell(asked, measured(asked.config))
        assert [config for config, _ in study.history()] == [asked.config]
    assert said == [
        "the study's database does not answer, waiting for it: terminating connection",
        "the study's database answers again",
    ]
    assert states(tmp_path / "s.db") == ["COMPLETE"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "redis://localhost",
            r"--storage is sqlite:///FILE or postgresql://USER@HOST/DATABASE; .* begins with 'redis'",
        ),
        ("mysql://localhost/x", r"--storage is sqlite:///FILE or postgresql://USER@HOST/DATABASE"),
        ("study.db", r"--storage is sqlite:///FILE or postgresql://USER@HOST/DATABASE"),
        (
            "postgresql://eco:secret@host:port/x",
            r"--storage is no database address: it is sqlite:///FILE or postgresql",
        ),
    ],
)
def test_what_is_no_database_is_refused(url: str, said: str) -> None:
    with pytest.raises(EcoRouteError, match=said) as refusal:
        Search(configs(), AXES, point, name="x", storage=url, worker="w")
    assert "secret" not in str(refusal.value)


def test_a_database_that_cannot_be_opened_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RETRY_S", (0.0,))
    with pytest.raises(EcoRouteError, match=r"the study's database cannot be used: .*unable to open"):
        opened(tmp_path / "nowhere" / "s.db", configs())
