"""The engine against transformers itself: the same greedy tokens, on real weights and small shapes of each family."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[benchmark]'")
pytest.importorskip("transformers", reason="needs transformers: pip install '.[benchmark]'")

from benchmark import engine as engines  # noqa: E402
from benchmark import quality  # noqa: E402
from benchmark.__main__ import main  # noqa: E402
from benchmark.engine import Engine  # noqa: E402
from benchmark.trial import DeviceKind, Measured, Precision, Rejected, TrialConfig, read  # noqa: E402
from ecoroute_mcp.sci import EcoRouteError  # noqa: E402
from tests.benchmark import smollm2  # noqa: E402

# transformers and its dependencies warn about themselves; what our code does is asserted, not warned about.
pytestmark = pytest.mark.filterwarnings("ignore")

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "small Qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 32}),
    "small Qwen3, tied": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}),
    "small Llama 3.1": (
        "LlamaConfig",
        {
            "num_key_value_heads": 1,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "small Qwen3-MoE": (
        "Qwen3MoeConfig",
        {
            "num_key_value_heads": 2,
            "head_dim": 32,
            "moe_intermediate_size": 24,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
        },
    ),
}
COMMON = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # far from the flat logits of untrained weights, where rounding would choose the token
}
DEVICES: list[Any] = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (class_name, fields) in SMALL.items():
        monkeypatch.setitem(engines.SHAPES, name, (class_name, {**COMMON, **fields}))


def config(
    model: str,
    device: DeviceKind = "cpu",
    *,
    batch: int = 3,
    prompt: int = 21,
    generated: int = 40,
    precision: Precision = "fp32",
) -> TrialConfig:
    return TrialConfig(
        model=model, precision=precision, batch=batch, prompt_tokens=prompt, generated_tokens=generated, device=device
    )


def generated(engine: Engine, asked: TrialConfig) -> list[list[int]]:
    engine.admit(asked.batch, asked.prompt_tokens + asked.generated_tokens)
    engine.prefill(engine.prompts(asked.batch, asked.prompt_tokens, asked.seed))
    engine.capture()
    steps = engine.decode(asked.generated_tokens)
    assert len(steps) == asked.generated_tokens - 1
    return engine.generated(asked.generated_tokens)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", SMALL)
def test_greedy_tokens_equal_generates(model: str, batch: int, device: DeviceKind) -> None:
    asked = config(model, device, batch=batch)
    if device == "cuda" and "MoE" in model:
        with pytest.raises(EcoRouteError, match="needs bf16"):
            Engine(asked)
        return
    engine = Engine(asked)
    ours = generated(engine, asked)
    assert len({token for row in ours for token in row}) > 10
    assert ours == engine.reference(engine.prompts(batch, asked.prompt_tokens, asked.seed), asked.generated_tokens)
    assert generated(engine, asked) == ours  # a second admission starts clean


@pytest.mark.parametrize("device", DEVICES)
def test_greedy_tokens_of_a_real_model_equal_generates(device: DeviceKind) -> None:
    engine = smollm2.engine(device)
    assert engine.weights.source == "gguf"
    assert engine.weights.revision == "dequantised from Q4_1, Q8_0, F32"
    assert engine.weights.parameters == 134_515_008
    text = "The Python language reference says that an assignment statement evaluates the expression list first"
    ids = engine.encode(text)[:16]
    prompts = torch.tensor([ids, ids[::-1]], device=engine.device)
    engine.admit(2, 16 + 60)
    engine.prefill(prompts)
    engine.capture()
    engine.decode(60)
    assert engine.generated(60) == engine.reference(prompts, 60)


def test_a_prompt_longer_than_one_pass_goes_through_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config("small Qwen3", batch=5)
    whole = generated(Engine(asked), asked)
    monkeypatch.setattr(engines, "PREFILL_TOKENS", 2 * asked.prompt_tokens)
    assert generated(Engine(asked), asked) == whole


def test_a_step_moves_the_weights_but_not_the_embedding_table_and_the_cache_once() -> None:
    engine = Engine(config("small Qwen3"))
    engine.admit(3, 64)
    layer = 64 * 32 * (4 + 2 + 2) + 4 * 32 * 64 + 3 * 64 * 96 + 2 * 64 + 2 * 32
    assert engine.step_bytes(10) == 4 * (3 * layer + 64 + 200 * 64) + 4 * 2 * 3 * 3 * 2 * 32 * 10
    tied = Engine(config("small Qwen3, tied"))
    tied.admit(3, 64)
    assert tied.step_bytes(10) == engine.step_bytes(10)


def test_of_a_mixture_the_experts_that_a_batch_touches_are_moved() -> None:
    engine = Engine(config("small Qwen3-MoE"))
    engine.admit(1, 64)
    experts = 3 * 8 * 3 * 64 * 24 * 4
    layer = 64 * 32 * (4 + 2 + 2) + 4 * 32 * 64 + 64 * 8 + 2 * 64 + 2 * 32
    assert engine.step_bytes(0) == pytest.approx(4 * (3 * layer + 64 + 200 * 64) + experts * 2 / 8)
    engine.admit(2, 64)
    assert engine.step_bytes(0) == pytest.approx(4 * (3 * layer + 64 + 200 * 64) + experts * (1 - 0.75**2))


def test_the_label_is_what_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Engine(config("small Qwen3", precision="bf16")).weights.dtype == "bfloat16"
    assert Engine(config("small Qwen3", precision="fp16")).weights.dtype == "float16"
    monkeypatch.setitem(engines.DTYPES, "fp16", torch.float32)
    loaded = engines._load(config("small Qwen3", precision="fp16"))
    monkeypatch.setitem(engines.DTYPES, "fp16", torch.float16)
    monkeypatch.setattr(engines, "_load", lambda asked: loaded)
    with pytest.raises(EcoRouteError, match="asked for fp16, but the loaded weights are float32"):
        Engine(config("small Qwen3", precision="fp16"))


def test_the_same_seed_is_the_same_model_and_another_is_another() -> None:
    asked = config("small Qwen3")
    assert generated(Engine(asked), asked) == generated(Engine(asked), asked)
    assert generated(Engine(replace(asked, seed=1)), asked) != generated(Engine(asked), asked)


def test_unknown_models_and_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EcoRouteError, match=r"no shape we know \(Qwen3-0\.6B"):
        Engine(config(str(tmp_path / "nothing")))
    with pytest.raises(EcoRouteError, match="no such GGUF file"):
        Engine(config(str(tmp_path / "nothing.gguf")))
    if not torch.cuda.is_available():
        with pytest.raises(EcoRouteError, match="--device cpu"):
            Engine(config("small Qwen3", "cuda"))


def damaged(model: Path, name: str, content: bytes) -> Path:
    """A copy of a folder in which one file has another content."""
    folder = model.with_name(f"{model.name} with another {name}")
    shutil.copytree(model, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("folders") / "small"
    settings = transformers.Qwen3Config(**{**COMMON, **SMALL["small Qwen3"][1]})
    transformers.Qwen3ForCausalLM(settings).save_pretrained(folder)
    return folder


def test_a_file_that_does_not_load_is_refused_by_its_name(tmp_path: Path, small_folder: Path) -> None:
    weights = (small_folder / "model.safetensors").read_bytes()
    config_json = (small_folder / "config.json").read_bytes()
    for name, content, said in (
        ("model.safetensors", b"", "SafetensorError: Error while deserializing header"),
        ("model.safetensors", weights[: len(weights) // 2], "SafetensorError: Error while deserializing header"),
        ("config.json", b"5", "TypeError"),
        ("config.json", config_json.replace(b'"silu"', b'"zzz"'), "KeyError: 'zzz'"),
        ("config.json", config_json.replace(b'"hidden_size": 64', b'"hidden_size": "64"'), "expected int, got str"),
        ("pytorch_model.bin", b"junk" * 50, ""),
    ):
        folder = damaged(small_folder, name, content)
        if name == "pytorch_model.bin":
            (folder / "model.safetensors").unlink()
        with pytest.raises(EcoRouteError, match="is missing, damaged or cut off") as refused:
            Engine(config(str(folder)))
        assert str(refused.value).startswith(f"cannot load {folder} (")
        assert said in str(refused.value)
    file = tmp_path / "broken.gguf"
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    for content in (b"", b"GGUF", start, start + struct.pack("<Q", 2**62), start + struct.pack("<Q", 2**64 - 1)):
        file.write_bytes(content)
        with pytest.raises(EcoRouteError, match=f"cannot load {file} .* fetch it again, or name another"):
            Engine(config(str(file)))


def test_a_checkpoint_without_all_its_weights_is_refused_not_filled_in(small_folder: Path) -> None:
    fields = json.loads((small_folder / "config.json").read_text("utf-8"))
    more = {**fields, "num_hidden_layers": 4, "layer_types": None}
    folder = damaged(small_folder, "config.json", json.dumps(more).encode())
    with pytest.raises(EcoRouteError, match=r"lacks 11 of its model's tensors, model\.layers\.3\.input_layernorm"):
        Engine(config(str(folder)))


def test_a_damaged_tokenizer_is_refused_by_its_folder(small_folder: Path) -> None:
    for content in (b"[", b"[]", b"{}"):
        folder = damaged(small_folder, "tokenizer.json", content)
        with pytest.raises(EcoRouteError, match=f"cannot load {folder} .*fetch it again"):
            Engine(config(str(folder))).encode("text")


def test_a_model_that_does_not_load_is_a_row_and_the_next_one_is_measured(tmp_path: Path, small_folder: Path) -> None:
    path, file = tmp_path / "rows.jsonl", tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF")
    folder = damaged(small_folder, "model.safetensors", b"junk")
    command = [
        "run", "--device", "cpu", "--model", str(file), str(folder), "small Qwen3", "--prompt", "4", "--generated", "4",
        "--repeats", "2", "--window", "0.01s", "--output", str(path), "--no-publish",
    ]  # fmt: skip
    assert main(command) == 0
    first, second, third = read(path).trials
    assert isinstance(first, Rejected)
    assert first.reason.startswith(f"cannot load {file} (error: unpack_from requires a buffer of at least 24 bytes")
    assert isinstance(second, Rejected)
    assert second.reason.startswith(f"cannot load {folder} (SafetensorError: ")
    assert isinstance(third, Measured)


def test_a_model_that_cannot_be_judged_is_measured_by_none_of_its_trials(tmp_path: Path, small_folder: Path) -> None:
    path, folder = tmp_path / "rows.jsonl", damaged(small_folder, "tokenizer.json", b"[]")
    command = [
        "run", "--device", "cpu", "--model", str(folder), "--batch", "1", "2", "--prompt", "4", "--generated", "4",
        "--repeats", "2", "--window", "0.01s", "--output", str(path), "--no-publish",
    ]  # fmt: skip
    assert main(command) == 1
    rows = [row for row in read(path).trials if isinstance(row, Rejected)]
    assert [row.config.batch for row in rows] == [1, 2]
    assert all(row.reason.startswith(f"cannot load {folder} (TypeError: ") for row in rows)


def test_more_tokens_than_admitted_are_refused() -> None:
    engine = Engine(config("small Qwen3"))
    engine.admit(1, 10)
    with pytest.raises(EcoRouteError, match="admitted 1 sequences of up to 10 tokens; got 2 of 5"):
        engine.prefill(engine.prompts(2, 5, 0))
    engine.prefill(engine.prompts(1, 5, 0))
    assert len(engine.decode(6)) == 5
    with pytest.raises(EcoRouteError, match="do not fit 10 slots"):
        engine.decode(7)


def test_a_uniform_model_scores_the_logarithm_of_its_vocabulary() -> None:
    engine = Engine(config("small Qwen3"))
    engine.model.lm_head.weight.data.zero_()
    tokens = list(range(150))
    expected = 149 * float(torch.log(torch.tensor(200.0)))
    assert engine.nats(tokens, 64) == pytest.approx(expected, rel=1e-5)
    assert engine.nats(tokens, 1000) == pytest.approx(expected, rel=1e-5)


QUANTISED: tuple[Precision, ...] = ("int8", "int8-pure", "nf4")
PACKED = {"hidden_size": 128, "intermediate_size": 192, "num_key_value_heads": 2, "head_dim": 32}
"""A shape whose rows are whole blocks of 64."""
STORED = {"int8": "int8 (threshold 6.0)", "int8-pure": "int8 (threshold 0.0)", "nf4": "nf4 (blocks of 64)"}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", QUANTISED)
def test_greedy_tokens_of_a_quantised_model_equal_generates(
    precision: Precision, batch: int, device: DeviceKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    monkeypatch.setitem(engines.SHAPES, "packed", ("Qwen3Config", {**COMMON, **PACKED}))
    asked = config("packed", device, batch=batch, precision=precision)
    engine = Engine(asked)
    assert engine.weights.dtype == f"{STORED[precision]}, bfloat16"
    ours = generated(engine, asked)
    assert len({token for row in ours for token in row}) > 10
    prompts = engine.prompts(batch, asked.prompt_tokens, asked.seed)
    if device == "cpu":
        assert ours == engine.reference(prompts, asked.generated_tokens)
    else:
        likeliest, behind = judged(engine, prompts, ours)
        assert likeliest >= 0.9, (likeliest, behind)
        assert behind <= 0.25, (likeliest, behind)


def judged(engine: Engine, prompts: Any, ours: list[list[int]]) -> tuple[float, float]:
    """The share of our tokens that transformers' own forward, given all before them, finds likeliest; and how far the
    others lie behind at most, in standard deviations of the logits over the vocabulary, of which a token picked blindly
    lies near three behind. On a GPU a step's kernels round in bfloat16 where transformers' do not, and quantising
    activations multiplies that, so where two tokens are nearly as likely either may be chosen, and all after it differ.
    """
    tokens = torch.tensor(ours, device=prompts.device)
    with torch.inference_mode():
        logits = engine.model(torch.cat([prompts, tokens], dim=1)).logits[:, prompts.shape[1] - 1 : -1].double()
    behind = (logits.amax(-1) - logits.gather(-1, tokens[..., None])[..., 0]) / logits.std(-1)
    return float((behind == 0).double().mean()), float(behind.max())


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantised_matrices_are_those_that_transformers_loads(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    import transformers

    settings = transformers.Qwen3Config(**{**COMMON, **PACKED})
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16).save_pretrained(tmp_path)
    how = (
        transformers.BitsAndBytesConfig(load_in_8bit=True)
        if precision == "int8"
        else transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=how, dtype=torch.bfloat16, device_map="cpu"
    )
    engine = Engine(config(str(tmp_path), precision=precision))
    ours = dict(engine.model.named_modules())
    compared = 0
    for name, module in theirs.named_modules():
        if not name.endswith("_proj"):
            continue
        compared += 1
        mine = ours[name]
        assert type(mine) is type(module)
        assert torch.equal(mine.weight.data, module.weight.data)
        if precision == "int8":
            assert torch.equal(mine.state.SCB, module.weight.SCB)
            assert mine.state.threshold == module.state.threshold
        else:
            assert torch.equal(mine.weight.quant_state.absmax, module.weight.quant_state.absmax)
            assert mine.compute_dtype == module.compute_dtype
    assert compared == 3 * 7


def test_a_quantised_step_moves_its_stored_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    monkeypatch.setitem(engines.SHAPES, "packed", ("Qwen3Config", {**COMMON, **PACKED}))
    numbers = 128 * 32 * (4 + 2 + 2) + 4 * 32 * 128 + 3 * 128 * 192
    outputs = 32 * (4 + 2 + 2) + 128 + 2 * 192 + 128
    kept = 2 * (3 * (2 * 128 + 2 * 32) + 128 + 200 * 128)
    stored: dict[Precision, float] = {"int8": numbers + 4 * outputs, "nf4": numbers / 2 + 4 * numbers / 64}
    for precision, held in stored.items():
        engine = Engine(config("packed", precision=precision))
        engine.admit(1, 64)
        assert engine.step_bytes(0) == 3 * held + kept
        assert engine.weights.parameters == 3 * (numbers + 2 * 128 + 2 * 32) + 128 + 2 * 200 * 128


def test_a_matrix_left_in_full_precision_or_at_another_threshold_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    from benchmark import quantised

    monkeypatch.setitem(engines.SHAPES, "packed", ("Qwen3Config", {**COMMON, **PACKED}))
    quantise = quantised.quantise
    seen: list[Any] = []

    def forgetful(matrix: Any, precision: Precision) -> Any:
        seen.append(matrix)
        return matrix if len(seen) == 4 else quantise(matrix, precision)

    monkeypatch.setattr(quantised, "quantise", forgetful)
    for precision in QUANTISED:
        seen.clear()
        with pytest.raises(EcoRouteError, match=f"asked for {precision}, but the loaded weights are bfloat16"):
            Engine(config("packed", precision=precision))
    monkeypatch.setattr(quantised, "quantise", lambda matrix, precision: quantise(matrix, "int8-pure"))
    with pytest.raises(EcoRouteError, match=r"asked for int8, but the loaded weights are int8 \(threshold 0.0\)"):
        Engine(config("packed", precision="int8"))


def test_without_the_library_a_quantised_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(EcoRouteError, match="pip install bitsandbytes"):
        Engine(config("small Qwen3", precision="nf4"))
    assert "bitsandbytes" not in engines.software()


@pytest.mark.slow
def test_a_quantised_real_model_predicts_nearly_as_well(smollm2_folder: Path) -> None:
    """SmolLM2 on 3,000 bytes: int8 costs 1 % more bits than bf16, nf4 (of weights already rounded to Q4_1) 9 %."""
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    text = quality.default_text().content[:3000]
    nats = {}
    precisions: tuple[Precision, ...] = ("bf16", "int8", "nf4")
    for precision in precisions:
        engine = Engine(config(str(smollm2_folder), precision=precision))
        nats[precision] = engine.nats(engine.encode(text), 512)
        engine.close()
    assert nats["int8"] / nats["bf16"] == pytest.approx(1.01, abs=0.01)
    assert nats["nf4"] / nats["bf16"] == pytest.approx(1.09, abs=0.04)


def test_a_step_is_named_for_what_runs_it() -> None:
    assert Engine(config("small Qwen3")).step == "fused torch operations"


def test_a_text_is_completed_up_to_the_first_token_that_ends_it() -> None:
    engine = smollm2.engine()
    assert engine.chat
    assert (
        engine.complete("What is the capital of France? Answer in one word.", 30) == "The capital of France is Paris."
    )
    assert engine.complete("What is the capital of France? Answer in one word.", 2) == "The capital"
    with pytest.raises(EcoRouteError, match="random weights and no tokenizer"):
        Engine(config("small Qwen3")).complete("Hello", 3)


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-oss": (
        "GptOssConfig",
        {
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 16,
            "num_hidden_layers": 4,
        },
    ),
    "Gemma 3": (
        "Gemma3TextConfig",
        {"num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16}
        | {"tie_word_embeddings": False}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "Qwen3.5": (
        "Qwen3_5TextConfig",
        {"num_key_value_heads": 2, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_hidden_layers": 4},
    ),
    "Qwen3.5-MoE": (
        "Qwen3_5MoeTextConfig",
        {"num_key_value_heads": 2, "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_hidden_layers": 4, "num_experts": 8}
        | {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    ),
    "Qwen2 with biases": ("Qwen2Config", {"num_key_value_heads": 2}),
    "Llama with biases": ("LlamaConfig", {"num_key_value_heads": 2, "attention_bias": True}),
    "Mamba": ("MambaConfig", {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_causal_language_model_runs_through_transformers_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_name, fields = OTHERS[name]
    monkeypatch.setitem(engines.SHAPES, name, (class_name, {**COMMON, **fields}))
    asked = config(name, batch=2)
    engine = Engine(asked)
    assert engine.step == "transformers' forward, eager"
    assert engine.weights.dtype == "float32"
    ours = generated(engine, asked)
    assert len({token for row in ours for token in row}) > 10
    assert len(engine.decode(asked.generated_tokens)) == asked.generated_tokens - 1
    assert engine.generated(asked.generated_tokens) == ours  # rewound, not read again
    assert ours == engine.reference(engine.prompts(2, asked.prompt_tokens, asked.seed), asked.generated_tokens)


@pytest.mark.parametrize("name", engines.SHAPES)
def test_a_shape_is_a_model_that_transformers_builds_with_about_the_parameters_in_its_name(name: str) -> None:
    import transformers

    class_name, fields = engines.SHAPES[name]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            getattr(transformers, class_name)(**fields), dtype=torch.bfloat16
        )
    billions = sum(weights.numel() for weights in model.parameters()) / 1e9
    assert billions == pytest.approx(BILLIONS[name], rel=0.01)


BILLIONS = {
    "Qwen3-0.6B": 0.596,
    "Qwen3-1.7B": 1.721,
    "Qwen3-4B": 4.022,
    "Qwen3-8B": 8.191,
    "Qwen3-14B": 14.768,
    "Qwen3-32B": 32.762,
    "Llama-3.1-8B": 8.030,
    "Llama-3.1-70B": 70.554,
    "Qwen3-30B-A3B": 30.532,
    "gpt-oss-20b": 20.915,
    "Gemma-3-4B": 3.88,
    "Gemma-3-12B": 11.77,
    "Gemma-3-27B": 27.01,
    "Qwen3.5-9B": 8.95,
    "Qwen3.5-35B-A3B": 34.66,
}
"""As published: of the checkpoints, or of their text part."""


@pytest.mark.parametrize("precision", ["gptq", "awq"])
def test_a_checkpoint_of_another_kind_or_without_its_library_is_refused(precision: Precision, tmp_path: Path) -> None:
    import transformers

    with pytest.raises(
        EcoRouteError, match=f"{precision} needs a checkpoint that was quantised so.*small Qwen3 is none"
    ):
        Engine(config("small Qwen3", precision=precision))
    settings = transformers.Qwen3Config(**{**COMMON, **PACKED})
    plain, other, own = (tmp_path / name for name in ("plain", "other", "own"))
    transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float16).save_pretrained(plain)
    with pytest.raises(EcoRouteError, match="plain says nothing of quantisation"):
        Engine(config(str(plain), precision=precision))
    kinds = {other: "awq" if precision == "gptq" else "gptq", own: precision}
    for folder, method in kinds.items():
        settings.quantization_config = {"quant_method": method, "bits": 4, "group_size": 64}
        settings.save_pretrained(folder)
    with pytest.raises(EcoRouteError, match=f"other says {kinds[other]} of quantisation"):
        Engine(config(str(other), precision=precision))
    if importlib.util.find_spec("gptqmodel") is None:
        with pytest.raises(EcoRouteError, match="pip install gptqmodel"):
            Engine(config(str(own), precision=precision))


def packed_tensors(plain: Path, precision: Precision) -> dict[str, Any]:
    """A plain checkpoint's tensors with its projections in 4 bits, groups of 64: drawn, as GPTQ or AWQ packs them."""
    from safetensors.torch import load_file

    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for name, weight in load_file(plain / "model.safetensors").items():
        if not name.endswith("proj.weight"):
            tensors[name] = weight
            continue
        module, (out_features, in_features) = name.removesuffix(".weight"), weight.shape
        words = (in_features // 8, out_features) if precision == "gptq" else (in_features, out_features // 8)
        groups = in_features // 64
        tensors[f"{module}.qweight"] = torch.randint(-(2**31), 2**31, words, generator=draw).to(torch.int32)
        tensors[f"{module}.qzeros"] = torch.full((groups, out_features // 8), 0x77777777, dtype=torch.int32)
        tensors[f"{module}.scales"] = torch.full((groups, out_features), 0.01, dtype=torch.float16)
        if precision == "gptq":
            tensors[f"{module}.g_idx"] = (torch.arange(in_features) // 64).to(torch.int32)
    return tensors


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gptqmodel", "optimum")),
    reason="gptqmodel and optimum are in no extra, since they are built for one machine",
)
@pytest.mark.parametrize("precision", ["gptq", "awq"])
@pytest.mark.filterwarnings("ignore")  # gptqmodel's and optimum's own
def test_a_packed_checkpoint_without_all_its_tensors_is_refused(precision: Precision, tmp_path: Path) -> None:
    import transformers
    from safetensors.torch import save_file

    settings = transformers.Qwen3Config(**{**COMMON, **PACKED})
    transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float16).save_pretrained(tmp_path)
    tensors = packed_tensors(tmp_path, precision)
    settings.quantization_config = {
        **{"quant_method": precision, "bits": 4, "group_size": 64, "desc_act": False},
        **({"sym": True} if precision == "gptq" else {"zero_point": True, "version": "gemm"}),
    }
    settings.save_pretrained(tmp_path)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert Engine(config(str(tmp_path), precision=precision)).weights.dtype == f"{precision} (4 bits), float16"
    lacking = "model.layers.0.mlp.up_proj.scales"
    del tensors[lacking]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EcoRouteError, match=f"lacks 1 of its model's tensors, {lacking} among them"):
        Engine(config(str(tmp_path), precision=precision))


def test_packed_weights_are_labelled_by_the_bits_they_hold() -> None:
    from benchmark import quantised

    def packed(words: Any) -> Any:
        module = torch.nn.Module()
        module.in_features, module.out_features = 128, 64
        module.register_buffer("qweight", words)
        module.register_buffer("scales", torch.zeros(2, 64, dtype=torch.float16))
        return module

    held = packed(torch.zeros(16, 64, dtype=torch.int32))
    assert quantised.label(held, "gptq") == "gptq (4 bits)"
    assert quantised.label(packed(torch.zeros(32, 64, dtype=torch.int32)), "awq") == "awq (8 bits)"
    assert quantised.extra_bytes(held) == 16 * 64 * 4 + 2 * 64 * 2
    with pytest.raises(EcoRouteError, match="not as packed int32"):
        quantised.label(packed(torch.zeros(128, 64, dtype=torch.float16)), "gptq")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device itself runs them, in test_kernels.py")
def test_kernels_equal_plain_torch_in_triton_s_interpreter() -> None:
    pytest.importorskip("triton", reason="needs triton, which torch brings on Linux")
    tests = Path(__file__).with_name("test_kernels.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        env=environment, cwd=tests.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "12 passed, 6 skipped" in ran.stdout
