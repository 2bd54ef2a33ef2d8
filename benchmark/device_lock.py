"""One holder per GPU: the lock that a command takes before it measures on an NVIDIA device, and keeps to its end.

Two commands on one device would each be billed the other's joules. That another process computes there shows only once
it does; this lock shows it before anything is loaded. It is the kernel's (flock), of a file named by the device's UUID,
and free as soon as its holder is gone, killed or not. What the file says of the holder is for whoever is refused; a
file without a lock says nothing.

The file lies in /tmp: the one folder that POSIX gives to every user of a machine. XDG_RUNTIME_DIR is each user's own
and cleared at logout, when a run overnight still works, and TMPDIR may be each user's or each job's own; a lock that
the other does not see is none. A container with a /tmp of its own is not seen either: there the memory that somebody
holds is found before anything is loaded (:meth:`benchmark.meter.Meter.check_alone`).

A child that measures for the holder takes no lock and inherits none. Processors have none: they never run one process
alone, and a row of theirs says how much others did.
"""

from __future__ import annotations

import datetime
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from benchmark import file_lock
from benchmark.meter import Identity
from ecoroute_mcp.sci import EcoRouteError

FOLDER = Path("/tmp")
LINE_BYTES = 4096
"""More than any holder's line."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds a device: what it runs, and since when, in UTC. Its arguments are nobody else's: an address
    of a database may hold a password, and every user can read the file."""

    pid: int
    command: str
    since: str

    @classmethod
    def here(cls, command: str) -> Holder:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return cls(pid=os.getpid(), command=command, since=now.isoformat())


class DeviceLock:
    """The sole use of a device, by processes that ask for it here. Use as a context manager."""

    def __init__(self, device: Identity, command: str, folder: Path = FOLDER) -> None:
        """``command`` is what the others are told that holds the device.

        Raises EcoRouteError at once where another process holds it, naming that, or where there can be no file."""
        file_lock.check()
        self.path = folder / f"ecoroute-{device.uuid}.lock"
        try:
            self._file = _opened(self.path)
            while True:
                file_lock.take(self._file)
                if _is_at(self._file, self.path):
                    break
                os.close(self._file)  # of a file that somebody removed, which nobody else would see
                self._file = _opened(self.path)
        except BlockingIOError as error:
            holder = _holder(self._file)
            os.close(self._file)
            raise EcoRouteError(_refusal(device, holder)) from error
        except OSError as error:
            raise EcoRouteError(
                f"{device.name} cannot be locked against other commands: {self.path} cannot be opened "
                f"({error.strerror}). Let every user read and write it, or remove it"
            ) from error
        self._say(json.dumps(asdict(Holder.here(command))))

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)

    def __enter__(self) -> DeviceLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say("")
        file_lock.release(self._file)
        os.close(self._file)


def _opened(path: Path) -> int:
    """The file, made where there is none, for every user to write to.

    In a folder of everybody's, Linux lets nobody open another user's file as one to create, so that is asked for only
    where there is none."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        with suppress(FileExistsError):  # another process was a moment faster
            made = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(made, 0o666)  # whatever the umask
            return made


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(file: int) -> Holder | None:
    """Who says in the file that it holds it; None where that is not written yet."""
    try:
        return Holder(**json.loads(os.pread(file, LINE_BYTES, 0)))
    except (ValueError, TypeError):
        return None


def _refusal(device: Identity, holder: Holder | None) -> str:
    if holder is None:
        who, stop = "another command of this project", "or stop it"
    else:
        since = holder.since.replace("T", " ").replace("+00:00", " UTC")
        who = f"process {holder.pid}, `{holder.command}`, since {since}"
        stop = f"or stop it with `kill {holder.pid}`, which keeps what it measured"
    return (
        f"{device.name} ({device.uuid}) is held by {who}: of two on one device each would be billed the other's "
        f"energy. Wait for its end, name another device with --uuid, {stop}"
    )
