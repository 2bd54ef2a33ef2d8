"""The command itself with trials that are measured: three workers on one real PostgreSQL, and one on SQLite that is
killed between a row's way to its file and to the study."""

from __future__ import annotations

import collections
import importlib
import json
import os
import select
import signal
import sqlite3
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmark import trial
from benchmark.trial import Measured
from tests.benchmark.postgres import Postgres, programs
from tests.benchmark.talking import PATIENCE_S, Talking

pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")
sqlalchemy: Any = pytest.importorskip("sqlalchemy", reason="needs a study: pip install '.[benchmark]'")

pytestmark = pytest.mark.slow

GONE = "the study's database does not answer"
BACK = "the study's database answers again"
HELD = (
    "select a.value_json from trials t join trial_user_attributes a using (trial_id) "
    "join trial_user_attributes w using (trial_id) "
    "where t.state = 'RUNNING' and a.key = 'config' and w.key = 'worker' and w.value_json like :worker"
)

COMPLETE = (
    "select a.value_json from trials t join trial_user_attributes a using (trial_id) "
    "where t.state = 'COMPLETE' and a.key = 'config'"
)
RETRIED = (
    "select a.value_json, cast(t.state as text) from trials t join trial_user_attributes a using (trial_id) "
    "join trial_system_attributes s using (trial_id) where a.key = 'config' and s.key = 'failed_trial'"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random weights that transformers takes for a real model, with a tokenizer of bytes."""
    import torch
    import transformers

    tokenizers: Any = importlib.import_module("tokenizers")

    folder = tmp_path_factory.mktemp("model") / "tiny"
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # transformers warns about itself
        transformers.LlamaForCausalLM(shape).save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


class Laboratory:
    """A space of that model, and searches of it."""

    def __init__(self, model: Path, folder: Path, *, batches: Sequence[int], prompts: Sequence[int]) -> None:
        self.folder = folder
        self._space, self._text = folder / "tiny.yaml", folder / "text.txt"
        self._space.write_text(
            f"name: tiny\nmodels: [{model}]\nprecisions: [fp32]\nbatches: {list(batches)}\nprompts: {list(prompts)}\n"
            "generated: [4, 8, 12, 16, 20]\nrepeats: 2\nwindow_s: 0.01\n"
        )
        self._text.write_text("A trial is a configuration and its outcome.\n" * 3)

    def search(self, name: str, storage: str) -> Search:
        output = self.folder / f"{name}.jsonl"
        words = [
            "--storage", storage, "--device", "cpu", "--space", str(self._space), "--text", str(self._text),
            "--output", str(output), "--grace", "20s", "--no-tasks", "--no-publish", "--plain",
        ]  # fmt: skip
        return Search(words, output, storage)


class Search(Talking):
    """`python -m benchmark search` in a process, with a file of its own."""

    def __init__(self, words: Sequence[str], output: Path, storage: str) -> None:
        self.output, self._storage = output, storage.replace("postgresql://", "postgresql+psycopg://")
        super().__init__([sys.executable, "-m", "benchmark", "search", *words], {"OMP_NUM_THREADS": "1"})

    def on_file(self) -> list[str]:
        return [row.config.key for row in trial.read(self.output).measured]

    def study(self, question: str, **words: str) -> list[tuple[str, ...]]:
        """What the study's database answers to a question in SQL."""
        engine = sqlalchemy.create_engine(self._storage)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sqlalchemy.text(question), words)]
        finally:
            engine.dispose()

    def held(self) -> str | None:
        """The configuration that runs by the study and is this worker's; None where there is none, or the study cannot
        be read because this worker holds a lock."""
        try:
            found = self.study(HELD, worker=f'%:{self.process.pid}"')
        except sqlalchemy.exc.OperationalError:
            return None
        return json.loads(found[0][0]) if found else None

    def stopped_in_a_trial(self) -> str:
        """Stop it in the middle of a trial, which runs by the study and is not on file. Returns its configuration."""
        while True:
            self.until("begun: ", self.said("begun: ") + 1)
            self.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
            held = self.held()
            if held is not None and held not in self.on_file():
                return held
            self.process.send_signal(signal.SIGCONT)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As `kill -9` does; the process that measures must then end too."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        handle = os.pidfd_open(int(child))
        self.process.kill()
        assert self.ended() == -signal.SIGKILL
        assert select.select([handle], [], [], PATIENCE_S)[0], "the process that measures outlives its parent"
        os.close(handle)


