"""From the files under ``data/`` to a checked :class:`Catalogue`, and from there to the database.

Tables are CSV: UTF-8, one row a line, the header holding field names of the row's dataclass. A nested :class:`Estimate`
has dotted columns (``pue.low, pue.mid, pue.high, pue.sources``), a tuple joins its parts with ``|``, an empty cell is a
field left out, and lines that begin with ``#`` are comments. The basis of an estimate is not written down: it is the
weakest basis among its sources, so it cannot disagree with them. The same dataclasses are the schema; nothing unknown
is accepted, and every complaint names file, line and repair.

Only reading data/ needs the ``csv``, ``yaml`` and ``pydantic`` modules; a database that is up to date is opened without
them.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import math
import os
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoroute_mcp import store
from ecoroute_mcp.catalogue import KEYS, THIS_MACHINE, Catalogue, LocalEnergy, Source
from ecoroute_mcp.kind import weights_file
from ecoroute_mcp.sci import Basis, EcoRouteError, shown, weakest

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

_MOST_COMPLAINTS = 10  # of one file; more of them help nobody
_MOST_KEYS = 5  # listed per kind of change in a report
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_FILES: dict[str, str] = {
    "sources": "sources*.csv",
    "models": "models.csv",
    "aliases": "aliases.csv",
    "providers": "providers.csv",
    "grids": "grids.csv",
    "zone_aliases": "zone_aliases.csv",
    "devices": "devices.csv",
    "parameters": "parameters.csv",
    "task_kinds": "task_kinds.csv",
    "efforts": "efforts.csv",
    "verbosity": "verbosity.csv",
    "tiers": "tiers.csv",
    "quality": "quality.csv",
    "measured_energy": "measured_energy.csv",
    "energy_laws": "energy_law.yaml",
    "local_energy": "this-machine.csv",
}
"""The file of each collection of the catalogue; a pattern stands for all files that match it. All lie under data/ but
the last, which `python -m benchmark` writes beside the database."""


def packaged_data() -> Path:
    """The data folder: inside the package when installed from a wheel, beside it in a checkout."""
    return weights_file().parent


def this_machine(database: Path) -> Path:
    """Where the figures measured on this machine lie: beside the database."""
    return Path(os.path.realpath(database)).with_name(_FILES["local_energy"])


def fingerprint(data: Path, local: Path | None = None) -> str:
    """A SHA-256 over names and contents of exactly the files that are read, this machine's (``local``) among them where
    there is one; a missing one of ``data`` counts as such."""
    digest = hashlib.sha256()
    for table, paths in _paths(data, local).items():
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError:
                digest.update(f"{table}\0{path.name}\0absent\0".encode(errors="surrogatepass"))
                continue
            digest.update(f"{table}\0{path.name}\0{len(content)}\0".encode(errors="surrogatepass"))
            digest.update(content)
    return digest.hexdigest()


def read(data: Path) -> Catalogue:
    """The checked catalogue in the folder ``data``, without figures of this machine.

    Raises EcoRouteError naming file, line and repair of what is wrong, and of every dangling reference.
    """
    return _gather(data, None, yesterday=None).catalogue


def local_rows(path: Path, models: Collection[str]) -> tuple[tuple[LocalEnergy, ...], tuple[str, ...]]:
    """The rows of a file of figures measured on this machine, and what is wrong with those left out; never raises.

    ``models`` are the ids there are. A missing file holds no rows.
    """
    if not path.exists():
        return (), ()
    try:
        rows, complaints = _rows_and_complaints(path, LocalEnergy, {THIS_MACHINE: "measured"})
    except EcoRouteError as error:
        return (), (str(error),)
    kept: dict[tuple[Any, ...], LocalEnergy] = {}
    for row in rows:
        key = tuple(getattr(row, name) for name in KEYS["local_energy"])
        if row.model not in models:
            complaints.append(f"{path}: {row.model!r} is no model of data/models.csv")
        elif key in kept:
            complaints.append(f"{path}: {', '.join(map(str, key))} appears twice")
        else:
            kept[key] = row
    return tuple(kept.values()), tuple(complaints)


def cells(row: Any, prefix: str = "") -> dict[str, str]:
    """A row as the cells of a table, by column: what reading it gives the row back. No text may have a line break."""
    found: dict[str, str] = {}
    for field in fields(row):
        name, value = prefix + field.name, getattr(row, field.name)
        if is_dataclass(value):
            found |= cells(value, f"{name}.")
        elif not (prefix and field.name == "basis"):
            parts = value if isinstance(value, tuple) else (value,)
            found[name] = "|".join("" if part is None else str(part) for part in parts)
    return found


@dataclass(frozen=True)
class Opened:
    """A catalogue ready to serve, and what the user should be told of how it came to be (empty: nothing)."""

    catalogue: Catalogue
    notice: str


def open_catalogue(path: Path, data: Path, *, wait_s: float = store.LOCK_WAIT_S) -> Opened:
    """The catalogue of the database at ``path``, built first, where that is needed, from its data and the figures of
    this machine. Its data lies in the folder that :func:`refresh` was last given, or else in ``data``.

    It is needed on first use, after either changed, and when the file is damaged or of an older version; ``notice``
    then says so. Where the data cannot be read, the rows of the database stay in use, with this machine's figures as
    they are now, and ``notice`` says why and how to mend that. Raises EcoRouteError where there are no such rows, where
    the file is not ours, newer, or locked for longer than ``wait_s`` seconds, and where it must be built but cannot be
    written.
    """
    local = this_machine(path)
    chosen = store.chosen_folder(path, wait_s=wait_s)
    folder = Path(chosen) if chosen else data
    elsewhere = _chosen(folder, data)
    said = ""
    if elsewhere:
        said = f"The data is that of {folder}, by `ecoroute refresh --data`; `ecoroute refresh` {_RETURNS}."
    current = fingerprint(folder, local)
    try:
        catalogue = store.load(path, fingerprint=current, wait_s=wait_s)
        return Opened(catalogue, _joined(said, store.meta(path, wait_s=wait_s)["note"]))
    except store.NeedsRebuild as reason:
        why = reason.why
    _refuse_inside(path, folder)
    try:
        if not folder.is_dir():
            raise EcoRouteError(f"there is no folder {folder}")
        gathered = _gather(folder, local, yesterday=None)
    except EcoRouteError as error:
        repair = f"put that right, or `ecoroute refresh` {_RETURNS if elsewhere else _TAKES}"
        try:
            return _as_it_was(path, local, f"the data in {folder} cannot be read ({error}): {repair}", wait_s)
        except store.NeedsRebuild:  # there is nothing to go on with
            raise EcoRouteError(f"{error}; `ecoroute refresh` {_RETURNS}" if elsewhere else str(error)) from error
    if store.chosen_folder(path, wait_s=wait_s) != chosen:  # a refresh came between
        return open_catalogue(path, data, wait_s=wait_s)
    store.save(gathered.catalogue, path, current, note=gathered.doubts, folder=elsewhere, wait_s=wait_s)
    built = f"The database {path} was built from {folder}: {why}."
    return Opened(gathered.catalogue, _joined(built, said, gathered.doubts))


_RETURNS = "returns to the packaged data"
_TAKES = "takes the tables that can be read"


def _as_it_was(path: Path, local: Path, why: str, wait_s: float) -> Opened:
    """What the database at ``path`` holds, for want of data. Raises as :func:`store.load` does."""
    stored, about = store.load(path, wait_s=wait_s), store.meta(path, wait_s=wait_s)
    tables = {field.name: getattr(stored, field.name) for field in fields(stored)}
    tables["sources"] = tuple(source for source in stored.sources if source.id != THIS_MACHINE)
    doubts = _add_local(tables, local)
    rest = about["note"] if doubts in about["note"] else _joined(doubts, about["note"])
    notice = f"The database's rows of {about['built_at']} stay in use, since {why}."
    return Opened(Catalogue.checked(**tables), _joined(notice, rest))


def _chosen(folder: Path, data: Path) -> str:
    """How the choice of a folder is kept: its absolute path, or nothing where it is ``data``."""
    return "" if folder.resolve() == data.resolve() else str(folder.resolve())


def _joined(*parts: str) -> str:
    return " ".join(filter(None, parts))


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a refresh did to one table: row counts, and the keys of the rows it touched."""

    table: str
    before: int
    after: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def text(self) -> str:
        """One line."""
        parts = [
            f"{len(keys)} {verb} ({_listed(keys)})"
            for verb, keys in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if keys
        ]
        return f"{self.table}: {self.after} rows, {'; '.join(parts) or 'unchanged'}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of :func:`refresh`. ``failed`` maps a table that kept its old rows to the reason."""

    database: Path
    changes: tuple[Change, ...]
    failed: Mapping[str, str]
    notice: str = ""

    def text(self) -> str:
        """A line per table, after the notice and before the tables that kept their old rows."""
        lines = [self.notice] if self.notice else []
        lines += [change.text() for change in self.changes]
        lines += [f"{table}: kept the rows of before, because {why}" for table, why in self.failed.items()]
        return "\n".join(lines)


