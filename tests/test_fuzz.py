"""What no polite client sends: 2,000 malformed calls to one live server, which must answer each and stay as it was."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.stdio_peer import StdioPeer, text_of

CALLS = 2_000
SEED = 20_261_121
REPLY_S = 5.0
LONGEST_REFUSAL = 4_000
WELL_FORMED: dict[str, dict[str, str]] = {
    "score_task": {"task": '"fix the failing pytest in our payment module"', "region": '"SWE"'},
    "get_model_rankings": {"region": '"POL"', "limit": "3"},
    "health_check": {},
}

HOSTILE = [
    "null",
    "true",
    "false",
    "0",
    "-1",
    "-7.5",
    "0.1",
    "1e308",
    "-1e308",
    "1e-320",
    "1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "9007199254740993",
    "-9223372036854775809",
    "1" + "0" * 30,
    "9" * 400,
    '""',
    '" "',
    r'"\n\t"',
    r'"\u0000"',
    r'"fix\u0000it"',
    r'"\ud800"',
    r'"fix \udfff this"',
    r'"\udc00\ud800"',
    r'"\u202e\u0007\u001b[31m"',
    '"NaN"',
    '"Infinity"',
    '"1e308"',
    '"-1"',
    '"null"',
    '"[1, 2]"',
    '"{}"',
    '"\'; DROP TABLE models; --"',
    '"../../../../etc/passwd"',
    '"%s%n{0}{__class__}"',
    '"' + "🌍" * 500 + '"',
    '"' + "x" * 20_000 + '"',
    "[]",
    "{}",
    "[null]",
    "[[]]",
    '[""]',
    r'["\ud800"]',
    '[1, "two", null, {"three": [4]}]',
    '{"$ref": "#"}',
    '{"a": {"b": {"c": [1, {"d": null}]}}}',
    "[" * 60 + "]" * 60,
    '["gpt-99", "no-such-model"]',
    '"no-such-value"',
    '["' + "x" * 5_000 + '"]',
    "[" + ",".join(['"gpt-5"'] * 2_000) + "]",
]
"""JSON as it travels, so that it can hold what a JSON library would refuse to write."""

STRANGE_NAMES = ["no_such_argument", "", "self", "__class__", "ctx", "region\u0000", "x" * 2_000, "\n"]
ENORMOUS = ['"' + "fix this test " * 75_000 + '"', '"' + r"\u0000" * 180_000 + '"', '"' + " " * 1_050_000 + '"']
"""Strings of 1 MB on the wire; few of the calls carry one."""


@dataclass(frozen=True)
class Tool:
    name: str
    arguments: tuple[str, ...]
    answer: Draft202012Validator


@dataclass(frozen=True)
class Malformed:
    tool: str
    arguments: str
    """JSON text."""


def tools_of(server: StdioPeer) -> list[Tool]:
    listed = server.request("tools/list", {})["result"]["tools"]
    return [
        Tool(tool["name"], tuple(tool["inputSchema"]["properties"]), Draft202012Validator(tool["outputSchema"]))
        for tool in listed
    ]


def joined(arguments: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in arguments.items()) + "}"


def malformed_calls(tools: list[Tool]) -> list[Malformed]:
    """The same calls each time. Each has at least one value that its tool did not ask for."""
    dice = random.Random(SEED)
    calls = []
    for number in range(CALLS):
        tool = dice.choices(tools, weights=[len(tool.arguments) + 1 for tool in tools])[0]
        if number % 97 == 0:
            calls.append(Malformed(tool.name, dice.choice(["null", "[]", "7", '"task"', "true", '["task"]', "{}"])))
            continue
        arguments = dict(WELL_FORMED[tool.name]) if dice.random() < 0.8 else {}
        if number % 100 == 1 and "task" in tool.arguments:
            arguments["task"] = dice.choice(ENORMOUS)
        for name in dice.sample(tool.arguments, k=min(len(tool.arguments), dice.choice([1, 1, 1, 2, 3, 6]))):
            arguments[name] = dice.choice(HOSTILE)
        if not tool.arguments or dice.random() < 0.1:
            arguments[dice.choice(STRANGE_NAMES)] = dice.choice(HOSTILE)
        calls.append(Malformed(tool.name, joined(arguments)))
    return calls


def ask(server: StdioPeer, tool: str, arguments: str) -> dict[str, Any]:
    """The whole reply to a call whose arguments are given as JSON text."""
    request_id = server.next_id()
    params = f'{{"name":{json.dumps(tool)},"arguments":{arguments}}}'
    line = f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{params}}}'
    server.send(line.encode("utf-8", "surrogatepass"), timeout_s=REPLY_S)
    return server.reply(request_id, timeout_s=REPLY_S)


def faults(reply: dict[str, Any], answer: Draft202012Validator) -> list[str]:
    """What is wrong with a reply to a malformed call: nothing, if it is a valid answer or a refusal one can read."""
    if "error" in reply:
        said, refused = reply["error"]["message"], True
    else:
        said, refused = text_of(reply["result"]), reply["result"].get("isError", False)
    found = [word for word in ("Error executing tool", "Traceback", "pydantic", "object at 0x") if word in said]
    if refused and (len(said) < 15 or " " not in said):
        found.append(f"not a sentence: {said!r}")
    if refused and len(said) > LONGEST_REFUSAL:
        found.append(f"a refusal of {len(said)} characters")
    if not refused:
        found += [error.message for error in answer.iter_errors(reply["result"]["structuredContent"])]
    return found


@pytest.mark.slow
def test_two_thousand_malformed_calls_are_each_answered_and_leave_no_trace(
    stdio_server: StdioPeer, tmp_path: Path
) -> None:
    tools = tools_of(stdio_server)
    assert {tool.name for tool in tools} == set(WELL_FORMED)
    answers = {tool.name: tool.answer for tool in tools}
    before = {name: ask(stdio_server, name, joined(WELL_FORMED[name]))["result"] for name in WELL_FORMED}
    assert not any(result.get("isError", False) for result in before.values())

    failures: list[str] = []
    refused = 0
    for number, call in enumerate(malformed_calls(tools)):
        shown = f"call {number}: {call.tool}({call.arguments[:200]})"
        try:
            reply = ask(stdio_server, call.tool, call.arguments)
        except (TimeoutError, EOFError, BrokenPipeError) as error:
            failures.append(f"{shown}: {type(error).__name__}: {error}")
            if stdio_server.process.poll() is not None or len(failures) > 20:
                break
            continue
        refused += "error" in reply or reply["result"].get("isError", False)
        failures += [f"{shown}: {fault}" for fault in faults(reply, answers[call.tool])]

    log = (tmp_path / "stderr.txt").read_text(encoding="utf-8", errors="replace")
    assert "\n".join(failures[:20]) == ""
    assert stdio_server.process.poll() is None
    assert "Traceback" not in log
    assert refused > CALLS // 2
    after = {name: ask(stdio_server, name, joined(WELL_FORMED[name]))["result"] for name in WELL_FORMED}
    for name in ("score_task", "get_model_rankings"):
        assert after[name] == before[name]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("score_task", {"task": ""}, "task"),
    ("score_task", {"task": " \n\t "}, "task"),
    ("score_task", {"task": "fix this test " * 75_000}, "task"),
    ("score_task", {}, "task"),
    ("score_task", {"task": 7}, "task"),
    ("score_task", {"task": ["fix it"]}, "task"),
    ("score_task", {"task": None}, "task"),
    ("score_task", {"task": "fix it", "context_tokens": -1}, "context_tokens"),
    ("score_task", {"task": "fix it", "context_tokens": 10**15}, "context_tokens"),
    ("score_task", {"task": "fix it", "output_tokens": -5}, "output_tokens"),
    ("score_task", {"task": "fix it", "output_tokens": 10**15}, "output_tokens"),
    ("score_task", {"task": "fix it", "output_tokens": "many"}, "output_tokens"),
    ("score_task", {"task": "fix it", "min_tier": 0}, "min_tier"),
    ("score_task", {"task": "fix it", "min_tier": 11}, "min_tier"),
    ("score_task", {"task": "fix it", "min_success": 80}, "min_success must lie between 0 and 1"),
    ("score_task", {"task": "fix it", "min_success": "0.8"}, "min_success"),
    ("score_task", {"task": "fix it", "min_success": True}, "min_success"),
    ("score_task", {"task": "fix it", "min_success": 0.8, "min_tier": 5}, "leave out one of them"),
    ("score_task", {"task": "fix it", "min_success": 0.8, "task_type": "debug"}, "only for generate"),
    ("score_task", {"task": "fix it", "max_cost_usd": -0.5}, "max_cost_usd"),
    ("score_task", {"task": "fix it", "candidates": []}, "candidates"),
    ("score_task", {"task": "fix it", "task_type": "debugg"}, "debug"),
    ("score_task", {"task": "fix it", "task_type": "refactoring code"}, "refactor"),
    ("score_task", {"task": "fix it", "region": "Swedn"}, "swe"),
    ("score_task", {"task": "fix it", "region": "us-east-11"}, "us-east-1"),
    ("score_task", {"task": "fix it", "current_model": "claude-sonet-4.5"}, "claude-sonnet-4"),
    ("score_task", {"task": "fix it", "candidates": ["claude-sonet-4.5"]}, "claude-sonnet-4"),
    ("get_model_rankings", {"region": "Polnd"}, "pol"),
    ("get_model_rankings", {"task_type": "autocomplet"}, "autocomplete"),
    ("get_model_rankings", {"task_type": "review", "min_success": 0.5}, "only for generate"),
    ("get_model_rankings", {"min_tier": 3, "min_success": 0.5}, "leave out one of them"),
    ("get_model_rankings", {"limit": 0}, "limit"),
    ("get_model_rankings", {"limit": -3}, "limit"),
    ("get_model_rankings", {"limit": 2.5}, "limit"),
    ("get_model_rankings", {"sort_by": "colour"}, "carbon"),
    ("get_model_rankings", {"provider": "antropic"}, "anthropic"),
]


def test_refusals_name_the_argument_or_the_nearest_valid_value(stdio_server: StdioPeer) -> None:
    accepted = []
    for tool, arguments, named in REFUSED:
        result = stdio_server.call(tool, **arguments)
        said = text_of(result)
        if not result.get("isError", False) or named not in said.lower():
            shown = json.dumps(arguments)[:120]
            accepted.append(f"{tool}({shown}) should be refused naming {named!r}; the server said: {said[:200]}")
    assert "\n".join(accepted) == ""


def test_not_a_number_is_no_price(stdio_server: StdioPeer) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999"):
        reply = ask(stdio_server, "score_task", f'{{"task":"fix it","max_cost_usd":{value}}}')
        assert reply["result"]["isError"], value
        assert "max_cost_usd" in text_of(reply["result"])


def test_no_strange_number_is_a_probability(stdio_server: StdioPeer) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "-1e-320", "0", "1", "1e-400"):
        reply = ask(stdio_server, "get_model_rankings", f'{{"min_success":{value}}}')
        assert reply["result"]["isError"], value
        assert "min_success" in text_of(reply["result"])


@pytest.mark.parametrize("surrogate", [r"\ud800", r"\uDFFF", r"\udc00\ud800", "\ud800"])
def test_a_task_with_a_lone_surrogate_is_answered(stdio_server: StdioPeer, surrogate: str) -> None:
    reply = ask(stdio_server, "score_task", f'{{"task":"fix the failing test {surrogate} please"}}')
    assert len(text_of(reply["result"])) >= 15


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ('{"task":"fix it","context_tokens":' + "9" * 5_000 + "}", "context_tokens"),
        ('{"task":"fix it","region":' + "[" * 300 + "]" * 300 + "}", "region"),
        ('{"task":"fix it \\udead"}', "half of a surrogate pair"),
    ],
    ids=["digits", "depth", "surrogate"],
)
def test_what_the_transport_cannot_parse_is_refused_in_words(
    stdio_server: StdioPeer, arguments: str, named: str
) -> None:
    reply = ask(stdio_server, "score_task", arguments)
    assert reply["result"]["isError"]
    assert named in text_of(reply["result"])


def test_lines_that_are_no_message_leave_the_server_alive(stdio_server: StdioPeer) -> None:
    """The transport drops what it cannot parse: nothing in it says whom to answer."""
    before = stdio_server.call("score_task", task="fix the failing test", region="SWE")
    deep = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"score_task","arguments":{"task":%s}}}'
    for line in (
        b"",
        b"not json",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\x00\xff\xfe",
        b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","method":"notifications/no-such-thing","params":{}}',
        b'{"jsonrpc":"2.0","id":99999999,"result":{}}',
        deep % (b"[" * 100_000 + b"]" * 100_000),
        deep % (b"9" * 5_000),
        deep % (b'"' + b"x" * 1_000_000),
    ):
        stdio_server.send(line)
    assert stdio_server.call("score_task", task="fix the failing test", region="SWE") == before


def test_other_requests_survive_malformed_parameters(stdio_server: StdioPeer) -> None:
    parameters: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "no_such_tool", "arguments": {}}),
        ("tools/call", {"name": 7}),
        ("tools/call", {}),
        ("prompts/get", {"name": "eco", "arguments": {"task": 7}}),
        ("prompts/get", {"name": "eco", "arguments": {"task": "\x00"}}),
        ("prompts/get", {"name": "eco", "arguments": {"task": "x" * 1_000_000}}),
        ("prompts/get", {"name": "eco", "arguments": {"no_such_argument": "x"}}),
        ("prompts/get", {"name": "no_such_prompt"}),
        ("resources/read", {"uri": "ecoroute://models/no-such-model"}),
        ("resources/read", {"uri": "ecoroute://grids/%00"}),
        ("resources/read", {"uri": "ecoroute://grids/..%2F..%2Fetc%2Fpasswd"}),
        ("resources/read", {"uri": "file:///etc/passwd"}),
        ("resources/read", {"uri": ""}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "no_such"}, "argument": {"name": "", "value": ""}},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "x"}, "argument": {"name": "model", "value": "\x00"}},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "eco"}, "argument": {"name": "task", "value": "x" * 100_000}},
        ),
        ("no/such/method", {}),
    ]
    for method, params in parameters:
        reply = stdio_server.request(method, params)
        said = reply["error"]["message"] if "error" in reply else json.dumps(reply["result"])
        assert len(said) >= 15, (method, params)
        assert "passwd:" not in said
        assert "Traceback" not in said
    assert not stdio_server.call("health_check").get("isError", False)
