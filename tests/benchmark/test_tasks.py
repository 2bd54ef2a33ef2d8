"""Coding tasks: right programs pass, wrong ones do not, and hostile ones neither pass, escape nor stay behind."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import cell
from benchmark.tasks import TASKS, Limits, Raised, Task, attempt, extract, fingerprint, judge
from tests.benchmark import smollm2

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in cell.ARCHITECTURES, reason="coding tasks run on Linux alone"
)

BODIES: dict[str, tuple[str, str]] = {
    "twice_plus_one": ("return 2 * n + 1", "return 2 * (n + 1)"),
    "keep_even": ("return [n for n in numbers if n % 2 == 0]", "return [n for n in numbers if n % 2 == 0 and n > 0]"),
    "joined_by_dashes": ("return '-'.join(words)", "return ''.join(word + '-' for word in words)"),
    "first_and_last": ("return [items[0], items[-1]] if items else []", "return [items[0], items[-1]]"),
    "count_capitals": ("return sum('A' <= c <= 'Z' for c in text)", "return sum(c <= 'Z' for c in text)"),
    "middle_of_three": ("return sorted([a, b, c])[1]", "return a + b + c - max(a, b, c)"),
    "minutes_between": (
        """
        def minutes(text):
            hours, rest = text.split(":")
            return 60 * int(hours) + int(rest)
        return (minutes(end) - minutes(start)) % 1440
        """,
        """
        def minutes(text):
            hours, rest = text.split(":")
            return 60 * int(hours) + int(rest)
        return abs(minutes(end) - minutes(start))
        """,
    ),
    "digit_sum": ("return sum(map(int, str(abs(n))))", "return sum(map(int, str(n)))"),
    "without_repeats": ("return list(dict.fromkeys(items))", "return sorted(set(items))"),
    "longest_word": ("return max(sentence.split(), key=len, default='')", "return max(sentence.split(), key=len)"),
    "run_lengths": (
        """
        import itertools
        return [(character, len(list(run))) for character, run in itertools.groupby(text)]
        """,
        """
        import collections
        return list(collections.Counter(text).items())
        """,
    ),
    "joined_spans": (
        """
        joined = []
        for first, last in sorted(spans):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return joined
        """,
        """
        joined = []
        for first, last in sorted(spans):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        return joined
        """,
    ),
    "in_base": (
        """
        if n < 0 or not 2 <= base <= 16:
            raise ValueError(base)
        digits = ""
        while n or not digits:
            n, digit = divmod(n, base)
            digits = "0123456789abcdef"[digit] + digits
        return digits
        """,
        """
        if not 2 <= base <= 16:
            raise ValueError(base)
        digits = ""
        while n > 0:
            n, digit = divmod(n, base)
            digits = "0123456789abcdef"[digit] + digits
        return digits or "0"
        """,
    ),
    "brackets_match": (
        """
        opened = []
        for character in text:
            if character in "([{":
                opened.append(character)
            elif character in ")]}" and (not opened or opened.pop() + character not in ("()", "[]", "{}")):
                return False
        return not opened
        """,
        "return all(text.count(a) == text.count(b) for a, b in ('()', '[]', '{}'))",
    ),
    "turned_right": (
        "return [list(column) for column in zip(*grid[::-1])]",
        "return [list(column) for column in zip(*grid)][::-1]",
    ),
    "calculated": (
        """
        tokens = []
        for character in expression.replace(" ", ""):
            if character.isdigit() and tokens and tokens[-1].isdigit():
                tokens[-1] += character
            else:
                tokens.append(character)
        def factor():
            token = tokens.pop(0)
            if token != "(":
                return int(token)
            value = total()
            tokens.pop(0)
            return value
        def product():
            value = factor()
            while tokens and tokens[0] == "*":
                tokens.pop(0)
                value *= factor()
            return value
        def total():
            value = product()
            while tokens and tokens[0] in "+-":
                value += product() if tokens.pop(0) == "+" else -product()
            return value
        return total()
        """,
        """
        total, sign = 0, 1
        for part in expression.replace("(", "").replace(")", "").replace("-", "+-").split("+"):
            product = 1
            for factor in part.split("*"):
                product *= int(factor.replace(" ", ""))
            total += product
        return total
        """,
    ),
    "fewest_coins": (
        """
        fewest = [0] + [None] * amount
        for value in range(1, amount + 1):
            counts = [fewest[value - coin] for coin in coins if coin <= value and fewest[value - coin] is not None]
            fewest[value] = 1 + min(counts) if counts else None
        return fewest[amount]
        """,
        """
        count = 0
        for coin in sorted(coins, reverse=True):
            count += amount // coin
            amount %= coin
        return None if amount else count
        """,
    ),
    "build_order": (
        """
        order, left = [], dict(needs)
        while left:
            ready = [name for name in left if all(need in order for need in left[name])]
            if not ready:
                return None
            order.append(min(ready))
            del left[min(ready)]
        return order
        """,
        """
        order = []
        def visit(name):
            for need in sorted(needs[name]):
                visit(need)
            if name not in order:
                order.append(name)
        for name in sorted(needs):
            visit(name)
        return order
        """,
    ),
    "edits": (
        """
        row = list(range(len(second) + 1))
        for i, a in enumerate(first, start=1):
            diagonal, row[0] = row[0], i
            for j, b in enumerate(second, start=1):
                diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
        return row[-1]
        """,
        "return sum(a != b for a, b in zip(first, second)) + abs(len(first) - len(second))",
    ),
    "knight_moves": (
        """
        reached, moves = {start}, 0
        while goal not in reached:
            moves += 1
            reached |= {
                (x + dx, y + dy)
                for x, y in reached
                for dx, dy in ((1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1))
                if 0 <= x + dx < 8 and 0 <= y + dy < 8
            }
        return moves
        """,
        "return -(-(abs(start[0] - goal[0]) + abs(start[1] - goal[1])) // 3)",
    ),
}
"""A right and a plausible wrong body of each task's function."""