def refresh(database: Path, data: Path, *, wait_s: float = store.LOCK_WAIT_S) -> Report:
    """Read ``data`` and the figures of this machine, save them to ``database``, and say what changed.

    A table whose file cannot be read keeps the rows the database has; with no such rows, and where old and new rows do
    not fit together, EcoRouteError is raised and the database stays as it is. From then on the database follows
    ``data``, until it is refreshed from another folder.
    """
    try:
        there = data.is_dir()
    except OSError as error:  # a name that is too long, say
        raise EcoRouteError(f"{shown(str(data))}: {error.strerror}: name another folder") from error
    if not there:
        raise EcoRouteError(f"there is no folder {data}: name one that holds the tables, or leave it out")
    _refuse_inside(database, data)
    notices = []
    yesterday: Catalogue | None = None
    try:
        yesterday = store.load(database, wait_s=wait_s)
    except store.NeedsRebuild as reason:
        notices.append(f"The database {database} was built anew: {reason.why}.")
    local = this_machine(database)
    folder = _chosen(data, packaged_data())
    before = store.chosen_folder(database, wait_s=wait_s)
    if folder and folder != before:
        notices.append(f"The data is that of {folder} from now on; `ecoroute refresh` without --data {_RETURNS}.")
    if before and not folder:
        notices.append(f"The data is the packaged one again, no longer that of {before}.")
    current = fingerprint(data, local)
    gathered = _gather(data, local, yesterday)
    catalogue, failed = gathered.catalogue, gathered.failed
    notes = [f"{table} has the rows of an earlier refresh, because {why}" for table, why in failed.items()]
    if gathered.doubts:
        notes.append(gathered.doubts)
        notices.append(gathered.doubts)
    store.save(catalogue, database, current, note="; ".join(notes), folder=folder, wait_s=wait_s)
    changes = tuple(_change(table, yesterday, catalogue) for table in _FILES)
    return Report(database=database, changes=changes, failed=failed, notice=" ".join(notices))


