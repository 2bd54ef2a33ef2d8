"""JSON with comments and trailing commas, as editors keep their settings: read, and changed without touching the rest.

Comments, then trailing commas, are blanked out character for character, so that every position and line number stays
true; what is left is plain JSON, read in time proportional to its size. The dialect is that of serde_json_lenient, with
which Zed reads its settings: what that refuses is refused here with its line. A change is an edit of the text at the
positions found so; it counts only if reading the result gives the old content with exactly that one change.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ecoroute_mcp.sci import EcoRouteError

DEEPEST = 127
"""Objects and lists inside one another that serde_json reads at most."""

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRING_OR_COMMENT = re.compile(rf"({_STRING})|//[^\n]*+|/\*.*?(?:\*/|\Z)", re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(rf"({_STRING}|[{{\[]\s*+,)|,(?=\s*+[}}\]])", re.DOTALL)
_STRING_OR_MARK = re.compile(rf"{_STRING}|([{{\[])|([}}\]])|(-?Infinity|NaN)", re.DOTALL)
_NOT_A_LINE_END = re.compile(r"[^\r\n]")
_REMARKS = re.compile(r"(?:[ \t]*+(?://[^\n]*?(?=\r?\n|\Z)|/\*.*?\*/))*+", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*+")
_READER = json.JSONDecoder()


class JsoncError(EcoRouteError):
    """A text that cannot be read, or not be changed safely: ``line N: …``."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


@dataclass(frozen=True, kw_only=True)
class _Member:
    """Where one member of an object stands: positions of its key's quote, of its value, and behind it."""

    key: str
    start: int
    value: int
    end: int


def parse(text: str) -> Any:
    """The content; None where there are only spaces and comments. Raises JsoncError."""
    bare = _without_last_commas(_without_comments(text))
    return _READER.decode(bare) if _read(bare) else None


def with_member(text: str, path: tuple[str, ...], value: Any) -> str:
    """The text with the member at ``path`` set to ``value``, and the objects on the way where they are missing.

    Raises JsoncError where the text cannot be read, where something on the way is no object or is there twice.
    """
    spaced = _without_comments(text)
    bare = _without_last_commas(spaced)
    if not _read(bare):
        newline = _line_end(text)
        start = text if not text or text.endswith("\n") else text + newline
        return _checked(text, start + _dumped(_nested(path, value), "", "  ", newline) + newline, path, value)
    at = _after_space(bare, 0)
    for depth, name in enumerate(path):
        members, close, found = _found(bare, at, path, depth)
        if found is None:
            added = _nested(path[depth + 1 :], value)
            return _checked(text, _inserted(text, spaced, bare, at, members, close, name, added), path, value)
        if depth == len(path) - 1:
            indent = _line_indent(text, found.start)
            compact = "\n" not in text[at:close]
            new = _compact(value) if compact else _dumped(value, indent, _unit(text, bare), _line_end(text))
            return _checked(text, text[: found.value] + new + text[found.end :], path, value)
        at = found.value
    return text


def without_member(text: str, path: tuple[str, ...]) -> str:
    """The text without the member at ``path``; the same text where there is none. Raises JsoncError."""
    spaced = _without_comments(text)
    bare = _without_last_commas(spaced)
    at = _after_space(bare, 0)
    if not _read(bare):
        return text
    for depth in range(len(path)):
        members, close, found = _found(bare, at, path, depth)
        if found is None:
            return text
        if depth == len(path) - 1:
            return _checked(text, _removed(text, spaced, members, close, found), path, None)
        at = found.value
    return text


# -- reading


def _without_comments(text: str) -> str:
    return _STRING_OR_COMMENT.sub(_blanked, text)


def _without_last_commas(spaced: str) -> str:
    return _STRING_OR_LAST_COMMA.sub(_blanked, spaced)


def _blanked(match: re.Match[str]) -> str:
    found = match[0]
    unfinished = found.startswith("/*") and not (len(found) >= 4 and found.endswith("*/"))
    return found if match[1] is not None or unfinished else _NOT_A_LINE_END.sub(" ", found)


