"""The ``ecoroute`` command, and the only place that reads the environment, the terminal and the clock of the machine.

Environment: ``ECOROUTE_DB`` (path of the database), ``ECOROUTE_REGION`` (grid used when none is given),
``ECOROUTE_CANDIDATES`` (comma-separated models that this person can really use).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoroute_mcp import __version__, editor, refresh
from ecoroute_mcp.ranking import SORT_BY, Defaults, Detected, RankingsRequest, Request, Router
from ecoroute_mcp.sci import EcoRouteError, shown

if TYPE_CHECKING:
    from ecoroute_mcp.clients import Change

EPILOG = """examples:
  ecoroute recommend "fix the failing pytest in our payment module" --region SWE
  ecoroute recommend "explain this query plan" --context-tokens 6000 --current-model claude-sonnet-4-5 --json
  ecoroute rank --task-type refactor --open-weights-only --limit 5
  ecoroute recommend "write a parser for cron lines" --min-success 0.9
  ecoroute setup zed                add EcoRoute to Zed (or claude-code, vscode, cursor, codex), after showing how
  ecoroute mcp                      serve the editor over stdio (what Zed, Claude Code, VS Code and Cursor start)

environment:
  ECOROUTE_REGION      grid used when none is given, e.g. SWE, US-CA, us-east-1
  ECOROUTE_CANDIDATES  the models you can really use, separated by commas
  ECOROUTE_DB          path of the database (built on first use from the data in the package)

