"""Settings as people write them: read as Zed reads them or refused with the line, changed in one place only.

tests/settings/as-zed-reads.jsonl is what serde_json_lenient 0.2.4, the parser that Zed uses, says of each file there
(a value read from the whole text; recorded on 2026-11-21).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoroute_mcp import jsonc
from ecoroute_mcp.jsonc import JsoncError

FOLDER = Path(__file__).parent / "settings"
ZED = {row["name"]: row for row in map(json.loads, (FOLDER / "as-zed-reads.jsonl").read_text("utf-8").splitlines())}
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
READ = [name for name in FILES if not name.startswith("bad-")]
REFUSED_BY_SHAPE = {"bad-list.json", "bad-servers-list.json", "bad-servers-null.json"}
TWICE = {"bad-servers-twice.json", "bad-ecoroute-twice.json"}
NO_VALUE = {"empty.json", "blank.json", "comment-only.json"}
PLACE = ("context_servers", "ecoroute")
ENTRY = {"command": "/opt/eco route/bin/ecoroute", "args": ["mcp"], "env": {"ECOROUTE_REGION": "SWE"}}


def text_of(name: str) -> str:
    return (FOLDER / name).read_bytes().decode("utf-8")


def test_there_are_files_enough_and_each_was_shown_to_zeds_parser() -> None:
    assert len(READ) >= 30
    assert set(ZED) == set(FILES)


@pytest.mark.parametrize("name", [name for name in READ if name not in NO_VALUE])
def test_what_zed_reads_is_read_as_zed_reads_it(name: str) -> None:
    assert jsonc.parse(text_of(name)) == ZED[name]["value"]


@pytest.mark.parametrize("name", sorted(NO_VALUE))
def test_a_file_without_a_value_says_nothing(name: str) -> None:
    """Zed starts with its defaults where the file is empty, and says so where it holds comments alone."""
    assert ZED[name]["error"].startswith("EOF while parsing a value")
    assert jsonc.parse(text_of(name)) is None


@pytest.mark.parametrize("name", sorted(set(FILES) - set(READ) - REFUSED_BY_SHAPE - TWICE))
def test_what_zed_refuses_is_refused_with_the_line(name: str) -> None:
    said = ZED[name]
    assert "error" in said or "then" in said
    try:
        text = text_of(name)
    except UnicodeDecodeError:
        assert "utf8" in said["error"]
        return
    with pytest.raises(JsoncError) as caught:
        jsonc.parse(text)
    # A string that is not closed runs into the line's end: Zed's parser counts that to the line after it, and a comment
    # that is not closed to the end of the file.
    line = {"bad-open-string.json": 2, "bad-unterminated-comment.json": 4}.get(name, said.get("line"))
    if line is None:
        line = int(said["then"].partition(" at line ")[2].split()[0])
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bad-list.json", "line 1: expected an object at the top: correct it by hand"),
        ("bad-servers-list.json", "line 3: expected an object at context_servers: correct it by hand"),
        ("bad-servers-null.json", "line 2: expected an object at context_servers: correct it by hand"),
        ("bad-servers-twice.json", "line 4: 'context_servers' is there twice: keep one of them"),
        ("bad-ecoroute-twice.json", "line 4: 'ecoroute' is there twice: keep one of them"),
    ],
)
def test_what_cannot_hold_an_entry_is_refused_with_the_line(name: str, says: str) -> None:
    with pytest.raises(JsoncError) as caught:
        jsonc.with_member(text_of(name), PLACE, ENTRY)
    assert str(caught.value) == says


def kept(before: str, after: str) -> bool:
    """Whether ``after`` holds every character of ``before`` in order, so that something was added and nothing lost."""
    rest = iter(after)
    return all(character in rest for character in before)


@pytest.mark.parametrize("name", READ)
def test_the_entry_is_added_and_all_else_stays(name: str) -> None:
    before = text_of(name)
    after = jsonc.with_member(before, PLACE, ENTRY)
    expected = jsonc.parse(before) or {}
    had = "ecoroute" in expected.get("context_servers", {})
    expected.setdefault("context_servers", {})["ecoroute"] = ENTRY
    assert jsonc.parse(after) == expected
    assert list(jsonc.parse(after)) == list(expected)
    assert kept(before, after) is not had
    assert ("\r\n" in before) == ("\r\n" in after)
    assert jsonc.with_member(after, PLACE, ENTRY) == after
    without = jsonc.without_member(after, PLACE)
    expected["context_servers"].pop("ecoroute")
    assert jsonc.parse(without) == expected


LAYOUTS = {
    "default.json": """    "dark": "One Dark",
  },
  "context_servers": {
    "ecoroute": {
      "command": "/opt/eco route/bin/ecoroute",
      "args": ["mcp"],
      "env": {
        "ECOROUTE_REGION": "SWE"
      }
    }
  },
}
""",
    "four-spaces.json": """    "context_servers": {
        "ecoroute": {
            "command": "/opt/eco route/bin/ecoroute",
            "args": ["mcp"],
            "env": {
                "ECOROUTE_REGION": "SWE"
            }
        }
    }
}
""",
    "crlf-servers.json": """      "args": ["mcp-server-time"]\r
    }, // the clock\r
    "ecoroute": {\r
      "command": "/opt/eco route/bin/ecoroute",\r
      "args": ["mcp"],\r
      "env": {\r
        "ECOROUTE_REGION": "SWE"\r
      }\r
    }\r
  }\r
}\r
""",
    "comment-only.json": """// The end
{
  "context_servers": {
    "ecoroute": {
      "command": "/opt/eco route/bin/ecoroute",
      "args": ["mcp"],
      "env": {
        "ECOROUTE_REGION": "SWE"
      }
    }
  }
}
""",
    "one-line-servers.json": (
        '"args":["mcp-server-time"]}, "ecoroute": {"command": "/opt/eco route/bin/ecoroute", "args": ["mcp"], '
        '"env": {"ECOROUTE_REGION": "SWE"}}}}'
    ),
    "one-line-comment.json": (
        '{ "theme": "One Dark", /* for now */ "context_servers": {"ecoroute": {"command": '
        '"/opt/eco route/bin/ecoroute", "args": ["mcp"], "env": {"ECOROUTE_REGION": "SWE"}}} }\n'
    ),
    "ecoroute-disabled.json": """{
  "context_servers": {
    "ecoroute": {
      "command": "/opt/eco route/bin/ecoroute",
      "args": ["mcp"],
      "env": {
        "ECOROUTE_REGION": "SWE"
      }
    },
    "time": { "command": "uvx", "args": ["mcp-server-time"] }
  }
}
""",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_entry_is_written_as_a_person_would(name: str) -> None:
    assert jsonc.with_member(text_of(name), PLACE, ENTRY).endswith(LAYOUTS[name])


def test_tabs_stay_tabs() -> None:
    after = jsonc.with_member(text_of("tabs.json"), PLACE, ENTRY)
    assert '\n\t\t},\n\t\t"ecoroute": {\n\t\t\t"command": ' in after
    assert "  " not in after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ('{"b": 2, "a": 1}', '{"a": 1}'),
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1, "c": 3}'),
        ('{"b": 2}', "{}"),
        ('{\n  "a": 1,\n  "b": 2\n}\n', '{\n  "a": 1\n}\n'),
        ('{\n  "a": 1, // one\n  "b": 2 // two\n}\n', '{\n  "a": 1 // one\n// two\n}\n'),
        ('{\r\n\t"b": {"x": [1,],},\r\n\t"a": 1,\r\n}\r\n', '{\r\n\t"a": 1,\r\n}\r\n'),
        ('{\n  "a": 1,\n  // of b\n  "b": 2,\n}\n', '{\n  "a": 1,\n  // of b\n}\n'),
        ('{ // "b"\n  "b" /* b */ : /* is */ 2 /* , */ , "a": 1\n}', '{ // "b"\n  /* , */  "a": 1\n}'),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
    ],
)
def test_a_member_taken_out_takes_its_comma_along_and_leaves_remarks(before: str, after: str) -> None:
    assert jsonc.without_member(before, ("b",)) == after


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
tricky = st.sampled_from(["//", "/*", "*/", ",]", ",}", '"', "\\", "context_servers", "ecoroute", "\u2028", "\ufeff"])
values = st.recursive(
    scalars | tricky,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
remarks = st.sampled_from(
    ["", "", "", " ", "\t", "\n", "\r\n", '  // it\'s "so", {\n', "/* , } */", "/**/\n  ", "// x\r\n"]
)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """An object, and a text that says it with comments, line ends and trailing commas anywhere they may stand."""
    content = draw(st.dictionaries(tricky | st.text(max_size=5), values, max_size=4))
    content.pop("context_servers", None)
    yes = st.booleans()
    if draw(yes):
        content["context_servers"] = draw(st.dictionaries(tricky | st.text(max_size=5), values, max_size=3))

    def said(value: Any) -> str:
        if isinstance(value, dict):
            items = [
                f"{draw(remarks)}{json.dumps(key, ensure_ascii=draw(yes))}{draw(remarks)}:{draw(remarks)}"
                f"{said(each)}{draw(remarks)}"
                for key, each in value.items()
            ]
            return "{" + ",".join(items) + ("," if draw(yes) and items else "") + draw(remarks) + "}"
        if isinstance(value, list):
            items = [f"{draw(remarks)}{said(each)}{draw(remarks)}" for each in value]
            return "[" + ",".join(items) + ("," if draw(yes) and items else "") + draw(remarks) + "]"
        return json.dumps(value)

    return draw(remarks) + said(content) + draw(remarks), content


@settings(max_examples=200, deadline=None)
@given(texts())
def test_any_settings_take_the_entry_and_give_it_back(drawn: tuple[str, dict[str, Any]]) -> None:
    before, content = drawn
    assert jsonc.parse(before) == content
    after = jsonc.with_member(before, PLACE, ENTRY)
    had = "ecoroute" in content.get("context_servers", {})
    expected = {**content, "context_servers": {**content.get("context_servers", {}), "ecoroute": ENTRY}}
    assert jsonc.parse(after) == expected
    assert had or kept(before, after)
    del expected["context_servers"]["ecoroute"]
    assert jsonc.parse(jsonc.without_member(after, PLACE)) == expected
