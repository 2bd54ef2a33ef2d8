"""From files to a checked catalogue to the database: what is accepted, what is refused and where, and what is said."""

from __future__ import annotations

import csv
import datetime
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from ecoroute_mcp import refresh, store
from ecoroute_mcp.catalogue import Alias, Catalogue, Grid, Model, Quality, Source, cited_sources
from ecoroute_mcp.refresh import Change, fingerprint, open_catalogue, packaged_data, read
from ecoroute_mcp.sci import EcoRouteError, Estimate

DAY = datetime.date(2026, 11, 21)

FILES = {
    "sources.csv": """\
        # "where it all comes from", said in a comment,"with quotes
        id,url,retrieved_on,basis,licence,note
        ember,https://ember-energy.org,2026-11-21,published,CC BY 4.0,"Europe, monthly"
        guess,data/README.md,2026-11-21,estimated,,
        """,
    "sources_vendor.csv": """\
        id,url,retrieved_on,basis,licence,note
        vendor,https://acme.example,2026-11-21,vendor_reported,,
        meter,data/README.md,2026-11-21,measured,,
        """,
    "models.csv": """\
        id,provider,family,sources,released_on,context_tokens,price_in_usd_per_mtok,open_weights,"""
    + """params_active_b.low,params_active_b.mid,params_active_b.high,params_active_b.sources,abilities
        acme/anvil,acme,anvil,vendor|guess,2026-01-31,200000,0.1,True,1,2.5,4e0,vendor|guess|ember,vision|tools

        acme/bellows,acme,bellows,vendor,,,,,,,,,
        """,
    "aliases.csv": "alias,model,sources\nanvil-latest,acme/anvil,vendor\n",
    "providers.csv": """\
        id,name,pue.low,pue.mid,pue.high,pue.sources,zones,sources
        acme,Acme,1,1.1,1.2,vendor,SWE,vendor
        """,
    "grids.csv": """\
        zone,name,region_type,valid_from,intensity_g_per_kwh.low,intensity_g_per_kwh.mid,"""
    + """intensity_g_per_kwh.high,intensity_g_per_kwh.sources
        SWE,Sweden,country,2025-01-01,20,25,30,ember
        SWE,Sweden,country,2024-01-01,21,26,31,ember
        """,
    "zone_aliases.csv": "alias,zone,sources\nsweden,SWE,ember\n",
    "devices.csv": "id,tdp_w,memory_gb,bandwidth_gb_per_s,sources\nA1,700,80,3350,vendor\n",
    "parameters.csv": """\
        name,value.low,value.mid,value.high,value.sources,note
        host_share,0.2,0.3,0.4,guess,Of the server
        """,
    "task_kinds.csv": """\
        kind,min_tier,why,input_tokens.low,input_tokens.mid,input_tokens.high,input_tokens.sources,"""
    + """output_tokens.low,output_tokens.mid,output_tokens.high,output_tokens.sources,sources
        chat,5,talk,10,20,30,guess,40,50,60,guess,guess|ember
        """,
    "efforts.csv": """\
        effort,output_multiplier.low,output_multiplier.mid,output_multiplier.high,output_multiplier.sources,note
        high,2,3,4,guess,Half way up
        default,1,2,3,guess,Not stated
        """,
    "verbosity.csv": """\
        model,default_effort,answer.low,answer.mid,answer.high,answer.sources,note
        acme/anvil,high,0.5,1.25,2,meter,Counted
        """,
    "tiers.csv": """\
        tier,theta_from,sources
        5,,guess
        7,1.25,guess
        """,
    "quality.csv": """\
        model,effort,theta,theta_se,tier,benchmarks,basis,sources
        acme/anvil,default,-0.25,0.125,5,7,measured,ember
        acme/bellows,default,1.5,0.25,7,3,,ember|guess
        """,
    "measured_energy.csv": """\
        model,device,devices,precision,batch,context_tokens,prompt_per_output,decode_j_per_token.low,decode_j_per_token.mid,decode_j_per_token.high,"""
    + """decode_j_per_token.sources,tokens_per_s,workload,stack
        acme/anvil,A1,1,bf16,7.5,300,0.25,0.1,0.2,0.3,meter,1000,chat,vLLM 0.11.1
        """,
    "energy_law.yaml": """\
        # joules per output token
        - device: A1
          coefficients:
            {step: 1.0, weights: 0.445, narrow: 0.5, cache: 1.0, state: 1.0, arithmetic: 1.5, prefill: 1.5,
             sequence: 0.5, collectives: 1.0, experts: 1e-3, host: 1.0}
          structure:
            {shared_share: 0.4, cache_gb: 0.00006, cache_power: 0.4, recurrent_cache_share: 0.15, state_gb: 0.28,
             layers: 15.8, layers_power: 0.3}
          residual_factor: {low: 0.7, mid: 1.0, high: 2, sources: [guess]}
          n: 217
          validation: >-
            leave one
            family out
          sources: [guess]
        """,
}
HEADERS = {
    name: next(line for line in textwrap.dedent(text).splitlines() if "," in line and not line.startswith("#"))
    for name, text in FILES.items()
    if name.endswith(".csv")
}


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(textwrap.dedent(text).encode())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in FILES.items():
        write(folder, name, text)
    return folder


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "eco.db"


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} appears {text.count(old)} times"
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")