What `python -m benchmark run` has measured on this machine lies beside the database, in this-machine.csv, and is used
in place of the figures of hosted models; --hosted-only leaves it out.
"""


_BARS = {"min_tier", "min_success"}
"""Two forms of one option: a line of tasks that says either has no use for the command's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 after a problem that was said on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except EcoRouteError as error:
        print(f"ecoroute: {_printable(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecoroute",
        description="Which language model does this task well enough for the least carbon?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ecoroute {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    def asking(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--task-type", metavar="KIND", help="kind of task; beats reading the text")
        sub.add_argument("--region", help="grid: country, state or cloud region")
        sub.add_argument("--context-tokens", type=int, metavar="N", help="tokens the model reads beside the text")
        sub.add_argument("--output-tokens", type=int, metavar="N", help="tokens of the answer, without reasoning")
        sub.add_argument("--min-tier", type=int, metavar="1-10", help="quality tier to require")
        sub.add_argument("--min-success", type=float, metavar="P", help="success to require, such as 0.8")
        sub.add_argument("--candidates", metavar="A,B", help="the only models to consider")
        sub.add_argument("--open-weights-only", action="store_true", help="only models that can be downloaded")
        sub.add_argument("--json", action="store_true", help="print the structured answer")

    def hosted_only(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--hosted-only", action="store_true", help="leave out what was measured on this machine")

    mcp = command("mcp", _mcp, "serve the Model Context Protocol over stdio")
    mcp.add_argument("--http", action="store_true", help="serve streamable HTTP at /mcp in place of stdio")
    mcp.add_argument("--host", default="127.0.0.1", help="address for --http (default: loopback only)")
    mcp.add_argument("--port", type=_port, default=8765, metavar="N", help="port for --http (default: 8765)")

    hosted_only(mcp)

    recommend = command("recommend", _recommend, "name the greenest adequate model for a task")
    recommend.add_argument("task", nargs="?", metavar="TEXT", help="what is to be done")
    recommend.add_argument(
        "--jsonl",
        metavar="FILE",
        help="one task a line (a JSON string, or an object with options); a JSON result a line; - is stdin",
    )
    asking(recommend)
    hosted_only(recommend)
    recommend.add_argument(
        "--current-model", metavar="MODEL", help="model in use now (default: what Zed's settings say)"
    )
    recommend.add_argument("--max-cost-usd", type=float, metavar="USD", help="most dollars expected for this one task")

    rank = command("rank", _rank, "rank models for a kind of task")
    asking(rank)
    hosted_only(rank)
    rank.add_argument("--sort-by", default="carbon", choices=SORT_BY, help="order (default: carbon)")
    rank.add_argument("--provider", help="only models of this provider")
    rank.add_argument("--limit", type=int, default=10, metavar="N", help="rows (default: 10)")

    health = command("health", _health, "say what is loaded and what is wrong with it")
    health.add_argument("--json", action="store_true", help="print the structured answer")

    models = command("models", _models, "list the models and what is known of them")
    models.add_argument("query", nargs="?", default="", help="only ids that contain this")
    models.add_argument("--json", action="store_true", help="print every field and source")

    regions = command("regions", _regions, "list the grid zones")
    regions.add_argument("query", nargs="?", default="", help="only zones whose id, name or other names contain this")
    regions.add_argument("--json", action="store_true", help="print every field and source")

    again = command("refresh", _refresh, "read the data again, check it, and print what changed")
    again.add_argument("--data", type=Path, metavar="DIR", help="folder of tables, kept to (default: the package's)")
    again.add_argument("--json", action="store_true", help="print the changes as JSON")

    def writing(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--yes", action="store_true", help="write without asking")
        sub.add_argument("--undo", action="store_true", help="take it out again")
        sub.add_argument("--json", action="store_true", help="print the change as JSON; writes only with --yes")

    setup = command("setup", _setup, "add EcoRoute to an editor or agent")
    setup.add_argument("client", metavar="CLIENT", help="zed, claude-code, vscode, cursor or codex")
    setup.add_argument("--region", help="grid that the server uses when none is given")
    writing(setup)

    skill = command("install-skill", _install_skill, "give an agent the skill of asking EcoRoute")
    skill.add_argument("--client", default="claude-code", metavar="CLIENT", help="whose skills (default: claude-code)")
    skill.add_argument("--dir", type=Path, metavar="DIR", help="folder of skills, in place of the client's own")
    writing(skill)
    return parser


# -- commands


def _mcp(arguments: argparse.Namespace) -> int:
    gc.disable()  # what is made until serving begins lives as long as the process
    router, database, notice = _router(arguments.hosted_only)
    router = _with_defaults(router)
    from ecoroute_mcp import server

    built = server.build(router, version=__version__, database=str(database), notice=notice, detect=_detect)
    gc.freeze()
    gc.enable()
    if arguments.http:
        built.run("streamable-http", host=arguments.host, port=arguments.port)
    else:
        built.run()
    return 0


def _recommend(arguments: argparse.Namespace) -> int:
    if (arguments.task is None) == (arguments.jsonl is None):
        raise EcoRouteError('give the task as text, or --jsonl FILE, one of the two: ecoroute recommend "fix the test"')
    options = _options(arguments)
    if arguments.jsonl is not None:
        return _recommend_lines(arguments.jsonl, options, arguments.hosted_only)
    router = _with_defaults(_router_said(arguments.hosted_only))
    answer = router.recommend(Request(task=arguments.task, detected=_detect(), **options))
    if arguments.json:
        print(_json(answer))
    else:
        from ecoroute_mcp import render

        _print_markdown(render.recommendation(answer))
    return 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "task_type": arguments.task_type,
        "region": arguments.region,
        "context_tokens": arguments.context_tokens,
        "output_tokens": arguments.output_tokens,
        "min_tier": arguments.min_tier,
        "min_success": arguments.min_success,
        "open_weights_only": arguments.open_weights_only,
        "current_model": arguments.current_model,
        "candidates": _listed(arguments.candidates),
        "max_cost_usd": arguments.max_cost_usd,
    }


def _recommend_lines(path: str, options: dict[str, Any], hosted_only: bool) -> int:
    """A JSON result a line, in the order of the tasks; a task that cannot be answered gives ``{"error": …}``."""
    from pydantic import TypeAdapter, ValidationError

    reader = TypeAdapter(Request)
    router, detected, failed = _with_defaults(_router_said(hosted_only)), _detect(), 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line.decode())
            given = {"task": item} if isinstance(item, str) else item
            if not isinstance(given, dict) or "detected" in given:
                raise EcoRouteError("a line is a JSON string, or an object with `task` and the options' names")
            bars = {"min_tier": None, "min_success": None} if _BARS & given.keys() else {}
            request = reader.validate_json(_json({**options, **bars, **given}), strict=True, extra="forbid")
            print(_json(router.recommend(dataclasses.replace(request, detected=detected)), indent=None))
        except ValidationError as error:
            problem = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        except EcoRouteError as error:
            problem = str(error)
        except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, half a surrogate pair, a number without end
            problem = f"not JSON in UTF-8: {error}"
        else:
            continue
        failed += 1
        print(json.dumps({"error": problem, "line": number}))
    if failed:
        print(f"ecoroute: {failed} lines could not be answered; each says why", file=sys.stderr)
    return 1 if failed else 0


