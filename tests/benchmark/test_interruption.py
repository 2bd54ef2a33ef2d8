"""A terminal that closes: what was begun ends in good order, or goes on where nobody is to be told."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import IO

import pytest

from benchmark.interruption import Interruption, lasting_output
from benchmark.trial import Rejected, read

ROOT = Path(__file__).resolve().parents[2]
LEADER = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
"""
"""Makes a module's process the one that its terminal's end is told to."""


@pytest.fixture(autouse=True)
def admitted_hangups() -> Iterator[None]:
    """As at a terminal: what runs under nohup is started with SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


# -- signals


def test_a_hangup_asks_as_any_signal_does() -> None:
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            signal.raise_signal(signal.SIGHUP)
        assert (interruption.asked, interruption.status) == (signal.SIGHUP, 129)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL  # as it was before


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_a_hangup_never_is_the_second_signal(first: signal.Signals) -> None:
    reached = []
    with Interruption(breaking=2) as interruption:
        with interruption.admitted():
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            reached.append(interruption.asked)
        with pytest.raises(KeyboardInterrupt), interruption.admitted():
            signal.raise_signal(signal.SIGTERM)
    assert reached == [first]


def test_a_later_signal_breaks_in_where_the_first_was_lost() -> None:
    with Interruption() as interruption, interruption.admitted():
        with suppress(KeyboardInterrupt):  # as a destructor would
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)  # which is no haste
        assert interruption.asked == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_hangup_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruption() as interruption, interruption.admitted():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
    assert interruption.asked is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


# -- what is printed


def piped() -> tuple[int, IO[str]]:
    """The end that is read, and a stream to the other, which holds nothing back beyond a line."""
    end, other_end = os.pipe()
    return end, os.fdopen(other_end, "w", buffering=1)


def test_what_prints_to_nobody_goes_on_and_so_does_what_is_held_back() -> None:
    end, stream = piped()
    with stream, redirect_stdout(stream):
        with lasting_output():
            print("heard")
            assert os.read(end, 100) == b"heard\n"
            os.close(end)
            for text in ("lost", "lost too"):
                print(text, flush=True)
            os.write(stream.fileno(), b"from below")
        print("after it")  # as at the end of the process
    with lasting_output():
        print("the next one's")  # to pytest, which is there


def test_another_failure_to_print_is_no_vanished_reader() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    stream = io.TextIOWrapper(full.open("wb", buffering=0), write_through=True)
    with stream, redirect_stdout(stream), lasting_output(), pytest.raises(OSError, match="No space left"):
        print("too much")


# -- commands whose terminal closes


class Terminal:
    """A terminal of its own for a module's process, until it is closed."""

    def __init__(self, words: Sequence[str], *, nohup: bool = False) -> None:
        self._end, other_end = os.openpty()
        command = [sys.executable, "-c", LEADER, "nohup" if nohup else "", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=other_end, stdout=other_end, stderr=other_end)
        os.close(other_end)

    def close(self) -> None:
        os.close(self._end)

    def end(self) -> int:
        """Its status."""
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()


def search(folder: Path) -> tuple[list[str], Path]:
    """What starts a search of two trials in a folder; the first of them lasts until the pipe is opened and closed."""
    pipe = folder / "until"
    os.mkfifo(pipe)
    return ["tests.benchmark.terminal_search", str(folder), f"wait:{pipe}", "z"], pipe


def measured(folder: Path) -> list[str]:
    return [row.config.model.partition(":")[0] for row in read(folder / "rows.jsonl").measured]


def test_a_search_whose_terminal_closes_ends_its_trial_and_leaves_the_others(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs Optuna: pip install '.[benchmark]'")
    from tests.benchmark.terminal_search import study

    words, pipe = search(tmp_path)
    terminal = Terminal(words)
    with pipe.open("wb"):  # which waits until the trial has begun
        terminal.close()
        terminal.process.send_signal(signal.SIGHUP)  # as the shell does beside the kernel
    assert terminal.end() == 129
    assert measured(tmp_path) == ["wait"]
    with study(tmp_path, words[2:]) as left:
        assert left.left == 1
        asked = left.ask()
        assert asked is not None
        assert asked.config.model == "z"


def test_a_search_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs Optuna: pip install '.[benchmark]'")
    words, pipe = search(tmp_path)
    terminal = Terminal(words, nohup=True)
    with pipe.open("wb"):
        terminal.close()
    assert terminal.end() == 0
    assert measured(tmp_path) == ["wait", "z"]


def test_a_search_outlives_who_reads_its_lines(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs Optuna: pip install '.[benchmark]'")
    words, pipe = search(tmp_path)
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with pipe.open("wb"):
            process.stdout.close()
            process.stderr.close()
        assert process.wait(timeout=60) == 0
    assert measured(tmp_path) == ["wait", "z"]


def test_a_run_whose_terminal_closes_writes_the_row_of_its_trial(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        words = ["benchmark", "run", "--device", "cpu", "--endpoint", endpoint, "--model", "qwen3"]
        terminal = Terminal([*words, "--batch", "1", "2", "--output", str(rows), "--no-publish"])
        connection, _ = server.accept()  # its trial has begun, and is never answered
        with connection:
            terminal.close()
            assert terminal.end() == 129
    (row,) = read(rows).trials
    assert isinstance(row, Rejected)
    assert (row.reason, row.config.batch) == ("interrupted", 1)