# Reading.


def test_every_table_of_the_catalogue_has_its_file() -> None:
    assert list(refresh._FILES) == [field.name for field in fields(Catalogue)]


def test_every_kind_of_cell_becomes_the_value_it_stands_for(data: Path) -> None:
    catalogue = read(data)
    assert catalogue.sources == (
        Source(
            id="ember",
            url="https://ember-energy.org",
            retrieved_on=DAY,
            basis="published",
            licence="CC BY 4.0",
            note="Europe, monthly",
        ),
        Source(id="guess", url="data/README.md", retrieved_on=DAY, basis="estimated"),
        Source(id="vendor", url="https://acme.example", retrieved_on=DAY, basis="vendor_reported"),
        Source(id="meter", url="data/README.md", retrieved_on=DAY, basis="measured"),
    )
    assert catalogue.models == (
        Model(
            id="acme/anvil",
            provider="acme",
            family="anvil",
            sources=("vendor", "guess"),
            released_on=datetime.date(2026, 1, 31),
            context_tokens=200000,
            price_in_usd_per_mtok=0.1,
            open_weights=True,
            params_active_b=Estimate(
                low=1.0, mid=2.5, high=4.0, basis="estimated", sources=("vendor", "guess", "ember")
            ),
            abilities=("vision", "tools"),
        ),
        Model(id="acme/bellows", provider="acme", family="bellows", sources=("vendor",)),
    )
    assert catalogue.aliases == (Alias(alias="anvil-latest", model="acme/anvil", sources=("vendor",)),)
    assert catalogue.grids[1] == Grid(
        zone="SWE",
        name="Sweden",
        region_type="country",
        valid_from=datetime.date(2024, 1, 1),
        intensity_g_per_kwh=Estimate(low=21.0, mid=26.0, high=31.0, basis="published", sources=("ember",)),
    )
    assert catalogue.task_kinds[0].sources == ("guess", "ember")
    (law,) = catalogue.energy_laws
    assert (law.device, law.coefficients.weights, law.coefficients.experts, law.n) == ("A1", 0.445, 0.001, 217)
    assert law.structure.cache_gb == 0.00006
    assert law.validation == "leave one family out"
    assert law.residual_factor == Estimate(low=0.7, mid=1.0, high=2.0, basis="estimated", sources=("guess",))


