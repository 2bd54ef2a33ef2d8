"""Carbon intensity of electricity, gCO2e/kWh -> grids.csv, and the names people type -> zone_aliases.csv.

**The figure.** The newest published one. Countries: EcoLogits 0.11.3, which carries Our World in Data's life-cycle
figures from Ember; where it has only what codecarbon 3.3.2 already had for 2022-23, the older year stands. EcoLogits
states no years. Fifty of its zones are taken to be 2025: the 2024 figures of the same series are at hand, and all fifty
have moved on. The others carry the day the series was released, and the row says so. US states are EPA eGRID 2023,
Chinese provinces the ministry's factors, Canadian provinces and Nordic bidding zones generation mixes times factors,
Google's regions Google's own figures for 2025. The European Union is the mean of its 27 members weighted by their
generation; with the 2023 figures the same sum gives 243.8 g. EcoLogits' zone EEE is Europe as a continent, with Russia
and Turkey: the weighted mean over that list gives 285 g against its 282.7 g, so it is not the EU.

**The interval.** Two annual figures of one country differ since the grid changed, since the series was revised, or
since two people counted differently; a person who asks today meets all three. So the half-width is what the two tables
show: |ln(a/b)| over all countries for which both have a different, positive figure, its 90th percentile, as a factor up
and down (1.35, from 199 countries). The percentile does not feel the tail: El Salvador, the Falklands, Venezuela and
Costa Rica differ by a factor of 1.9 to 2.2, and might differ by 20 without moving it. Nor do tiny grids drive it: the
percentile is 1.35 below 0.5 TWh a year, 1.31 to 5 TWh, 1.54 to 20 TWh, 1.37 to 100 TWh and 1.16 above, so the one
factor is wide for the largest grids and narrow for middling ones. Every published figure of the zone is inside the
interval as well, however far.

**What is not said.** A figure of zero is a rounding of a small grid or a missing factor, never an intensity: such rows
(the Central African Republic) are left out. eGRID, Google and the Chinese ministry count what leaves the stack; mines,
wells and the building of dams and panels come on top, so they read low beside life-cycle rows. Notes say which is
which.

**Names.** One name, one zone. A name with two meanings becomes one alias per meaning, with the zone in brackets, and
the bare name none. A cloud region leads to a zone below its country only where the vendor has named the place.
"""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ecoroute_mcp.zones import spelling

Row = dict[str, str]
Figure = tuple[float, str]  # gCO2e/kWh, source id

SPREAD_SOURCE = "grid-spread-v1"
EU_SOURCE = "grid-eu27-v1"
RENEWABLES_SOURCE = "grid-renewables-v1"
IPCC_SOURCE = "ipcc-ar5-wg3-annex3"
RELEASED_ON = "2026-04-24"  # of Our World in Data's series, from Ember
YEAR_2025 = "2025-01-01"
MISSPELT = {"gcp:me-cenrtal1": "gcp:me-central1"}
WORLD = "WORLD_DEFAULT"
FINLAND = ("FIN", "FI")  # the country is one bidding zone
# fmt: off
EU27 = (
    "AUT", "BEL", "BGR", "CYP", "CZE", "DEU", "DNK", "ESP", "EST", "FIN", "FRA", "GRC", "HRV", "HUN", "IRL", "ITA",
    "LTU", "LUX", "LVA", "MLT", "NLD", "POL", "PRT", "ROU", "SVK", "SVN", "SWE",
)
# fmt: on
PROVINCES = {
    "alberta": "CA-AB",
    "british columbia": "CA-BC",
    "manitoba": "CA-MB",
    "new brunswick": "CA-NB",
    "newfoundland and labrador": "CA-NL",
    "northwest territories": "CA-NT",
    "nova scotia": "CA-NS",
    "nunavut": "CA-NU",
    "ontario": "CA-ON",
    "prince edward island": "CA-PE",
    "quebec": "CA-QC",
    "saskatchewan": "CA-SK",
    "yukon": "CA-YT",
}
NAME_SOURCES = {
    "ISO 3166-1 (Debian iso-codes, pycountry 26.2.16)": "iso-3166",
    "ISO 3166-2:CA": "iso-3166",
    "USPS two-letter state code": "usps-state-codes",
    "codecarbon 3.3.2 global_energy_mix.json": "codecarbon-3.3.2-owid",
    "codecarbon 3.3.2 usa_emissions.json": "epa-egrid2023",
    "codecarbon 3.3.2 china_provincial_emissions.json": "china-mee-2023",
    "common name": "zone-names-v1",
}
REGION_SOURCES = {
    "botocore 1.44.5 partitions.json": "aws-regions-botocore-1.44.5",
    "AWS on opening the region in Montreal, 2016": "aws-canada-montreal",
    "Azure regions list": "azure-regions-list",
    "Azure region name": "azure-region-names",
    "Google region-carbon-info 2025": "google-region-carbon-2025",
}


