"""Trials in a process of their own: what goes wrong there costs one trial.

A CUDA context that has seen an illegal access is of no further use to its process; the kernel ends a process that takes
too much memory; a driver may hang. So the process that decides (:class:`ProcessBench`) never imports torch, and the one
that measures, ``python -m benchmark.bench``, may end at any time. It keeps its loaded model for as long as trials load
alike, and lives until it fails, is told to end, or loses its parent.

**What is said.** Down the child's standard input, one configuration a line, as JSON. Back on its standard output, one
JSON object a line: a trial's row as it stands in a file, and before it what happened (``event``): ``ready`` once the
child can take a configuration, ``loaded`` with the seconds that loading a model took, ``leaving`` where the row that
follows is its last. Whatever libraries print goes to its standard error, whose last lines are part of the reason for
which a trial is rejected.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmark import cores, quality, session, sweep, trial
from benchmark.trial import DeviceKind, Trial, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

READY_S = 120.0
"""In which a child must be able to take a configuration. It has imported no torch by then."""
ENDING_S = 10.0
"""In which a child must end once it is told to, or once it has been killed."""
WATCHED_S = 0.5
"""How often a silent child is looked after."""
LAST_WORDS = 3
"""Lines of a lost child's standard error that are quoted."""
READY = {"event": "ready"}
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class NotStarted(EcoRouteError):
    """A child ended before it could take a configuration: no configuration is to blame."""


class _Lost(Exception):
    """The child is of no further use; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the seconds of one trial went: starting a child, loading a model, and the trial itself."""

    start_s: float
    load_s: float
    trial_s: float