def _rank(arguments: argparse.Namespace) -> int:
    answer = _with_defaults(_router_said(arguments.hosted_only)).rankings(
        RankingsRequest(
            candidates=_listed(arguments.candidates),
            task_type=arguments.task_type,
            region=arguments.region,
            limit=arguments.limit,
            sort_by=arguments.sort_by,
            provider=arguments.provider,
            min_tier=arguments.min_tier,
            min_success=arguments.min_success,
            open_weights_only=arguments.open_weights_only,
            context_tokens=arguments.context_tokens,
            output_tokens=arguments.output_tokens,
        )
    )
    if arguments.json:
        print(_json(answer))
        return 0
    from ecoroute_mcp import render

    text = render.rankings(answer)
    if sys.stdout.isatty():
        head, _, rest = text.partition("\n\n")
        _print_markdown(head)
        _print_table(render.RANKING_COLUMNS, render.ranking_rows(answer.rows))
        _print_markdown(rest.partition("\n\n")[2])
    else:
        _print_markdown(text)
    return 0


def _health(arguments: argparse.Namespace) -> int:
    router, database, notice = _router()
    problem = ""
    try:
        router = _with_defaults(router)
    except EcoRouteError as error:
        problem = str(error)
    state = router.health(
        version=__version__, database=str(database), notice=notice, detected=_detect(), problem=problem
    )
    if arguments.json:
        print(_json(state))
    else:
        from ecoroute_mcp import render

        _print_markdown(render.health(state))
    return 0 if state.status == "ok" else 1


def _models(arguments: argparse.Namespace) -> int:
    router = _router_said()
    wanted = arguments.query.lower()
    rows = [model for model in router.catalogue.models if wanted in model.id]
    _found(rows, "model", arguments.query, router.identity.complete)
    if arguments.json:
        print(_json({"models": rows, "sources": router.cited(tuple(rows))}))
        return 0
    tiers: dict[str, list[str]] = {}
    for quality in router.catalogue.quality:
        tiers.setdefault(quality.model, []).append(f"{quality.tier} ({quality.effort})")
    _print_table(
        ("model", "availability", "params 1e9", "active 1e9", "USD/Mtok in, out", "context", "tier (effort)"),
        [
            (
                model.id,
                model.availability,
                _span(model.params_total_b),
                _span(model.params_active_b),
                f"{_known(model.price_in_usd_per_mtok)}, {_known(model.price_out_usd_per_mtok)}",
                _known(model.context_tokens),
                ", ".join(tiers.get(model.id, ["untested"])),
            )
            for model in rows
        ],
    )
    return 0


def _regions(arguments: argparse.Namespace) -> int:
    router = _router_said()
    wanted = arguments.query.lower()
    other: dict[str, list[str]] = {}
    for alias in router.catalogue.zone_aliases:
        other.setdefault(alias.zone, []).append(alias.alias)
    rows = [
        grid
        for grid in router.catalogue.grids
        if any(wanted in name.lower() for name in (grid.zone, grid.name, *other.get(grid.zone, ())))
    ]
    _found(rows, "zone", arguments.query, router.zones.complete)
    if arguments.json:
        aliases = {grid.zone: other[grid.zone] for grid in rows if grid.zone in other}
        print(_json({"grids": rows, "aliases": aliases, "sources": router.cited(tuple(rows))}))
        return 0
    _print_table(
        ("zone", "name", "gCO2e/kWh", "90 %", "from", "also"),
        [
            (
                grid.zone,
                grid.name,
                f"{grid.intensity_g_per_kwh.mid:.3g}",
                f"{grid.intensity_g_per_kwh.low:.3g} to {grid.intensity_g_per_kwh.high:.3g}",
                grid.valid_from.isoformat(),
                ", ".join(other.get(grid.zone, ())[:4]),
            )
            for grid in rows
        ],
    )
    return 0


def _refresh(arguments: argparse.Namespace) -> int:
    report = refresh.refresh(database_path(), arguments.data or refresh.packaged_data())
    print(_json(report) if arguments.json else report.text())
    return 1 if report.failed else 0


def _setup(arguments: argparse.Namespace) -> int:
    from ecoroute_mcp import clients

    client = clients.named(arguments.client)
    path = clients.settings_path(client, os.environ, Path.home(), sys.platform)
    if arguments.undo:
        return _offer(clients.undo(client, path), arguments, f"{client.title} no longer knows EcoRoute")
    variables = {}
    if arguments.region is not None:
        _router_said().zones.resolve(arguments.region)
        variables["ECOROUTE_REGION"] = arguments.region
    found = clients.launches(argv0=sys.argv[0], executable=sys.executable, prefix=sys.prefix, which=shutil.which)
    command = clients.first_that_starts(found, __version__, os.environ)
    change = clients.setup(client, path, command, variables)
    return _offer(change, arguments, f"{client.title} knows EcoRoute: {client.next_step}")


