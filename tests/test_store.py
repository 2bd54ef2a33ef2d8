"""The database: exact round trip, atomic replacement, and every way in which the file at the path can be wrong."""

from __future__ import annotations

import datetime
import os
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecoroute_mcp import store
from ecoroute_mcp.catalogue import Alias, Catalogue, Grid, Model, Source
from ecoroute_mcp.sci import EcoRouteError, Estimate


def estimates() -> st.SearchStrategy[Estimate]:
    number = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
    return st.builds(
        lambda numbers, basis, sources: Estimate(
            low=sorted(numbers)[0], mid=sorted(numbers)[1], high=sorted(numbers)[2], basis=basis, sources=sources
        ),
        st.tuples(number, number, number),
        st.sampled_from(["given", "measured", "vendor_reported", "published", "estimated"]),
        st.lists(st.text(), min_size=1, max_size=3).map(tuple),
    )


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type, the awkward ones included."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return st.one_of([st.none() if argument is types.NoneType else values(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if hint is Estimate:
        return estimates()
    if is_dataclass(hint):
        assert isinstance(hint, type)
        inner = {name: values(field_hint) for name, field_hint in typing.get_type_hints(hint).items()}
        return st.builds(hint, **inner)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(),
        bool: st.booleans(),
        int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        datetime.date: st.dates(),
    }
    return plain[hint]