def tables(upstream: Path) -> dict[str, list[Row]]:
    """Rows of grids.csv (by kind, then zone) and of zone_aliases.csv (by alias)."""
    gathered = _read(upstream, "grid_codecarbon.csv")
    latest = {row["zone"]: row for row in _read(upstream, "ecologits_mix.csv")}
    technologies = _read(upstream, "grid_technologies.csv")
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in gathered:
        by_kind[row["kind"]].append(row)
    factor = spread_factor(by_kind["country"], latest)
    biomass_g = next(float(row["g_per_kwh_median"]) for row in technologies if row["technology"] == "biomass")
    grids = [
        *_supranational(by_kind["world"], by_kind["country"], latest, factor),
        *_countries(by_kind["country"], by_kind["nordic_zone"], latest, factor),
        *_states_and_provinces(by_kind, factor),
        *_bidding_zones(by_kind["nordic_zone"], biomass_g, factor),
        *_google_regions(by_kind["cloud_region"], _read(upstream, "grid_gcp.csv"), factor),
        *_technologies(technologies),
    ]
    grids.sort(key=lambda row: (_REGION_TYPES.index(row["region_type"]), row["zone"]))
    aliases = _aliases(
        [row["zone"] for row in grids],
        _read(upstream, "zone_names.csv"),
        _read(upstream, "cloud_regions.csv"),
        _read(upstream, "grid_presets.csv"),
    )
    return {"grids.csv": grids, "zone_aliases.csv": aliases}


def spread_factor(countries: Iterable[Row], latest: dict[str, Row]) -> float:
    """exp of the 90th percentile of |ln(a/b)| over the countries with two different positive figures, to 3 digits."""
    spreads = []
    for row in countries:
        older, newer = float(row["g_per_kwh"]), float(latest[row["zone"]]["g_per_kwh"])
        if min(older, newer) > 0 and not _same(older, newer):
            spreads.append(abs(math.log(older / newer)))
    return round(math.exp(statistics.quantiles(spreads, n=10, method="inclusive")[8]), 2)


_REGION_TYPES = ("world", "group", "country", "subdivision", "bidding_zone", "cloud_region", "technology")


def _supranational(worlds: list[Row], countries: list[Row], latest: dict[str, Row], factor: float) -> Iterator[Row]:
    world = next(row for row in worlds if row["zone"] == WORLD)
    yield _grid(
        "WOR",
        "World",
        "world",
        YEAR_2025,
        [*_ecologits(latest["WOR"]), (float(world["g_per_kwh"]), "iea-gecs-2019")],
        factor,
        "Mean of 2025, life cycle; the interval is that of the mean, not the range over countries",
    )
    yield _grid(
        "EEE",
        "Europe (with Russia and Turkey)",
        "group",
        RELEASED_ON,
        _ecologits(latest["EEE"]),
        factor,
        f"Life cycle; the continent, not the European Union (EU27). {_UNDATED}",
    )
    weight = {row["zone"]: float(row["generation_twh"]) for row in countries if row["zone"] in EU27}
    older = {row["zone"]: float(row["g_per_kwh"]) for row in countries if row["zone"] in EU27}
    newer = {zone: float(latest[zone]["g_per_kwh"]) for zone in EU27}
    undated = [zone for zone in EU27 if not latest[zone]["g_per_kwh_2024"]]
    total = sum(weight[zone] for zone in EU27)
    yield _grid(
        "EU27",
        "European Union",
        "group",
        YEAR_2025,
        [
            (sum(weight[zone] * newer[zone] for zone in EU27) / total, f"{EU_SOURCE}|ecologits-0.11.3-mix"),
            (sum(weight[zone] * older[zone] for zone in EU27) / total, "codecarbon-3.3.2-owid"),
        ],
        factor,
        "Mean of the 27 members, life cycle, weighted by their generation of 2023"
        + (f"; the year of {', '.join(undated)} is not stated" if undated else ""),
    )


