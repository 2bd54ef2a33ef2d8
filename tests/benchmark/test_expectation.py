"""What the energy law expects of candidates before any is measured."""

from __future__ import annotations

from dataclasses import replace

from benchmark import expectation
from benchmark.trial import TrialConfig
from ecoroute_mcp import refresh
from tests.benchmark.test_objectives import score

CATALOGUE = refresh.read(refresh.packaged_data())
H100 = "NVIDIA H100 80GB HBM3"
SCORES = {"Qwen3-0.6B": score(43.0), "Qwen3-8B": score(81.0)}


def config(model: str, batch: int, precision: str = "bf16") -> TrialConfig:
    return TrialConfig(
        model=model, precision=precision, batch=batch, prompt_tokens=256, generated_tokens=256  # type: ignore[arg-type]
    )  # fmt: skip


def test_larger_batches_are_expected_to_take_less_and_quality_keeps_larger_models_in_front() -> None:
    candidates = [config("Qwen3-0.6B", 1), config("Qwen3-0.6B", 64), config("Qwen3-8B", 1), config("Qwen3-8B", 64)]
    assert expectation.fronts(candidates, H100, CATALOGUE, SCORES) == [1, 0, 1, 0]


def test_without_a_score_of_every_model_energy_alone_counts() -> None:
    candidates = [config("Qwen3-0.6B", 64), config("Qwen3-8B", 64)]
    assert expectation.fronts(candidates, H100, CATALOGUE, {"Qwen3-8B": score(81.0)}) == [0, 1]


def test_of_a_device_without_a_row_nothing_is_expected() -> None:
    assert expectation.fronts([config("Qwen3-8B", 1)], "a processor", CATALOGUE, SCORES) is None


def test_of_what_a_server_holds_nothing_is_expected() -> None:
    served = replace(config("Qwen3-8B", 1), precision="as-served", endpoint="http://127.0.0.1:8000/v1")
    assert expectation.fronts([served, config("Qwen3-8B", 8)], H100, CATALOGUE, SCORES) is None
