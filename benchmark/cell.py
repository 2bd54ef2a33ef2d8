"""The cell in which a model's code runs: a process that locks itself in before it is given the code.

Started as a script, ``python -I -S cell.py CPU_S MEMORY_BYTES``, on Linux on x86-64 or AArch64, with or without root.
It imports :data:`MODULES`, takes on its limits, and has the kernel refuse every system call but :data:`CALLS`
(seccomp, a list of what is allowed). Then it writes ``locked`` and reads from standard input what to run. From there
on it can compute, sleep, and write to the descriptors that it has: one pipe to its parent; standard output and error
are /dev/null.

It cannot open a file, to read or to write, nor a socket; start a process or a thread; signal, trace or limit another
process; or lift its own limits: not as root either. It can hold a core for its CPU seconds and memory up to its limit,
read the clock, and write what it likes to its parent, which therefore interprets nothing that it reads
(:mod:`benchmark.tasks`). A fault of the kernel within these few calls, or of the processor, is not contained.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import os
import platform
import signal
import struct
import sys

MODULES = (
    "_strptime", "abc", "array", "base64", "bisect", "calendar", "cmath", "collections", "collections.abc",
    "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
    "itertools", "json", "math", "numbers", "operator", "random", "re", "statistics", "string", "textwrap", "time",
    "types", "typing", "unicodedata",
)  # fmt: skip
"""What a solution may import: no other module's file can be opened."""

CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
"""The system calls that the code may make, and their numbers on x86-64 and on AArch64 (Linux's asm/unistd.h)."""

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""The place of a machine's numbers in :data:`CALLS`, and its AUDIT_ARCH (linux/audit.h)."""

FAILURES = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError, MemoryError,
    NameError, OSError, RuntimeError, StopIteration, TypeError, ValueError,
)  # fmt: skip
"""What a called function may raise and the next call still be made."""

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # SECCOMP_RET_KILL_PROCESS, _ERRNO with EPERM, _ALLOW
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # classic BPF: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K


def canonical(value: object) -> str:
    """A value as one line of ASCII: the same text for equal values of one type, other text for any other value.

    Equal means what it does in Python, but 1, 1.0 and True differ. Raises TypeError for anything but None, bool, int,
    float, str, bytes, and lists, tuples, sets and dicts of them."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return ascii(value)
    if isinstance(value, list):
        return f"[{', '.join(map(canonical, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(canonical, value))},)"
    if isinstance(value, set | frozenset):
        return f"set({', '.join(sorted(map(canonical, value)))})"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{canonical(key)}: {canonical(item)}' for key, item in value.items()))}}}"
    raise TypeError(f"{type(value).__name__} is no plain value")


def limit(cpu_s: int, memory_bytes: int) -> None:
    """Take on the limits, for good once the calls are locked."""
    import resource  # not on every system; the parent has only canonical() from here

    for kind, most in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def lock() -> None:
    """Refuse every call but CALLS, for good. Raises OSError where the kernel or the machine cannot."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        raise OSError(f"{sys.platform} on {platform.machine()} is not Linux on {' or '.join(ARCHITECTURES)}")
    column, architecture = ARCHITECTURES[platform.machine()]
    instructions = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for numbers in CALLS.values():
        instructions += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ALLOW)]
    instructions.append((RETURN, 0, 0, REFUSE))
    program = _Program(len(instructions), b"".join(struct.pack("=HBBI", *each) for each in instructions))
    _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    _prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    _prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(program))


def _prctl(option: int, *arguments: object) -> None:
    padded = [*arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def main() -> None:
    """Lock, then answer each call of the function on a line: its canonical value, or what it raised."""
    answers = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    try:
        for name in MODULES:
            importlib.import_module(name)
        limit(int(sys.argv[1]), int(sys.argv[2]))
        lock()
    except (OSError, ImportError, ValueError) as error:
        os.write(answers, f"{type(error).__name__}: {error}".encode())
        return
    os.write(answers, b"locked\n")
    code, name, calls = ast.literal_eval(sys.stdin.buffer.read().decode())
    os.close(0)
    namespace: dict[str, object] = {"__name__": "solution"}
    try:
        exec(compile(code, "<solution>", "exec"), namespace)
    except (*FAILURES, SyntaxError) as error:
        os.write(answers, f"the program itself raises {type(error).__name__}\n".encode())
        return
    function = namespace.get(name)
    if not callable(function):
        os.write(answers, b"the program defines no such function\n")
        return
    for arguments in calls:
        try:
            answer = canonical(function(*arguments))
        except FAILURES as error:
            answer = f"raises {type(error).__name__}"
        os.write(answers, answer.encode() + b"\n")


if __name__ == "__main__":
    main()
