"""A real PostgreSQL of the test's own: a cluster in a temporary folder, on a free port of this machine alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

ACCOUNT = "postgres"
"""The server refuses to run as root: root's tests run it as this account, which the Debian package brings."""


def programs() -> Path | None:
    """The folder of initdb and pg_ctl: on the path, or where Debian puts them. None where there is none."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


class Postgres:
    """A running server. ``url`` is its database, for anyone on this machine; ``folder`` must be one that the server's
    account may enter, which pytest's own are not."""

    def __init__(self, folder: Path) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        self._data = folder / "cluster"
        self._account = ACCOUNT if os.geteuid() == 0 else None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._data.mkdir(parents=True)
        if self._account is not None:
            folder.chmod(0o755)
            shutil.chown(self._data, self._account)
        self._run("initdb", "--auth=trust", "--username=eco", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.start()
        self.url = f"postgresql://eco@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self._data / "log"), "start")

    def stop(self) -> None:
        """At once: clients lose their connections in the middle of what they do."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(
            command, user=self._account, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"
