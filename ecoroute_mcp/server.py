"""The MCP face: annotates, calls one function of the domain, translates errors, returns Markdown beside structure.

``build`` is a closure over a router and its immutable snapshot. Tools are coroutines so that an answer of a millisecond
does not hop to a worker thread. Only this module knows MCP.
"""

from __future__ import annotations

import difflib
import io
import json
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    GetPromptResult,
    InputRequiredResult,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    ToolAnnotations,
)
from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json, to_jsonable_python

from ecoroute_mcp import render
from ecoroute_mcp.ranking import (
    Detected,
    Health,
    Rankings,
    RankingsRequest,
    Recommendation,
    Request,
    Router,
)
from ecoroute_mcp.sci import EcoRouteError, shown
from ecoroute_mcp.task import HALF_A_CHARACTER, MAX_TASK_CHARACTERS

INSTRUCTIONS = (
    "EcoRoute says which language model does a task well enough for the least carbon. Call score_task before starting "
    "or delegating a task when the model can still be chosen; pass task_type when you know it, context_tokens for the "
    "material the model will read, and current_model when you know which one is in use. Figures are intervals: repeat "
    "the bounds, not only the middle."
)
_READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Task = Annotated[
    str,
    Field(
        description=f"What is to be done, in the user's words; any language, up to {MAX_TASK_CHARACTERS:,} characters."
    ),
]
TaskType = Annotated[
    str | None,
    Field(
        description="Kind of task if you know it (it beats reading the text): autocomplete, chat, explain, "
        "documentation, generate, debug, test, review, refactor, agentic."
    ),
]
ContextTokens = Annotated[
    int | None, Field(strict=True, description="Tokens of files and history the model will read beside the task text.")
]
OutputTokens = Annotated[
    int | None, Field(strict=True, description="Tokens of the expected answer, without reasoning; efforts multiply it.")
]
CurrentModel = Annotated[
    str | None,
    Field(
        description="Model in use now, in any spelling (anthropic/claude-sonnet-4.5, qwen3:8b, a Bedrock id…). "
        "Left out: read from the editor's settings where they exist."
    ),
]
Region = Annotated[
    str | None,
    Field(
        description="Where the electricity comes from: country (SWE, Poland), US state (US-CA), cloud region "
        "(us-east-1, eastus, us-central1). Left out: ECOROUTE_REGION, else where each provider serves from."
    ),
]
Candidates = Annotated[
    list[str] | None,
    Field(description="The only models to consider, in any spelling. Left out: ECOROUTE_CANDIDATES, else all."),
]
MinTier = Annotated[
    int | None, Field(strict=True, description="Quality tier to require, 1 (weakest) to 10, not the kind's own.")
]
MinSuccess = Annotated[
    float | None,
    Field(
        strict=True,
        description="Share of such tasks in which the model has to succeed, between 0 and 1 (e.g. 0.8), in place of "
        "min_tier. Known only for kinds of task with outcomes: for another, the refusal names those.",
    ),
]
MaxCost = Annotated[
    float | None,
    Field(strict=True, description="Most dollars this one task is expected to cost (the middle of its interval)."),
]
OpenWeights = Annotated[bool, Field(strict=True, description="Only models whose weights can be downloaded.")]
Limit = Annotated[int, Field(strict=True, description="Rows to return, 1 to 500.")]
Sort = Annotated[str, Field(description="Order of the rows: carbon, cost, quality or energy.")]
ProviderName = Annotated[str | None, Field(description="Only models of this provider, e.g. mistral.")]


