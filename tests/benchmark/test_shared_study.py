"""Three workers on one real PostgreSQL: none measures what another has, the dead one's trial is retried, and all wait
while the database is away."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg
import pytest

from benchmark import trial
from tests.benchmark.postgres import Postgres, programs

pytestmark = pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: apt-get install postgresql")


@pytest.fixture
def database() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()


class Worker:
    """A worker process, and what it has said so far."""

    def __init__(self, url: str, name: str, output: Path) -> None:
        self.output = output
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmark.shared_worker", url, name, str(output)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            with self._news:
                self.lines.append(line.strip())
                self._news.notify_all()

    def until(self, text: str, times: int = 1) -> None:
        """Wait until so many lines begin with a text."""
        with self._news:
            assert self._news.wait_for(
                lambda: sum(line.startswith(text) for line in self.lines) >= times, timeout=120
            ), f"{text!r} was not said {times} times: {self.lines[-5:]}"

    def ended(self) -> list[str]:
        self.process.wait(timeout=240)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.lines


@pytest.mark.slow
def test_200_trials_of_three_workers_survive_a_kill_a_signal_and_a_restart(database: Postgres, tmp_path: Path) -> None:
    workers = [Worker(database.url, name, tmp_path / f"{name}.jsonl") for name in ("a", "bb", "ccc")]
    killed, signalled, left = workers
    killed.until("told", 3)
    killed.until("begun", sum(line.startswith("told") for line in killed.lines) + 1)
    killed.process.send_signal(signal.SIGKILL)
    signalled.until("told", 5)
    signalled.process.send_signal(signal.SIGTERM)
    assert signalled.ended()[-1] == "left"
    assert signalled.process.returncode == 0
    left.until("told", 20)
    database.stop()
    left.until("the study's database does not answer, waiting for it")
    database.start()
    left.until("the study's database answers again")
    late = Worker(database.url, "late", tmp_path / "late.jsonl")
    assert left.ended()[-1] == "nothing left"
    assert late.ended()[-1] == "nothing left"
    killed.ended()

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