def _install_skill(arguments: argparse.Namespace) -> int:
    from ecoroute_mcp import clients

    client = clients.named(arguments.client)
    folder = arguments.dir or clients.skills_folder(client, os.environ, Path.home())
    if arguments.undo:
        return _offer(clients.remove_skill(folder, clients.skill()), arguments, "the skill is gone")
    return _offer(clients.install_skill(folder, clients.skill()), arguments, f"the skill is in {folder}")


def _offer(change: Change, arguments: argparse.Namespace, done: str) -> int:
    """Shows a change, and writes it where that is confirmed."""
    if arguments.json:
        if arguments.yes and change.changes:
            change.write()
        said = {"path": str(change.path), "changes": change.changes, "written": arguments.yes and change.changes}
        print(json.dumps(said | {"diff": change.diff()}, indent=2))
        return 0
    if not change.changes:
        print(f"{change.path}: nothing to change; {done}")
        return 0
    print(change.diff())
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise EcoRouteError("nothing is written: confirm with --yes")
        if input("Write this? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing is written.")
            return 1
    change.write()
    print(f"Written. {done[:1].upper()}{done[1:]}.")
    return 0


# -- the environment


def _router(hosted_only: bool = False) -> tuple[Router, Path, str]:
    """The router over the database, its path, and what there is to say of how it came to be."""
    database = database_path()
    opened = refresh.open_catalogue(database, refresh.packaged_data())
    catalogue = dataclasses.replace(opened.catalogue, local_energy=()) if hosted_only else opened.catalogue
    router = Router(catalogue, today=datetime.date.today())
    return router, database, opened.notice


def _with_defaults(router: Router) -> Router:
    """The router with what the environment sets. Raises EcoRouteError naming the variable that is wrong."""
    defaults, named = Defaults(), ""
    try:
        for named in ("ECOROUTE_REGION", "ECOROUTE_CANDIDATES"):
            value = os.environ.get(named, "").strip()
            if value and named == "ECOROUTE_REGION":
                defaults = dataclasses.replace(defaults, region=value, region_where=named)
            elif value:
                defaults = dataclasses.replace(defaults, candidates=_listed(value), candidates_where=named)
            router = router.with_defaults(defaults)
    except EcoRouteError as error:
        raise EcoRouteError(f"{named} in the environment: {error}") from error
    return router


def _router_said(hosted_only: bool = False) -> Router:
    router, _, notice = _router(hosted_only)
    if notice and sys.stderr.isatty():
        print(notice, file=sys.stderr)
    return router


def database_path() -> Path:
    """Where the database lies: what ECOROUTE_DB says, else the platform's folder for a user's data."""
    named = os.environ.get("ECOROUTE_DB", "").strip()
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("ecoroute", appauthor=False) / "sci.db"


def _detect() -> Detected:
    """What the editor's settings say of the model in use; a file that cannot be read is said, not raised."""
    try:
        found = editor.current_model(os.environ, Path.cwd(), Path.home(), sys.platform)
    except (EcoRouteError, RuntimeError, OSError) as error:
        return Detected(where=str(error))
    if found is None:
        return Detected(where="no editor setting names one")
    return Detected(spelling=found.spelling, where=f"{found.note} ({found.where})")


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def _lines(path: str) -> Iterator[bytes]:
    if path == "-":
        yield from sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            yield from file
    except OSError as error:
        raise EcoRouteError(f"cannot read {path}: {error}; give a UTF-8 file with one JSON task a line") from error


# -- output


def _json(answer: Any, indent: int | None = 2) -> str:
    from pydantic_core import to_json

    return to_json(answer, indent=indent).decode()


def _print_markdown(text: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        print(text)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Rich table for people, tab-separated values when piped."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _found(rows: Sequence[Any], what: str, query: str, complete: Callable[[str], list[str]]) -> None:
    if not rows:
        close = ", ".join(complete(query[:1])[:5])
        raise EcoRouteError(f"no {what} contains {shown(query)!r}{f'; some there are: {close}' if close else ''}")


def _span(estimate: Any) -> str:
    if estimate is None:
        return "unknown"
    if estimate.low == estimate.high:
        return f"{estimate.mid:g}"
    return f"{estimate.low:g} to {estimate.high:g}"


def _known(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.10g}"


def _printable(text: str) -> str:
    return text.encode(sys.stderr.encoding or "utf-8", "replace").decode(sys.stderr.encoding or "utf-8")


if __name__ == "__main__":
    sys.exit(main())
