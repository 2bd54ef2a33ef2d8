"""Stopping in good order: a signal ends the running trial, the first or the second as is chosen, and its row is still
written, whether or not the terminal is still there.

A terminal that closes, or an ssh connection that drops, sends SIGHUP, which asks for the same as SIGTERM. It may do so
several times, since the kernel and the shell both say it, and what is on its way to an end already needs no haste: it
never counts as a second signal. Where it was ignored at the start, as under nohup, it stays ignored. What is written to
such a terminal afterwards goes nowhere (:func:`lasting_output`) and disturbs nothing."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType, TracebackType
from typing import Any, TextIO, cast

GONE = frozenset({errno.EIO, errno.EPIPE})
"""How writing fails where nobody is left to read: of a terminal, and of a pipe."""
HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""Windows has none."""


class Interruption:
    """Receives the signals while it is entered; the first is remembered in ``asked``.

    Within :meth:`admitted` the signal of that number, ``breaking``, raises KeyboardInterrupt, and so does each later
    one but a hang-up: a library may have lost the first. With ``breaking`` 2 the first lets a trial end. ``answer`` is
    written to standard error when the first one comes."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if HANGUP is None else [HANGUP]))

    def __init__(self, breaking: int = 1, answer: str = "") -> None:
        self.asked: int | None = None
        self._answer = answer
        self._until_breaking = breaking
        self._admitting = False

    def __enter__(self) -> Interruption:
        self._before = {
            number: signal.signal(number, self._receive)
            for number in self.SIGNALS
            if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = number
            if self._answer:
                with suppress(OSError):  # the terminal may be what is gone
                    os.write(2, f"{self._answer}\n".encode())  # print may be what the signal came in between
        elif number == HANGUP:
            return
        self._until_breaking -= 1
        if self._until_breaking <= 0 and self._admitting:
            raise KeyboardInterrupt

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Where an interrupt may break in at any point. Raises KeyboardInterrupt at once if one has come."""
        self._admitting = True
        try:
            if self._until_breaking <= 0:
                raise KeyboardInterrupt
            yield
        finally:
            self._admitting = False

    @property
    def status(self) -> int:
        """The exit status of a process that ended for the signal."""
        return 128 + (self.asked or signal.SIGINT)


@contextmanager
def lasting_output() -> Iterator[None]:
    """What prints within goes on where its terminal, or who reads its pipe, is gone: it prints into nothing then."""
    printed, said = cast(TextIO, _Lasting(sys.stdout)), cast(TextIO, _Lasting(sys.stderr))
    with redirect_stdout(printed), redirect_stderr(said):
        yield


def lead_nowhere(stream: TextIO) -> None:
    """Let whatever is still written to a stream's file, what is held back included, go nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


class _Lasting:
    """A text stream as it is, but for what happens once nobody is left to read it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._silent_where_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._silent_where_gone():
            self._stream.flush()

    @contextmanager
    def _silent_where_gone(self) -> Iterator[None]:
        """From such a failure on the file leads nowhere, also for what is held back and for what else writes there."""
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:
                raise
            lead_nowhere(self._stream)