def test_a_basis_is_the_weakest_of_its_sources_unless_the_row_may_state_it(data: Path) -> None:
    catalogue = read(data)
    assert catalogue.measured_energy[0].decode_j_per_token.basis == "measured"
    assert catalogue.providers[0].pue.basis == "vendor_reported"
    assert catalogue.quality == (
        Quality(
            model="acme/anvil",
            effort="default",
            theta=-0.25,
            theta_se=0.125,
            tier=5,
            benchmarks=7,
            basis="measured",
            sources=("ember",),
        ),
        Quality(
            model="acme/bellows",
            effort="default",
            theta=1.5,
            theta_se=0.25,
            tier=7,
            benchmarks=3,
            basis="estimated",
            sources=("ember", "guess"),
        ),
    )


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(data: Path, name: str) -> None:
    before = read(data)
    path = data / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(data) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("models.csv", ",200000,", ",many,", "models.csv line 2, column context_tokens: 'many' is not a plain finite"),
        ("models.csv", ",200000,", ",2.5,", "line 2, column context_tokens: Input should be a valid integer"),
        ("models.csv", ",0.1,", ",nan,", "line 2, column price_in_usd_per_mtok: 'nan' is not a plain finite number"),
        ("models.csv", ",0.1,", ",inf,", "line 2, column price_in_usd_per_mtok: 'inf' is not a plain finite number"),
        ("models.csv", ",0.1,", ",1e999,", "line 2, column price_in_usd_per_mtok: '1e999' is not a plain finite"),
        ("models.csv", ",0.1,", ",1_0,", "line 2, column price_in_usd_per_mtok: '1_0' is not a plain finite number"),
        ("models.csv", ",0.1,", ",٣,", "line 2, column price_in_usd_per_mtok: '٣' is not a plain finite number"),
        ("models.csv", ",True,", ",perhaps,", "line 2, column open_weights: Input should be a valid boolean"),
        ("models.csv", "2026-01-31", "31.1.2026", "line 2, column released_on: '31.1.2026' is not a date such as"),
        ("models.csv", "2026-01-31", "2026-02-30", "line 2, column released_on: Input should be a valid date"),
        ("models.csv", "2026-01-31", "1700000000", "line 2, column released_on: '1700000000' is not a date such as"),
        ("models.csv", "vision|tools", "sight", "line 2, column abilities.0: Input should be 'vision' or 'tools'"),
        ("models.csv", "vision|tools", "vision||tools", "column abilities: has an empty part between its '|'"),
        ("models.csv", "vision|tools", "vision| tools", "column abilities: remove the blanks around ' tools'"),
        ("models.csv", "acme/bellows,", " acme/bellows,", "line 4, column id: remove the blanks around ' acme/bel"),
        ("models.csv", "acme/bellows,acme,", "acme/bellows,,", "line 4, column provider: a value is required"),
        ("models.csv", "1,2.5,4e0", "3,2.5,4e0", "line 2: an estimate needs 0 <= low <= mid <= high"),
        ("models.csv", "1,2.5,4e0", ",2.5,4e0", "line 2, column params_active_b.low: a value is required"),
        ("models.csv", "vendor|guess|ember", "", "column params_active_b.sources: a value is required"),
        ("models.csv", "vendor|guess|ember", "embr", "names source 'embr', which no sources*.csv has; the closest are"),
        ("models.csv", "bellows,vendor,", "bellows,vendr,", "line 4: names source 'vendr', which no sources*.csv has"),
        ("models.csv", "id,provider", "id,supplier", "models.csv line 1: no field is called 'supplier'"),
        ("models.csv", ",abilities", ",abilites", "line 1: no field is called 'abilites'; the closest are abilities"),
        ("models.csv", "id,provider", "id,id", "line 1: a column appears twice"),
        ("models.csv", ",vision|tools", "", "line 2: has 12 cells where the header has 13"),
        ("models.csv", "acme/anvil,acme,", 'acme/anvil,"acme,', "line 2: unexpected end of data: write a row on one"),
        ("grids.csv", "high,intensity_g_per_kwh.sources", "high,intensity_g_per_kwh.basis", "no field is called 'int"),
        ("grids.csv", "2024-01-01", "2025-01-01", "grids: SWE, average, 2025-01-01 appears twice"),
        ("aliases.csv", "acme/anvil", "acme/anvl", "aliases: model 'acme/anvl' is not in models"),
        ("energy_law.yaml", "n: 217", "n: many", "energy_law.yaml line 2, column n: Input should be a valid integer"),
        ("energy_law.yaml", "n: 217", "m: 217", "line 2, column n: a value is required"),
        ("energy_law.yaml", "n: 217", "n: 217\n  m: 3", "line 2, column m: Unexpected keyword argument"),
        ("energy_law.yaml", "n: 217", "n: 217\n  n: 218", "energy_law.yaml line 11: 'n' appears twice: keep one"),
        ("energy_law.yaml", "n: 217", "n: [217", "energy_law.yaml line 11: is not YAML: "),
        ("energy_law.yaml", "n: 217", "n: *x", "energy_law.yaml line 10: is not YAML: found undefined alias"),
        ("energy_law.yaml", "0.445", ".nan", "line 2: coefficients.weights must be a finite number"),
        ("energy_law.yaml", "low: 0.7", "low: 1.7", "line 2: an estimate needs 0 <= low <= mid <= high"),
        ("energy_law.yaml", "low: 0.7", "basis: given, low: 0.7", "residual_factor.basis follows from its sources"),
        ("energy_law.yaml", "{low: 0.7", "{lowest: 0, low: 0.7", "line 2, column residual_factor.lowest: Unexpected"),
        (
            "energy_law.yaml",
            "[guess]}",
            "[gues]}",
            "residual_factor: names source 'gues', which no sources*.csv has; the",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_line_and_column(data: Path, name: str, old: str, new: str, says: str) -> None:
    change(data, name, old, new)
    with pytest.raises(EcoRouteError) as caught:
        read(data)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("models.csv", b"id\nacme/\xff\n", "models.csv line 2: is not UTF-8: save the file as UTF-8"),
        ("models.csv", b"id\n\nacme/\0\n", "models.csv line 3: has a NUL character: remove it"),
        ("models.csv", b"", "models.csv has no header line: it needs the columns id, provider, family"),
        ("models.csv", b"# only a comment\n", "models.csv has no header line"),
        ("models.csv", b'id,note\nx,"two\nlines"\n', "models.csv line 1: no field is called 'note'"),
        ("zone_aliases.csv", b'alias,note\nx,"two\nlines"\n', "zone_aliases.csv line 2: unexpected end of data"),
        ("energy_law.yaml", b"form: x\n", "energy_law.yaml line 1: must be a list, each item beginning with '- '"),
        ("energy_law.yaml", b"", "energy_law.yaml line 1: must be a list"),
        ("energy_law.yaml", b"- x\n", "energy_law.yaml line 1"),
        ("energy_law.yaml", b"- x\n---\n- y\n", "energy_law.yaml line 2: is not YAML"),
        ("energy_law.yaml", b"- a: \x01\n", "energy_law.yaml: is not YAML"),
        ("energy_law.yaml", b"- a: !!python/name:os.system x\n", "energy_law.yaml line 1: is not YAML: could not"),
    ],
)
def test_a_file_that_is_no_table_is_named(data: Path, name: str, content: bytes, says: str) -> None:
    (data / name).write_bytes(content)
    with pytest.raises(EcoRouteError) as caught:
        read(data)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"sources_vendor.csv"}))
