"""Zones: what resolves, what is refused and how fast, on a small catalogue whose every answer is known."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoroute_mcp.catalogue import Grid, ZoneAlias
from ecoroute_mcp.sci import EcoRouteError, Estimate
from ecoroute_mcp.zones import Zones


def grid(zone: str, name: str, mid_g: float, *, year: int = 2025, marginal: bool = False) -> Grid:
    return Grid(
        zone=zone,
        name=name,
        region_type="country",
        valid_from=datetime.date(year, 1, 1),
        intensity_g_per_kwh=Estimate.exact(mid_g, basis="published", source="s"),
        kind="marginal" if marginal else "average",
    )


def alias(name: str, zone: str) -> ZoneAlias:
    return ZoneAlias(alias=name, zone=zone, sources=("s",))


GRIDS = [
    grid("SWE", "Sweden", 40, year=2023),
    grid("SWE", "Sweden", 35, year=2025),
    grid("SWE", "Sweden", 600, year=2026, marginal=True),
    grid("SWE", "Sweden", 38, year=2024),
    grid("CHE", "Switzerland", 39),
    grid("GEO", "Georgia", 140),
    grid("US-GA", "Georgia", 325),
    grid("US-VA", "Virginia", 245),
    grid("WOR", "World", 458),
    grid("gcp:us-east1", "Google Cloud us-east1", 579),
    grid("MAR", "Marginal only", 1, marginal=True),
]
ALIASES = [
    alias("sweden", "SWE"),
    alias("eu_sweden", "SWE"),
    alias("switzerland", "CHE"),
    alias("georgia (geo)", "GEO"),
    alias("georgia (us-ga)", "US-GA"),
    alias("us-east-1", "US-VA"),
    alias("us-east1", "gcp:us-east1"),
]
ZONES = Zones(GRIDS, ALIASES)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("SWE", "SWE"),
        ("swe", "SWE"),
        ("Sweden", "SWE"),
        ("EU Sweden", "SWE"),
        ("eu-sweden", "SWE"),
        ("  Eu__Sweden \n", "SWE"),
        ("us_va", "US-VA"),
        ("US East 1", "US-VA"),
        ("us-east1", "gcp:us-east1"),
        ("GCP:US-EAST1", "gcp:us-east1"),
        ("Georgia (US-GA)", "US-GA"),
    ],
)
def test_resolves_ids_and_aliases_whatever_case_and_separators(text: str, zone: str) -> None:
    assert ZONES.resolve(text).zone == zone


def test_picks_the_newest_average_not_the_last_row_nor_a_marginal_one() -> None:
    assert ZONES.resolve("swe").intensity_g_per_kwh.mid == 35


def test_ambiguous_name_is_refused_with_both_meanings() -> None:
    with pytest.raises(EcoRouteError) as caught:
        ZONES.resolve("georgia")
    assert str(caught.value) == (
        "region 'georgia' is ambiguous: it may be GEO (Georgia) or US-GA (Georgia). Name the zone."
    )


def test_near_miss_names_the_closest_and_does_not_resolve() -> None:
    with pytest.raises(EcoRouteError) as caught:
        ZONES.resolve("swedn")
    assert str(caught.value) == "unknown region 'swedn'. Did you mean sweden (SWE)?"


def test_at_most_three_different_zones_are_suggested() -> None:
    with pytest.raises(EcoRouteError, match="Did you mean") as caught:
        ZONES.resolve("us-east-7")
    assert str(caught.value) == "unknown region 'us-east-7'. Did you mean us-east-1 (US-VA) or us-east1 (gcp:us-east1)?"


@pytest.mark.parametrize("text", ["atlantis", "world average", "MAR", "0", "{}", "null"])
def test_unknown_never_falls_back(text: str) -> None:
    with pytest.raises(EcoRouteError, match="unknown region"):
        ZONES.resolve(text)


@pytest.mark.parametrize("text", ["", "   ", "---", "\n\t_"])
def test_nothing_given_says_what_to_give(text: str) -> None:
    with pytest.raises(EcoRouteError, match=r"no region given\..*us-east-1"):
        ZONES.resolve(text)


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "swe\x00den",
        "\ud800\udfff",
        "\x1b[31mred",
        "x" * 1_000_000,
        "swe" + " " * 1_000_000,
        " " * 1_000_000 + "swe",
        "\ud800" * 1_000_000,
        "(" * 1_000_000,
        "ﷺ" * 1_000_000,
    ],
)
def test_hostile_text_is_refused_and_echoed_safely(text: str) -> None:
    with pytest.raises(EcoRouteError) as caught:
        ZONES.resolve(text)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    message.encode()


@given(st.text(max_size=300))
def test_any_text_resolves_to_a_known_zone_or_is_refused(text: str) -> None:
    refusal = ""
    zone = ""
    try:
        zone = ZONES.resolve(text).zone
    except EcoRouteError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert bool(refusal) != (zone in {row.zone for row in GRIDS})


def test_completion_puts_names_that_start_before_names_that_contain() -> None:
    assert ZONES.complete("swe") == ["SWE", "sweden", "eu_sweden"]
    assert ZONES.complete("US EAST") == ["us-east-1", "us-east1", "gcp:us-east1"]
    assert ZONES.complete("atlantis") == []
    assert ZONES.complete("x" * 1_000_000) == []


def test_every_completion_resolves_and_there_are_at_most_a_hundred() -> None:
    many = Zones([*GRIDS], [*ALIASES, *(alias(f"place {number}", "WOR") for number in range(300))])
    assert len(many.complete("")) == 100
    assert many.complete("place 29")[:3] == ["place 29", "place 290", "place 291"]
    for name in many.names():
        assert many.resolve(name).zone


def test_alias_without_zone_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="leads to 'ATL'"):
        Zones(GRIDS, [alias("atlantis", "ATL")])


def test_one_spelling_for_two_zones_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="names both SWE and CHE"):
        Zones(GRIDS, [alias("the alps", "SWE"), alias("The_Alps", "CHE")])