def indented(body: str) -> str:
    lines = body.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join("    " + line[margin:] for line in lines)


class Canned:
    """A completer with the bodies of BODIES by heart, the right or the wrong ones."""

    def __init__(self, which: int) -> None:
        self.which = which
        self.asked: list[tuple[str, int]] = []

    def complete(self, text: str, tokens: int) -> str:
        self.asked.append((text, tokens))
        name = text.rpartition("def ")[2].partition("(")[0]
        return indented(BODIES[name][self.which]) + "\n```\nAnd that is all.\n"


def children() -> set[int]:
    """The processes whose parent is this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid():
            found.add(int(folder.name))
    return found


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    """What a test starts is gone after it: no child is left, and a grandchild would become one."""
    cell._prctl(36, ctypes.c_ulong(1))  # PR_SET_CHILD_SUBREAPER
    before = children()
    yield
    assert children() == before


def test_right_programs_pass_every_task() -> None:
    completer = Canned(0)
    score = judge(completer)
    assert [result.fault for result in score.results] == [None] * 20
    assert (score.passed, score.total) == (20, 20)
    assert [result.task for result in score.results] == list(BODIES)
    assert [result.level for result in score.results] == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5
    assert [tokens for _, tokens in completer.asked] == [192] * 5 + [256] * 5 + [384] * 5 + [512] * 5
    assert completer.asked[0][0] == (
        "Complete this Python function. Answer with the whole function in one fenced block of code.\n\n"
        '```python\ndef twice_plus_one(n: int) -> int:\n    """Return twice n, plus one."""\n'
    )


def test_plausible_wrong_programs_fail_every_task() -> None:
    score = judge(Canned(1))
    assert score.passed == 0
    faults = {result.task: result.fault for result in score.results}
    assert faults["twice_plus_one"] == "twice_plus_one(0) gave 2, not 1"
    assert faults["first_and_last"] == "first_and_last([]) gave raises IndexError, not []"
    assert faults["in_base"] == "in_base(-1, 10) gave '0', not raises ValueError"
    assert faults["fewest_coins"] == "fewest_coins([1, 3, 4], 6) gave 3, not 2"
    assert faults["joined_spans"] == "joined_spans([(1, 10), (2, 3), (4, 5)]) gave [(1, 3,), (4, 5,)], not [(1, 10,)]"


def test_scores_carry_the_hash_of_all_that_was_asked() -> None:
    assert fingerprint(TASKS) == "04607203bd71abf8d6c5cc7c99756b1f07c312467a9412be500fc32c184482ca"
    first = TASKS[0]
    for other in (
        Task(2, first.text, first.calls),
        Task(1, first.text + " ", first.calls),
        Task(1, first.text, first.calls[1:]),
        Task(1, first.text, (((0,), 1.0), *first.calls[1:])),
        Task(1, first.text, (((0,), Raised("ValueError")), *first.calls[1:])),
    ):
        assert fingerprint([other]) != fingerprint([first])
    assert judge(Canned(0), [first]).sha256 == fingerprint([first])


VALUES: tuple[object, ...] = (1, 1.0, True, "1", [1], (1,), {1}, {1: 1}, None, [], (), set(), {}, -0.0, 0.0)


def test_equal_values_have_one_text_and_types_matter() -> None:
    assert cell.canonical({"b": [1, (2,)], "a": {3.5, None}}) == "{'a': set(3.5, None), 'b': [1, (2,)]}"
    assert cell.canonical({2: b"\n", 1: "é\n"}) == "{1: '\\xe9\\n', 2: b'\\n'}"
    texts = [cell.canonical(value) for value in VALUES]
    assert len(set(texts)) == len(VALUES)
    with pytest.raises(TypeError, match="generator is no plain value"):
        cell.canonical([(digit for digit in "1")])


STUB = Task(1, 'def f(n: int) -> int:\n    """Return n."""\n', (((1,), 1),))


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("    return n\n", f"{STUB.text}    return n\n\n"),
        ("    return n\n\n    # done\n```\nText.", f"{STUB.text}    return n\n\n    # done\n"),
        ("    return n\nprint(f(1))\n", f"{STUB.text}    return n\n"),
        ("", f"{STUB.text}\n"),
        (
            "Sure:\n```python\nimport re\n\ndef f(n):\n    return n\n```\nText.",
            "import re\n\ndef f(n):\n    return n\n",
        ),
        ("```\nf(2)\n```\nor\n```py\ndef f(n): return n\n```\n```\ndef f(n): return 2\n```", "def f(n): return n\n"),
        ("```python\ndef f(n):\n    return n", "def f(n):\n    return n"),
        (
            "import re\n\n@re.cache\ndef g(n):\n    return n\n\ndef f(n):\n    return g(n)\n```\nDone.",
            "import re\n\n@re.cache\ndef g(n):\n    return n\n\ndef f(n):\n    return g(n)\n",
        ),
        ("Here it is:\ndef f(n):\n    return n\nIt works.", "def f(n):\n    return n\n"),
        ("    return n\n```\n\n```\ndef g(): pass\n```", f"{STUB.text}    return n\n"),
    ],
)
def test_the_program_in_a_completion(completion: str, program: str) -> None:
    assert extract(STUB, completion).rstrip("\n") == program.rstrip("\n")


HEAD = "import os, sys, time\n"
HOSTILE = {
    "fork bomb": ("def f(n):\n    while True:\n        os.fork()", "raises PermissionError"),
    "fork bomb that goes on": (
        "def f(n):\n    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass",
        "answered 0 of 1 calls",
    ),
    "thread": ("import _thread\ndef f(n):\n    return _thread.start_new_thread(f, (1,))", "raises RuntimeError"),
    "shell": ("def f(n):\n    os.execv('/bin/true', ['true'])", "raises PermissionError"),
    "memory hog": ("def f(n):\n    return len(bytearray(2**30))", "raises MemoryError"),
    "infinite loop": ("while True: pass", "answered 0 of 1 calls"),
    "endless sleep": ("time.sleep(1e6)", "not done within 1 s"),
    "own clock": ("time.monotonic = lambda: 0\ntime.sleep(1e6)", "not done within 1 s"),
    "huge output": ("while True: os.write(3, b'x' * 65536)", "answered with more than 65536 bytes"),
    "much text": ("def f(n):\n    return 'x' * 2**20", "answered with more than 65536 bytes"),
    "leaving": ("sys.exit(0)", "answered 0 of 1 calls"),
    "leaving at once": ("os._exit(0)", "answered 0 of 1 calls"),
    "leaving when called": ("def f(n):\n    sys.exit(0)", "answered 0 of 1 calls"),
    "own exception": ("class E(BaseException): pass\ndef f(n):\n    raise E", "answered 0 of 1 calls"),
    "fake verdicts": (
        "print('passed')\nfor n in range(16):\n    try:\n        os.write(n, b'passed\\nTrue\\nNone\\nlocked\\n')\n"
        "    except OSError:\n        pass\nos._exit(0)",
        "gave passed, not 1",
    ),
    "right answer and more": ("def f(n):\n    os.write(3, b'1\\n')\n    return n", "answered 2 of 1 calls"),
    "equal to all": (
        "class Any:\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef f(n):\n    return Any()",
        "raises TypeError",
    ),
    "number equal to all": (
        "class Any(int):\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef f(n):\n    return Any(0)",
        "gave 0, not 1",
    ),
    "other comparison": (
        "import builtins\nbuiltins.ascii = lambda value: 'passed'\n"
        "sys.modules['__main__'].canonical = lambda value: 'passed'\ndef f(n):\n    return 0",
        "gave passed, not 1",
    ),
    "reading the answers": (
        "def f(n):\n    return open(sys.modules['__main__'].__file__.replace('cell', 'tasks')).read()",
        "raises PermissionError",
    ),
    "writing": ("def f(n):\n    open('here', 'w')", "raises PermissionError"),
    "removing": ("def f(n):\n    os.rmdir(os.getcwd())", "raises PermissionError"),
    "parent": ("def f(n):\n    os.kill(os.getppid(), 9)", "raises PermissionError"),
    "own limits": ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9, 9))", "raises"),
    "network": ("import socket\ndef f(n):\n    return 1", "the program itself raises"),
    "deep recursion": ("def f(n):\n    return f(n)", "raises RecursionError"),
    "recursion into the ground": (
        "sys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(self, name): return getattr(self, name)\n"
        "def f(n):\n    return A().x",
        "answered 0 of 1 calls",
    ),
    "deep answer": (
        "def f(n):\n    sys.setrecursionlimit(10**5)\n    for _ in range(10**4): n = [n]\n    return n",
        "gave [[[[",
    ),
    "closed descriptors": ("def f(n):\n    os.closerange(0, 64)\n    return n", "answered 0 of 1 calls"),
    "closed descriptors, staying": ("os.closerange(0, 64)\nwhile True: pass", "answered 0 of 1 calls"),
    "own handlers": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "answered 0 of 1 calls",
    ),
    "no function": ("g = 1", "the program defines no such function"),
    "no program": ("def f(n:", "the program itself raises SyntaxError"),
    "too long": ("#" * 2**15, "a program longer than 32768 bytes"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_programs_fail(hostile: str) -> None:
    code, expected = HOSTILE[hostile]
    limits = Limits(cpu_s=1, wall_s=1.0) if "1 s" in expected else Limits(cpu_s=1, wall_s=30.0)
    begin = time.monotonic()
    fault = attempt(STUB, HEAD + code, limits)
    assert fault is not None
    assert expected in fault
    assert time.monotonic() - begin < 20.0


def test_the_kernel_refuses_every_call_but_those_listed() -> None:
    """Tried inside the cell, as whoever runs this test: every number of a table, and the x32 ones, gives EPERM.

    Linux lets x86-64's uretprobe and uprobe (335, 336) past every filter: called by a program, they end it."""
    column, _ = cell.ARCHITECTURES[platform.machine()]
    listed = sorted([*(numbers[column] for numbers in cell.CALLS.values()), 335, 336])
    code = f"""
import ctypes
def f(first, last):
    call = ctypes.CDLL(None, use_errno=True).syscall
    made = []
    for number in range(first, last):
        if number not in {listed}:
            ctypes.set_errno(0)
            if (call(ctypes.c_long(number), 0, 0, 0, 0, 0, 0), ctypes.get_errno()) != (-1, 1):
                made.append(number)
    return made
"""
    everywhere = ((0, 1024), (2**30, 2**30 + 1024))
    assert attempt(Task(1, "def f(first, last):\n", tuple((span, []) for span in everywhere)), code, Limits()) is None


