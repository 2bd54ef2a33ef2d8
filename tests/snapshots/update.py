"""Writes what the server publishes of each tool and prompt beside this file: `python tests/snapshots/update.py`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from mcp import Client

from ecoroute_mcp import refresh, server
from ecoroute_mcp.ranking import Detected, Router

FOLDER = Path(__file__).resolve().parent


async def published() -> dict[str, Any]:
    """What a client is told of each tool and prompt, by the name of its file."""
    router = Router(refresh.read(FOLDER.parents[1] / "data"))
    built = server.build(router, version="0", database="", notice="", detect=Detected)
    async with Client(built) as client:
        tools, prompts = (await client.list_tools()).tools, (await client.list_prompts()).prompts
    said = {f"tool-{tool.name}.json": tool for tool in tools} | {f"prompt-{each.name}.json": each for each in prompts}
    return {name: each.model_dump(mode="json", by_alias=True, exclude_none=True) for name, each in said.items()}


def written(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    fresh = asyncio.run(published())
    for old in FOLDER.glob("*.json"):
        if old.name not in fresh:
            old.unlink()
    for name, content in fresh.items():
        (FOLDER / name).write_text(written(content), "utf-8")


if __name__ == "__main__":
    main()
