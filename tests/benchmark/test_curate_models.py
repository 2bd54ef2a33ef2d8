"""The generated model, alias and parameter-source tables, against their upstream."""

from __future__ import annotations

import collections
import csv
import datetime
from pathlib import Path

import pytest

from benchmark.curate import models as curate
from ecoroute_mcp.catalogue import Alias
from ecoroute_mcp.identity import Identity
from ecoroute_mcp.sci import EcoRouteError

DATA = Path(__file__).parents[2] / "data"
UPSTREAM = DATA / "upstream"


def shipped(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, str]]]:
    return curate.tables(UPSTREAM)


@pytest.fixture(scope="module")
def models(tables: dict[str, list[dict[str, str]]]) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in tables["models.csv"]}


@pytest.mark.parametrize("name", ["models.csv", "aliases.csv", "sources_models.csv"])
def test_the_files_are_what_the_generator_writes(name: str, tables: dict[str, list[dict[str, str]]]) -> None:
    assert shipped(name) == tables[name]


def test_every_upstream_model_is_carried_and_enough_can_be_had(models: dict[str, dict[str, str]]) -> None:
    assert len(models) == 223
    counts = collections.Counter(row["availability"] for row in models.values())
    assert counts == {"current": 169, "deprecated": 40, "retired": 14}


def test_every_cited_source_and_provider_exists(models: dict[str, dict[str, str]]) -> None:
    known = {row["id"] for name in ("sources.csv", "sources_models.csv") for row in shipped(name)}
    providers = {row["id"]: row for row in shipped("providers.csv")}
    for row in [*models.values(), *providers.values(), *shipped("aliases.csv")]:
        for column, cell in row.items():
            if column == "sources" or column.endswith(("_sources", ".sources")):
                assert set(filter(None, cell.split("|"))) <= known, (row["id"], column)
        assert row["sources"]
    assert {row["provider"] for row in models.values()} | {"this-machine"} == set(providers)
    for row in providers.values():
        assert 1 <= float(row["pue.low"]) <= float(row["pue.mid"]) <= float(row["pue.high"]) <= 1.54
        assert row["pue.sources"]
        assert row["zones"]


def test_source_ids_are_unique_and_dated() -> None:
    own, generated = shipped("sources.csv"), shipped("sources_models.csv")
    assert len({row["id"] for row in [*own, *generated]}) == len(own) + len(generated)
    for row in [*own, *generated]:
        day = datetime.date.fromisoformat(row["retrieved_on"])
        assert row["retrieved_on"] == day.isoformat(), row["id"]
        assert datetime.date(2020, 1, 1) <= day, row["id"]
    assert max(row["retrieved_on"] for row in generated) <= curate.TODAY.isoformat()


def test_parameters_hold_together(models: dict[str, dict[str, str]]) -> None:
    for row in models.values():
        for field in ("params_total_b", "params_active_b", "params_active_prefill_b"):
            ends = [row[f"{field}.{end}"] for end in ("low", "mid", "high")]
            assert all(ends) or not any(ends)
            if all(ends):
                low, mid, high = map(float, ends)
                assert 0 < low <= mid <= high
                first = row[f"{field}.sources"].split("|")[0]
                assert first == f"params:{row['id']}" or first.startswith(f"regression:{field}:")
        if row["params_active_b.mid"]:
            assert float(row["params_active_b.high"]) <= float(row["params_total_b.high"])
        else:
            assert row["params_note"]


def test_prices_hold_together(models: dict[str, dict[str, str]]) -> None:
    for row in models.values():
        price_in, price_out = row["price_in_usd_per_mtok"], row["price_out_usd_per_mtok"]
        if price_in:
            assert 0 < float(price_in) <= float(price_out)
            assert row["price_sources"]
        else:
            assert not price_out
            assert row["price_note"].startswith("no catalogue we read has a price for it")
    assert sum("disagree" in row["price_note"] for row in models.values()) == 12


def test_rows_by_hand(models: dict[str, dict[str, str]]) -> None:
    opus = models["claude-opus-4-5"]
    assert [opus[f"params_active_b.{end}"] for end in ("low", "mid", "high")] == ["67", "115.8", "200"]
    assert [float(opus[f"params_total_b.{end}"]) for end in ("low", "mid", "high")] == [223.333, 670, 2010]
    assert opus["params_total_b.sources"] == "params:claude-opus-4-5|size-point-v1"
    assert "its range of the total is a point, taken as a factor of 3 either way" in opus["params_note"]
    flash = models["deepseek-v4.1-flash"]
    assert [flash[f"params_active_b.{end}"] for end in ("low", "mid", "high")] == ["16", "16", "16"]
    assert [flash[f"params_active_prefill_b.{end}"] for end in ("low", "mid", "high")] == ["8", "8", "8"]
    assert models["command-a"]["params_total_b.mid"] == "111"  # upstream had Command A+
    grok = models["grok-4.5"]
    assert [grok[f"params_total_b.{end}"] for end in ("low", "mid", "high")] == ["500", "1500", "4500"]  # as relayed
    assert grok["params_total_b.sources"] == "params:grok-4.5|size-point-v1"
    assert "no range of the total, taken as a factor of 3 either way" in grok["params_note"]
    assert models["qwen3.8-max"]["params_active_b.mid"] == "95"  # upstream had none
    assert models["gpt-6.1-terra"]["open_weights"] == ""  # taken over from the family, not known
    assert models["devstral-small-2"]["price_in_usd_per_mtok"] == ""  # a free tier's zero is no price
    assert models["codestral-2508"]["released_on"] == ""  # the day it was first seen is not its release
    assert models["ministral-3b-2512"]["max_output_tokens"] == ""  # longer than its context