def test_a_missing_file_and_a_folder_in_its_place_are_named(data: Path, name: str) -> None:
    (data / name).unlink()
    if name == "sources.csv":
        (data / "sources_vendor.csv").unlink()
    with pytest.raises(EcoRouteError, match=rf"data/{name} is missing: restore it"):
        read(data)
    (data / name).mkdir()
    with pytest.raises(EcoRouteError, match=rf"data/{name} cannot be read"):
        read(data)


def test_all_files_with_mistakes_are_named_at_once_and_ten_rows_of_each(data: Path) -> None:
    rows = "".join(f"alias {number},acme/anvil,nobody\n" for number in range(25))
    (data / "aliases.csv").write_text(HEADERS["aliases.csv"] + "\n" + rows)
    change(data, "devices.csv", "700", "seven hundred")
    with pytest.raises(EcoRouteError) as caught:
        read(data)
    lines = str(caught.value).splitlines()
    assert [line.count("aliases.csv") for line in lines] == [1] * 10 + [0]
    assert lines[9].startswith(f"{data}/aliases.csv line 11: names source 'nobody'")
    assert lines[10].startswith(f"{data}/devices.csv line 2, column tdp_w: 'seven hundred' is not")


def test_without_sources_nothing_else_is_blamed(data: Path) -> None:
    change(data, "sources.csv", "published", "rumoured")
    with pytest.raises(EcoRouteError) as caught:
        read(data)
    (line,) = str(caught.value).splitlines()
    assert "sources.csv line 3, column basis: Input should be 'given'" in line
    assert line.endswith("not 'rumoured'")