def test_what_a_solution_may_import_works_within_the_cell() -> None:
    code = f"""
import datetime, functools, random, re
def f(n):
    for name in {cell.MODULES}:
        __import__(name)
    random.seed(1)
    assert re.findall("[0-9]+", "a12") == ["12"] and functools.reduce(int.__add__, [1, 2]) == 3
    assert datetime.datetime.strptime("2024-02-29", "%Y-%m-%d").year == 2024
    print("to nobody")
    return n
"""
    assert attempt(STUB, code, Limits()) is None


def test_where_the_kernel_locks_nothing_in_no_program_is_run() -> None:
    """A process whose kernel refuses prctl: what a machine without seccomp looks like."""
    code = """
from benchmark import cell, tasks
from ecoroute_mcp.sci import EcoRouteError
import platform, struct, ctypes
number = {"x86_64": 157, "aarch64": 167}[platform.machine()]
refused, allowed = (cell.RETURN, 0, 0, cell.REFUSE), (cell.RETURN, 0, 0, cell.ALLOW)
rules = [(cell.LOAD, 0, 0, 0), (cell.EQUAL, 0, 1, number), refused, allowed]
program = cell._Program(4, b"".join(struct.pack("=HBBI", *rule) for rule in rules))
cell._prctl(cell.PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
cell._prctl(cell.PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program))
try:
    tasks.attempt(tasks.TASKS[0], "raise SystemExit", tasks.Limits())
except EcoRouteError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == (
        "coding tasks need a process that the kernel locks in, and this machine gives none (PermissionError: [Errno 1] "
        "prctl 1: Operation not permitted): run them on Linux with seccomp, on x86-64 or AArch64, or leave them out\n"
    )


@pytest.mark.filterwarnings("ignore")  # transformers warns about itself
def test_a_real_model_passes_what_it_can() -> None:
    """SmolLM2 filters a list, and forgets the dashes."""
    pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
    score = judge(smollm2.engine(), [task for task in TASKS if task.name in {"keep_even", "joined_by_dashes"}])
    assert [(result.task, result.fault) for result in score.results] == [
        ("keep_even", None),
        ("joined_by_dashes", "joined_by_dashes(['a', 'b', 'c']) gave 'abc', not 'a-b-c'"),
    ]
    assert (score.passed, score.total) == (1, 2)
