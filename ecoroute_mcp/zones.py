"""Any spelling of a place -> one grid zone, or an error that names the closest ones. Never a guess, never a default.

A zone id is ISO 3166-1 alpha-3 (``SWE``), ISO 3166-2 (``US-CA``), a bidding zone (``SE3``), a Google Cloud region
(``gcp:us-central1``) or a technology (``tech:wind``). Everything else that people type is an alias in the data: country
names, US states, AWS and Azure regions. A name that means two zones is no alias; the data then holds one alias per
meaning with the zone in brackets (``georgia (geo)``, ``georgia (us-ga)``), and the bare name is answered with both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ecoroute_mcp.catalogue import Grid, ZoneAlias
from ecoroute_mcp.sci import EcoRouteError, shown

LONGEST_NAME = 100
COMPLETIONS = 100
_SEPARATORS = re.compile(r"[\s_\-]+")


class Zones:
    """The zones and their names, indexed once."""

    def __init__(self, grids: Sequence[Grid], aliases: Sequence[ZoneAlias]) -> None:
        """Raises EcoRouteError where an alias leads to no zone, or where one spelling would lead to two."""
        self._grids: dict[str, Grid] = {}
        for grid in grids:
            known = self._grids.get(grid.zone)
            if grid.kind == "average" and (known is None or grid.valid_from > known.valid_from):
                self._grids[grid.zone] = grid
        self._zone_of: dict[str, str] = {}
        self._written: dict[str, str] = {}
        for zone in self._grids:
            self._enter(zone, zone)
        for alias in aliases:
            if alias.zone not in self._grids:
                raise EcoRouteError(f"zone alias {alias.alias!r} leads to {alias.zone!r}, which has no average figure")
            self._enter(alias.alias, alias.zone)

    def resolve(self, text: str) -> Grid:
        """The newest average figure of the zone that ``text`` names.

        Upper and lower case are the same, and so are space, underscore and hyphen. Raises EcoRouteError, with the up to
        three closest names, for anything that names no zone or more than one.
        """
        echo = shown(text)
        if len(text) > LONGEST_NAME:
            raise EcoRouteError(f"unknown region '{echo}': no name has more than {LONGEST_NAME} characters. {_REPAIR}")
        key = spelling(text)
        if not key:
            raise EcoRouteError(f"no region given. {_REPAIR}")
        if key in self._zone_of:
            return self._grids[self._zone_of[key]]
        meanings = [other for other in self._zone_of if other.startswith(f"{key} (")]
        if meanings:
            both = " or ".join(
                f"{zone} ({self._grids[zone].name})" for zone in map(self._zone_of.__getitem__, meanings)
            )
            raise EcoRouteError(f"region '{echo}' is ambiguous: it may be {both}. Name the zone.")
        close = difflib.get_close_matches(key, self._zone_of, n=12)
        if close:
            raise EcoRouteError(f"unknown region '{echo}'. Did you mean {self._closest(close)}?")
        raise EcoRouteError(f"unknown region '{echo}'. {_REPAIR}")

    def names(self) -> list[str]:
        """Everything :meth:`resolve` accepts as it is written in the data: zone ids in their order, then aliases."""
        return list(self._written.values())

    def complete(self, prefix: str) -> list[str]:
        """At most 100 names for what was typed so far: those that start with it, then those that contain it."""
        if len(prefix) > LONGEST_NAME:
            return []
        start = spelling(prefix)
        first = [name for key, name in self._written.items() if key.startswith(start)]
        then = [name for key, name in self._written.items() if start in key and not key.startswith(start)]
        return (first + then)[:COMPLETIONS]

    def _enter(self, name: str, zone: str) -> None:
        key = spelling(name)
        if self._zone_of.setdefault(key, zone) != zone:
            raise EcoRouteError(f"{name!r} names both {self._zone_of[key]} and {zone}: leave the alias out")
        self._written.setdefault(key, name)

    def _closest(self, keys: Sequence[str]) -> str:
        """The first three of these names that lead to different zones, for a reader."""
        names: dict[str, str] = {}
        for key in keys:
            zone = self._zone_of[key]
            name = self._written[key]
            names.setdefault(zone, f"{zone} ({self._grids[zone].name})" if name == zone else f"{name} ({zone})")
        return " or ".join(list(names.values())[:3])


_REPAIR = "Name a country, a US state or a cloud region, such as SWE, US-CA, us-east-1 or gcp:us-central1."


def spelling(text: str) -> str:
    """What two spellings of one name have in common: case and separators do not count."""
    return _SEPARATORS.sub(" ", text).strip().casefold()