def test_no_estimated_total_is_a_point(models: dict[str, dict[str, str]]) -> None:
    sources = {row["id"]: row for row in curate.tables(UPSTREAM)["sources_models.csv"]}
    points = {
        model_id
        for model_id, row in models.items()
        if row["params_total_b.mid"]
        and row["params_total_b.low"] == row["params_total_b.high"]
        and any(
            sources.get(source, {}).get("basis") == "estimated" for source in row["params_total_b.sources"].split("|")
        )
    }
    assert points == {"granite-4.2-8b"}  # the total is its vendor's, in the model id; that it is dense is assumed


@pytest.mark.parametrize(
    ("model_id", "availability"),
    [
        ("gpt-5-codex", "retired"),
        ("gemini-3-pro", "retired"),
        ("grok-code-fast-1", "retired"),
        ("o3-mini", "retired"),  # its end, 2026-10-23, has passed
        ("claude-sonnet-4-5", "current"),  # its end, 2026-11-30, has not
        ("kimi-k2.5", "deprecated"),  # the API ended, the weights remain
        ("deepseek-v3", "deprecated"),
        ("gemma-4-e2b", "current"),  # never had a hosted API; the weights can be downloaded
        ("gemma-4-12b", "current"),
    ],
)
def test_availability(models: dict[str, dict[str, str]], model_id: str, availability: str) -> None:
    assert models[model_id]["availability"] == availability


def test_every_source_of_parameters_says_how_strong_it_is(tables: dict[str, list[dict[str, str]]]) -> None:
    sources = {row["id"]: row for row in tables["sources_models.csv"]}
    assert len(sources) == 181
    assert sources["params:qwen3-8b"]["basis"] == "vendor_reported"
    assert sources["params:qwen3-8b"]["url"] == "https://huggingface.co/Qwen/Qwen3-8B"
    assert sources["params:qwen3-8b"]["retrieved_on"] == "2026-08-22"
    assert sources["params:claude-opus-5"]["basis"] == "estimated"
    assert sources["params:granite-4.2-8b"]["basis"] == "estimated"  # dense is assumed
    assert sources["params:glm-5.3-flash"]["basis"] == "published"  # a third party's page
    assert sources["params:laguna-xs-2.1"]["basis"] == "published"  # another's, of open weights
    regression = sources["regression:params_active_b:price+context"]
    assert regression["basis"] == "estimated"
    assert "Each maker left out in turn" in regression["note"]
    assert all(row["url"].startswith("https://") for id_, row in sources.items() if id_.startswith("params:"))


SNAPSHOTS = {"gpt-4o-2024-05-13"}


def as_alias(row: dict[str, str]) -> Alias:
    return Alias(alias=row["alias"], model=row["model"], sources=(row["sources"],), refused=row["refused"])


def test_a_snapshot_at_a_price_of_its_own_is_listed_as_another_product(tables: dict[str, list[dict[str, str]]]) -> None:
    assert [row for row in tables["aliases.csv"] if row["refused"]] == [
        {
            "alias": "gpt-4o-2024-05-13",
            "model": "gpt-4o",
            "sources": "litellm-prices",
            "refused": "a snapshot with a price of its own (5 USD in and 15 out per 1e6 tokens), not in the catalogue",
        }
    ]


def test_every_carried_upstream_spelling_resolves(tables: dict[str, list[dict[str, str]]]) -> None:
    known = [curate.as_model(row) for row in tables["models.csv"]]
    aliases = [as_alias(row) for row in tables["aliases.csv"]]
    identity, by_rule = Identity(known, aliases), Identity(known, ())
    carried = [
        row for row in curate.rows(UPSTREAM / "model_aliases.csv") if curate.refused(row["alias"], SNAPSHOTS) is None
    ]
    wrong = [row for row in carried if identity.resolve(row["alias"]).model_id != curate.bare(row["canonical"])]
    assert wrong == []
    assert len(carried) == 3144
    assert sum(curate.reached(by_rule, row) for row in carried) / len(carried) > 0.89  # rules first, aliases last


def test_refused_upstream_spellings_by_token_and_none_of_them_resolves(
    tables: dict[str, list[dict[str, str]]],
) -> None:
    known = [curate.as_model(row) for row in tables["models.csv"]]
    aliases = [as_alias(row) for row in tables["aliases.csv"]]
    identity = Identity(known, aliases)
    counts: collections.Counter[str] = collections.Counter()
    for row in curate.rows(UPSTREAM / "model_aliases.csv"):
        token = curate.refused(row["alias"], SNAPSHOTS)
        if token is not None:
            counts[token] += 1
            with pytest.raises(EcoRouteError):
                identity.resolve(row["alias"])
    assert counts == {
        "batch": 128,
        "another model": 25,
        "highspeed": 18,
        "chat": 17,
        "unknown host": 11,
        "search": 9,
        "contributor": 6,
        "another price": 6,
        "customtools": 5,
        "base": 3,
        "nitro": 3,
        "extended": 2,
        "moving pointer": 2,
        "turbo": 2,
        "128k": 1,
        "64k": 1,
        "vl": 1,
    }


def test_no_spelling_belongs_to_two_models() -> None:
    owners = collections.defaultdict(set)
    for row in curate.rows(UPSTREAM / "model_aliases.csv"):
        owners[row["alias"].lower()].add(row["canonical"])
    assert {spelling for spelling, found in owners.items() if len(found) > 1} == set()
