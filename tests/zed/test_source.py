"""The extension's source: it holds no knowledge of the router's, and each fault of mutants.py can be put into it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ecoroute_mcp.catalogue import Catalogue
from tests.zed import mutants
from tests.zed.mutants import MUTANTS, Mutant

SOURCES = sorted((mutants.EXTENSION / "src").glob("*.rs"))
EXIT_STATUSES, SECONDS, POSITIONS_AND_COUNTS = {"0", "1", "124", "127"}, {"60"}, {"0", "1", "2", "3", "6"}
CARBON = r"co2|carbon|emission|\bgrams?\b|kwh|joule|watt|intensity|embodied|price|\busd\b|tokens?\b|\btiers?\b"


def code(path: Path) -> str:
    """What is compiled into the component: no remarks, no tests."""
    return re.sub(r"(?m)(?:^|\s)//.*$", "", path.read_text("utf-8").partition("#[cfg(test)]")[0])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_of_carbon_and_no_number_but_of_the_system_is_in_the_rust(path: Path) -> None:
    assert re.findall(CARBON, code(path), re.IGNORECASE) == []
    without_text = re.sub(r'r#".*?"#|"(?:[^"\\]|\\.)*"', "", code(path), flags=re.DOTALL)
    numbers = set(re.findall(r"\b\d[\d_.]*\b", without_text))
    assert numbers <= EXIT_STATUSES | SECONDS | POSITIONS_AND_COUNTS


def test_no_model_provider_or_grid_is_named_in_the_extension(catalogue: Catalogue) -> None:
    texts = [path.read_text("utf-8") for path in SOURCES]
    texts += [path.read_text("utf-8") for path in (mutants.EXTENSION / "configuration").iterdir()]
    words = set(re.findall(r"[\w.:-]+", "\n".join(texts).lower()))
    assert words & {model.id for model in catalogue.models} == set()
    assert words & {alias.alias.lower() for alias in catalogue.aliases} == set()
    assert words & {provider.id for provider in catalogue.providers} == set()


def test_mutants_are_of_every_kind_and_none_is_there_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.kind for mutant in MUTANTS} >= {
        "wrong command",
        "wrong id",
        "wrong arguments",
        "wrong precedence",
        "swallowed error",
        "swallowed timeout",
        "swallowed rubbish",
        "missing section",
        "wrong completion",
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_put_into_the_source(mutant: Mutant) -> None:
    source = (mutants.EXTENSION / "src" / mutant.file).read_text("utf-8")
    assert mutant.applied(source) != source
