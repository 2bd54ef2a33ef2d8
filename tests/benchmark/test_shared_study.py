"""Three workers on one real PostgreSQL: none measures what another has, the dead one's trial is retried, and all wait
while the database is away."""

from __future__ import annotations

import collections
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmark import trial
from tests.benchmark.postgres import Postgres, programs
from tests.benchmark.talking import Talking

pytestmark = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


@pytest.fixture
def database() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()


class Worker(Talking):
    """A worker process with a file of its own."""

    def __init__(self, url: str, name: str, output: Path) -> None:
        self.output = output
        super().__init__([sys.executable, "-m", "tests.benchmark.shared_worker", url, name, str(output)])


@pytest.mark.slow
def test_200_trials_of_three_workers_survive_a_kill_a_signal_and_a_restart(database: Postgres, tmp_path: Path) -> None:
    workers = [Worker(database.url, name, tmp_path / f"{name}.jsonl") for name in ("a", "bb", "ccc")]
    killed, signalled, left = workers
    killed.until("told", 3)
    killed.until("begun", killed.said("told") + 1)
    killed.process.send_signal(signal.SIGKILL)
    signalled.until("told", 5)
    signalled.process.send_signal(signal.SIGTERM)
    assert (signalled.ended(), signalled.lines[-1]) == (0, "left")
    left.until("told", 20)
    database.stop()
    left.until("the study's database does not answer, waiting for it")
    database.start()
    left.until("the study's database answers again")
    late = Worker(database.url, "late", tmp_path / "late.jsonl")
    assert (left.ended(240), left.lines[-1]) == (0, "nothing left")
    assert (late.ended(240), late.lines[-1]) == (0, "nothing left")
    assert killed.ended() == -signal.SIGKILL

    with psycopg.connect(database.url) as connection:
        states = collections.Counter(state for (state,) in connection.execute("select state from trials").fetchall())
        keys = connection.execute(
            "select a.value_json from trials t join trial_user_attributes a using (trial_id) "
            "where t.state = 'COMPLETE' and a.key = 'config'"
        ).fetchall()
        retried = connection.execute(
            "select count(*) from trial_system_attributes where key = 'failed_trial'"
        ).fetchone()
    assert states["COMPLETE"] == 200
    assert states["RUNNING"] == states["WAITING"] == 0
    assert len({json.loads(key) for (key,) in keys}) == 200
    assert retried == (1,)
    rows = [row.config.key for worker in (*workers, late) for row in trial.read(worker.output).measured]
    assert set(rows) == {json.loads(key) for (key,) in keys}
    # One row more is possible: of a trial that the killed worker had on file and had not told.
    assert len(rows) - 200 <= 1