# The fingerprint.


def test_the_fingerprint_follows_the_files_that_are_read_and_no_others(data: Path) -> None:
    seen = {fingerprint(data)}
    (data / "README.md").write_text("schema")
    (data / "upstream").mkdir()
    (data / "upstream" / "models.csv").write_text("raw")
    assert fingerprint(data) in seen
    for name in FILES:
        path = data / name
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        seen.add(fingerprint(data))
        path.unlink()
        seen.add(fingerprint(data))
        path.write_bytes(content)
    assert len(seen) == 1 + 2 * len(FILES)
    assert fingerprint(data) in seen
    (data / "sources_more.csv").write_text(HEADERS["sources.csv"])
    assert fingerprint(data) not in seen


def test_the_fingerprint_does_not_depend_on_where_the_folder_is(data: Path, tmp_path: Path) -> None:
    here = fingerprint(data)
    assert fingerprint(data.rename(tmp_path / "elsewhere")) == here


# Opening.


def test_the_first_use_builds_and_the_next_reuses(data: Path, db: Path) -> None:
    opened = open_catalogue(db, data)
    assert opened.catalogue == read(data)
    assert opened.notice == f"The database {db} was built from {data}: it does not exist yet."
    before = db.stat()
    again = open_catalogue(db, data)
    assert again == refresh.Opened(opened.catalogue, "")
    assert (db.stat().st_ino, db.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_changed_data_is_built_again_and_said(data: Path, db: Path) -> None:
    open_catalogue(db, data)
    change(data, "grids.csv", "SWE,Sweden,country,2025-01-01,20,25,30", "SWE,Sweden,country,2025-01-01,20,24,30")
    opened = open_catalogue(db, data)
    assert opened.catalogue.grids[0].intensity_g_per_kwh.mid == 24.0
    assert "built from other data than is here now" in opened.notice
    assert store.load(db) == opened.catalogue


def test_a_damaged_or_older_database_is_built_again_and_said(data: Path, db: Path) -> None:
    catalogue = open_catalogue(db, data).catalogue
    whole = db.read_bytes()
    older = whole[:60] + (store.SCHEMA - 1).to_bytes(4, "big") + whole[64:]
    for content, says in ((whole[:9000], "it is damaged"), (older, "by an older EcoRoute"), (b"", "it is empty")):
        db.write_bytes(content)
        opened = open_catalogue(db, data)
        assert opened.catalogue == catalogue == store.load(db)
        assert says in opened.notice


def test_what_is_not_ours_or_newer_is_refused(data: Path, db: Path) -> None:
    open_catalogue(db, data)
    whole = db.read_bytes()
    newer = whole[:60] + (store.SCHEMA + 1).to_bytes(4, "big") + whole[64:]
    for content, says in ((newer, "upgrade ecoroute"), (b"x" * 5000, "set ECOROUTE_DB")):
        db.write_bytes(content)
        for act in (open_catalogue, refresh.refresh):
            with pytest.raises(EcoRouteError, match=says):
                act(db, data)
        assert db.read_bytes() == content


def test_a_read_only_database_serves_until_it_is_stale(data: Path, db: Path) -> None:
    catalogue = open_catalogue(db, data).catalogue
    db.chmod(0o444)
    assert open_catalogue(db, data) == refresh.Opened(catalogue, "")
    (data / "aliases.csv").write_text(HEADERS["aliases.csv"])
    with pytest.raises(EcoRouteError, match="is read-only: make it writable or set ECOROUTE_DB"):
        open_catalogue(db, data)


def test_a_place_that_cannot_be_written_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "eco.db", Path("/proc/eco.db"), tmp_path):
        with pytest.raises(EcoRouteError, match="ECOROUTE_DB"):
            open_catalogue(path, data)