def _countries(countries: list[Row], bidding_zones: list[Row], latest: dict[str, Row], factor: float) -> Iterator[Row]:
    finland = next(row for row in bidding_zones if row["zone"] == FINLAND[1])
    for row in countries:
        zone, older = row["zone"], float(row["g_per_kwh"])
        newest, *others = _ecologits(latest[zone])
        if min(older, newest[0]) <= 0:
            continue
        figures = [newest, *others, (older, "codecarbon-3.3.2-owid")]
        if zone == FINLAND[0]:
            figures.append((float(finland["g_per_kwh"]), "codecarbon-3.3.2-nordic"))
        if others:
            valid_from, note = YEAR_2025, "Life cycle, mean of 2025"
        elif _same(older, newest[0]):
            valid_from = f"{row['year']}-01-01"
            note = f"Life cycle, mean of {row['year']}: newer tables still carry it"
        else:
            valid_from, note = RELEASED_ON, f"Life cycle. {_UNDATED}"
        yield _grid(zone, row["name"], "country", valid_from, figures, factor, note)


def _states_and_provinces(by_kind: dict[str, list[Row]], factor: float) -> Iterator[Row]:
    for row in by_kind["us_state"]:
        if row["zone"] == "US-usa":
            continue
        yield _grid(
            row["zone"],
            row["name"].title().replace(" Of ", " of "),
            "subdivision",
            f"{row['year']}-01-01",
            [(float(row["g_per_kwh"]), "epa-egrid2023")],
            factor,
            "Direct emissions of the plants in the state, not life cycle; imports are not counted",
        )
    for row in by_kind["ca_province"]:
        yield _grid(
            PROVINCES[row["name"]],
            row["name"].title().replace(" And ", " and "),
            "subdivision",
            f"{row['year']}-01-01",
            [(float(row["g_per_kwh"]), "codecarbon-3.3.2-canada")],
            factor,
            "Generation mix of the province times life-cycle factors; imports are not counted",
        )
    for row in by_kind["cn_province"]:
        yield _grid(
            row["zone"],
            row["name"],
            "subdivision",
            f"{row['year']}-01-01",
            [(float(row["g_per_kwh"]), "china-mee-2023")],
            factor,
            "Official factor of the province: CO2 alone, direct emissions, not life cycle",
        )


def _bidding_zones(bidding_zones: list[Row], biomass_g: float, factor: float) -> Iterator[Row]:
    for row in bidding_zones:
        if row["zone"] == FINLAND[1]:
            continue
        covered = re.search(r"([\d.]+)% \(uncovered", row["source"])
        if covered is None:
            raise ValueError(f"{row['zone']}: the source does not say what share of the generation it covers")
        missing = 1 - float(covered[1]) / 100
        figure = float(row["g_per_kwh"])
        yield _grid(
            row["zone"],
            row["name"],
            "bidding_zone",
            f"{row['year']}-01-01",
            [(figure, "codecarbon-3.3.2-nordic"), (figure + missing * biomass_g, IPCC_SOURCE)],
            factor,
            f"Generation mix times factors; {100 * missing:.3g} % of the generation has no factor and counts as zero "
            f"in the middle, as biomass ({biomass_g:g} g) at the high end",
        )


def _google_regions(gathered: list[Row], newer: list[Row], factor: float) -> Iterator[Row]:
    older = {MISSPELT.get(row["zone"], row["zone"]): float(row["g_per_kwh"]) for row in gathered}
    for row in newer:
        zone = f"gcp:{row['region']}"
        figures = [(float(row["g_per_kwh"]), "google-region-carbon-2025")]
        if zone in older:
            figures.append((older.pop(zone), "google-region-carbon-2023"))
        yield _grid(
            zone,
            f"Google Cloud {row['region']} ({row['location']})",
            "cloud_region",
            f"{row['year']}-01-01",
            figures,
            factor,
            "Google's figure of the local grid: gross operational emissions, not life cycle, purchases not deducted",
        )
    if older:
        raise ValueError(f"regions without a newer figure: {', '.join(older)}")


def _technologies(technologies: list[Row]) -> Iterator[Row]:
    """Published minimum, median and maximum over the literature, as they are; no spread of ours on top."""
    by_name = {row["technology"]: row for row in technologies}
    for row in technologies:
        yield _row(
            f"tech:{row['technology']}",
            row["name"],
            "technology",
            f"{row['year']}-01-01",
            (float(row["g_per_kwh_min"]), float(row["g_per_kwh_median"]), float(row["g_per_kwh_max"])),
            IPCC_SOURCE,
            "Life cycle: minimum, median and maximum over the literature, wider than 90 %; not a grid",
        )
    yield _row(
        "tech:renewables",
        "Renewables, mix not stated",
        "technology",
        "2014-01-01",
        (
            float(by_name["wind"]["g_per_kwh_min"]),
            float(by_name["hydro"]["g_per_kwh_median"]),
            float(by_name["solar"]["g_per_kwh_max"]),
        ),
        f"{IPCC_SOURCE}|{RENEWABLES_SOURCE}",
        "Not zero: building and upkeep emit. Middle: median of hydropower, between onshore wind (11 g) and utility "
        "solar (48 g); ends: lowest wind and highest solar of the literature",
    )