class EcoRouteServer(MCPServer[Any]):
    """An MCPServer whose refusals read as sentences: no prefix, no dump of a validator."""

    async def run_stdio_async(self) -> None:
        """Serves standard input and output; see :class:`_Lines` for what it adds to the SDK's own reading."""
        lines = anyio.wrap_file(_Lines(sys.stdin.buffer, encoding="utf-8", errors="replace"))
        async with stdio_server(stdin=lines) as (read, write):
            served = self._lowlevel_server
            await served.run(read, write, served.create_initialization_options())

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Raises MCPError (invalid params) naming the prompts or arguments there are."""
        prompts = {prompt.name: [each.name for each in prompt.arguments or ()] for prompt in await self.list_prompts()}
        if name not in prompts:
            raise MCPError(
                code=INVALID_PARAMS, message=f"unknown prompt {shown(name)!r}: there is {', '.join(prompts)}"
            )
        for argument in arguments or ():
            if argument not in prompts[name]:
                known = ", ".join(prompts[name])
                raise MCPError(
                    code=INVALID_PARAMS, message=f"unknown argument {shown(argument)!r}: {name} takes {known}"
                )
        return await super().get_prompt(name, arguments, context)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Raises ToolError with the text a person or a model can act on."""
        tools = {tool.name: tool for tool in await self.list_tools()}
        if name not in tools:
            raise ToolError(f"unknown tool {shown(name)!r}: the tools are {', '.join(tools)}")
        known = list(tools[name].input_schema["properties"])
        for argument in arguments:
            if argument not in known:
                close = difflib.get_close_matches(argument[:60], known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise ToolError(
                    f"unknown argument {shown(argument)!r}: {hint}{name} takes {', '.join(known) or 'none'}"
                )
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            cause = error.__cause__
            raise ToolError(_sentence(cause) if isinstance(cause, ValidationError) else str(cause or error)) from cause


def build(
    router: Router, *, version: str, database: str, notice: str, detect: Callable[[], Detected]
) -> EcoRouteServer:
    """The server over one router. ``detect`` is asked, per call, which model the editor has in use."""
    server = EcoRouteServer(
        "ecoroute",
        title="EcoRoute",
        description="The greenest language model that does the task well enough, in grams of CO2e with bounds.",
        instructions=INSTRUCTIONS,
        version=version,
        log_level="WARNING",
    )

    @server.tool(title="Greenest adequate model for a task", annotations=_READ_ONLY)
    async def score_task(
        task: Task,
        task_type: TaskType = None,
        context_tokens: ContextTokens = None,
        output_tokens: OutputTokens = None,
        current_model: CurrentModel = None,
        region: Region = None,
        candidates: Candidates = None,
        min_tier: MinTier = None,
        min_success: MinSuccess = None,
        max_cost_usd: MaxCost = None,
        open_weights_only: OpenWeights = False,
    ) -> Annotated[CallToolResult, Recommendation]:
        """Call before a task is started or handed to another model, to learn which model does it well enough for the
        least carbon. Returns the model and reasoning effort, grams of CO2e per task with a 90 % interval, the saving
        against the current model (it may be zero or negative), cost, the probability of being adequate, runners-up,
        and what was excluded and why. Every number carries its basis and its sources. Reads nothing but its arguments,
        the local database and the editor's model setting; changes nothing."""
        return _answered(
            render.recommendation,
            lambda: router.recommend(
                Request(
                    task=task,
                    task_type=task_type,
                    context_tokens=context_tokens,
                    output_tokens=output_tokens,
                    current_model=current_model,
                    region=region,
                    candidates=None if candidates is None else tuple(candidates),
                    min_tier=min_tier,
                    min_success=min_success,
                    max_cost_usd=max_cost_usd,
                    open_weights_only=open_weights_only,
                    detected=detect(),
                )
            ),
        )

    @server.tool(title="Models ranked for a kind of task", annotations=_READ_ONLY)
    async def get_model_rankings(
        task_type: TaskType = None,
        region: Region = None,
        candidates: Candidates = None,
        limit: Limit = 10,
        sort_by: Sort = "carbon",
        provider: ProviderName = None,
        min_tier: MinTier = None,
        min_success: MinSuccess = None,
        open_weights_only: OpenWeights = False,
        context_tokens: ContextTokens = None,
        output_tokens: OutputTokens = None,
    ) -> Annotated[CallToolResult, Rankings]:
        """Call to compare many models for one kind of task, for example to choose a default or a shortlist. Returns
        one row per model with grams of CO2e per task and interval, energy, cost, quality tier and the probability of
        being adequate, ordered by sort_by; untested models are counted apart."""
        return _answered(
            render.rankings,
            lambda: router.rankings(
                RankingsRequest(
                    task_type=task_type,
                    region=region,
                    candidates=None if candidates is None else tuple(candidates),
                    limit=limit,
                    sort_by=sort_by,
                    provider=provider,
                    min_tier=min_tier,
                    min_success=min_success,
                    open_weights_only=open_weights_only,
                    context_tokens=context_tokens,
                    output_tokens=output_tokens,
                )
            ),
        )

    @server.tool(title="State of EcoRoute", annotations=_READ_ONLY)
    async def health_check() -> Annotated[CallToolResult, Health]:
        """Call when an answer surprises or another tool fails: says what data is loaded and how old it is, which
        defaults apply, which model the editor has in use, and what is wrong."""
        return _answered(
            render.health,
            lambda: router.health(version=version, database=database, notice=notice, detected=detect()),
        )

    @server.prompt(title="Greenest model for a task", description="The greenest model that does a task well enough.")
    async def eco(task: Annotated[str, Field(description="What is to be done, in your own words.")] = "") -> str:
        if not task.strip():
            return render.usage(router.tasks.names, router.standing(detect()))
        try:
            answer = render.recommendation(router.recommend(Request(task=task, detected=detect())))
        except EcoRouteError as error:
            return f"EcoRoute cannot answer: {error}"
        return (
            f"{answer}\n\n---\nThis is EcoRoute's answer for the task below. Show it to me as it stands, in one short "
            f"paragraph or list, and wait: do not start the task.\n\nTask: {task}"
        )

    @server.resource("ecoroute://methodology", title="How the figures are made", mime_type="text/markdown")
    async def methodology() -> str:
        """The SCI equation, the boundary, every assumption with its interval and sources."""
        return render.methodology(router.catalogue)

    @server.resource("ecoroute://models", title="All models", mime_type="application/json")
    async def models() -> str:
        """Ids of every model in the catalogue."""
        return to_json([model.id for model in router.catalogue.models]).decode()

    @server.resource("ecoroute://grids", title="All grid zones", mime_type="application/json")
    async def grids() -> str:
        """Zone ids and names of every grid in the catalogue."""
        return to_json({grid.zone: grid.name for grid in router.catalogue.grids}).decode()

    @server.resource("ecoroute://models/{+model}", title="One model", mime_type="application/json")
    async def model_row(model: str) -> str:
        """What is known of a model, any spelling, with the sources."""
        return _row(router, lambda: router.model(model))

    @server.resource("ecoroute://grids/{region}", title="One grid", mime_type="application/json")
    async def grid_row(region: str) -> str:
        """Carbon intensity of a zone, any name of it, with date, interval and sources."""
        return _row(router, lambda: router.zones.resolve(region))

    @server.resource("ecoroute://tasks/{task_type}", title="One kind of task", mime_type="application/json")
    async def task_row(task_type: str) -> str:
        """The tier a kind of task asks for and why, and the tokens it usually takes."""
        return _row(router, lambda: router.tasks.kind(task_type))

    @server.resource("ecoroute://sources/{source}", title="One source", mime_type="application/json")
    async def source_row(source: str) -> str:
        """Where figures come from: address, day read, basis, licence and note."""
        return _row(router, lambda: router.source(source))

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK leaves it untyped
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        values = router.complete(argument.name, argument.value)
        return None if values is None else Completion(values=values, total=len(values), has_more=False)

    return server


class _Lines(io.TextIOWrapper):
    """Standard input in which every message can be answered.

    The transport drops a line that its JSON parser refuses (half of a surrogate pair, a number of thousands of digits,
    nesting in the hundreds), and the caller waits forever. Such parts become text that no argument accepts, so that the
    call is refused in words.
    """

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed's two bases disagree
        line = super().readline()
        try:
            from_json(line)
        except ValueError:
            return _answerable(line)
        return line


_LONGEST_NUMBER = 400
_DEEPEST = 100


def _answerable(line: str) -> str:
    def number(digits: str) -> int | str:
        return int(digits) if len(digits) <= _LONGEST_NUMBER else f"(a number of {len(digits)} digits)"

    def plain(value: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            return "(nested too deeply)"
        if isinstance(value, str):
            return re.sub("[\ud800-\udfff]", HALF_A_CHARACTER, value)
        if isinstance(value, list):
            return [plain(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {plain(name): plain(item, depth + 1) for name, item in value.items()}
        return value

    try:
        return json.dumps(plain(json.loads(line, parse_int=number))) + "\n"
    except (ValueError, RecursionError):
        return line


Answer = TypeVar("Answer")


def _answered(text: Callable[[Answer], str], ask: Callable[[], Answer]) -> CallToolResult:
    try:
        answer = ask()
    except EcoRouteError as error:
        raise ToolError(str(error)) from error
    return CallToolResult(
        content=[TextContent(type="text", text=text(answer))],
        structured_content=to_jsonable_python(answer),
    )


def _row(router: Router, find: Callable[[], object]) -> str:
    """One row of the catalogue and the sources behind it, as JSON."""
    try:
        row = find()
    except EcoRouteError as error:
        raise ResourceNotFoundError(str(error)) from error
    return to_json({"row": row, "sources": router.cited(row)}).decode()


def _sentence(error: ValidationError) -> str:
    """A validator's findings about arguments as one line: which argument, what is wrong with it."""
    findings = []
    for finding in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in finding["loc"])
        findings.append(f"{place}: {finding['msg'][:1].lower()}{finding['msg'][1:]}")
    return f"cannot read the arguments ({'; '.join(findings[:5])}): correct them and call again"
