"""Verbosity: the lengths that made the counts are found again, drawn to the typical model, and read as written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark import routing, routing_tokens
from benchmark.routing import ANSWERED, REASONED, Written
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Verbosity
from ecoroute_mcp.sci import EcoRouteError

KINDS = ("algorithm", "bug_fixing", "test_generation")
OWN = np.array([0.3, 0.1, -0.1, -0.3])


def counts(by_kind: float, tasks: int = 300) -> Written:
    """Tokens that go up and down with the task, times the model's own length, times one for each of its kinds."""
    draw = np.random.default_rng(0)
    kinds = np.array(KINDS)[np.arange(tasks) % 3]
    log = np.zeros((tasks, 7))
    log[:, :4] = OWN
    log[:, 4:] = 2.0
    for number, name in enumerate(KINDS):
        sign = np.array([1.0, -1.0, -1.0, 1.0]) * (number - 1) * by_kind
        log[kinds == name, :4] += sign
    return Written((*ANSWERED, *REASONED), kinds, np.exp(5 + draw.normal(0, 1, (tasks, 1)) + log))


def test_lengths_without_doubt_are_found_as_they_are() -> None:
    fitted = routing_tokens.fit(counts(0.0))
    assert [row.answer.mid for row in fitted.rows[:4]] == pytest.approx(list(np.exp(OWN)), abs=1e-3)
    assert fitted.between_kinds == pytest.approx(0, abs=1e-9)
    assert fitted.between_models == pytest.approx(float(OWN.std(ddof=1)))
    assert list(fitted.reasoned.values()) == pytest.approx([math.exp(2)] * 3)
    high = math.exp(routing_tokens.DEVIATIONS * OWN.std(ddof=1) * math.sqrt(1.25))
    assert fitted.unlisted.high == pytest.approx(high, abs=1e-3)
    assert [row.default_effort for row in fitted.rows] == ["none"] * 4 + ["thinking"] * 3


def test_where_kinds_differ_a_model_is_drawn_to_the_typical_one_by_hand() -> None:
    fitted = routing_tokens.fit(counts(0.2))
    within = 0.2**2
    between = float(OWN.var(ddof=1)) - within / 3
    believed = between / (between + within / 3)
    assert [row.answer.mid for row in fitted.rows[:4]] == pytest.approx(list(np.exp(believed * OWN)), abs=1e-3)
    spread = math.sqrt(between * (1 - believed) + within)
    first = fitted.rows[0].answer
    assert first.high == pytest.approx(math.exp(believed * 0.3 + routing_tokens.DEVIATIONS * spread), abs=1e-3)
    wide = math.exp(routing_tokens.DEVIATIONS * math.sqrt(between * 1.25 + within))
    assert fitted.unlisted.high == pytest.approx(wide, abs=1e-3)
    assert (fitted.unlisted.basis, fitted.unlisted.mid) == ("estimated", 1.0)


def test_the_table_is_read_as_it_was_fitted(tmp_path: Path) -> None:
    fitted = routing_tokens.fit(counts(0.2))
    (tmp_path / "verbosity.csv").write_text(routing_tokens.table(fitted), encoding="utf-8")
    bases = {"coderouterbench": "published", "verbosity-v1": "estimated"}
    assert refresh._rows(tmp_path / "verbosity.csv", Verbosity, bases) == list(fitted.rows)  # type: ignore[arg-type]


def test_one_kind_cannot_tell_a_model_from_its_kind() -> None:
    whole = counts(0.0)
    alone = Written(whole.models, np.full(300, "algorithm"), whole.tokens)
    with pytest.raises(EcoRouteError, match="two kinds"):
        routing_tokens.fit(alone)


def test_tasks_whose_tokens_are_not_told_apart_are_left_out(tmp_path: Path) -> None:
    table = {"dimension": ["algorithm", "bug_fixing", "algorithm"]}
    columns = {f"out_tok|{name}": [10.0, 20.0, 30.0] for name in (*ANSWERED, *REASONED)}
    columns["out_tok|glm-5"] = [10.0, np.nan, 30.0]
    pd.DataFrame({**table, **columns}).to_parquet(tmp_path / routing.CODEROUTER)
    written = routing.read_written(tmp_path)
    assert written.kinds.tolist() == ["algorithm", "algorithm"]
    assert written.tokens[:, 0].tolist() == [10.0, 30.0]
