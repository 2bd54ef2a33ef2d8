"""The data as shipped: enough of it, every row sourced, and provenance kept from file through store to wire."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from pydantic_core import to_json

from benchmark.scale import source_id
from benchmark.summary import PUBLISHED_INT8
from ecoroute_mcp import cascade, refresh, store
from ecoroute_mcp.catalogue import Catalogue, cited_sources
from ecoroute_mcp.kind import SOURCES as KIND_SOURCES
from ecoroute_mcp.ranking import RankingsRequest, Router

DATA = Path(__file__).resolve().parents[1] / "data"
TABLES: tuple[str, ...] = (
    "models",
    "aliases",
    "providers",
    "grids",
    "zone_aliases",
    "devices",
    "parameters",
    "task_kinds",
    "efforts",
)
TABLES += ("tiers", "quality", "measured_energy", "energy_laws")


def test_there_is_as_much_as_promised(catalogue: Catalogue) -> None:
    assert sum(model.availability != "retired" for model in catalogue.models) >= 150
    kinds = [grid.region_type for grid in catalogue.grids]
    assert kinds.count("country") >= 200
    subdivisions = {grid.zone for grid in catalogue.grids if grid.region_type == "subdivision"}
    assert sum(zone.startswith("US-") for zone in subdivisions) >= 50
    assert sum(zone.startswith("CA-") for zone in subdivisions) >= 10


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("us-east-1", "US-VA"),
        ("eastus", "US-VA"),
        ("us-central1", "gcp:us-central1"),
        ("uk", "GBR"),
        ("eu_sweden", "SWE"),
    ],
)
def test_names_people_type_are_zones(router: Router, name: str, zone: str) -> None:
    assert router.zones.resolve(name).zone == zone


def test_one_h100_carries_the_range_of_its_published_embodied_figures(catalogue: Catalogue) -> None:
    embodied = next(device.embodied_kg for device in catalogue.devices if device.id == "H100 SXM")
    assert embodied is not None
    assert (embodied.low, embodied.mid, embodied.high) == (164, 273, 575.1)
    assert len(embodied.sources) == 3


@pytest.mark.parametrize("table", TABLES)
def test_no_row_loses_its_sources_from_file_through_store(catalogue: Catalogue, table: str, tmp_path: Path) -> None:
    store.save(catalogue, tmp_path / "sci.db", "f")
    loaded = getattr(store.load(tmp_path / "sci.db"), table)
    assert loaded == getattr(catalogue, table)
    assert all(cited_sources(row) for row in loaded)


def test_the_file_itself_cites_what_the_row_cites(catalogue: Catalogue) -> None:
    lines = [line for line in (DATA / "grids.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    cited = {row["zone"]: tuple(row["intensity_g_per_kwh.sources"].split("|")) for row in csv.DictReader(lines)}
    assert cited == {grid.zone: grid.intensity_g_per_kwh.sources for grid in catalogue.grids}


def test_the_wire_carries_every_source_that_its_rows_cite(router: Router) -> None:
    answer = router.rankings(RankingsRequest(limit=500))
    wire = json.loads(to_json(answer))
    assert len(wire["rows"]) == len(answer.rows)
    for row, sent in zip(answer.rows, wire["rows"], strict=True):
        assert tuple(sent["carbon_g"]["sources"]) == row.carbon_g.sources
        assert set(sent["carbon_g"]["sources"]) <= set(wire["sources"])
    for name, source in wire["sources"].items():
        assert source["url"] == router.source(name).url
        assert source["basis"] in ("given", "measured", "vendor_reported", "published", "estimated")


def test_every_source_is_cited_by_some_row(catalogue: Catalogue) -> None:
    cited = {name for table in TABLES for row in getattr(catalogue, table) for name in cited_sources(row)}
    lines = [line for line in (DATA / "quality_scores.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    scored = {source_id(row["file"]) for row in csv.DictReader(lines)}
    lines = [line for line in (DATA / "shape_quality.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    scored |= {row["source"] for row in csv.DictReader(lines)}
    printed = {source.id for source in catalogue.sources if source.url == PUBLISHED_INT8["source"]}
    assert printed == {"bitsandbytes-1867"}
    rest = {source.id for source in catalogue.sources} - cited - scored - front_sources() - printed
    assert rest == {"caller", *cascade.SOURCES, *KIND_SOURCES}


def front_sources(device: str = "") -> set[str]:
    """What the rows of front.csv cite, of the devices with this in their name."""
    lines = [line for line in (DATA / "front.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if device in row["device"]]
    return {name for row in rows for column in row if column.endswith(".sources") for name in row[column].split("|")}


def test_the_front_cites_the_projects_own_rows_and_only_sources_that_there_are(catalogue: Catalogue) -> None:
    assert front_sources() - {""} <= {source.id for source in catalogue.sources}
    for device in ("H100", "H200"):
        own = {source for source in front_sources(device) if source.startswith("ecoroute-h")}
        assert own == {f"ecoroute-{device.lower()}-2026-11"}


def test_anchors_that_sources_point_to_exist() -> None:
    headings = {
        "#" + line.lstrip("# ").strip().lower().replace(" ", "-")
        for line in (DATA / "README.md").read_text("utf-8").splitlines()
        if line.startswith("#")
    }
    urls = [source.url for source in refresh.read(DATA).sources if source.url.startswith("data/README.md")]
    assert urls
    assert {url.removeprefix("data/README.md") for url in urls} <= headings


def test_tokens_of_task_kinds_are_the_quantiles_of_their_source(catalogue: Catalogue) -> None:
    with (DATA / "upstream" / "coderouterbench_tokens.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["dimensions"].split("|")[0]: row for row in csv.DictReader(file)}
    kinds = {row.kind: row for row in catalogue.task_kinds}
    for dimension, kind in {
        "code_completion": "autocomplete",
        "code_understanding": "explain",
        "code_generation": "generate",
        "bug_fixing": "debug",
        "test_generation": "test",
        "code_refactoring": "refactor",
    }.items():
        for side in ("input_tokens", "output_tokens"):
            expected = tuple(float(rows[dimension][f"{side}_{cut}"]) for cut in ("p05", "p50", "p95"))
            figure = getattr(kinds[kind], side)
            assert (figure.low, figure.mid, figure.high) == expected
            assert figure.sources == ("coderouterbench",)


def test_packaged_data_is_never_written(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in DATA.rglob("*") if path.is_file()}
    refresh.refresh(tmp_path / "sci.db", DATA)
    assert before == {path: path.stat().st_mtime_ns for path in DATA.rglob("*") if path.is_file()}


def test_no_model_ranks_on_an_energy_figure_without_an_interval_and_a_basis(router: Router) -> None:
    table = router.rankings(RankingsRequest(limit=500))
    assert len(table.rows) > 100
    for row in table.rows:
        for figure in (row.energy_j, row.carbon_g, row.carbon_g_per_token):
            assert 0 < figure.low < figure.mid < figure.high, row.model
            assert figure.sources, row.model
        assert row.energy_basis in ("measured", "vendor_reported", "published", "estimated")
        assert row.carbon_g.basis == "estimated"  # how it is served always is
