"""Bits per byte, with scorers whose right answer is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark import quality
from benchmark.quality import Text, judge
from ecoroute_mcp.sci import EcoRouteError


class Bytes:
    """A tokenizer of ``width`` bytes a token and a model that gives every token the same ``bits``."""

    def __init__(self, width: int, bits: float) -> None:
        self.width, self.bits = width, bits

    def encode(self, text: str) -> list[int]:
        encoded = text.encode()
        return [
            int.from_bytes(encoded[begin : begin + self.width], "big") for begin in range(0, len(encoded), self.width)
        ]

    def nats(self, tokens: Sequence[int], context: int) -> float:
        return (len(tokens) - 1) * self.bits * math.log(2)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_bits_are_per_byte_whatever_the_tokenizer(width: int) -> None:
    text = Text("by hand", "abcd" * 100)
    assert judge(Bytes(width, 8.0 * width), text).bits_per_byte == pytest.approx(8.0)


def test_bytes_are_counted_not_characters() -> None:
    text = Text("by hand", "é" * 100)
    judged = judge(Bytes(2, 3.0), text)
    assert judged.bits_per_byte == pytest.approx(99 * 3.0 / 198)
    assert (judged.text_bytes, judged.tokens) == (200, 100)
    assert judged.text_sha256 == hashlib.sha256(text.content.encode()).hexdigest()


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="too short"):
        judge(Bytes(4, 1.0), Text("short", "abcd"))


def test_the_default_text_is_the_same_each_time_and_long() -> None:
    assert quality.default_text() == quality.default_text()
    assert 65_000 < len(quality.default_text().content.encode()) <= 65_536


def test_a_text_of_the_users_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(EcoRouteError, match=r"text\.txt as UTF-8"):
        quality.text_from(tmp_path / "text.txt")
    (tmp_path / "text.txt").write_text("words")
    assert quality.text_from(tmp_path / "text.txt") == Text("text.txt", "words")
