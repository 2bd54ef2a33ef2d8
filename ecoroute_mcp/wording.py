"""What a task's text looks like in numbers: hashed words and pairs of words; and, for the laboratory, its shape.

Training and serving read a text with this one function, so what was learnt is what is applied. It is deterministic,
needs the standard library alone, and its work is bounded: of a long text it reads the beginning, the end and windows
between them. Case and the amount of whitespace make no difference by construction.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

EDGE_CHARACTERS = 4_000
WINDOW_CHARACTERS = 1_000
WINDOWS = 4
READ_CHARACTERS = 2 * EDGE_CHARACTERS + WINDOWS * WINDOW_CHARACTERS
LONGEST_WORD = 24
LONGEST_NUMBER = 12
BUCKETS = 2**18

SHAPE = (
    "log_characters",
    "log_words",
    "letters_per_word",
    "log_longest_word",
    "distinct_word_share",
    "non_ascii_share",
    "digit_share",
    "log_numbers",
    "log_longest_number",
    "code_mark_share",
    "maths_mark_share",
    "quote_share",
    "log_questions",
    "words_per_sentence",
    "has_fence",
    "has_traceback",
    "has_definition",
    "log_choices",
    "has_negation",
)
"""Names of shape()'s values, in order. Shares lie between 0 and 1; ``has_`` is 0 or 1; ``log_`` is log(1 + count)."""

# A character of a script written without spaces is a word; elsewhere a run of letters and digits is.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_TRACEBACK = re.compile(
    r"traceback \(most recent|, line \d+, in |\berror: |error\[e\d|exception: |exception in thread|panicked at |"
    r"segmentation fault|\(\w+\.(?:java|js|ts|kt|scala|cs):\d"
)
_DEFINITION = re.compile(
    r"\b(?:def \w{1,60} ?\(|class \w{1,60} ?[:({]|function \w{0,60} ?\(|func \w{1,60} ?\(|fn \w{1,60} ?[(<]|"
    r"public (?:static|class|void|int)|import \w|from \w{1,60} import|select \S{1,60} from)|#include|=> ?\{"
)
_CHOICE = re.compile(r" \(?[a-e][.)] ")
_NEGATIONS = frozenset({"not", "except", "never", "without", "least", "false", "incorrect", "cannot"})
_CODE_MARKS = "{}[]();=<>_&|#@"
_MATHS_MARKS = "+*/^=%$\\∑∫√≤≥≠×÷π"
_QUOTES = "\"'`“”’"
_DIGITS = "0123456789"


@dataclass(frozen=True)
class Wording:
    """``words``: how often each bucket (0 to BUCKETS - 1) of a word or pair occurs."""

    words: dict[int, int]


def read(text: str) -> Wording:
    """The wording of a text of any length, the empty one included. Never raises."""
    words = _words(_plain(_sample(text)))
    counts = Counter(words)
    terms = Counter(map(" ".join, pairwise(words)))
    terms.update(counts)
    buckets: dict[int, int] = {}
    for term, count in terms.items():
        bucket = zlib.crc32(term.encode("utf-8", "surrogatepass")) % BUCKETS
        buckets[bucket] = buckets.get(bucket, 0) + count
    return Wording(buckets)


def shape(text: str) -> tuple[float, ...]:
    """What a text looks like, values by SHAPE. The router does not use it: among developers' requests length and form
    tell no difficulty. The evaluation of routing does. Never raises."""
    sample = _plain(_sample(text))
    words = _words(sample)
    return _shape(sample, words, Counter(words), max(len(text) / READ_CHARACTERS, 1.0))


def _words(sample: str) -> list[str]:
    return [
        f"#{min(len(word), LONGEST_NUMBER)}" if word.isdecimal() else word[:LONGEST_WORD]
        for word in WORD.findall(sample)
    ]


def weighted(words: dict[int, int], idf: Sequence[float]) -> dict[int, float]:
    """TF-IDF of hashed words, of length 1: (1 + log count) × idf, the buckets folded into ``len(idf)`` of them.

    A bucket with an idf of zero is left out. Empty where nothing is known of any word.
    """
    size = len(idf)
    folded: dict[int, int] = {}
    for bucket, count in words.items():
        folded[bucket % size] = folded.get(bucket % size, 0) + count
    values = {bucket: (1 + math.log(count)) * idf[bucket] for bucket, count in folded.items() if idf[bucket]}
    length = math.sqrt(sum(value * value for value in values.values()))
    return {bucket: value / length for bucket, value in values.items()}


def _sample(text: str) -> str:
    """All of a short text; of a long one its beginning, its end and windows evenly between."""
    if len(text) <= READ_CHARACTERS:
        return text
    between = len(text) - 2 * EDGE_CHARACTERS
    step = between / WINDOWS
    starts = [EDGE_CHARACTERS + int(step * number + (step - WINDOW_CHARACTERS) / 2) for number in range(WINDOWS)]
    windows = [text[start : start + WINDOW_CHARACTERS] for start in starts]
    return "\n".join([text[:EDGE_CHARACTERS], *windows, text[-EDGE_CHARACTERS:]])


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def _many(sample: str, marks: str) -> int:
    return sum(map(sample.count, marks))


def _shape(sample: str, words: list[str], counts: Counter[str], stretched: float) -> tuple[float, ...]:
    """``counts``: of ``words``; ``stretched``: the length of the text over that of what was read of it."""
    written = len(sample) - sample.count(" ")
    many = max(written, 1)
    numbers = {word: count for word, count in counts.items() if word[0] == "#"}
    sentences = sum(map(sample.count, (". ", "? ", "! ", "。"))) + 1
    return (
        math.log1p(written * stretched),
        math.log1p(len(words) * stretched),
        sum(map(len, words)) / max(len(words), 1),
        math.log1p(max(map(len, counts), default=0)),
        len(counts) / max(len(words), 1),
        0.0 if sample.isascii() else (len(sample) - len(sample.encode("ascii", "ignore"))) / many,
        _many(sample, _DIGITS) / many,
        math.log1p(sum(numbers.values())),
        math.log1p(max((int(word[1:]) for word in numbers), default=0)),
        _many(sample, _CODE_MARKS) / many,
        _many(sample, _MATHS_MARKS) / many,
        _many(sample, _QUOTES) / many,
        math.log1p(sample.count("?")),
        math.log1p(len(words) / sentences),
        float("```" in sample),
        float(_TRACEBACK.search(sample) is not None),
        float(_DEFINITION.search(sample) is not None),
        math.log1p(len(_CHOICE.findall(sample))),
        float("n't" in sample or not _NEGATIONS.isdisjoint(counts)),
    )