def test_data_is_never_written_to(data: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(data)
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    for path in (data / "eco.db", data / "deeper" / "eco.db", link / "eco.db", data / "models.csv"):
        for act in (open_catalogue, refresh.refresh):
            with pytest.raises(EcoRouteError, match="set ECOROUTE_DB"):
                act(path, data)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_servers_that_start_at_once_on_a_fresh_machine_all_work(data: Path, tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from ecoroute_mcp.refresh import open_catalogue
        sys.stdin.read()
        for number in range(5):
            opened = open_catalogue(Path(sys.argv[1]) / f"{number}.db", Path(sys.argv[2]))
            print(len(opened.catalogue.models), opened.catalogue.models[0].id)
    """
    place = tmp_path / "fresh" / "machine"
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(place), str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for server in servers:
        assert server.stdin is not None
        server.stdin.close()
        server.stdin = None
    assert [server.communicate() for server in servers] == [("2 acme/anvil\n" * 5, "")] * 4
    assert sorted(path.name for path in place.iterdir()) == [f"{number}.db" for number in range(5)]


def test_an_open_that_need_not_build_imports_no_reader(data: Path, db: Path) -> None:
    open_catalogue(db, data)
    script = """
        import sys
        from pathlib import Path
        from ecoroute_mcp.refresh import open_catalogue
        assert open_catalogue(Path(sys.argv[1]), Path(sys.argv[2])).notice == ""
        print(sorted({"csv", "yaml", "pydantic", "mcp", "numpy", "difflib"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(db), str(data)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(refresh.__file__).parents[1])},
    )
    assert done.stdout == "[]\n"


# Refreshing.


def test_a_refresh_reports_what_it_changed(data: Path, db: Path) -> None:
    first = refresh.refresh(db, data)
    assert first.notice == (
        f"The database {db} was built anew: it does not exist yet. The data is that of {data} from now on; "
        "`ecoroute refresh` without --data returns to the packaged data."
    )
    assert first.failed == {}
    assert sum(change.after for change in first.changes) == sum(len(change.added) for change in first.changes) == 23
    assert all(change.text().endswith("unchanged") for change in refresh.refresh(db, data).changes)

    change(data, "models.csv", "acme/bellows,acme,bellows,vendor", "acme/crucible,acme,crucible,vendor")
    change(data, "quality.csv", "acme/bellows", "acme/crucible")
    change(data, "grids.csv", "2024-01-01,21,26,31", "2024-01-01,21,26,32")
    aliases = "".join(f"anvil-{number},acme/anvil,vendor\n" for number in range(7))
    (data / "aliases.csv").write_text(f"{HEADERS['aliases.csv']}\n{aliases}")
    report = refresh.refresh(db, data)
    assert [found for found in report.changes if found.added or found.removed or found.changed] == [
        Change(table="models", before=2, after=2, added=("acme/crucible",), removed=("acme/bellows",), changed=()),
        Change(
            table="aliases",
            before=1,
            after=7,
            added=tuple(f"anvil-{number}" for number in range(7)),
            removed=("anvil-latest",),
            changed=(),
        ),
        Change(table="grids", before=2, after=2, added=(), removed=(), changed=("SWE average 2024-01-01",)),
        Change(
            table="quality",
            before=2,
            after=2,
            added=("acme/crucible default",),
            removed=("acme/bellows default",),
            changed=(),
        ),
    ]
    lines = report.text().splitlines()
    assert len(lines) == len(fields(Catalogue))
    assert lines[0] == "sources: 4 rows, unchanged"
    assert lines[1] == "models: 2 rows, 1 added (acme/crucible); 1 removed (acme/bellows)"
    assert lines[2] == (
        "aliases: 7 rows, 7 added (anvil-0, anvil-1, anvil-2, anvil-3, anvil-4 and 2 more); 1 removed (anvil-latest)"
    )
    assert open_catalogue(db, data) == refresh.Opened(read(data), "")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_table_that_fails_keeps_its_rows_and_is_named(data: Path, db: Path, name: str) -> None:
    refresh.refresh(db, data)
    before = store.load(db)
    (data / name).write_bytes(b"\xff")
    report = refresh.refresh(db, data)
    (table,) = report.failed
    assert store.load(db) == before
    assert report.failed[table] == f"{data / name} line 1: is not UTF-8: save the file as UTF-8"
    assert report.text().splitlines()[-1] == f"{table}: kept the rows of before, because {report.failed[table]}"
    opened = open_catalogue(db, data)
    assert opened.catalogue == before
    assert opened.notice == f"{table} has the rows of an earlier refresh, because {report.failed[table]}"


def test_the_other_tables_are_refreshed_when_one_fails(data: Path, db: Path) -> None:
    refresh.refresh(db, data)
    (data / "aliases.csv").unlink()
    change(data, "devices.csv", "700", "750")
    report = refresh.refresh(db, data)
    assert list(report.failed) == ["aliases"]
    assert [found.table for found in report.changes if found.changed] == ["devices"]
    stored = store.load(db)
    assert stored.devices[0].tdp_w == 750.0
    assert stored.aliases == (Alias(alias="anvil-latest", model="acme/anvil", sources=("vendor",)),)


def test_old_rows_that_do_not_fit_the_new_ones_leave_the_database_as_it_was(data: Path, db: Path) -> None:
    refresh.refresh(db, data)
    before = db.read_bytes()
    (data / "aliases.csv").unlink()
    change(data, "models.csv", "acme/anvil,", "acme/hammer,")
    change(data, "quality.csv", "acme/anvil,", "acme/hammer,")
    change(data, "measured_energy.csv", "acme/anvil,", "acme/hammer,")
    with pytest.raises(EcoRouteError, match="aliases: model 'acme/anvil' is not in models"):
        refresh.refresh(db, data)
    assert db.read_bytes() == before


def test_without_a_yesterday_a_failure_is_an_error(data: Path, db: Path) -> None:
    (data / "aliases.csv").unlink()
    with pytest.raises(EcoRouteError, match=r"aliases\.csv is missing"):
        refresh.refresh(db, data)
    assert not db.exists()
    db.touch()
    with pytest.raises(EcoRouteError, match=r"aliases\.csv is missing"):
        refresh.refresh(db, data)
    assert db.read_bytes() == b""


# Data of one's own.


def other(data: Path, name: str = "other") -> Path:
    """A copy of the folder with other figures of Sweden."""
    folder = data.with_name(name)
    shutil.copytree(data, folder)
    change(folder, "grids.csv", "2025-01-01,20,25,30", "2025-01-01,900,1000,1100")
    return folder


def sweden(opened: refresh.Opened) -> float:
    return opened.catalogue.grids[0].intensity_g_per_kwh.mid


def test_the_folder_a_refresh_was_given_stays_in_use(data: Path, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = other(data)
    assert sweden(open_catalogue(db, data)) == 25.0
    monkeypatch.chdir(data.parent)
    refresh.refresh(db, Path("other"))
    monkeypatch.chdir("/")
    said = f"The data is that of {own}, by `ecoroute refresh --data`; `ecoroute refresh` returns to the packaged data."
    for _ in range(2):
        assert open_catalogue(db, data) == refresh.Opened(read(own), said)
    change(own, "grids.csv", "900,1000,1100", "900,1001,1100")
    opened = open_catalogue(db, data)
    assert sweden(opened) == 1001.0
    assert opened.notice == (
        f"The database {db} was built from {own}: it was built from other data than is here now. {said}"
    )
    whole = db.read_bytes()
    db.write_bytes(whole[:60] + (store.SCHEMA - 1).to_bytes(4, "big") + whole[64:])
    assert sweden(open_catalogue(db, data)) == 1001.0
    assert open_catalogue(db, data) == refresh.Opened(read(own), said)


def test_a_folder_that_is_gone_leaves_its_rows_in_use(data: Path, db: Path) -> None:
    own = other(data)
    refresh.refresh(db, own)
    rows, built_at = read(own), store.meta(db)["built_at"]
    shutil.rmtree(own)
    said = (
        f"The database's rows of {built_at} stay in use, since the data in {own} cannot be read (there is no folder "
        f"{own}): put that right, or `ecoroute refresh` returns to the packaged data."
    )
    for _ in range(2):
        assert open_catalogue(db, data) == refresh.Opened(rows, said)
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("UPDATE grids SET intensity_g_per_kwh_mid = 950")
    connection.close()
    with pytest.raises(EcoRouteError, match=f"there is no folder {own}; `ecoroute refresh` returns to the packaged"):
        open_catalogue(db, data)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_broken_file_leaves_the_rows_of_before_in_use_and_is_named(data: Path, db: Path, name: str) -> None:
    before = open_catalogue(db, data).catalogue
    written = db.read_bytes()
    content = (data / name).read_bytes()
    (data / name).write_bytes(content + b"\xff")
    opened = open_catalogue(db, data)
    assert opened.catalogue == before
    assert opened.notice.startswith(
        f"The database's rows of {store.meta(db)['built_at']} stay in use, since the data in {data} cannot be read "
        f"({data / name} line "
    )
    assert opened.notice.endswith(": put that right, or `ecoroute refresh` takes the tables that can be read.")
    assert db.read_bytes() == written
    (data / name).write_bytes(content)
    assert open_catalogue(db, data) == refresh.Opened(before, "")


def test_a_dangling_reference_leaves_the_rows_of_before_in_use(data: Path, db: Path) -> None:
    before = open_catalogue(db, data).catalogue
    change(data, "aliases.csv", "acme/anvil", "acme/anvl")
    opened = open_catalogue(db, data)
    assert opened.catalogue == before
    assert "aliases: model 'acme/anvl' is not in models" in opened.notice


def test_a_broken_file_without_rows_of_before_is_an_error(data: Path, db: Path) -> None:
    open_catalogue(db, data)
    db.write_bytes(db.read_bytes()[:9000])
    (data / "grids.csv").write_bytes(b"\xff")
    with pytest.raises(EcoRouteError) as caught:
        open_catalogue(db, data)
    assert str(caught.value) == f"{data}/grids.csv line 1: is not UTF-8: save the file as UTF-8"


# The data that is shipped.

shipped = pytest.mark.skipif(
    not all(path.exists() for paths in refresh._paths(packaged_data(), None).values() for path in paths),
    reason="the data folder is not complete",
)


def test_a_checkout_reads_the_folder_beside_the_package() -> None:
    assert packaged_data() == Path(refresh.__file__).parent.parent / "data"


@shipped
def test_the_command_keeps_to_the_folder_it_was_given_until_it_is_told_to_return(db: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(packaged_data(), own, ignore=shutil.ignore_patterns("measurements", "upstream"))
    line = next(line for line in (own / "grids.csv").read_text("utf-8").splitlines() if line.startswith("SWE,"))
    columns = next(csv.reader([line]))
    figures = [index for index, cell in enumerate(columns) if re.fullmatch(r"[0-9.]+", cell)][:3]
    packaged = columns[figures[1]]
    for index, figure in zip(figures, ("900", "1000", "1100"), strict=True):
        columns[index] = figure
    change(own, "grids.csv", line, ",".join(f'"{cell}"' for cell in columns))

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ecoroute_mcp", *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(refresh.__file__).parents[1]), "ECOROUTE_DB": str(db)},
        )
        return done.stdout

    assert f"The data is that of {own} from now on" in said("refresh", "--data", str(own))
    assert "\t1e+03\t900 to 1.1e+03\t" in said("regions", "sweden")
    assert f"The data is that of {own}, by `ecoroute refresh --data`" in said("health")
    (own / "grids.csv").write_text("x\n")
    assert "\t1e+03\t900 to 1.1e+03\t" in said("regions", "sweden")
    health = said("health")
    assert f"{own}/grids.csv line 1: no field is called 'x'" in health
    assert "`ecoroute refresh` returns to the packaged data" in health
    assert f"The data is the packaged one again, no longer that of {own}." in said("refresh")
    assert f"\t{float(packaged):.3g}\t" in said("regions", "sweden")
    assert str(own) not in said("health")


@shipped
def test_the_shipped_data_goes_through_the_store_without_loss(db: Path) -> None:
    data = packaged_data()
    catalogue = read(data)
    opened = open_catalogue(db, data)
    assert opened.catalogue == catalogue == store.load(db, fingerprint=fingerprint(data))
    for field in fields(Catalogue):
        if field.name != "sources":
            assert all(cited_sources(row) for row in getattr(store.load(db), field.name))