_UNDATED = "The year is not stated: the date is that of the release, the figure its latest, 2025 or older"


def _ecologits(row: Row) -> list[Figure]:
    figures = [(float(row["g_per_kwh"]), "ecologits-0.11.3-mix")]
    if row["g_per_kwh_2024"]:
        older = float(row["g_per_kwh_2024"])
        if _same(older, figures[0][0]):
            raise ValueError(f"{row['zone']}: both years say {older} g, so the newer one may not be 2025")
        figures.append((older, "ecologits-2025-09-mix"))
    return figures


def _grid(
    zone: str, name: str, region_type: str, valid_from: str, figures: Sequence[Figure], factor: float, note: str
) -> Row:
    """A row whose middle is the first figure; the interval holds every figure and the spread around the first."""
    values = [value for value, _ in figures]
    if min(values) <= 0:
        raise ValueError(f"{zone}: {min(values)} g/kWh is no intensity")
    low, high = min(*values, values[0] / factor), max(*values, values[0] * factor)
    sources = "|".join(dict.fromkeys([*(source for _, source in figures), SPREAD_SOURCE]))
    return _row(zone, name, region_type, valid_from, (low, values[0], high), sources, note)


def _row(
    zone: str,
    name: str,
    region_type: str,
    valid_from: str,
    interval_g: tuple[float, float, float],
    sources: str,
    note: str,
) -> Row:
    low, mid, high = (f"{value:.6g}" for value in interval_g)
    return {
        "zone": zone,
        "name": name,
        "region_type": region_type,
        "valid_from": valid_from,
        "intensity_g_per_kwh.low": low,
        "intensity_g_per_kwh.mid": mid,
        "intensity_g_per_kwh.high": high,
        "intensity_g_per_kwh.sources": sources,
        "kind": "average",
        "note": note,
    }


def _aliases(zones: Sequence[str], names: list[Row], regions: list[Row], presets: list[Row]) -> list[Row]:
    """One row per name and meaning. A region or preset must lead to a zone; names of left-out zones are dropped."""
    known = set(zones)
    meanings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    written: dict[str, str] = {}
    notes: dict[str, str] = {}

    def enter(name: str, zone: str, source: str, note: str = "") -> None:
        key = spelling(name)
        written.setdefault(key, name)
        if source not in meanings[key][zone]:
            meanings[key][zone].append(source)
        if note:
            notes.setdefault(key, note)

    for row in names:
        if row["zone"] in known:
            enter(row["name"], row["zone"], NAME_SOURCES[row["source"]])
    for row in regions:
        source = REGION_SOURCES[row["source"]]
        note = f"{row['cloud']}: {row['vendor_name']}"
        enter(row["region"], row["zone"], source, note)
        if row["cloud"] == "azure":
            enter(row["vendor_name"].split(" (")[0].lower(), row["zone"], source, note)
    for row in presets:
        enter(row["preset"], row["zone"], "ecoroute-presets-v0", "Preset of the first EcoRoute: name kept, figure not")
    ids = {spelling(zone): zone for zone in zones}
    rows = []
    for key, by_zone in meanings.items():
        dangling = [zone for zone in by_zone if zone not in known]
        if dangling:
            raise ValueError(f"{written[key]!r} leads to {dangling[0]!r}, which has no figure")
        candidates = set(by_zone) | ({ids[key]} if key in ids else set())
        for zone, sources in by_zone.items():
            if key in ids and len(candidates) == 1:
                continue
            if key in ids:
                raise ValueError(f"{written[key]!r} is a name of {zone} and the id of {ids[key]}")
            alias = written[key] if len(candidates) == 1 else f"{written[key]} ({zone.lower()})"
            rows.append({"alias": alias, "zone": zone, "sources": "|".join(sources), "note": notes.get(key, "")})
    return sorted(rows, key=lambda row: row["alias"])


def _same(first_g: float, second_g: float) -> bool:
    """Equal but for the rounding to a hundredth of a gram that one of the tables does."""
    return abs(first_g - second_g) < 0.006


def _read(upstream: Path, name: str) -> list[Row]:
    with (upstream / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
