"""What clients are told of the tools and the prompt changes only where someone has looked at it."""

from __future__ import annotations

import json

import pytest

from tests.snapshots import update


@pytest.mark.anyio
async def test_tools_and_prompts_are_published_as_they_were_reviewed() -> None:
    fresh = await update.published()
    kept = {path.name: json.loads(path.read_text("utf-8")) for path in update.FOLDER.glob("*.json")}
    changed = sorted(name for name in {*fresh, *kept} if fresh.get(name) != kept.get(name))
    assert changed == [], (
        "run `python tests/snapshots/update.py`, read `git diff tests/snapshots`, and commit it if meant"
    )


@pytest.mark.anyio
async def test_a_snapshot_holds_all_that_a_client_is_told() -> None:
    fresh = await update.published()
    assert set(fresh) == {
        "tool-score_task.json",
        "tool-get_model_rankings.json",
        "tool-health_check.json",
        "prompt-eco.json",
    }
    for name, content in fresh.items():
        parts = {"name", "title", "description"}
        parts |= {"inputSchema", "outputSchema", "annotations"} if name.startswith("tool-") else {"arguments"}
        assert parts <= set(content)
