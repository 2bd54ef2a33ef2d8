"""Stopping in good order: SIGINT or SIGTERM ends the running trial, the first or the second as is chosen, and its row
is still written."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interruption:
    """Receives the signals while it is entered; the first is remembered in ``asked``.

    Within :meth:`admitted` the signal of that number, ``breaking``, raises KeyboardInterrupt. Later ones do nothing:
    what is left to do takes no time. With ``breaking`` 2 the first lets a trial end. ``answer`` is written to standard
    error when the first one comes."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, breaking: int = 1, answer: str = "") -> None:
        self.asked: int | None = None
        self._answer = answer
        self._until_breaking = breaking
        self._admitting = False

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
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
                os.write(2, f"{self._answer}\n".encode())  # print may be what the signal came in between
        self._until_breaking -= 1
        if self._until_breaking == 0 and self._admitting:
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
