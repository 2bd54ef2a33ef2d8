"""The database: one SQLite file that holds one :class:`Catalogue`, derived from ``data/`` and replaceable at any time.

The tables follow the dataclasses of the catalogue. A plain field is a typed column; an :class:`Estimate` becomes the
columns ``name_low, name_mid, name_high, name_basis, name_sources``; a tuple is JSON text; a date is ISO
text; an absent value is NULL. So the file is pleasant to query by hand, and there is no second schema to keep in step.

The file is only ever replaced as a whole: it is built beside its final place, synced, and moved there in one step, so
a reader sees the old rows or the new ones, and two servers that start at once both work. A checksum over all rows
tells a damaged or hand-edited file from the one that was written. What can be made again from ``data/`` is reported as
:class:`NeedsRebuild`; a file that is not ours, or that a newer version wrote, is refused and left as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import math
import os
import re
import sqlite3
import stat
import tempfile
import time
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from ecoroute_mcp.catalogue import Catalogue
from ecoroute_mcp.sci import EcoRouteError

APPLICATION_ID = 0x45434F52
"""``ECOR``: how a SQLite file says that it is this project's (https://www.sqlite.org/pragma.html)."""

SCHEMA = 5
"""Serial number of the layout. Raise it when a release changes the columns, or how data/ is read into them."""

LOCK_WAIT_S = 5.0

ABANDONED_S = 600.0
"""From this age a half-written file beside a target is what a killed writer left: a whole write takes under a second,
and seconds where it waits for a lock, so ten minutes spare every one that is still at work, on slow disks too."""

_HEADER_BYTES = 100  # https://www.sqlite.org/fileformat.html: magic at 0, user version at 60, application id at 68
_MAGIC = b"SQLite format 3\x00"
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNREACHABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_MOVE_IT = "move that file away or set ECOROUTE_DB to another path"


class NeedsRebuild(EcoRouteError):
    """The database is absent, damaged, older, or made from other data: building it again from data/ repairs it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}; run `ecoroute refresh` to build it from the data")
        self.why = why


# The mapper: one dataclass field <-> one or more columns.


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    declaration: str


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A dataclass field in the table: its columns, and the way of a value to its cells and back."""

    name: str
    columns: tuple[_Column, ...]
    encode: Callable[[Any], tuple[Any, ...]]
    decode: Callable[[tuple[Any, ...]], Any]
    plain: bool = False  # one cell, which is the value


@dataclass(frozen=True, kw_only=True)
class _Table:
    name: str
    row_type: type
    fields: tuple[_Field, ...]

    @property
    def columns(self) -> list[_Column]:
        return [column for field in self.fields for column in field.columns]

    @property
    def create(self) -> str:
        lines = ",\n  ".join(f"{column.name} {column.declaration}" for column in self.columns)
        return f"CREATE TABLE {self.name} (\n  {lines}\n)"

    @property
    def select(self) -> str:
        return f"SELECT {', '.join(column.name for column in self.columns)} FROM {self.name} ORDER BY rowid"

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.name} VALUES ({', '.join('?' * len(self.columns))})"


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@functools.lru_cache(maxsize=8192)
def _tuple(text: str) -> tuple[Any, ...]:
    return tuple(json.loads(text))


@functools.lru_cache(maxsize=8192)
def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def _finite(value: float) -> float:
    if not math.isfinite(value):  # SQLite would keep NaN as NULL
        raise ValueError(f"{value} is not a finite number")
    return float(value)


def _same(value: Any) -> Any:
    return value


_SCALARS: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    str: ("TEXT", _same, _same),
    int: ("INTEGER", int, _same),
    float: ("REAL", _finite, _same),
    bool: ("INTEGER", int, bool),
    datetime.date: ("TEXT", datetime.date.isoformat, _date),
    tuple: ("TEXT", _json_text, _tuple),
}


