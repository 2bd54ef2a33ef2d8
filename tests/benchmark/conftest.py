"""What the laboratory's tests share: SmolLM2 as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark import smollm2


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's real weights in a folder that transformers loads. Skips where they or torch are not installed."""
    for needed in ("torch", "transformers", "gguf"):
        pytest.importorskip(needed, reason="needs the engine: pip install '.[benchmark]'")
    folder = tmp_path_factory.mktemp("smollm2")
    smollm2.write_checkpoint(folder)
    return folder