def _change(table: str, before: Catalogue | None, after: Catalogue) -> Change:
    old = _keyed(table, before)
    new = _keyed(table, after)
    return Change(
        table=table,
        before=len(old),
        after=len(new),
        added=tuple(key for key in new if key not in old),
        removed=tuple(key for key in old if key not in new),
        changed=tuple(key for key in new if key in old and old[key] != new[key]),
    )


def _keyed(table: str, catalogue: Catalogue | None) -> dict[str, Any]:
    rows = getattr(catalogue, table) if catalogue else ()
    return {" ".join(str(getattr(row, name)) for name in KEYS[table]): row for row in rows}


def _listed(keys: Sequence[str]) -> str:
    rest = len(keys) - _MOST_KEYS
    return ", ".join(keys[:_MOST_KEYS]) + (f" and {rest} more" if rest > 0 else "")


def _refuse_inside(database: Path, data: Path) -> None:
    if data.resolve() in Path(os.path.realpath(database)).parents:
        raise EcoRouteError(f"the database {database} would lie in the data folder {data}: set ECOROUTE_DB elsewhere")


# Reading the files.


def _paths(data: Path, local: Path | None) -> dict[str, list[Path]]:
    """The files of each table, in a fixed order; a file that must exist is listed even where it does not."""
    paths = {}
    for table, pattern in _FILES.items():
        if table == "local_energy":
            paths[table] = [local] if local is not None and local.exists() else []
            continue
        found = sorted(data.glob(pattern), key=lambda path: path.name)
        paths[table] = found or [data / pattern.replace("*", "")]
    return paths