def _field(name: str, hint: Any, *, optional: bool = False) -> _Field:
    """The columns of a field of this type. Raises TypeError for a type that has no column form."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return _field(name, inner, optional=True)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _nested(name, hint, optional=optional)
    check = ""
    if origin is Literal:
        check = f" CHECK ({name} IN ({', '.join(repr(value) for value in arguments)}))"
        origin, hint = None, str
    try:
        sql_type, to_cell, from_cell = _SCALARS[origin or hint]
    except (KeyError, TypeError):
        raise TypeError(f"{name}: no column holds a {hint!r}") from None
    if hint is bool:
        check = f" CHECK ({name} IN (0, 1))"

    def encode(value: Any) -> tuple[Any, ...]:
        return (None if value is None else to_cell(value),)

    def decode(cells: tuple[Any, ...]) -> Any:
        return None if cells[0] is None else from_cell(cells[0])

    column = _Column(name=name, declaration=sql_type + ("" if optional else " NOT NULL") + check)
    return _Field(name=name, columns=(column,), encode=encode, decode=decode, plain=from_cell is _same)


def _nested(name: str, row_type: type, *, optional: bool) -> _Field:
    """A dataclass within a row, flattened; all its cells NULL where the value is absent."""
    inner = _fields(row_type, prefix=f"{name}_", optional=optional)
    columns = tuple(column for field in inner for column in field.columns)
    width = len(columns)
    make = _maker(row_type, inner)

    def encode(value: Any) -> tuple[Any, ...]:
        return (None,) * width if value is None else _cells(inner, value)

    def decode(cells: tuple[Any, ...]) -> Any:
        return None if cells[0] is None else make(cells)

    return _Field(name=name, columns=columns, encode=encode, decode=decode)


def _fields(row_type: type, prefix: str = "", *, optional: bool = False) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(row_type)
    return tuple(_field(prefix + field.name, hints[field.name], optional=optional) for field in fields(row_type))


def _cells(table_fields: tuple[_Field, ...], row: Any) -> tuple[Any, ...]:
    values = (getattr(row, field.name) for field in fields(row))
    return tuple(cell for field, value in zip(table_fields, values, strict=True) for cell in field.encode(value))


def _maker(row_type: type, table_fields: tuple[_Field, ...]) -> Callable[[tuple[Any, ...]], Any]:
    """A function from the cells of a row to the dataclass."""
    names = [field.name for field in fields(row_type)]
    plain: list[tuple[str, int]] = []  # cells that are the value
    others: list[tuple[str, int, int, Callable[[tuple[Any, ...]], Any]]] = []
    start = 0
    for name, field in zip(names, table_fields, strict=True):
        stop = start + len(field.columns)
        if field.plain:
            plain.append((name, start))
        else:
            others.append((name, start, stop, field.decode))
        start = stop

    def make(cells: tuple[Any, ...]) -> Any:
        values = {name: cells[index] for name, index in plain}
        for name, first, last, decode in others:
            values[name] = decode(cells[first:last])
        return row_type(**values)

    return make


@functools.cache
def _tables() -> tuple[_Table, ...]:
    """One table per collection of the catalogue, in its order."""
    hints = typing.get_type_hints(Catalogue)
    return tuple(
        _Table(name=field.name, row_type=row_type, fields=_fields(row_type))
        for field in fields(Catalogue)
        for row_type in typing.get_args(hints[field.name])[:1]
    )


_META = "CREATE TABLE meta (\n  key TEXT PRIMARY KEY,\n  value TEXT NOT NULL\n)"


# Writing.


def save(
    catalogue: Catalogue,
    path: Path,
    fingerprint: str,
    *,
    note: str = "",
    folder: str = "",
    wait_s: float = LOCK_WAIT_S,
) -> None:
    """Replace the database at ``path`` by this catalogue in one step; the old one stays until the new one is whole.

    ``fingerprint`` names the data it was read from, ``note`` what a reader should be told about these rows, ``folder``
    where the data lies if that was chosen (empty: in the package). Waits up to ``wait_s`` seconds for another writer.
    Raises EcoRouteError where the path cannot be written, where the file there is not this project's or a newer
    version's, and where a value has no form in SQLite.
    """
    target = _real(path)
    _make_way(target, wait_s)
    with _explained(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = temporary_beside(target)
    try:
        with _explained(target, "write"):
            os.close(handle)
            _build(temporary, catalogue, fingerprint, note, folder)
            _sync(temporary)
            temporary.chmod(0o644)
            _replace(temporary, target, wait_s)
            if os.name == "posix":
                _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> tuple[int, Path]:
    """A new empty file in the folder of ``target``, open for writing, to be moved onto it: descriptor and path.

    What killed writers of the same target left there is removed first (see ``ABANDONED_S``); what cannot be removed
    stays. Raises OSError where the folder takes no file.
    """
    left = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.tmp")  # the names that mkstemp gives
    oldest = time.time() - ABANDONED_S
    with contextlib.suppress(OSError):  # a folder may take files and not list them
        for path in [found for found in target.parent.iterdir() if left.fullmatch(found.name)]:
            with contextlib.suppress(OSError):  # another process may have moved or removed it
                if path.lstat().st_mtime < oldest:
                    path.unlink()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    return handle, Path(name)


def _build(path: Path, catalogue: Catalogue, fingerprint: str, note: str, folder: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # nobody else sees this file, and a failed build is deleted
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("BEGIN")
        connection.execute(_META)
        for table in _tables():
            connection.execute(table.create)
            try:
                rows = [_cells(table.fields, row) for row in getattr(catalogue, table.name)]
                connection.executemany(table.insert, rows)
            except (OverflowError, ValueError, sqlite3.IntegrityError) as error:
                raise EcoRouteError(f"{table.name}: a value cannot be stored: {error}") from error
        meta = {
            "schema": str(SCHEMA),
            "fingerprint": fingerprint,
            "built_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "version": _version(),
            "note": note,
            "folder": folder,
            "checksum": _checksum(_select_all(connection)),
        }
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("COMMIT")


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("ecoroute-mcp")
    except metadata.PackageNotFoundError:
        return "not installed"


def _make_way(path: Path, wait_s: float) -> None:
    """Refuse to replace what is not ours; let a writer of ours finish; drop the journals of a file beyond repair."""
    with contextlib.suppress(NeedsRebuild):
        _identify(path)
    if path.exists():
        if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
            raise EcoRouteError(f"{path} is read-only: make it writable or set ECOROUTE_DB to another path")
        with contextlib.suppress(NeedsRebuild), _connection(path, wait_s, mode="rw") as connection:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
    with _explained(path, "write"):
        for suffix in ("-journal", "-wal", "-shm"):  # SQLite would apply a left-over one to the new file
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _replace(temporary: Path, target: Path, wait_s: float) -> None:
    """Move into place. Windows refuses while someone has the target open: try until they are done."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            os.replace(temporary, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _sync(path: Path) -> None:
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Reading.


