"""Checkable coding tasks: does a model write functions that work? Twenty tasks, written for this project.

A task is the beginning of a Python function, its docstring included, which the model completes, and calls with their
right answers, which the model does not see. Levels go from 1, a line, to 4, a small algorithm; a model's score is the
number of tasks of which every call is answered rightly. Scores compare only within one hash over all texts, calls and
answers (:func:`fingerprint`). A program is taken from a completion by :func:`extract`.

**What runs it.** A process of its own in a session of its own, with no environment, an empty directory, and the limits
of :mod:`benchmark.cell`, which says what is contained and what is not. Where the kernel cannot lock a process in, no
task is run and EcoRouteError is raised: code from a model is never run without.

**Who decides.** This process. The cell is given the code and the calls' arguments, never the answers, and sends back
lines of bytes, which are compared and not interpreted. A program passes by sending the right answers and in no other
way: printing a verdict, leaving early or redefining equality there changes nothing here. What this cannot tell is a
function from a table of the right answers that a model has learnt by heart: the tasks are public.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmark import cell
from ecoroute_mcp.sci import EcoRouteError

REQUEST = "Complete this Python function. Answer with the whole function in one fenced block of code.\n\n```python\n"
"""What stands before a task's text. A chat model answers it; for any other the block is open, and it goes on in it."""

TOKENS = {1: 192, 2: 256, 3: 384, 4: 512}
"""The tokens that a completion may have, by the task's level: twice those of a plain solution or more."""

START_S = 60.0
"""How long a cell may take to be ready, on however busy a machine: the model has no part in it."""


class Completer(Protocol):
    """A model that continues a text."""

    def complete(self, text: str, tokens: int) -> str:
        """The continuation alone, of at most so many tokens; the most likely one, so that scores can be repeated."""


@dataclass(frozen=True)
class Limits:
    """What one solution may use, its interpreter's start included; the wall clock is this process's."""

    cpu_s: int = 4
    wall_s: float = 10.0
    memory_bytes: int = 2**29
    code_bytes: int = 2**15
    answer_bytes: int = 2**16


@dataclass(frozen=True)
class Raised:
    """The answer of a call that must raise; ``error`` is the name of a built-in exception."""

    error: str


@dataclass(frozen=True)
class Task:
    """The beginning of a function and the calls that decide: (arguments, answer)."""

    level: int
    text: str
    calls: tuple[tuple[tuple[object, ...], object], ...]

    @property
    def name(self) -> str:
        return self.text.removeprefix("def ").partition("(")[0]

    @property
    def answers(self) -> bytes:
        """The lines that a right solution sends back."""
        lines = [
            f"raises {answer.error}" if isinstance(answer, Raised) else cell.canonical(answer)
            for _, answer in self.calls
        ]
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class Verdict:
    """Whether a task was passed, and what was wrong: None if nothing was."""

    task: str
    level: int
    passed: bool
    fault: str | None


@dataclass(frozen=True)
class Score:
    """Tasks passed of how many, the hash of the tasks, and each one's verdict."""

    passed: int
    total: int
    sha256: str
    results: tuple[Verdict, ...]


def judge(completer: Completer, tasks: Sequence[Task] | None = None, limits: Limits | None = None) -> Score:
    """Have a model write every task's function, and try each. All of TASKS by default, one after the other.

    Raises EcoRouteError where code cannot be run locked in."""
    asked = TASKS if tasks is None else tuple(tasks)
    results = []
    for task in asked:
        code = extract(task, completer.complete(REQUEST + task.text, TOKENS[task.level]))
        fault = attempt(task, code, limits or Limits())
        results.append(Verdict(task.name, task.level, fault is None, fault))
    return Score(sum(result.passed for result in results), len(asked), fingerprint(asked), tuple(results))


def fingerprint(tasks: Sequence[Task]) -> str:
    """SHA-256 over the request and the tasks' levels, texts, arguments and answers, in hex."""
    parts = [(task.level, task.text, cell.canonical([list(arguments) for arguments, _ in task.calls]),
              task.answers.decode()) for task in tasks]  # fmt: skip
    return hashlib.sha256(ascii((REQUEST, parts)).encode()).hexdigest()


