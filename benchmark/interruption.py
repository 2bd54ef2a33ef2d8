"""Stopping in good order: the first SIGINT or SIGTERM ends the running trial, and its row is still written."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Interruption:
    """Receives the signals while it is entered. Within :meth:`admitted` the first raises KeyboardInterrupt; elsewhere
    it is remembered in ``asked``. Later ones do nothing: what is left to do takes no time."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked: int | None = None
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
            if self._admitting:
                raise KeyboardInterrupt

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Where an interrupt may break in at any point. Raises KeyboardInterrupt at once if one was asked for."""
        self._admitting = True
        try:
            if self.asked is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._admitting = False

    @property
    def status(self) -> int:
        """The exit status of a process that ended for the signal."""
        return 128 + (self.asked or signal.SIGINT)
