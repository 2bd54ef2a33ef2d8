"""Shapes against what their publishers state, and what transformers builds of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.plan import Shape
from benchmark.shapes import PUBLISHED, SHAPES

ROUNDING = 0.02


def test_every_shape_says_its_source() -> None:
    assert list(PUBLISHED) == list(SHAPES)
    for name, published in PUBLISHED.items():
        assert published.config.startswith(("https://huggingface.co/", "https://github.com/huggingface/")), name
        assert published.counted.startswith("https://"), name


@pytest.mark.parametrize("name", SHAPES)
def test_a_plan_counts_the_parameters_that_are_published(name: str) -> None:
    assert Shape.of(*SHAPES[name]).parameters == pytest.approx(PUBLISHED[name].parameters_b * 1e9, rel=ROUNDING)


@pytest.mark.parametrize("name", SHAPES)
def test_what_transformers_builds_has_the_parameters_that_are_published_and_planned_with(name: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")
    kind, fields = SHAPES[name]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**fields))
    built = sum(parameter.numel() for parameter in model.parameters())
    assert built == pytest.approx(PUBLISHED[name].parameters_b * 1e9, rel=ROUNDING)
    assert Shape.of(kind, fields).parameters == pytest.approx(built, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in SHAPES if name.startswith("Qwen3.5")])
def test_the_sizes_of_qwen35_are_the_defaults_of_the_classes_that_are_their_source(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")
    kind, fields = SHAPES[name]
    defaults = getattr(transformers, kind)()
    assert {field: getattr(defaults, field) for field in fields} == fields
    assert Path(PUBLISHED[name].config).stem == type(defaults).__module__.rpartition(".")[2]