def load(path: Path, *, fingerprint: str | None = None, wait_s: float = LOCK_WAIT_S) -> Catalogue:
    """The catalogue that was saved at ``path``, equal to the one given to :func:`save`.

    Raises NeedsRebuild where the file is absent, damaged, older, or (given ``fingerprint``) made from other data;
    EcoRouteError where it is not ours, newer, unreadable, or locked for longer than ``wait_s`` seconds.
    """
    path = _real(path)
    _identify(path)
    with _connection(path, wait_s) as connection:
        connection.execute("BEGIN")  # one consistent view
        stored = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        if fingerprint is not None and stored.get("fingerprint") != fingerprint:
            raise NeedsRebuild(path, "it was built from other data than is here now")
        layout = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
        if any(layout.get(table.name) != table.create for table in _tables()):
            raise NeedsRebuild(path, "its tables have other columns than this version's")
        rows = _select_all(connection)
    if stored.get("checksum") != _checksum(rows):
        raise NeedsRebuild(path, "its rows are not those that were written: it is damaged, or was edited by hand")
    try:
        return Catalogue(
            **{table.name: tuple(map(_maker(table.row_type, table.fields), rows[table.name])) for table in _tables()}
        )
    except (TypeError, ValueError, EcoRouteError) as error:
        raise NeedsRebuild(path, f"a value in it is not valid ({error})") from error


