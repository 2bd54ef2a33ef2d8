"""The wording of a text: exact small cases, what must make no difference, and that the work is bounded."""

from __future__ import annotations

import hashlib
import json
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoroute_mcp import wording
from ecoroute_mcp.wording import BUCKETS, READ_CHARACTERS, SHAPE, read, weighted

TEXT = """Why isn't this 3x faster? It prints 1024 and 7.
```python
def total(values):
    return sum(values) / len(values)  # 平均
```
Traceback (most recent call last): ZeroDivisionError: division by zero"""


def bucket(term: str) -> int:
    return zlib.crc32(term.encode()) % BUCKETS


def shape(text: str) -> dict[str, float]:
    return dict(zip(SHAPE, wording.shape(text), strict=True))


def test_words_pairs_and_numbers_are_counted_by_their_bucket() -> None:
    assert read("Fix the bug, fix 1024").words == {
        bucket("fix"): 2,
        bucket("the"): 1,
        bucket("bug"): 1,
        bucket("#4"): 1,
        bucket("fix the"): 1,
        bucket("the bug"): 1,
        bucket("bug fix"): 1,
        bucket("fix #4"): 1,
    }


def test_a_character_of_a_script_without_spaces_is_a_word() -> None:
    assert read("修bug").words == {bucket("修"): 1, bucket("bug"): 1, bucket("修 bug"): 1}


def test_the_shape_of_a_small_text() -> None:
    found = shape("What is 12 + 345? Not {that}.")
    assert found["log_characters"] == pytest.approx(math.log1p(23))
    assert found["log_words"] == pytest.approx(math.log1p(6))
    assert found["letters_per_word"] == pytest.approx((4 + 2 + 2 + 2 + 3 + 4) / 6)
    assert found["log_longest_word"] == pytest.approx(math.log1p(4))
    assert found["distinct_word_share"] == 1
    assert found["digit_share"] == pytest.approx(5 / 23)
    assert found["log_numbers"] == pytest.approx(math.log1p(2))
    assert found["log_longest_number"] == pytest.approx(math.log1p(3))
    assert found["code_mark_share"] == pytest.approx(2 / 23)
    assert found["maths_mark_share"] == pytest.approx(1 / 23)
    assert found["log_questions"] == pytest.approx(math.log1p(1))
    assert found["words_per_sentence"] == pytest.approx(math.log1p(6 / 2))
    assert found["has_negation"] == 1
    assert [found[name] for name in ("non_ascii_share", "quote_share", "has_fence", "log_choices")] == [0, 0, 0, 0]


def test_marks_of_code_and_of_failure() -> None:
    found = shape(TEXT)
    assert [found[name] for name in ("has_fence", "has_traceback", "has_definition", "has_negation")] == [1, 1, 1, 1]
    assert found["non_ascii_share"] == pytest.approx(2 / sum(not character.isspace() for character in TEXT))
    assert shape("a. one b. two c. three")["log_choices"] == pytest.approx(math.log1p(2))


@pytest.mark.parametrize(
    "changed",
    [TEXT.upper(), TEXT.swapcase(), "\n\n" + TEXT.replace(" ", "  \t").replace("\n", "\r\n\r\n") + "   "],
    ids=["upper", "swapped", "spaced"],
)
def test_case_and_whitespace_make_no_difference(changed: str) -> None:
    assert read(changed) == read(TEXT)
    assert wording.shape(changed) == wording.shape(TEXT)


def test_reading_is_the_same_everywhere() -> None:
    """Shipped coefficients belong to this reading: a change of it asks for new ones, and for a new hash here."""
    text = TEXT * 3
    written = json.dumps([sorted(read(text).words.items()), [round(value, 9) for value in wording.shape(text)]])
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == "a5376c5967d744a8"


def test_of_a_long_text_a_bounded_part_is_read() -> None:
    assert wording._sample("x" * READ_CHARACTERS) == "x" * READ_CHARACTERS
    text = "".join(f"{number:09d}\n" for number in range(100_000))
    sample = wording._sample(text)
    assert len(sample) == READ_CHARACTERS + wording.WINDOWS + 1
    assert sample.startswith(text[:4_000])
    assert sample.endswith(text[-4_000:])
    assert all(f"{number:09d}" in sample for number in (12_800, 37_600, 62_400, 87_200))
    assert shape(text)["log_characters"] == pytest.approx(math.log1p(900_000), rel=1e-3)


def test_weights_have_length_one_and_fold_into_the_size_of_the_table() -> None:
    assert weighted({5: 1, 2: 3}, [0.0, 2.0, 1.0, 0.0]) == pytest.approx(
        {1: 2 / math.hypot(2, 1 + math.log(3)), 2: (1 + math.log(3)) / math.hypot(2, 1 + math.log(3))}
    )
    assert weighted({4: 1, 0: 2}, [1.0, 1.0]) == {0: 1.0}
    assert weighted({0: 1}, [0.0, 1.0]) == {}
    assert weighted({}, [1.0]) == {}


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    named = shape(text)
    assert all(math.isfinite(value) for value in named.values())
    assert all(0 <= key < BUCKETS and count >= 1 for key, count in read(text).words.items())
    assert all(0 <= named[name] <= 1 for name in SHAPE if name.endswith("_share") or name.startswith("has_"))


def test_half_a_surrogate_pair_is_read_too() -> None:
    assert read("\ud800 x").words[bucket("x")] == 1
