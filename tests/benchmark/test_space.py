"""The search space: what its file may say, what is combined, and what is never tried, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import plan
from benchmark.space import Exclusion, Space, places
from ecoroute_mcp.refresh import packaged_data
from ecoroute_mcp.sci import EcoRouteError


def device(memory_gb: float = 85.0, kind: str = "cuda") -> plan.Device:
    return plan.Device(
        kind="cpu" if kind == "cpu" else "cuda",
        name="NVIDIA H100 80GB HBM3",
        uuid="GPU-1",
        memory_gb=memory_gb,
        memory_from="NVML",
        unified=False,
    )


SPEED = plan.Speed(gb_per_s=3000.0, tflops=500.0, load_gb_per_s=2.0, origin="given")


def test_the_space_that_ships_is_read_and_fits_an_h100() -> None:
    found = Space.read(packaged_data() / "search_space.yaml").candidates(device(), SPEED)
    assert len(found.entries) == len({config.key for config in found.configs})
    assert [each for each in found.left_out if each.model == "Llama-3.1-70B"] == [
        plan.LeftOut(model="Llama-3.1-70B", trials="21 trials", reason="needs more than the 79.8 GB that can be used")
    ]
    assert {config.precision for config in found.configs if config.model == "Qwen3-30B-A3B"} == {"bf16"}
    assert {each.model: each.trials for each in found.left_out if each.reason.startswith("excluded")} == {
        "Qwen3-30B-A3B": "14 trials"
    }
    assert all(entry.memory_gb is not None and entry.memory_gb <= device().usable_gb for entry in found.entries)


def test_what_does_not_fit_is_left_out_and_says_what_can_be_used() -> None:
    space = Space(name="x", models=["Qwen3-0.6B", "Qwen3-32B"])
    found = space.candidates(device(memory_gb=24.0), SPEED)
    assert [config.model for config in found.configs] == ["Qwen3-0.6B"]
    assert [(each.model, each.reason) for each in found.left_out] == [
        ("Qwen3-32B", "needs more than the 21.8 GB that can be used")
    ]


def test_a_space_of_which_nothing_can_be_tried_is_refused_with_the_reasons() -> None:
    space = Space(name="x", models=["Qwen3-32B"], precisions=["bf16", "nf4"])
    with pytest.raises(EcoRouteError, match=r"nothing of the space 'x' can be tried on NVIDIA H100") as refusal:
        space.candidates(device(memory_gb=11.0), SPEED, quantised=False)
    assert "needs bitsandbytes: pip install bitsandbytes" in str(refusal.value)
    assert "needs more than the 9.4 GB that can be used" in str(refusal.value)


def test_exclusions_match_by_every_setting_they_name_and_keep_their_reason() -> None:
    space = Space(
        name="x",
        models=["Qwen3-0.6B", "Qwen3-1.7B"],
        batches=[1, 8],
        exclude=[Exclusion(match={"model": ["Qwen3-1.7B"], "batch": [8, 16]}, why="known already")],
    )
    found = space.candidates(device(), SPEED)
    assert [(config.model, config.batch) for config in found.configs] == [
        ("Qwen3-0.6B", 1), ("Qwen3-0.6B", 8), ("Qwen3-1.7B", 1),
    ]  # fmt: skip
    assert found.left_out == (
        plan.LeftOut(model="Qwen3-1.7B", trials="bf16 batch 8 256+256", reason="excluded: known already"),
    )


def test_a_step_that_would_be_the_same_is_tried_once() -> None:
    both = Space(name="x", models=["Qwen3-0.6B"], precisions=["bf16", "int8"], steps=["graphs", "eager"])
    gpu = [(config.precision, config.eager) for config in both.candidates(device(), SPEED).configs]
    assert gpu == [("bf16", False), ("bf16", True), ("int8", True)]
    cpu = [(config.precision, config.eager) for config in both.candidates(device(kind="cpu"), SPEED).configs]
    assert cpu == [("bf16", True), ("int8", True)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nmodels: [a]\nbatch: [1]\n", r"space\.yaml: batch: Unexpected keyword argument"),
        ("name: x\n", r"space\.yaml: models: Field required"),
        ("name: x\nmodels: []\n", r"models is empty: list at least one value"),
        ("name: x\nmodels: [a, a]\n", r"models lists a value twice"),
        ("name: x\nmodels: [a]\nprecisions: [fp8]\n", r"space\.yaml: precisions\.0: Input should be 'bf16'"),
        ("name: x/y\nmodels: [a]\n", r"a space's name is letters"),
        ("name: x\nmodels: [a]\nexclude: [{match: {size: [1]}, why: big}]\n", r"an exclusion matches by model, .*size"),
        (
            "name: x\nmodels: [a]\nexclude: [{match: {model: [A], batch: [1]}, why: big}]\n",
            r"an exclusion by model names none of models: A\. Put the name right, or take it out",
        ),
        ("name: [\n", r"cannot read a search space from .*space\.yaml"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EcoRouteError, match=said):
        Space.read(path)


def test_the_digest_tells_spaces_apart_and_not_their_names() -> None:
    one = Space(name="one", models=["Qwen3-0.6B"])
    assert one.digest == Space(name="other", models=["Qwen3-0.6B"]).digest
    assert one.digest != Space(name="one", models=["Qwen3-0.6B"], batches=[2]).digest


def test_places_order_models_by_size_and_leave_out_what_does_not_vary() -> None:
    space = Space(name="x", models=["Qwen3-8B", "Qwen3-0.6B", "Qwen3-1.7B"], batches=[1, 128])
    configs = space.candidates(device(), SPEED).configs
    assert list(zip([(config.model, config.batch) for config in configs], places(configs), strict=True)) == [
        (("Qwen3-8B", 1), (1.0, 0.0)),
        (("Qwen3-8B", 128), (1.0, 1.0)),
        (("Qwen3-0.6B", 1), (0.0, 0.0)),
        (("Qwen3-0.6B", 128), (0.0, 1.0)),
        (("Qwen3-1.7B", 1), (0.5, 0.0)),
        (("Qwen3-1.7B", 128), (0.5, 1.0)),
    ]


def test_a_space_nested_without_end_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(10_000 * "[")
    with pytest.raises(EcoRouteError, match=r"^cannot read a search space from .*space\.yaml: maximum recursion"):
        Space.read(path)