@pytest.fixture
def searches() -> Iterator[list[Search]]:
    """Those started; none outlives the test."""
    started: list[Search] = []
    yield started
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.ended()


@pytest.fixture
def database() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()


@pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: apt-get install postgresql")
def test_200_measured_trials_of_three_workers_survive_a_kill_a_signal_and_a_restart(
    database: Postgres, searches: list[Search], model: Path, tmp_path: Path
) -> None:
    laboratory = Laboratory(model, tmp_path, batches=range(1, 6), prompts=range(4, 36, 4))
    for name in ("killed", "signalled", "stays"):
        searches.append(laboratory.search(name, database.url))
    killed, signalled, stays = searches
    for each in searches:
        each.until("begun: ", 3)
    lost = killed.stopped_in_a_trial()
    killed.kill()

    living = (signalled, stays)
    before = {each: (each.said(GONE), each.said(BACK)) for each in living}
    database.stop()
    for each in living:
        each.until(GONE, before[each][0] + 1)
    database.start()
    for each in living:
        each.until(BACK, before[each][1] + 1)
    again = laboratory.search("killed", database.url)
    searches.append(again)

    last = signalled.stopped_in_a_trial()
    signalled.process.send_signal(signal.SIGTERM)
    signalled.go_on()
    assert signalled.ended() == 128 + signal.SIGTERM
    made = signalled.on_file()
    assert made[-1] == last
    assert signalled.said("begun: ") == len(made)
    assert signalled.said(f"asked to end: {len(made)} trials, 0 rejected") == 1
    assert [stays.ended(), again.ended()] == [0, 0]
    assert [each.said("nothing is left to try: ") for each in (stays, again)] == [1, 1]

    states = collections.Counter(stays.study("select cast(state as text) from trials"))
    complete = [json.loads(key) for (key,) in stays.study(COMPLETE)]
    retried = [(json.loads(key), state) for key, state in stays.study(RETRIED)]
    assert states["COMPLETE",] == len(complete) == len(set(complete)) == 200
    assert states["RUNNING",] == states["WAITING",] == 0
    assert retried == [(lost, "COMPLETE")]
    outcomes = [row for each in (signalled, stays, again) for row in trial.read(each.output).trials]
    assert all(isinstance(row, Measured) for row in outcomes)
    # The killed worker's last trial was not on file yet: no row is there twice.
    assert sorted(row.config.key for row in outcomes) == sorted(complete)
    assert sum(line.endswith("(by retry)") for each in searches for line in each.lines) == 1


def test_a_search_killed_in_a_trial_and_after_a_row_measures_nothing_twice(
    searches: list[Search], model: Path, tmp_path: Path
) -> None:
    laboratory = Laboratory(model, tmp_path, batches=[1, 2], prompts=[4, 8])
    path = tmp_path / "study.db"

    def search() -> Search:
        searches.append(laboratory.search("rows", f"sqlite:///{path}"))
        return searches[-1]

    first = search()
    first.until("begun: ", 2)
    lost = first.stopped_in_a_trial()
    first.kill()
    content = first.output.read_bytes()

    second = search()
    untold = second.stopped_in_a_trial()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin immediate")  # so that the row goes to its file, and not to the study
        begun = second.said("begun: ")
        second.go_on()
        second.until(str(begun), 1)
        second.kill()
    assert second.on_file()[-1] == untold
    assert second.held() == untold
    assert second.output.read_bytes().startswith(content)
    content = second.output.read_bytes()

    third = search()
    assert third.ended() == 0
    assert third.said("nothing is left to try: ") == 1
    assert third.output.read_bytes().startswith(content)
    rows = third.on_file()
    assert len(rows) == len(set(rows)) == 20
    assert sum(line.endswith("(by retry)") for line in third.lines) == 1  # the untold one is told, not measured
    assert rows.index(lost) >= rows.index(untold)
    states = collections.Counter(third.study("select state from trials"))
    assert states == {("COMPLETE",): 20, ("FAIL",): 2}
    retried = [(json.loads(key), state) for key, state in third.study(RETRIED)]
    assert sorted(retried) == sorted([(lost, "COMPLETE"), (untold, "COMPLETE")])