def extract(task: Task, completion: str) -> str:
    """The program in a completion.

    1. The first fenced block (three backticks, closed or not) that defines the function, as it stands.
    2. Else the definition outside any block, with what is imported, defined or decorated before it.
    3. Else the completion continues the task's text, and the program is that text and the completion.

    In 2 and 3 the function ends before the first line that is neither blank nor indented."""
    begins = re.compile(rf"^def {task.name}\(.*", re.MULTILINE)
    for block in re.findall(r"^```[^\n]*\n(.*?)(?:^```|\Z)", completion, re.DOTALL | re.MULTILINE):
        if begins.search(block):
            return str(block)
    found = begins.search(completion)
    head, tail = task.text, completion
    if found is not None:
        first = re.search(r"^(?:import |from \w+ import |def |class |@)", completion, re.MULTILINE)
        assert first is not None  # the definition itself, if nothing before it
        head, tail = completion[first.start() : found.end()] + "\n", completion[found.end() + 1 :]
    body = itertools.takewhile(lambda line: not line.strip() or line[0].isspace(), tail.split("\n"))
    return head + "\n".join(body) + "\n"


def attempt(task: Task, code: str, limits: Limits) -> str | None:
    """Run a program locked in. Returns what was wrong with it, None if every call was answered rightly.

    Raises EcoRouteError where code cannot be run locked in."""
    if sys.platform != "linux":
        raise _unlocked(f"its system is {sys.platform}")
    if len(code.encode(errors="replace")) > limits.code_bytes:
        return f"a program longer than {limits.code_bytes} bytes"
    request = ascii((code, task.name, [arguments for arguments, _ in task.calls])).encode()
    command = [sys.executable, "-I", "-S", cell.__file__, str(limits.cpu_s), str(limits.memory_bytes)]
    with (
        tempfile.TemporaryDirectory() as empty,
        subprocess.Popen(
            command,
            cwd=empty,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        try:
            ready, _ = _read(pipe, time.monotonic() + START_S, limits.answer_bytes, until=b"\n")
            if ready != b"locked\n":
                raise _unlocked(ready.decode(errors="replace") or "it ended at once")
            process.stdin.write(request)
            process.stdin.close()
            deadline = time.monotonic() + limits.wall_s
            answers, late = _read(pipe, deadline, limits.answer_bytes)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # not waited for yet, so the group is still this one
    return _fault(task, answers, late, limits)


def _unlocked(reason: str) -> EcoRouteError:
    return EcoRouteError(
        f"coding tasks need a process that the kernel locks in, and this machine gives none ({reason}): "
        "run them on Linux with seccomp, on x86-64 or AArch64, or leave them out"
    )


def _read(pipe: int, deadline: float, most: int, until: bytes | None = None) -> tuple[bytes, bool]:
    """Bytes up to the end, the given ending or more than ``most``; and whether the deadline came first."""
    read = b""
    while len(read) <= most and (until is None or not read.endswith(until)):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return read, True
        part = os.read(pipe, most)
        if not part:
            break
        read += part
    return read, False


def _fault(task: Task, answers: bytes, late: bool, limits: Limits) -> str | None:
    if late:
        return f"not done within {limits.wall_s:g} s"
    if len(answers) > limits.answer_bytes:
        return f"answered with more than {limits.answer_bytes} bytes"
    if answers == task.answers:
        return None
    if answers.startswith(b"the program "):
        return answers[:200].decode(errors="replace").strip()
    given, right = answers.splitlines(), task.answers.splitlines()
    for number, (line, wanted) in enumerate(zip(given, right, strict=False)):
        if line != wanted:
            call = f"{task.name}({', '.join(map(ascii, task.calls[number][0]))})"
            return f"{call} gave {line[:200].decode(errors='replace')}, not {wanted.decode()}"
    return f"answered {len(given)} of {len(right)} calls"


TASKS = (
    Task(
        1,
        '''def twice_plus_one(n: int) -> int:
    """Return twice n, plus one."""
''',
        (((0,), 1), ((7,), 15), ((-3,), -5), ((10**30,), 2 * 10**30 + 1)),
    ),
    Task(
        1,
        '''def keep_even(numbers: list[int]) -> list[int]:
    """Return the even numbers of the list, in the order in which they stand."""
''',
        ((([],), []), (([4, 1, -2, 3, 0, 4],), [4, -2, 0, 4]), (([1, 3, 5],), [])),
    ),
    Task(
        1,
        '''def joined_by_dashes(words: list[str]) -> str:
    """Return the words as one string, with a dash between each two.

    joined_by_dashes(["red", "green"]) is "red-green".
    """
''',
        ((([],), ""), ((["one"],), "one"), ((["a", "b", "c"],), "a-b-c"), ((["x", "", "y"],), "x--y")),
    ),
    Task(
        1,
        '''def first_and_last(items: list[int]) -> list[int]:
    """Return a list of the first and the last item.

    A list of one item gives that item twice, and an empty list gives an empty list.
    """
''',
        ((([5, 6, 7, 8],), [5, 8]), (([9],), [9, 9]), (([],), []), (([1, 2],), [1, 2])),
    ),
    Task(
        1,
        '''def count_capitals(text: str) -> int:
    """Return how many of the letters of the text are capitals from A to Z."""
''',
        ((("",), 0), (("Hello World",), 2), (("ABC def, GHI!",), 6), (("1 2 3 [\\]^_`",), 0)),
    ),
    Task(
        2,
        '''def middle_of_three(a: int, b: int, c: int) -> int:
    """Return the number that would stand in the middle if the three were sorted."""
''',
        (((1, 2, 3), 2), ((3, 1, 2), 2), ((2, 3, 1), 2), ((5, 5, 1), 5), ((-1, -7, -4), -4), ((0, 9, 0), 0)),
    ),
    Task(
        2,
        '''def minutes_between(start: str, end: str) -> int:
    """Return the minutes from one time of day to another, both written as "HH:MM".

    An end that is earlier than the start is on the next day: from "23:50" to "00:10" are 20 minutes.
    """
''',
        ((("08:00", "09:30"), 90), (("23:50", "00:10"), 20), (("12:00", "12:00"), 0), (("00:00", "23:59"), 1439),
         (("10:01", "10:00"), 1439)),
    ),
    Task(
        2,
        '''def digit_sum(n: int) -> int:
    """Return the sum of the decimal digits of n. The sign does not count: digit_sum(-12) is 3."""
''',
        (((0,), 0), ((-12,), 3), ((999,), 27), ((1000001,), 2), ((-908070,), 24)),
    ),
    Task(
        2,
        '''def without_repeats(items: list[int]) -> list[int]:
    """Return the items in their order, each only where it stands for the first time."""
''',
        ((([],), []), (([3, 1, 3, 2, 1],), [3, 1, 2]), (([7, 7, 7],), [7]), (([-1, 0, 1],), [-1, 0, 1])),
    ),
    Task(
        2,
        '''def longest_word(sentence: str) -> str:
    """Return the longest of the words, which are parted by spaces; of several equally long ones, the first.

    A sentence without a word gives an empty string.
    """
''',
        ((("a quick brown fox",), "quick"), (("",), ""), (("   ",), ""), (("one two  six",), "one"),
         (("to be determined",), "determined")),
    ),
    Task(
        3,
        '''def run_lengths(text: str) -> list[tuple[str, int]]:
    """Return the runs of equal characters in the text, each as the character and how often it is repeated.

    run_lengths("aab") is [("a", 2), ("b", 1)].
    """
''',
        ((("",), []), (("aab",), [("a", 2), ("b", 1)]), (("zzzz",), [("z", 4)]),
         (("abab",), [("a", 1), ("b", 1), ("a", 1), ("b", 1)]), (("11  2",), [("1", 2), (" ", 2), ("2", 1)])),
    ),
    Task(
        3,
        '''def joined_spans(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans, given as (first, last) in any order, wherever they overlap or share an end.

    Return the joined spans, sorted. joined_spans([(5, 8), (1, 3), (3, 4)]) is [(1, 4), (5, 8)].
    """
''',
        ((([],), []), (([(5, 8), (1, 3), (3, 4)],), [(1, 4), (5, 8)]), (([(1, 10), (2, 3), (4, 5)],), [(1, 10)]),
         (([(6, 7), (1, 2), (2, 6)],), [(1, 7)]), (([(-5, -1), (0, 0), (0, 0)],), [(-5, -1), (0, 0)])),
    ),
    Task(
        3,
        '''def in_base(n: int, base: int) -> str:
    """Return n, which is not negative, written in a base from 2 to 16, with the digits 0-9 and a-f.

    Raise ValueError for any other n or base.
    """
''',
        (((0, 2), "0"), ((10, 2), "1010"), ((255, 16), "ff"), ((80, 9), "88"), ((4095, 13), "1b30"),
         ((-1, 10), Raised("ValueError")), ((5, 1), Raised("ValueError")), ((5, 17), Raised("ValueError"))),
    ),
    Task(
        3,
        '''def brackets_match(text: str) -> bool:
    """Return whether each of the brackets (), [] and {} in the text is closed by its own kind, in the right order.

    Other characters do not matter.
    """
''',
        ((("",), True), (("f(a[1], {})",), True), (("(]",), False), (("([)]",), False), (("((",), False),
         ((")(",), False), (("no brackets",), True), (("{[()()]}",), True)),
    ),
    Task(
        3,
        '''def turned_right(grid: list[list[int]]) -> list[list[int]]:
    """Return the grid, given as rows of equal length, turned by a quarter to the right (clockwise).

    turned_right([[1, 2], [3, 4]]) is [[3, 1], [4, 2]].
    """
''',
        ((([[1, 2], [3, 4]],), [[3, 1], [4, 2]]), (([[1, 2, 3]],), [[1], [2], [3]]), (([[1], [2], [3]],), [[3, 2, 1]]),
         (([[1, 2, 3], [4, 5, 6]],), [[4, 1], [5, 2], [6, 3]])),
    ),
    Task(
        4,
        '''def calculated(expression: str) -> int:
    """Return the value of an expression of whole numbers, +, -, *, parentheses and spaces.

    Multiplication binds more strongly than addition and subtraction, which go from left to right. A minus sign stands
    only between two operands.
    """
''',
        ((("7",), 7), (("2+3*4",), 14), (("(2+3)*4",), 20), (("10 - 4 - 3",), 3), (("2*(3+(4-1))*5 - 6",), 54),
         (("((12))*2-100",), -76)),
    ),
    Task(
        4,
        '''def fewest_coins(coins: list[int], amount: int) -> int | None:
    """Return the smallest number of coins that add up to the amount, or None if it cannot be paid.

    Each kind of coin may be used as often as needed.
    """
''',
        ((([1, 5, 10], 0), 0), (([1, 5, 10], 28), 6), (([1, 3, 4], 6), 2), (([5, 10], 3), None), (([], 7), None),
         (([9, 6, 1], 12), 2), (([186, 419, 83, 408], 6249), 20)),
    ),
    Task(
        4,
        '''def build_order(needs: dict[str, list[str]]) -> list[str] | None:
    """Return the names in an order in which each comes after everything that it needs.

    needs maps every name to the names that it needs. Where several could come next, the alphabetically first one does.
    If there is no such order, return None.
    """
''',
        ((({},), []), (({"b": ["a"], "a": []},), ["a", "b"]), (({"a": ["b"], "b": ["a"]},), None),
         (({"app": ["lib", "net"], "lib": ["core"], "net": ["core"], "core": [], "art": []},),
          ["art", "core", "lib", "net", "app"]),
         (({"c": [], "b": ["c"], "a": ["c"], "d": []},), ["c", "a", "b", "d"]), (({"x": ["x"]},), None)),
    ),
    Task(
        4,
        '''def edits(first: str, second: str) -> int:
    """Return the fewest steps that turn one text into another.

    A step inserts one character, removes one, or puts one in the place of another.
    """
''',
        ((("", ""), 0), (("abc", ""), 3), (("kitten", "sitting"), 3), (("flaw", "lawn"), 2), (("same", "same"), 0),
         (("intention", "execution"), 5), (("abcdefghijklmno", "onmlkjihgfedcba"), 14)),
    ),
    Task(
        4,
        '''def knight_moves(start: tuple[int, int], goal: tuple[int, int]) -> int:
    """Return how many moves a knight needs from one square of a chessboard to another.

    Squares are (column, row), each from 0 to 7; a knight moves two squares along one axis and one along the other.
    """
''',
        ((((0, 0), (0, 0)), 0), (((0, 0), (1, 2)), 1), (((0, 0), (1, 1)), 4), (((0, 0), (7, 7)), 6),
         (((3, 3), (4, 3)), 3), (((7, 0), (6, 1)), 4)),
    ),
)  # fmt: skip
"""All tasks. Change a task and scores no longer compare: the hash says so."""