CATALOGUES = values(Catalogue)
EMPTY = Catalogue(**{field.name: () for field in fields(Catalogue)})
SOURCE = Source(
    id="ember-2025", url="https://ember-energy.org", retrieved_on=datetime.date(2026, 11, 21), basis="published"
)
INTENSITY = Estimate(low=20.5, mid=25.0, high=30.25, basis="published", sources=("ember-2025",))
SMALL = replace(
    EMPTY,
    sources=(SOURCE,),
    models=(
        Model(
            id="acme/anvil",
            provider="acme",
            family="anvil",
            sources=("ember-2025",),
            released_on=datetime.date(2026, 1, 31),
            price_in_usd_per_mtok=0.1,
            open_weights=False,
            params_total_b=INTENSITY,
            abilities=("vision", "tools"),
        ),
        Model(id="acme/bellows", provider="acme", family="bellows", sources=("ember-2025",)),
    ),
    aliases=tuple(
        Alias(alias=f"anvil-{number:03}", model="acme/anvil", sources=("ember-2025",)) for number in range(200)
    ),
    grids=(
        Grid(
            zone="SWE",
            name="Sweden",
            region_type="country",
            valid_from=datetime.date(2025, 1, 1),
            intensity_g_per_kwh=INTENSITY,
        ),
    ),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "eco.db"
    store.save(SMALL, path, "f1")
    return path


def leftovers(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir() if found.name != path.name)


# The round trip.


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(catalogue=CATALOGUES)
def test_what_is_saved_is_what_is_loaded(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.db"
    store.save(catalogue, path, "f1")
    loaded = store.load(path, fingerprint="f1")
    assert loaded == catalogue
    for field in fields(Catalogue):
        for before, after in zip(getattr(catalogue, field.name), getattr(loaded, field.name), strict=True):
            assert [type(getattr(after, inner.name)) for inner in fields(after)] == [
                type(getattr(before, inner.name)) for inner in fields(before)
            ]


def test_the_columns_read_well_by_hand(saved: Path) -> None:
    connection = sqlite3.connect(saved)
    (grid,) = connection.execute("SELECT * FROM grids")
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(grids)")]
    model = connection.execute(
        "SELECT released_on, open_weights, abilities, params_total_b_mid, params_active_b_mid, context_tokens "
        "FROM models WHERE id = 'acme/anvil'"
    ).fetchone()
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    identity = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    connection.close()
    assert dict(zip(columns, grid, strict=True)) == {
        "zone": "SWE",
        "name": "Sweden",
        "region_type": "country",
        "valid_from": "2025-01-01",
        "intensity_g_per_kwh_low": 20.5,
        "intensity_g_per_kwh_mid": 25.0,
        "intensity_g_per_kwh_high": 30.25,
        "intensity_g_per_kwh_basis": "published",
        "intensity_g_per_kwh_sources": '["ember-2025"]',
        "kind": "average",
        "note": "",
    }
    assert model == ("2026-01-31", 0, '["vision","tools"]', 25.0, None, None)
    assert identity == [0x45434F52, store.SCHEMA]
    assert meta["fingerprint"] == "f1"
    assert datetime.datetime.fromisoformat(meta["built_at"]).utcoffset() == datetime.timedelta(0)


def test_meta_says_what_the_file_is(saved: Path) -> None:
    store.save(SMALL, saved, "f2", note="aliases has the rows of an earlier refresh", folder="/some/data")
    meta = store.meta(saved)
    assert sorted(meta) == ["built_at", "checksum", "fingerprint", "folder", "note", "schema", "version"]
    assert meta["folder"] == store.chosen_folder(saved) == "/some/data"
    assert meta["fingerprint"] == "f2"
    assert meta["note"] == "aliases has the rows of an earlier refresh"


def test_the_chosen_folder_outlives_damage_and_an_upgrade(saved: Path) -> None:
    assert store.chosen_folder(saved) == store.chosen_folder(saved.with_name("absent.db")) == ""
    store.save(SMALL, saved, "f2", folder="/some/data")
    set_version(saved, store.SCHEMA - 1)
    assert store.chosen_folder(saved) == "/some/data"
    connection = sqlite3.connect(saved)
    with connection:
        connection.execute("DELETE FROM meta WHERE key = 'folder'")  # as an earlier release wrote it
    connection.close()
    assert store.chosen_folder(saved) == ""
    saved.write_bytes(saved.read_bytes()[:5000])
    assert store.chosen_folder(saved) == ""
    saved.write_bytes(b"id,provider")
    with pytest.raises(EcoRouteError, match="not an EcoRoute database"):
        store.chosen_folder(saved)


def test_a_type_without_a_column_form_is_refused_when_it_is_added() -> None:
    with pytest.raises(TypeError, match=r"weights: no column holds a set\[str\]"):
        store._field("weights", set[str])


@pytest.mark.parametrize("awkward", ["a b?#%20.db", "ünï \N{GRINNING FACE}.db", ";drop table.db", "'\".db"])
def test_awkward_file_names(tmp_path: Path, awkward: str) -> None:
    path = tmp_path / "new" / "folders" / awkward
    store.save(SMALL, path, "f1")
    assert store.load(path) == SMALL
    assert [found.name for found in path.parent.iterdir()] == [awkward]


def test_values_without_a_form_in_sqlite_are_refused_and_leave_the_old_file(saved: Path) -> None:
    wrong_values: list[dict[str, Any]] = [
        {"context_tokens": 2**63},
        {"family": "\ud800"},
        {"family": None},
        {"availability": "sometimes"},
        {"price_in_usd_per_mtok": float("nan")},
        {"price_in_usd_per_mtok": float("inf")},
    ]
    for wrong in wrong_values:
        with pytest.raises(EcoRouteError, match="models: a value cannot be stored"):
            store.save(replace(SMALL, models=(replace(SMALL.models[0], **wrong),)), saved, "f2")
    assert store.load(saved, fingerprint="f1") == SMALL
    assert leftovers(saved) == []


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "eco.db", tmp_path / "link.db"
    link.symlink_to(target)
    store.save(SMALL, link, "f1")
    store.save(EMPTY, link, "f2")
    assert link.is_symlink()
    assert store.load(target) == store.load(link) == EMPTY


def test_a_catalogue_of_the_real_size_is_loaded_whole(tmp_path: Path) -> None:
    path = tmp_path / "eco.db"
    models = tuple(
        replace(SMALL.models[0], id=f"acme/{number}", params_active_b=INTENSITY, params_note="x" * 80)
        for number in range(223)
    )
    aliases = tuple(Alias(alias=f"alias-{number}", model="acme/1", sources=("ember-2025",)) for number in range(3000))
    grids = tuple(replace(SMALL.grids[0], zone=f"Z{number}") for number in range(1500))
    large = replace(SMALL, models=models, aliases=aliases, grids=grids)
    store.save(large, path, "f1")
    assert store.load(path, fingerprint="f1") == large


# Files that can be made again.


def test_an_absent_and_an_empty_file_need_building(tmp_path: Path) -> None:
    path = tmp_path / "eco.db"
    with pytest.raises(store.NeedsRebuild, match="does not exist yet; run `ecoroute refresh`"):
        store.load(path)
    path.touch()
    with pytest.raises(store.NeedsRebuild, match="it is empty"):
        store.load(path)
    store.save(SMALL, path, "f1")
    assert store.load(path) == SMALL


def test_other_data_needs_a_rebuild(saved: Path) -> None:
    with pytest.raises(store.NeedsRebuild, match="built from other data"):
        store.load(saved, fingerprint="f2")
    assert store.load(saved) == SMALL


def set_version(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def test_an_older_schema_needs_a_rebuild_and_gets_it(saved: Path) -> None:
    set_version(saved, store.SCHEMA - 1)
    with pytest.raises(store.NeedsRebuild, match=rf"older EcoRoute \(schema {store.SCHEMA - 1}"):
        store.load(saved)
    store.save(SMALL, saved, "f1")
    assert store.load(saved) == SMALL


def test_other_columns_under_the_same_serial_need_a_rebuild(saved: Path) -> None:
    connection = sqlite3.connect(saved)
    connection.execute("ALTER TABLE models ADD COLUMN colour TEXT")
    connection.close()
    with pytest.raises(store.NeedsRebuild, match="other columns"):
        store.load(saved)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE grids SET intensity_g_per_kwh_mid = 26",
        "UPDATE models SET provider = 'other' WHERE id = 'acme/bellows'",
        "UPDATE models SET abilities = 'not json'",
        "UPDATE models SET released_on = X'00ff'",
        "DELETE FROM aliases WHERE alias = 'anvil-007'",
        "DELETE FROM meta WHERE key = 'checksum'",
    ],
)
def test_rows_edited_by_hand_are_noticed(saved: Path, statement: str) -> None:
    connection = sqlite3.connect(saved)
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    with pytest.raises(store.NeedsRebuild, match="damaged, or was edited by hand"):
        store.load(saved)
    store.save(SMALL, saved, "f1")
    assert store.load(saved) == SMALL


def outcomes(path: Path, damaged: Iterator[bytes]) -> list[str]:
    found = []
    for content in damaged:
        path.write_bytes(content)
        try:
            found.append("same" if store.load(path, fingerprint="f1") == SMALL else "WRONG")
        except store.NeedsRebuild:
            found.append("rebuild")
        except EcoRouteError:
            found.append("refused")
    return found


def test_a_flipped_byte_never_changes_what_is_loaded(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    places = [*range(110), *range(110, len(whole), 61)]
    flipped = (whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in places)
    found = outcomes(tmp_path / "flipped.db", flipped)
    assert "WRONG" not in found
    assert found.count("rebuild") > 50
    # Magic, schema serial and application id say whose file it is: without them it is not touched.
    assert {place for place, outcome in zip(places, found, strict=True) if outcome == "refused"} == {
        *range(16),
        *range(60, 64),
        *range(68, 72),
    }


def test_a_truncated_file_needs_a_rebuild(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    lengths = [0, 100, 1000, *range(4096, len(whole), 4096), len(whole) - 1]
    found = outcomes(tmp_path / "short.db", (whole[:length] for length in lengths))
    assert set(found[:-1]) == {"rebuild"}
    assert found[-1] in ("rebuild", "same")  # SQLite reads a missing last byte as zero, which it may have been


def test_damage_is_replaced_with_its_journals(saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[:5000])
    for suffix in ("-journal", "-wal", "-shm"):
        saved.with_name(saved.name + suffix).write_bytes(b"left over")
    store.save(SMALL, saved, "f1")
    assert store.load(saved) == SMALL
    assert leftovers(saved) == []


# Files that must be left alone.


def other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b"id,provider\nacme/anvil,acme\n" * 9), "not an EcoRoute database.*ECOROUTE_DB"),
        (lambda path: path.write_bytes(b"S"), "not an EcoRoute database.*move that file away or set ECOROUTE_DB"),
        (other_program, "database of another program.*move that file away or set ECOROUTE_DB"),
    ],
    ids=["csv", "one byte", "another program's"],
)
def test_a_file_of_something_else_is_refused_and_untouched(tmp_path: Path, make: Any, says: str) -> None:
    path = tmp_path / "eco.db"
    make(path)
    before = path.read_bytes()
    for act in (lambda: store.load(path), lambda: store.meta(path), lambda: store.save(SMALL, path, "f1")):
        with pytest.raises(EcoRouteError, match=says) as caught:
            act()
        assert not isinstance(caught.value, store.NeedsRebuild)
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_a_newer_schema_is_refused_and_untouched(saved: Path) -> None:
    set_version(saved, store.SCHEMA + 1)
    before = saved.read_bytes()
    for act in (lambda: store.load(saved), lambda: store.save(SMALL, saved, "f1")):
        with pytest.raises(EcoRouteError, match=r"newer EcoRoute.*upgrade ecoroute, or delete the file") as caught:
            act()
        assert not isinstance(caught.value, store.NeedsRebuild)
    assert saved.read_bytes() == before