def _read(bare: str) -> bool:
    """Whether there is a value; raises JsoncError where it is not JSON."""
    if not bare.strip(" \t\r\n"):
        return False
    if bare.startswith("\ufeff"):
        raise JsoncError(1, "starts with a byte order mark: save it as UTF-8 without one")
    depth = 0
    for mark in _STRING_OR_MARK.finditer(bare):
        depth += (mark[1] is not None) - (mark[2] is not None)
        if depth > DEEPEST:
            _refuse(bare, mark.start(), f"more than {DEEPEST} objects and lists inside one another")
        if mark[3] is not None:
            _refuse(bare, mark.start(), f"{mark[3]} is not JSON")
    try:
        _READER.decode(bare)
    except json.JSONDecodeError as error:
        raise JsoncError(error.lineno, f"is not JSON with comments ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise JsoncError(1, f"cannot be understood ({error})") from error
    return True


def _refuse(text: str, position: int, problem: str) -> NoReturn:
    raise JsoncError(text.count("\n", 0, position) + 1, problem)


def _after_space(bare: str, position: int) -> int:
    match = _SPACE.match(bare, position)
    return match.end() if match else position


def _found(bare: str, at: int, path: tuple[str, ...], depth: int) -> tuple[list[_Member], int, _Member | None]:
    """The members of the object at ``at``, where it closes, and the one that ``path`` names at this depth."""
    if bare[at] != "{":
        _refuse(bare, at, f"expected an object at {'.'.join(path[:depth]) or 'the top'}: correct it by hand")
    members, close = _members(bare, at)
    named = [member for member in members if member.key == path[depth]]
    if len(named) > 1:
        _refuse(bare, named[1].start, f"{path[depth]!r} is there twice: keep one of them")
    return members, close, named[0] if named else None


def _members(bare: str, at: int) -> tuple[list[_Member], int]:
    members = []
    at = _after_space(bare, at + 1)
    while bare[at] != "}":
        if bare[at] == ",":
            at = _after_space(bare, at + 1)
        key, end = _READER.raw_decode(bare, at)
        value = _after_space(bare, _after_space(bare, end) + 1)
        _, end = _READER.raw_decode(bare, value)
        members.append(_Member(key=key, start=at, value=value, end=end))
        at = _after_space(bare, end)
    return members, at


# -- writing


def _nested(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _checked(before: str, after: str, path: tuple[str, ...], value: Any) -> str:
    """``after``, if it reads as ``before`` with exactly this change. Raises JsoncError."""
    expected = copy.deepcopy(parse(before)) or {}
    holder = expected
    for name in path[:-1]:
        holder = holder.setdefault(name, {})
    if value is None:
        holder.pop(path[-1], None)
    else:
        holder[path[-1]] = value
    try:
        reads = parse(after) == expected
    except JsoncError:
        reads = False
    if not reads:
        raise JsoncError(1, f"{'.'.join(path)} cannot be changed safely in this file: change it by hand")
    return after


def _inserted(
    text: str, spaced: str, bare: str, at: int, members: list[_Member], close: int, name: str, value: Any
) -> str:
    """The text with one more member behind the last one and the remarks on its line."""
    newline, unit = _line_end(text), _unit(text, bare)
    several_lines = "\n" in text[at:close] or not (members or ("\n" not in text.strip() and text[:at].strip()))
    key = _compact(name)
    if members:
        last = members[-1]
        comma = spaced.find(",", last.end, close)
        point = last.end if comma < 0 else comma + 1
        head = text[: last.end] + "," + text[last.end : point] if comma < 0 else text[:point]
        own_line = _starts_its_line(text, last.start)
        indent = _line_indent(text, last.start) if own_line else _line_indent(text, at) + unit
    else:
        comma, point, head = -1, at + 1, text[: at + 1]
        indent = _line_indent(text, at) + unit
    remarks = _REMARKS.match(text, point)
    kept = remarks.end() if remarks else point
    head += text[point:kept]
    if not several_lines:
        space = " " if members or kept > point else ""
        return f"{head}{space}{key}: {_compact(value)}{',' if comma >= 0 else ''}{text[kept:]}"
    member = f"{newline}{indent}{key}: {_dumped(value, indent, unit, newline)}{',' if comma >= 0 else ''}"
    closing = "" if "\n" in text[kept:close] or members else newline + _line_indent(text, at)
    return head + member + closing + text[kept:]


def _removed(text: str, spaced: str, members: list[_Member], close: int, member: _Member) -> str:
    """The text without a member, its line, and the comma that it no longer needs; remarks stay."""
    index = members.index(member)
    next_start = members[index + 1].start if index + 1 < len(members) else close
    comma = spaced.find(",", member.end, next_start)
    head, end = text[: member.start], member.end if comma < 0 else comma + 1
    rest = ("" if comma < 0 else text[member.end : comma]) + text[end:]
    if comma < 0 and index > 0:
        before = spaced.find(",", members[index - 1].end, member.start)
        head = head[:before] + head[before + 1 :]
    head, follows = head.rstrip(" \t"), rest.lstrip(" \t")
    if follows.startswith(("\n", "\r\n")) and head.endswith("\n"):
        return head.removesuffix("\n").removesuffix("\r") + follows
    return head + (text[len(head) : member.start] if comma >= 0 else "") + follows


def _dumped(value: Any, indent: str, unit: str, newline: str) -> str:
    """A member a line, lists and what is empty on one line."""
    if not isinstance(value, dict) or not value:
        return _compact(value)
    inner = indent + unit
    lines = (f"{inner}{_compact(key)}: {_dumped(each, inner, unit, newline)}" for key, each in value.items())
    return "{" + newline + f",{newline}".join(lines) + newline + indent + "}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line_end(text: str) -> str:
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _line_indent(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _starts_its_line(text: str, position: int) -> bool:
    return text[:position].endswith("\n" + _line_indent(text, position))


def _unit(text: str, bare: str) -> str:
    """One step of indentation, as the first member on a line of its own has it; two spaces where there is none."""
    members, _ = _members(bare, _after_space(bare, 0))
    for member in members:
        indent = _line_indent(text, member.start)
        if indent and _starts_its_line(text, member.start):
            return indent
    return "  "
