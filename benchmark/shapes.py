"""Shapes of models, as published in each one's config.json, for weights drawn at random: energy, but no quality.

Each has its source in :data:`PUBLISHED`, with the parameters that its publisher states; what transformers builds of a
shape is held to that. Of Gemma 3 it is the text part. Of Qwen3.5 it is the text part without the head that predicts a
second token; its sizes are the defaults of transformers' configuration classes, and agree with the model cards.
gpt-oss-20b is here in the trial's precision throughout: the release holds its experts in 4 bits (MXFP4), which is
another model as far as energy goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def _qwen3(
    hidden: int, layers: int, heads: int, intermediate: int, *, groups: int = 8, tied: bool = False
) -> tuple[str, dict[str, Any]]:
    return "Qwen3Config", {
        "vocab_size": 151936,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": 128,
        "intermediate_size": intermediate,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": tied,
    }


def _llama31(hidden: int, layers: int, heads: int, intermediate: int) -> tuple[str, dict[str, Any]]:
    return "LlamaConfig", {
        "vocab_size": 128256,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": intermediate,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }


def _gemma3(
    hidden: int, layers: int, heads: int, groups: int, intermediate: int, *, width: int = 256, scalar: int = 256
) -> tuple[str, dict[str, Any]]:
    return "Gemma3TextConfig", {
        "vocab_size": 262208,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": width,
        "intermediate_size": intermediate,
        "query_pre_attn_scalar": scalar,
        "sliding_window": 1024,
        "max_position_embeddings": 131072,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
        },
        "tie_word_embeddings": True,
    }


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Llama-3.1-8B": _llama31(4096, 32, 32, 14336),
    "Llama-3.1-70B": _llama31(8192, 80, 64, 28672),
    "Qwen3-30B-A3B": (
        "Qwen3MoeConfig",
        {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "max_position_embeddings": 40960,
            "tie_word_embeddings": False,
        },
    ),
    "gpt-oss-20b": (
        "GptOssConfig",
        {
            "vocab_size": 201088,
            "hidden_size": 2880,
            "num_hidden_layers": 24,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 2880,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "sliding_window": 128,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
    "Gemma-3-4B": _gemma3(2560, 34, 8, 4, 10240),
    "Gemma-3-12B": _gemma3(3840, 48, 16, 8, 15360),
    "Gemma-3-27B": _gemma3(5376, 62, 32, 16, 21504, width=128, scalar=168),
    "Qwen3.5-9B": (
        "Qwen3_5TextConfig",
        {
            "vocab_size": 248320,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "tie_word_embeddings": False,
        },
    ),
    "Qwen3.5-35B-A3B": (
        "Qwen3_5MoeTextConfig",
        {
            "vocab_size": 248320,
            "hidden_size": 2048,
            "num_hidden_layers": 40,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "tie_word_embeddings": False,
        },
    ),
}
"""Each name's configuration class in transformers and its fields."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where the fields of a shape stand, and the parameters that its publisher states, in billions as rounded there;
    ``counted`` says where and of what."""

    config: str
    parameters_b: float
    counted: str


def _card(repository: str, parameters_b: float) -> Published:
    page = f"https://huggingface.co/{repository}"
    return Published(config=f"{page}/blob/main/config.json", parameters_b=parameters_b, counted=f"{page}: model card")


def _gemma_report(repository: str, embedding_m: float, others_m: float) -> Published:
    return Published(
        config=f"https://huggingface.co/{repository}/blob/main/config.json",
        parameters_b=(embedding_m + others_m) / 1e3,
        counted=f"https://arxiv.org/abs/2503.19786, table 1: {embedding_m:g} M of embedding and {others_m:g} M others, "
        "the vision encoder's 417 M left out",
    )


def _qwen35(folder: str, repository: str, parameters_b: float) -> Published:
    return Published(
        config="https://github.com/huggingface/transformers/blob/main/src/transformers/models/"
        f"{folder}/configuration_{folder}.py",
        parameters_b=parameters_b,
        counted=f"https://huggingface.co/{repository}: language model, by the model card",
    )


PUBLISHED: dict[str, Published] = {
    "Qwen3-0.6B": _card("Qwen/Qwen3-0.6B", 0.6),
    "Qwen3-1.7B": _card("Qwen/Qwen3-1.7B", 1.7),
    "Qwen3-4B": _card("Qwen/Qwen3-4B", 4.0),
    "Qwen3-8B": _card("Qwen/Qwen3-8B", 8.2),
    "Qwen3-14B": _card("Qwen/Qwen3-14B", 14.8),
    "Qwen3-32B": _card("Qwen/Qwen3-32B", 32.8),
    "Llama-3.1-8B": _card("meta-llama/Llama-3.1-8B", 8.0),
    "Llama-3.1-70B": _card("meta-llama/Llama-3.1-70B", 70.6),
    "Qwen3-30B-A3B": _card("Qwen/Qwen3-30B-A3B", 30.5),
    "gpt-oss-20b": Published(
        config="https://huggingface.co/openai/gpt-oss-20b/blob/main/config.json",
        parameters_b=20.9,
        counted="https://arxiv.org/abs/2508.10925: model card",
    ),
    "Gemma-3-4B": _gemma_report("google/gemma-3-4b-pt", 675, 3209),
    "Gemma-3-12B": _gemma_report("google/gemma-3-12b-pt", 1012, 10759),
    "Gemma-3-27B": _gemma_report("google/gemma-3-27b-pt", 1416, 25600),
    "Qwen3.5-9B": _qwen35("qwen3_5", "Qwen/Qwen3.5-9B", 9.0),
    "Qwen3.5-35B-A3B": _qwen35("qwen3_5_moe", "Qwen/Qwen3.5-35B-A3B", 35.0),
}
"""Each shape's source."""