@dataclass(frozen=True, kw_only=True)
class _Gathered:
    """A checked catalogue; why a table has yesterday's rows; which figures of this machine were left out and why."""

    catalogue: Catalogue
    failed: Mapping[str, str]
    doubts: str


def _gather(data: Path, local: Path | None, yesterday: Catalogue | None) -> _Gathered:
    """Everything there is to read. Without a yesterday every failure under ``data`` is raised."""
    hints = _hints(Catalogue)
    tables: dict[str, tuple[Any, ...]] = {}
    failed: dict[str, str] = {}
    bases: dict[str, Basis] = {}
    for table, paths in _paths(data, None).items():
        row_type = typing.get_args(hints[table])[0]
        try:
            tables[table] = tuple(row for path in paths for row in _rows(path, row_type, bases))
        except EcoRouteError as error:
            failed[table] = str(error)
            if yesterday is not None:
                tables[table] = getattr(yesterday, table)
            elif row_type is Source:
                break  # without them nothing else can be read
        if row_type is Source:
            tables[table] = tuple(source for source in tables[table] if source.id != THIS_MACHINE)
            bases = {source.id: source.basis for source in tables[table]}
    if failed and yesterday is None:
        raise EcoRouteError("\n".join(failed.values()))
    doubts = "" if local is None else _add_local(tables, local)
    return _Gathered(catalogue=Catalogue.checked(**tables), failed=failed, doubts=doubts)


def _add_local(tables: dict[str, tuple[Any, ...]], local: Path) -> str:
    """Put this machine's figures and their source into the tables; returns which were left out and why."""
    rows, complaints = local_rows(local, {model.id for model in tables["models"]})
    tables["local_energy"] = rows
    if rows:
        tables["sources"] += (_source_of(local, rows),)
    if not complaints:
        return ""
    listed = "; ".join(complaints[:_MOST_COMPLAINTS])
    return f"Measurements of this machine were left out ({listed}): remove these lines, or measure again."


def _source_of(local: Path, rows: Sequence[LocalEnergy]) -> Source:
    devices = ", ".join(sorted({f"{row.device_name} {row.device_uuid}".strip() for row in rows}))
    return Source(
        id=THIS_MACHINE,
        url=local.as_uri(),
        retrieved_on=max(row.measured_on for row in rows),
        basis="measured",
        note=f"Measured with `python -m benchmark` on this machine's {devices}: gross energy of the device alone, 95 % "
        "intervals over repeats",
    )


def _rows(path: Path, row_type: type, bases: Mapping[str, Basis]) -> list[Any]:
    """The validated rows of one file. Raises EcoRouteError with its first complaints, each with its line."""
    rows, complaints = _rows_and_complaints(path, row_type, bases)
    if complaints:
        raise EcoRouteError("\n".join(complaints[:_MOST_COMPLAINTS]))
    return rows


