"""A process that says in lines what it does, and a test that waits for them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120


class Talking:
    """A process, and the lines that it has said so far on either of its outputs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            command, cwd=ROOT, text=True, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            with self._news:
                self.lines.append(line.strip())
                self._news.notify_all()

    def said(self, text: str) -> int:
        """How many lines begin with a text."""
        with self._news:
            return sum(line.startswith(text) for line in self.lines)

    def until(self, text: str, times: int = 1) -> None:
        """Wait until so many lines begin with a text."""
        with self._news:
            assert self._news.wait_for(
                lambda: sum(line.startswith(text) for line in self.lines) >= times, timeout=PATIENCE_S
            ), f"{text!r} was not said {times} times: {[x for x in self.lines if 'database' in x]} {self.lines[-9:]}"

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end and everything it said. Returns its exit status."""
        status = self.process.wait(timeout=patience_s)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status
