"""A client that speaks JSON-RPC to a stdio server line by line, so that it can also say what no polite client would."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class StdioPeer:
    """One live server process. ``stderr`` names the file that collects what the server writes there."""

    def __init__(self, command: Sequence[str], *, cwd: Path, stderr: Path) -> None:
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin = self.process.stdin.fileno()
        self._stdout = self.process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        self._unread = b""
        self._last_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.process:
            if self.process.stdin is not None:
                self.process.stdin.close()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def send(self, line: bytes, *, timeout_s: float = 5) -> None:
        """Write one line. Raises TimeoutError where the server does not read it, BrokenPipeError where it is gone."""
        left = memoryview(line + b"\n")
        deadline_s = time.monotonic() + timeout_s
        while left:
            _, writable, _ = select.select([], [self._stdin], [], max(0.0, deadline_s - time.monotonic()))
            if not writable:
                raise TimeoutError(f"the server did not read a line of {len(line)} bytes within {timeout_s} s")
            left = left[os.write(self._stdin, left[:65536]) :]

    def reply(self, request_id: int, *, timeout_s: float = 5) -> dict[str, Any]:
        """The reply to this id; lines for others are passed over. Raises TimeoutError, or EOFError at the end."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                message: dict[str, Any] = json.loads(line)
                if message.get("id") == request_id:
                    return message
                continue
            readable, _, _ = select.select([self._stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            if not readable:
                raise TimeoutError(f"no reply to request {request_id} within {timeout_s} s")
            chunk = os.read(self._stdout, 1 << 20)
            if not chunk:
                raise EOFError(f"the server closed its output; exit status {self.process.poll()}")
            self._unread += chunk

    def request(self, method: str, params: dict[str, Any], *, timeout_s: float = 5) -> dict[str, Any]:
        """One request and its reply, a result or an error."""
        request_id = self.next_id()
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        self.send(json.dumps(message).encode(), timeout_s=timeout_s)
        return self.reply(request_id, timeout_s=timeout_s)

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of one tool call."""
        result: dict[str, Any] = self.request("tools/call", {"name": tool, "arguments": arguments})["result"]
        return result

    def initialize(self) -> dict[str, Any]:
        """The 2025-11-25 handshake; the server has 30 s, since it may be building its database."""
        client = {"name": "ecoroute-tests", "version": "0"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        result: dict[str, Any] = self.request("initialize", params, timeout_s=30)["result"]
        self.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return result


def text_of(result: dict[str, Any]) -> str:
    """All text content of a tool result."""
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")