def _rows_and_complaints(path: Path, row_type: type, bases: Mapping[str, Basis]) -> tuple[list[Any], list[str]]:
    """The valid rows of one file, and what is wrong with the others. Raises EcoRouteError where it is no table."""
    columns = _columns(row_type)
    rows: list[Any] = []
    complaints: list[str] = []
    for line, raw in _yaml_items(path) if path.suffix == ".yaml" else _csv_lines(path, columns):
        where = f"{path} line {line}"
        try:
            if isinstance(raw, EcoRouteError):
                raise raw
            values = raw if path.suffix == ".yaml" else _from_cells(where, raw, columns)
            rows.append(_row(where, row_type, values, bases))
        except EcoRouteError as error:
            complaints.append(str(error))
    return rows, complaints


def _row(where: str, row_type: type, values: Any, bases: Mapping[str, Basis]) -> Any:
    from pydantic import ValidationError

    _fill_bases(where, row_type, values, bases)
    try:
        row = _adapter(row_type).validate_python(values, extra="forbid")
    except ValidationError as error:
        raise EcoRouteError("; ".join(_complaint(where, problem) for problem in error.errors())) from error
    except EcoRouteError as error:
        raise EcoRouteError(f"{where}: {error}") from error
    if number := _first_non_finite(row):
        raise EcoRouteError(f"{where}: {number} must be a finite number")
    return row


@functools.cache
def _adapter(row_type: type) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(row_type)


def _complaint(where: str, problem: ErrorDetails) -> str:
    column = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{where}, column {column}: a value is required"
    return f"{where}, column {column}: {problem['msg']}, not {problem['input']!r:.80}"


def _fill_bases(where: str, row_type: type, values: Any, bases: Mapping[str, Basis]) -> None:
    """Give each estimate, and each row that has the field and leaves it out, the weakest basis of its sources."""
    if not isinstance(values, dict) or row_type is Source:
        return
    hints = _hints(row_type)
    for name, hint in hints.items():
        inner = _plain(hint)
        if is_dataclass(inner) and isinstance(inner, type) and isinstance(values.get(name), dict):
            if "basis" in values[name]:
                raise EcoRouteError(f"{where}: {name}.basis follows from its sources: leave it out")
            _fill_bases(f"{where}, {name}", inner, values[name], bases)
    cited = values.get("sources")
    if isinstance(cited, list | tuple) and cited:
        for source in cited:
            if source not in bases:
                raise EcoRouteError(
                    f"{where}: names source {source!r}, which no sources*.csv has{_closest(str(source), bases)}"
                )
        if "basis" in hints:
            values.setdefault("basis", weakest(*(bases[source] for source in cited)))


def _first_non_finite(row: Any) -> str:
    """The field with the first number that is not finite; empty when all are. (An Estimate refuses its own.)"""
    for field in fields(row):
        value = getattr(row, field.name)
        if is_dataclass(value) and (inner := _first_non_finite(value)):
            return f"{field.name}.{inner}"
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            return field.name
    return ""


def _columns(row_type: type, prefix: str = "") -> dict[str, Any]:
    """The columns of a CSV file of such rows, with the type of a cell; the basis of an estimate has none."""
    columns: dict[str, Any] = {}
    for name, hint in _hints(row_type).items():
        inner = _plain(hint)
        if is_dataclass(inner) and isinstance(inner, type):
            columns |= _columns(inner, f"{prefix}{name}.")
        elif not (prefix and name == "basis"):
            columns[prefix + name] = inner
    return columns


@functools.cache
def _hints(row_type: type) -> dict[str, Any]:
    return typing.get_type_hints(row_type)


