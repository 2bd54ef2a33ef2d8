"""The sole use of an open file, among processes that ask for it here: POSIX locks, which Windows has none of."""

from __future__ import annotations

from typing import IO

from ecoroute_mcp.sci import EcoRouteError


def check() -> None:
    """Raises EcoRouteError on a system without such locks: what measures and logs there could not hold its files."""
    try:
        import fcntl  # noqa: F401
    except ImportError as error:
        raise EcoRouteError(
            "measuring and logging need POSIX file locks, which this system has not: on Windows, install and run "
            "EcoRoute in its Linux (wsl --install); what reads measurements works here too"
        ) from error


def take(file: int | IO[bytes]) -> None:
    """Hold a file until it is released or closed.

    Raises BlockingIOError where another process holds it, EcoRouteError as ``check``."""
    check()
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def release(file: int | IO[bytes]) -> None:
    """Hold a file no longer, also where a process forked from this one has it open. Raises as ``check``."""
    check()
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
