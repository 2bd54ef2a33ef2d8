"""Many patterns at once: the places are those that re finds, in texts made of what the patterns are made of."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecoroute_mcp.patterns import Patterns, Text, WordPattern

PATTERNS = {
    "words": r"(?<!\w)(?:fix|unit[- ]?tests?|summari[sz]e|doesn'?t (?:work|start)|c\+\+|mql\w*|\d+ words)(?!\w)",
    "a word or a mark": r"(?<!\w)(?:def|#include|<\?php)(?!\w)|;",
    "opening": r"^(?:please |ok[,.]+ )*(?<!\w)(?:how|how to|is)(?!\w)",
    "opening letters": r"^(?:no|yes)(?!\w)",
    "far apart": r"(?<!\w)(?:make|write)(?!\w) (?:\S+ ){0,3}(?<!\w)(?:code|tests?)(?!\w)",
    "after a mark": r"(?:^|[.!?] |\b(?:and|then) )(?<!\w)(?:add|move)(?!\w)",
    "marks": r"=>|->|\w ?[+-]?= ?\w|[?\uff1f]\W*$|_{4,}",
    "call": r"[\w.]+\([^)]{0,8}\)",
    "repeated": r"(?:at \w+\(\) ){2}",
    "number": r"(?<!\w)(?:e|err|ts)[- ]?\d{3,}",
    "lacking": r"no (?:\w+ )?(?:matching|viable) |expected .{1,9}(?:after|before)",
    "lookahead": r"(?<!\w)(?:can|may)(?! (?:you|u)(?!\w))|(?<!\w)translate(?! this)(?!\w)",
    "abroad": r"(?<!\w)(?:überprüfe\w*|тест\w*)(?!\w)|错误|er图",
    "anything": r".",
}
PIECES = [
    "fix", "fixes", "unit", "unit-tests", "unittest", "summarise", "summarize", "doesn't", "doesnt", "work", "c++", "c",
    "mql", "mql5", "12", "٣", "words", "def", "#include", "<?php", ";", "please ", "ok,", "how", "how to", "is", "no",
    "yes", "make", "write", "code", "test", "tests", "and", "then", "add", "move", "=>", "->", "= ", "+= 1", "?",
    "\uff1f", "____", "f(x)", "f(", "at f() ", "e", "e404", "err-500", "ts 1234", "matching ", "viable", "expected",
    "after", "can", "may", "you", "u", "translate", "this", "überprüfe", "тесты", "错误", "er图", "_", "é", ".", ". ",
    "\n",
]  # fmt: skip
TEXTS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", " ", " ", " "])), max_size=25).map(
    lambda pieces: "".join(piece + blank for piece, blank in pieces)
)
MANY = Patterns(PATTERNS)


@given(TEXTS | st.text(max_size=60))
@example("")
@example("please how to fix unit tests; e404 f(x) no matching at f() at g() 错误")
def test_each_pattern_begins_where_re_finds_it(text: str) -> None:
    found = {name: re.search(pattern, text) for name, pattern in PATTERNS.items()}
    expected = {name: match.start() for name, match in found.items() if match}
    assert MANY.starts(Text(text)) == expected
    some = sorted(expected)[::2]
    assert MANY.starts(Text(text), but=some) == {name: expected[name] for name in expected if name not in some}


@pytest.mark.parametrize("name", ["words", "far apart", "number"])
@given(text=TEXTS)
def test_the_spans_of_a_word_pattern_are_those_of_finditer(name: str, text: str) -> None:
    spans = [match.span() for match in re.finditer(PATTERNS[name], text)]
    assert WordPattern(PATTERNS[name]).spans(Text(text)) == spans


@pytest.mark.parametrize(
    "pattern", [r"fix", r"(?<!\w)(?:fix|#include)", r"(?<!\w)fix|;", r"^(?<!\w)fix", r"(?<!\w)\w+"]
)
def test_a_pattern_that_may_be_where_no_known_word_begins_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="the words with which it begins cannot be told"):
        WordPattern(pattern)


@pytest.mark.parametrize("pattern", ["(fix", "[fix", "fix)"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        Patterns({"broken": pattern})
