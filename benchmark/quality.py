"""How well a model predicts text, in bits per BYTE, so that models with different tokenizers compare.

The default text is the Python documentation that every CPython carries (``pydoc_data.topics``): held by every machine,
hardly tuned for. It differs between Python versions, so its hash is stored and figures compare only within one hash.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Protocol

from benchmark.trial import Quality
from ecoroute_mcp.sci import EcoRouteError

CONTEXT = 1024
TEXT_BYTES = 65536


class Scorer(Protocol):
    """A model that can score a text."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""

    def nats(self, tokens: Sequence[int], context: int) -> float:
        """Negative log-likelihood of all tokens but the first."""


@dataclass(frozen=True)
class Text:
    """A held-out text and where it is from."""

    name: str
    content: str

    @property
    def sha256(self) -> str:
        """By which figures of one text are known."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def default_text() -> Text:
    """The first 64 KiB of CPython's own documentation topics, in the order of their names."""
    joined = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    return Text("pydoc_data.topics", joined.encode()[:TEXT_BYTES].decode(errors="ignore"))


def text_from(path: Path) -> Text:
    """A text of the user's. Raises EcoRouteError if it cannot be read as UTF-8."""
    try:
        return Text(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EcoRouteError(f"cannot read {path} as UTF-8 text: {error}") from error


def judge(scorer: Scorer, text: Text, context: int = CONTEXT) -> Quality:
    """Bits per byte of a text. The first token is context, so its bytes are not counted either."""
    tokens = scorer.encode(text.content)
    if len(tokens) < 2:
        raise EcoRouteError(f"the text {text.name!r} is too short to score: give one of a thousand words or more")
    encoded = text.content.encode()
    first_bytes = _first_token_bytes(scorer, text.content, tokens)
    bits = scorer.nats(tokens, context) / math.log(2)
    return Quality(
        bits_per_byte=bits / (len(encoded) - first_bytes),
        text=text.name,
        text_sha256=text.sha256,
        text_bytes=len(encoded),
        tokens=len(tokens),
        context=context,
    )


def _first_token_bytes(scorer: Scorer, content: str, tokens: Sequence[int]) -> int:
    """Bytes of the longest beginning of the text that is the first token alone; 0 if none is."""
    longest = 0
    for end in range(1, min(len(content), 64) + 1):
        if scorer.encode(content[:end]) == list(tokens[:1]):
            longest = len(content[:end].encode())
    return longest