def test_a_directory_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EcoRouteError, match="is a directory: set ECOROUTE_DB"):
        store.save(SMALL, tmp_path, "f1")
    with pytest.raises(EcoRouteError, match="not a regular file: set ECOROUTE_DB"):
        store.save(SMALL, Path(os.devnull), "f1")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(EcoRouteError, match="not a regular file: set ECOROUTE_DB"):
        store.load(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(EcoRouteError, match="not a regular file"):
            store.load(tmp_path / "s")


def test_paths_that_cannot_exist_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "file" / "eco.db", loop, tmp_path / ("x" * 300), Path("/proc/eco.db"), Path("a\0b")):
        with pytest.raises(EcoRouteError, match="ECOROUTE_DB"):
            store.save(SMALL, path, "f1")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "loop"]


def test_a_read_only_file_is_read_but_not_replaced(saved: Path) -> None:
    saved.chmod(0o444)
    assert store.load(saved, fingerprint="f1") == SMALL
    with pytest.raises(EcoRouteError, match="is read-only: make it writable or set ECOROUTE_DB"):
        store.save(EMPTY, saved, "f2")
    assert store.load(saved, fingerprint="f1") == SMALL


# Others at work on the same file.


def test_a_lock_that_stays_is_named(saved: Path) -> None:
    other = sqlite3.connect(saved, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for act in (lambda: store.load(saved, wait_s=0.05), lambda: store.save(EMPTY, saved, "f2", wait_s=0.05)):
        with pytest.raises(EcoRouteError, match=r"locked by another program for 0\.05 s: close that program") as caught:
            act()
        assert not isinstance(caught.value, store.NeedsRebuild)
    other.execute("ROLLBACK")
    other.close()
    assert store.load(saved) == SMALL


def test_a_lock_that_passes_is_waited_for(saved: Path) -> None:
    other = sqlite3.connect(saved, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    release.start()
    store.save(EMPTY, saved, "f2")
    release.join()
    other.close()
    assert store.load(saved) == EMPTY


def test_a_reader_of_the_old_file_is_not_disturbed(saved: Path) -> None:
    reader = sqlite3.connect(saved)
    rows = reader.execute("SELECT alias FROM aliases ORDER BY rowid")
    assert next(rows) == ("anvil-000",)
    reader.execute("PRAGMA query_only = 1")
    rows.fetchall()
    store.save(EMPTY, saved, "f2")
    assert reader.execute("SELECT count(*) FROM aliases").fetchone() == (200,)
    reader.close()
    assert store.load(saved) == EMPTY


def test_no_connection_outlives_the_call(saved: Path) -> None:
    def open_files() -> list[str]:
        folder = Path("/proc/self/fd")
        return [str(link) for link in folder.iterdir() if link.exists() and str(saved) in os.readlink(link)]

    store.load(saved)
    store.meta(saved)
    store.save(SMALL, saved, "f1")
    saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(store.NeedsRebuild):
        store.load(saved)
    assert open_files() == []


def test_a_full_disk_leaves_the_old_file(saved: Path) -> None:
    """The limit on file size stands in for the disk: the kernel refuses the write in the same place."""
    script = """
        import resource, signal, sys
        from dataclasses import replace
        from pathlib import Path
        from ecoroute_mcp import store
        from ecoroute_mcp.sci import EcoRouteError
        path = Path(sys.argv[1])
        catalogue = store.load(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            store.save(catalogue, path, "f2")
        except EcoRouteError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(saved)], capture_output=True, text=True, check=True
    )
    assert "cannot write the database" in done.stdout
    assert "set ECOROUTE_DB" in done.stdout
    assert store.load(saved, fingerprint="f1") == SMALL
    assert leftovers(saved) == []


def test_what_killed_writers_left_is_removed_and_what_a_live_one_may_own_is_not(saved: Path) -> None:
    now = time.time()
    ages = {
        ".eco.db.abcdefg1.tmp": 601,  # a killed writer's
        ".eco.db.abcdefg2.tmp": 590,  # maybe another's, at work
        ".eco.dbx.abcdefg3.tmp": 9999,  # of other files
        ".ecoxdb.abcdefg4.tmp": 9999,
        "eco.db.tmp": 9999,
        ".eco.db.mine.tmp": 9999,
    }
    for name, age in ages.items():
        (saved.parent / name).write_bytes(b"half")
        os.utime(saved.parent / name, (now - age, now - age))
    store.save(EMPTY, saved, "f2")
    assert leftovers(saved) == sorted(set(ages) - {".eco.db.abcdefg1.tmp"})
    assert store.load(saved) == EMPTY


def test_a_name_like_a_left_over_file_may_be_a_folder(saved: Path) -> None:
    folder = saved.parent / ".eco.db.abcdefg1.tmp"
    folder.mkdir()
    os.utime(folder, (0, 0))
    store.save(EMPTY, saved, "f2")
    assert leftovers(saved) == [folder.name]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(saved: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from ecoroute_mcp import store
        path = Path(sys.argv[1])
        catalogue = store.load(path)
        print("ready", flush=True)
        while True:
            store.save(catalogue, path, "f1")
    """
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(saved)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(20):
            assert store.load(saved, fingerprint="f1") == SMALL
        writer.kill()
        writer.communicate()
        assert store.load(saved, fingerprint="f1") == SMALL