def meta(path: Path, *, wait_s: float = LOCK_WAIT_S) -> dict[str, str]:
    """What the database says of itself: schema, fingerprint, built_at (UTC), version, note, folder, checksum.

    Raises as :func:`load` does.
    """
    path = _real(path)
    _identify(path)
    with _connection(path, wait_s) as connection:
        stored = {str(key): str(value) for key, value in connection.execute("SELECT key, value FROM meta")}
    missing = {"schema", "fingerprint", "built_at", "version", "note", "checksum"} - set(stored)
    if missing:
        raise NeedsRebuild(path, f"it is damaged (its meta table has no {', '.join(sorted(missing))})")
    return {"folder": ""} | stored


def chosen_folder(path: Path, *, wait_s: float = LOCK_WAIT_S) -> str:
    """The folder that the data of the database at ``path`` was chosen to come from; empty where none was chosen, where
    there is no database, and where a damaged one does not say. An older version's is read as well.

    Raises EcoRouteError where the file is not ours, newer, unreadable, or locked for longer than ``wait_s`` seconds.
    """
    path = _real(path)
    with contextlib.suppress(NeedsRebuild):
        _identify(path)
    if not path.exists():
        return ""
    with contextlib.suppress(NeedsRebuild), _connection(path, wait_s) as connection:
        for (folder,) in connection.execute("SELECT value FROM meta WHERE key = 'folder'"):
            return str(folder)
    return ""


def _select_all(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {table.name: connection.execute(table.select).fetchall() for table in _tables()}


def _checksum(rows: dict[str, list[tuple[Any, ...]]]) -> str:
    try:
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    except (TypeError, ValueError):
        return "not the kind of values that are written here"


def _real(path: Path) -> Path:
    """Links followed, so that the file they lead to is the one replaced."""
    if "\0" in str(path):
        raise EcoRouteError(f"{str(path)!r} is not a path: set ECOROUTE_DB to another one")
    return Path(os.path.realpath(path))


def _identify(path: Path) -> None:
    """Look at the header alone: pass for ours, NeedsRebuild for absent, empty, or older; else refuse."""
    with _explained(path, "read"):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise NeedsRebuild(path, "it does not exist yet") from None
        if stat.S_ISDIR(mode):
            raise EcoRouteError(f"{path} is a directory: set ECOROUTE_DB to the path of a file")
        if not stat.S_ISREG(mode):
            raise EcoRouteError(f"{path} is not a regular file: set ECOROUTE_DB to another path")
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    if not header:
        raise NeedsRebuild(path, "it is empty")
    if not header.startswith(_MAGIC):
        raise EcoRouteError(f"{path} is not an EcoRoute database, and is left as it is: {_MOVE_IT}")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise EcoRouteError(f"{path} is the database of another program, and is left as it is: {_MOVE_IT}")
    version = int.from_bytes(header[60:64], "big")
    if version > SCHEMA:
        raise EcoRouteError(
            f"{path} was written by a newer EcoRoute (schema {version}; this one knows {SCHEMA}): upgrade ecoroute, or "
            "delete the file to have it built again"
        )
    if version < SCHEMA:
        raise NeedsRebuild(path, f"it was written by an older EcoRoute (schema {version}; this one writes {SCHEMA})")


@contextlib.contextmanager
def _connection(path: Path, wait_s: float, mode: Literal["ro", "rw"] = "ro") -> Iterator[sqlite3.Connection]:
    """A connection for one call, closed at its end; SQLite's errors become ours."""
    try:
        uri = f"{path.as_uri()}?mode={mode}"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _BUSY:
            raise EcoRouteError(
                f"{path} has been locked by another program for {wait_s:g} s: close that program and try again, or set "
                "ECOROUTE_DB to another path"
            ) from error
        if code in _UNREACHABLE:
            raise EcoRouteError(f"{path} cannot be opened ({error}): set ECOROUTE_DB to another path") from error
        raise NeedsRebuild(path, f"it is damaged ({error})") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise NeedsRebuild(path, f"it is damaged ({error})") from error


@contextlib.contextmanager
def _explained(path: Path, verb: Literal["read", "write"]) -> Iterator[None]:
    """Turn a refusal of the file system into an error that names the repair."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise EcoRouteError(
            f"cannot {verb} the database {path} ({error}): free the path, or set ECOROUTE_DB to one that can be written"
        ) from error
