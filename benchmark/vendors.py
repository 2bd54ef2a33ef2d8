"""Energy and carbon that vendors published of their own models (``data/vendor_figures.csv``): checks, never inputs."""

from __future__ import annotations

import csv
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ecoroute_mcp.sci import EcoRouteError

Boundary = Literal["accelerator", "facility", "life_cycle", "not stated"]
Unit = Literal["Wh", "gCO2e"]

UNIT_OF = {"energy": "Wh", "carbon": "gCO2e"}


@dataclass(frozen=True, kw_only=True)
class VendorFigure:
    """One published figure. ``value`` in ``unit`` per ``per``, with the range published around it, if any.

    ``boundary``: accelerators alone; the facility's meter; or the life cycle, with the hardware's manufacture.
    ``accounting`` of carbon is ``location-based`` or ``market-based``. ``models`` are ids of ours that may stand behind
    it; where the catalogue has none, ``params_total_b`` and ``params_active_b`` (1e9) are given. ``device`` and
    ``zone`` only where stated or assumed in the note. Tokens are None where the vendor states none.
    """

    id: str
    vendor: str
    subject: str
    quantity: Literal["energy", "carbon"]
    value: float
    low: float | None
    high: float | None
    unit: Unit
    per: str
    boundary: Boundary
    accounting: str
    models: tuple[str, ...]
    params_total_b: float | None
    params_active_b: float | None
    provider: str
    device: str
    zone: str
    input_tokens: float | None
    output_tokens: float | None
    url: str
    published_on: datetime.date
    retrieved_on: datetime.date
    note: str


def read(path: Path) -> tuple[VendorFigure, ...]:
    """The figures of a table. Raises EcoRouteError naming the row and what is wrong with it."""
    if not path.is_file():
        raise EcoRouteError(f"{path} is missing: it holds what vendors published")
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    figures = tuple(_figure(row) for row in csv.DictReader(lines))
    if len({figure.id for figure in figures}) < len(figures):
        raise EcoRouteError(f"{path}: an id appears twice")
    return figures


def _figure(row: dict[str, str]) -> VendorFigure:
    def refuse(what: str) -> EcoRouteError:
        return EcoRouteError(f"data/vendor_figures.csv: {row.get('id') or 'a row without id'}: {what}")

    def number(name: str) -> float | None:
        if not row[name]:
            return None
        try:
            found = float(row[name])
        except ValueError:
            raise refuse(f"{name} is {row[name]!r}, not a number") from None
        if not found > 0:
            raise refuse(f"{name} must be above zero, got {found:g}")
        return found

    def date(name: str) -> datetime.date:
        try:
            return datetime.date.fromisoformat(row[name])
        except ValueError:
            raise refuse(f"{name} is {row[name]!r}, not a date like 2026-11-21") from None

    value, low, high = number("value"), number("low"), number("high")
    if value is None:
        raise refuse("value is empty")
    if not (low or value) <= value <= (high or value):
        raise refuse("low <= value <= high does not hold")
    quantity, boundary = row["quantity"], row["boundary"]
    if quantity not in ("energy", "carbon") or row["unit"] != UNIT_OF[quantity]:
        raise refuse("an energy is in Wh, a carbon in gCO2e")
    if boundary not in get_args(Boundary):
        raise refuse(f"boundary must be one of {', '.join(get_args(Boundary))}")
    if (quantity == "carbon") != bool(row["accounting"]):
        raise refuse("carbon needs its accounting, location-based or market-based; energy has none")
    if not row["url"].startswith("https://"):
        raise refuse("every figure needs the https address it is published at")
    total_b, active_b = number("params_total_b"), number("params_active_b")
    if bool(row["models"]) == (total_b is not None and active_b is not None):
        raise refuse("it needs either ids of our models, or total and active parameters")
    return VendorFigure(
        id=row["id"],
        vendor=row["vendor"],
        subject=row["subject"],
        quantity="energy" if quantity == "energy" else "carbon",
        value=value,
        low=low,
        high=high,
        unit="Wh" if quantity == "energy" else "gCO2e",
        per=row["per"],
        boundary=_boundary(boundary),
        accounting=row["accounting"],
        models=tuple(filter(None, row["models"].split("|"))),
        params_total_b=total_b,
        params_active_b=active_b,
        provider=row["provider"],
        device=row["device"],
        zone=row["zone"],
        input_tokens=number("input_tokens"),
        output_tokens=number("output_tokens"),
        url=row["url"],
        published_on=date("published_on"),
        retrieved_on=date("retrieved_on"),
        note=row["note"],
    )


def _boundary(text: str) -> Boundary:
    return next(known for known in get_args(Boundary) if known == text)
