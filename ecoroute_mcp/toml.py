"""A table of a TOML file set or taken out as text, so that comments and all other tables stay as they are.

The edit works on whole lines, from a table's header to the next one. It counts only if the file then reads as before
with exactly that one change, which refuses every way of writing the table that such an edit cannot reach.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from ecoroute_mcp.sci import EcoRouteError

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_KEYS = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = rf"^[ \t]*\[\[?[ \t]*(?P<keys>{_KEYS})[ \t]*\]\]?[ \t]*(?:#[^\n]*)?\r?$"
_STRING = r"\"\"\"(?:\\.|[^\\])*?\"{3,5}|\'\'\'.*?'{3,5}|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'"
_HEADER_OR_OTHER = re.compile(rf"{_HEADER}|#[^\n]*|{_STRING}", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"\(at line (\d+),")


class TomlError(EcoRouteError):
    """A text that cannot be read, or not be changed safely: ``line N: …``."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


def parse(text: str) -> dict[str, Any]:
    """The content. Raises TomlError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        raise TomlError(line, f"is not TOML ({error})") from error


def with_table(text: str, path: tuple[str, str], values: Mapping[str, Any]) -> str:
    """The text with the table at ``path`` holding exactly ``values``: text, lists, tables of it. Raises TomlError."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"[{'.'.join(path)}]", *(f"{key} = {_written(value)}" for key, value in values.items())]
    block = newline.join(lines) + newline
    spans = _spans(text, path)
    if spans:
        start, end = spans[0]
        after = text[:start] + block + _without(text, spans[1:])[end:]
    else:
        gap = "" if not text or text.endswith("\n") else newline
        after = text + gap + (newline if text.strip() else "") + block
    return _checked(text, after, path, dict(values))


def without_table(text: str, path: tuple[str, str]) -> str:
    """The text without the table at ``path``, the same text where there is none. Raises TomlError."""
    holder = parse(text).get(path[0])
    if not isinstance(holder, dict) or path[1] not in holder:
        return text
    return _checked(text, _without(text, _spans(text, path)), path, None)


def _spans(text: str, path: tuple[str, str]) -> list[tuple[int, int]]:
    """From each header of the table or of one inside it to behind its last key."""
    headers = [found for found in _HEADER_OR_OTHER.finditer(text) if found["keys"]]
    spans = []
    for index, header in enumerate(headers):
        names = tuple(name.strip("\"'") for name in re.findall(_KEY, header["keys"]))
        if names[: len(path)] == path:
            end = headers[index + 1].start() if index + 1 < len(headers) else len(text)
            lines = text[header.start() : end].splitlines(keepends=True)
            while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
                end -= len(lines.pop())
            spans.append((header.start(), end))
    return spans


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        head = text[:start]
        for blank in ("\n\r\n", "\n\n"):
            if head.endswith(blank):
                head = head[: len(head) - len(blank) + 1]
                break
        text = head + text[end:]
    return text


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_written(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_written(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _checked(before: str, after: str, path: tuple[str, str], values: dict[str, Any] | None) -> str:
    expected = copy.deepcopy(parse(before))
    holder = expected.setdefault(path[0], {})
    if values is None:
        del holder[path[1]]
    elif isinstance(holder, dict):
        holder[path[1]] = values
    if not holder:
        del expected[path[0]]
    try:
        reads = parse(after)
    except TomlError:
        reads = None
    if reads is not None and not reads.get(path[0], True):
        del reads[path[0]]
    if reads != expected:
        line = next((n for n, text in enumerate(before.splitlines(), 1) if path[1] in text or path[0] in text), 1)
        raise TomlError(line, f"{'.'.join(path)} is not written as a table of its own: change it by hand")
    return after