class ProcessBench:
    """Measures in a child, which is started when it is needed. Use as a context manager.

    ``command`` starts a child. ``timing`` is of the last trial. ``clock`` gives seconds."""

    def __init__(self, command: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._command = tuple(command)
        self._clock = clock
        self._child: _Child | None = None
        self.timing = Timing(start_s=0.0, load_s=0.0, trial_s=0.0)

    def __enter__(self) -> ProcessBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def measure(self, config: TrialConfig, timeout_s: float) -> Trial:
        """One trial, loading included. Where the child ends, answers something else or takes longer than ``timeout_s``,
        its processes are killed, the trial is rejected, and the next one gets a fresh child.

        Raises NotStarted where no child can be had. What interrupts this kills the child."""
        begin_s = self._clock()
        child = self._alive()
        sent_s = self._clock()
        load_s, keep = 0.0, False
        try:
            child.send(config.key.encode() + b"\n")
            leaving = False
            while "event" in (said := child.hear(sent_s + timeout_s, f"not done after {timeout_s:g} s")):
                load_s += said["seconds"] if said["event"] == "loaded" else 0.0
                leaving = leaving or said["event"] == "leaving"
            row = _row(said, config)
            keep = not leaving
        except _Lost as lost:
            row = sweep.rejected(config, str(lost))
        finally:
            if not keep:
                self._kill()
        trial_s = self._clock() - sent_s - load_s
        self.timing = Timing(start_s=sent_s - begin_s, load_s=load_s, trial_s=trial_s)
        return row

    def _alive(self) -> _Child:
        """The child, or a fresh one where there is none or it has ended since."""
        if self._child is not None and self._child.running:
            return self._child
        self._kill()
        self._child = child = _Child(self._command, self._clock)
        ready = False
        try:
            ready = child.hear(self._clock() + READY_S, f"not ready after {READY_S:g} s") == READY
            if not ready:
                raise _Lost("it did not say that it is ready")
        except _Lost as lost:
            raise NotStarted(f"the process that measures did not start: {lost}") from lost
        finally:
            if not ready:
                self._kill()
        return child

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def close(self) -> None:
        """Let the child end by itself, within :data:`ENDING_S`."""
        if self._child is not None:
            self._child.dismiss()
        self._kill()


def _row(said: dict[str, Any], config: TrialConfig) -> Trial:
    try:
        row = trial.parse(json.dumps(said).encode())
    except EcoRouteError as error:
        raise _Lost(f"its process answered what is {error}") from error
    if row.config != config:
        raise _Lost(f"its process answered for another configuration: {row.config}")
    return row


class _Child:
    """The process that measures, in a session and group of its own, with what it says."""

    def __init__(self, command: Sequence[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a Ctrl+C at the terminal is the parent's to judge
        )
        self._said, self._heard = bytearray(), bytearray()
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._selector = selectors.DefaultSelector()
        for pipe, receive in ((self._process.stdout, self._said.extend), (self._process.stderr, self._remember)):
            assert pipe is not None
            self._selector.register(pipe, selectors.EVENT_READ, receive)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except BrokenPipeError as error:
            raise self._lost() from error

    def hear(self, until_s: float, overrun: str) -> dict[str, Any]:
        """The next line of its standard output. Raises _Lost where none comes, or it is no JSON object."""
        while b"\n" not in self._said:
            left_s = until_s - self._clock()
            if left_s <= 0:
                raise _Lost(f"{overrun}: its processes were killed{self._quoted()}")
            if not self._receive(min(left_s, WATCHED_S)) and not self.running:
                raise self._lost()
        line, _, rest = bytes(self._said).partition(b"\n")
        self._said[:] = rest
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise _Lost(f"its process answered something else than a trial: {line[:80].decode(errors='replace')!r}")
        return said

    def _receive(self, patience_s: float) -> bool:
        """Take what comes within some time. Returns whether anything did."""
        found = False
        for key, _ in self._selector.select(patience_s):
            content = os.read(key.fd, 1 << 16)
            if content:
                key.data(content)
                found = True
            else:
                self._selector.unregister(key.fileobj)
        return found

    def _remember(self, content: bytes) -> None:
        *lines, rest = (self._heard + content).replace(b"\r", b"\n").split(b"\n")
        self._last_words.extend(text for line in lines if (text := line.decode(errors="replace").strip()))
        self._heard[:] = rest[-(1 << 12) :]

    def _quoted(self) -> str:
        self._remember(b"\n")
        return f" ({' / '.join(self._last_words)})" if self._last_words else ""

    def _lost(self) -> _Lost:
        """Why it is gone, in words."""
        try:
            status = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return _Lost(f"its process stopped answering{self._quoted()}")
        while self._receive(0):
            pass
        if status >= 0:
            return _Lost(f"its process ended with status {status}{self._quoted()}")
        name = signal.Signals(-status).name
        hint = ", as the kernel does where memory runs out" if name == "SIGKILL" else ""
        return _Lost(f"its process was ended by {name}{hint}{self._quoted()}")

    def dismiss(self) -> None:
        """Say that nothing more is wanted, and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        until_s = self._clock() + ENDING_S
        while self.running and (left_s := until_s - self._clock()) > 0:
            if self._selector.get_map():
                self._receive(min(left_s, WATCHED_S))
            else:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(left_s)

    def kill(self) -> None:
        """End its whole group, and what it left open. One that the kernel does not let go of is left behind."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


# -- the child: `python -m benchmark.bench`


def command(
    *,
    device: DeviceKind,
    uuid: str | None = None,
    text: Path | None = None,
    tasks: bool = False,
    own_cores: Iterable[int] = (),
) -> tuple[str, ...]:
    """What starts a child that measures on a device, kept to some cores if any are given."""
    words = [sys.executable, "-m", "benchmark.bench", "--device", device, "--tasks" if tasks else "--no-tasks"]
    if uuid is not None:
        words += ["--uuid", uuid]
    if text is not None:
        words += ["--text", str(text.absolute())]
    if kept := cores.spelled(own_cores):
        words += ["--cores", kept]
    return tuple(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for on standard input until that ends. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--uuid")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tasks", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--cores")
    arguments = parser.parse_args(argv)
    asked, answers = _own_pipes()
    _die_with_parent()
    try:
        _serve(arguments, asked, answers)
    except EcoRouteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output for the parent alone, in that order: what runs here or is started from here reads
    nothing, and prints to standard error."""
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


def _die_with_parent() -> None:
    """On Linux; elsewhere a child without a parent ends where it asks for the next configuration."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def _serve(arguments: argparse.Namespace, asked: IO[bytes], answers: IO[bytes]) -> None:
    if arguments.cores:
        cores.pin(cores.read(arguments.cores))
    if arguments.uuid:
        os.environ["CUDA_VISIBLE_DEVICES"] = arguments.uuid  # torch would else see the others too
    machine = session.find(arguments.device, arguments.uuid)
    kind = machine.device.kind
    instruments = sweep.Instruments(
        meters={} if machine.meter is None else {kind: machine.meter},
        no_energy={} if machine.no_energy is None else {kind: machine.no_energy},
        text=quality.text_from(arguments.text) if arguments.text else quality.default_text(),
        tasks=arguments.tasks,
    )

    def tell(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event).encode() + b"\n")

    bench = sweep.Bench(instruments, loaded=lambda seconds: tell({"event": "loaded", "seconds": seconds}))
    tell(READY)
    try:
        for line in asked:
            row = bench.trial(trial.config_of(line))
            if bench.broken:
                tell({"event": "leaving"})
            answers.write(trial.dump(row))
            if bench.broken:
                return
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