def _plain(hint: Any) -> Any:
    """``T`` of ``T | None``."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    (inner,) = (argument for argument in typing.get_args(hint) if argument is not types.NoneType)
    return inner


def _from_cells(where: str, cells: Mapping[str, str], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row as nested values; the empty ones are left out."""
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        if not cell:
            continue
        *path, name = column.split(".")
        target = values
        for step in path:
            target = target.setdefault(step, {})
        target[name] = _value(f"{where}, column {column}", cell, columns[column])
    return values


def _value(where: str, cell: str, hint: Any) -> Any:
    if cell != cell.strip():
        raise EcoRouteError(f"{where}: remove the blanks around {cell!r:.80}")
    if typing.get_origin(hint) is tuple:
        return tuple(_value(where, part, typing.get_args(hint)[0]) for part in cell.split("|"))
    if not cell:
        raise EcoRouteError(f"{where}: has an empty part between its '|'")
    if hint in (int, float) and not (_NUMBER.fullmatch(cell) and math.isfinite(float(cell))):
        raise EcoRouteError(f"{where}: {cell!r:.80} is not a plain finite number such as 12 or 0.5")
    if hint is datetime.date and not _DATE.fullmatch(cell):
        raise EcoRouteError(f"{where}: {cell!r:.80} is not a date such as 2026-01-31")
    return cell


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise EcoRouteError(f"{path} is missing: restore it, or install ecoroute again") from None
    except OSError as error:
        raise EcoRouteError(f"{path} cannot be read: {error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EcoRouteError(f"{path} line {line}: is not UTF-8: save the file as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise EcoRouteError(f"{path} line {line}: has a NUL character: remove it")
    return text


def _csv_lines(path: Path, columns: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, str] | EcoRouteError]]:
    """Line number and cells by column of each row, or what is wrong with the line. Raises EcoRouteError where the file
    is not such a table."""
    import csv

    header: list[str] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        where = f"{path} line {number}"
        try:
            (cells,) = csv.reader([line], strict=True)
        except csv.Error as error:
            problem = EcoRouteError(f"{where}: {error}: write a row on one line, with its quotes closed")
            if not header:
                raise problem from error
            yield number, problem
            continue
        if not header:
            header = cells
            for name in header:
                if name not in columns:
                    raise EcoRouteError(f"{where}: no field is called {name!r}{_closest(name, columns)}")
            if len(set(header)) < len(header):
                raise EcoRouteError(f"{where}: a column appears twice: keep one of each")
        elif len(cells) != len(header):
            yield number, EcoRouteError(f"{where}: has {len(cells)} cells where the header has {len(header)}")
        else:
            yield number, dict(zip(header, cells, strict=True))
    if not header:
        raise EcoRouteError(f"{path} has no header line: it needs the columns {', '.join(columns)}")


def _yaml_items(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and value of each item of a YAML list. Raises EcoRouteError where the file is none."""
    import yaml

    try:
        loader = yaml.SafeLoader(_text(path))
        node = loader.get_single_node()
        if not isinstance(node, yaml.SequenceNode):
            raise EcoRouteError(f"{path} line 1: must be a list, each item beginning with '- '")
        for item in node.value:
            _refuse_twice(path, item)
        values = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path} line {mark.line + 1}" if mark else f"{path}"
        raise EcoRouteError(f"{where}: is not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise EcoRouteError(f"{path}: is not YAML: {error}") from error
    for item, value in zip(node.value, values, strict=True):
        yield item.start_mark.line + 1, value


def _refuse_twice(path: Path, node: Any) -> None:
    """YAML keeps the last of two equal keys without a word; we do not."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise EcoRouteError(f"{path} line {key.start_mark.line + 1}: {key.value!r} appears twice: keep one")
            seen.add(str(key.value))
            _refuse_twice(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twice(path, value)


def _closest(name: str, valid: Mapping[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(valid), n=3, cutoff=0.5)
    return f"; the closest are {', '.join(close)}" if close else ""
