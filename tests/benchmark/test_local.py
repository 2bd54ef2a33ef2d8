"""Trials of this machine reach the router: real ones, through the real file, the real command and the real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmark import local, trial
from benchmark.objectives import Noise, Objectives, shipped_sources
from benchmark.trial import Measured, Spread
from ecoroute_mcp import refresh
from ecoroute_mcp.identity import Identity
from ecoroute_mcp.sci import EcoRouteError, Estimate
from tests.stdio_peer import StdioPeer

ROOT = Path(__file__).resolve().parents[2]
H100 = trial.read(ROOT / "data" / "measurements" / "h100-80gb-hbm3.jsonl").measured
THROTTLED = "software thermal throttling for 5.7 s"


def recorded(model: str, batch: int, prompt: int = 256, occasion: int = 1) -> Measured:
    """A real trial of an H100, in bf16."""
    wanted = (model, "bf16", batch, prompt, occasion)
    return next(
        row
        for row in H100
        if (row.config.model, row.config.precision, row.config.batch, row.config.prompt_tokens, row.config.occasion)
        == wanted
    )


EIGHT = recorded("Qwen3-8B", 1)


def changed(row: Measured, **config: Any) -> Measured:
    return replace(row, config=replace(row.config, **config))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sci.db"


@pytest.fixture
def file(database: Path) -> Path:
    return refresh.this_machine(database)


# The file.


def test_a_row_is_the_trial_to_the_last_digit(file: Path) -> None:
    written = local.write([EIGHT], file)
    (row,), complaints = refresh.local_rows(file, {"qwen3-8b"})
    assert (written.rows, written.left_out, complaints) == ((row,), (), ())
    joules, speed = EIGHT.decode.j_per_token, EIGHT.prefill.tokens_per_s
    assert joules is not None
    assert row.decode_j_per_token == Estimate(
        low=joules.low, mid=joules.mean, high=joules.high, basis="measured", sources=("this-machine",)
    )
    assert row.prefill_s_per_token == Estimate(
        low=1 / speed.high, mid=1 / speed.mean, high=1 / speed.low, basis="measured", sources=("this-machine",)
    )
    assert row.prefill_j_per_token.mid == 0.022977714675963806
    assert row.decode_s_per_token.mid == 1 / 169.77940172167715
    assert (row.model, row.precision, row.batch, row.prompt_tokens, row.generated_tokens) == (
        "qwen3-8b",
        "bf16",
        1,
        256,
        256,
    )
    assert (row.device_name, row.device_uuid, row.measured_on) == (
        "NVIDIA H100 80GB HBM3",
        "GPU-a1aa4052-b0c8-7f5a-2c59-1e39ecceb1f1",
        date(2026, 11, 21),
    )
    assert (row.energy_source, row.weights, row.step, row.doubt) == ("counter", "random", EIGHT.step, "")


def test_what_cannot_be_used_is_named_with_its_reason(file: Path) -> None:
    silent = replace(EIGHT.decode, j_per_token=None)
    wide = replace(EIGHT.decode, j_per_token=Spread(n=10, mean=3.0, sd=1.0, cv=0.33, low=-6.0, high=12.0))
    written = local.write(
        [
            replace(EIGHT, decode=silent),
            replace(EIGHT, gates_failed=("decode energy CV 4.1% > 3%", THROTTLED)),
            replace(EIGHT, decode=wide),
            recorded("Qwen3-0.6B", 1),
            recorded("Qwen3-0.6B", 32),
        ],
        file,
    )
    assert written.rows == ()
    assert written.left_out == (
        "1 trial of Qwen3-8B (no energy was read)",
        "1 trial of Qwen3-8B (decode energy CV 4.1% > 3%)",
        "1 trial of Qwen3-8B (an interval of the repeats reaches zero: measure with more of them)",
        "2 trials of Qwen3-0.6B (no model is called 'Qwen3-0.6B')",
    )
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "endpoint", "model"),
    [
        ("Qwen3-8B", None, "qwen3-8b"),
        ("Llama-3.1-8B", None, "llama-3.1-8b"),
        ("Qwen/Qwen3-8B", None, "qwen3-8b"),
        ("/home/me/weights/Qwen3-8B", None, "qwen3-8b"),
        ("~/weights/Qwen3-8B-Q4_K_M.gguf", None, "qwen3-8b"),
        ("qwen3:8b", "http://localhost:11434/v1", "qwen3-8b"),
        ("openai/gpt-oss-20b", "http://localhost:8000/v1", "gpt-oss-20b"),
    ],
)
def test_a_name_of_weights_becomes_the_catalogues_id(name: str, endpoint: str | None, model: str) -> None:
    catalogue = refresh.read(refresh.packaged_data())
    identity = Identity(catalogue.models, catalogue.aliases)
    config = replace(EIGHT.config, model=name)
    if endpoint is not None:
        config = replace(config, endpoint=endpoint, precision="as-served")
    assert local.model_id(config, identity) == model


@pytest.mark.parametrize("name", ["me/my-finetune", "Qwen3-8B-abliterated", "/models/llama", "qwen3:latest"])
def test_a_name_is_not_guessed(name: str, file: Path) -> None:
    written = local.write([changed(EIGHT, model=name)], file)
    assert written.rows == ()
    assert len(written.left_out) == 1
    assert written.left_out[0].startswith(f"1 trial of {name} (")


def test_a_throttled_trial_counts_only_for_want_of_a_better_one(file: Path) -> None:
    hot = replace(recorded("Qwen3-8B", 8), gates_failed=(THROTTLED,))
    (row,) = local.write([hot], file).rows
    assert row.doubt == THROTTLED
    # Another configuration of the model, without a fault, takes its place; a later throttled one does not come back.
    elsewhere = replace(EIGHT, machine=hot.machine)
    written = local.write([elsewhere], file)
    assert [(row.batch, row.doubt) for row in written.rows] == [(1, "")]
    assert written.left_out == (f"1 trial of qwen3-8b ({THROTTLED})",)
    again = local.write([replace(elsewhere, gates_failed=(THROTTLED,))], file)
    assert (again.rows, again.left_out) == (written.rows, (f"1 trial of qwen3-8b ({THROTTLED})",))


def test_a_later_trial_replaces_its_own_and_leaves_those_of_other_devices(file: Path) -> None:
    other = replace(EIGHT, machine=replace(EIGHT.machine, uuid="GPU-of-another-machine"))
    local.write([other, EIGHT], file)
    untouched = next(line for line in file.read_text("utf-8").splitlines() if "GPU-of-another-machine" in line)
    later = replace(EIGHT, started_at=EIGHT.started_at + timedelta(days=3), decode=recorded("Qwen3-8B", 4).decode)
    rows = local.write([later], file).rows
    assert [(row.device_uuid, row.measured_on.day) for row in rows] == [
        ("GPU-of-another-machine", 21),
        (EIGHT.machine.uuid, 24),
    ]
    assert rows[1].decode_j_per_token.mid == 0.7582403641471034
    assert untouched in file.read_text("utf-8").splitlines()
    before = file.read_bytes()
    assert local.write([EIGHT], file).left_out == ("1 trial of qwen3-8b (measured again later)",)
    assert file.read_bytes() == before


def test_a_damaged_line_is_named_and_dropped_by_the_next_writing(file: Path) -> None:
    local.write([EIGHT, recorded("Llama-3.1-8B", 1)], file)
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:2], lines[2].replace(",bf16,1,", ",bf16,one,"), *lines[3:]]), "utf-8")
    written = local.write([recorded("Qwen3-14B", 1)], file)
    assert [row.model for row in written.rows] == ["llama-3.1-8b", "qwen3-14b"]
    assert written.left_out == (f"{file} line 3, column batch: 'one' is not a plain finite number such as 12 or 0.5",)
    assert refresh.local_rows(file, {"llama-3.1-8b", "qwen3-14b"}) == (written.rows, ())


def test_an_interrupted_writing_leaves_the_file_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local.write([EIGHT], file)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EcoRouteError, match=r"No space left on device.*ECOROUTE_DB"):
        local.write([recorded("Qwen3-14B", 1)], file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_writing_removes_what_killed_ones_left(file: Path) -> None:
    for name in (".this-machine.csv.abcdefg1.tmp", ".this-machine.csv.abcdefg2.tmp"):
        (file.parent / name).touch()
    os.utime(file.parent / ".this-machine.csv.abcdefg1.tmp", (0, 0))
    local.write([EIGHT], file)
    assert sorted(path.name for path in file.parent.iterdir()) == [".this-machine.csv.abcdefg2.tmp", file.name]


def test_figures_of_a_row_that_ships_cite_its_file_and_a_users_this_machine() -> None:
    data = refresh.packaged_data()
    catalogue = refresh.read(data)
    sources = shipped_sources(data, catalogue.sources)
    objectives = Objectives(
        catalogue,
        zone="SWE",
        quality="published",
        noise=Noise(energy=0.01, speed=0.01, pairs=5),
        scores={},
        sources=sources,
    )
    assert objectives.energy_j(EIGHT).sources == ("ecoroute-h100-2026-11",)
    assert objectives.carbon_g(EIGHT).sources[0] == "ecoroute-h100-2026-11"
    same_board_later = replace(EIGHT, started_at=EIGHT.started_at + timedelta(days=9))
    another_board = replace(EIGHT, machine=replace(EIGHT.machine, uuid="GPU-1"))
    for row in (same_board_later, another_board):
        assert objectives.energy_j(row).sources == ("this-machine",)


# Through the router.


def test_figures_of_this_machine_are_taken_though_the_data_cannot_be_read(
    file: Path, database: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(refresh.packaged_data(), own, ignore=shutil.ignore_patterns("measurements", "upstream"))
    refresh.refresh(database, own)
    shutil.rmtree(own)
    written = local.write([EIGHT], file)
    opened = refresh.open_catalogue(database, refresh.packaged_data())
    assert opened.catalogue.local_energy == written.rows
    assert f"there is no folder {own}" in opened.notice
    file.unlink()
    assert refresh.open_catalogue(database, refresh.packaged_data()).catalogue.local_energy == ()


def ecoroute(database: Path, *arguments: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "ecoroute_mcp", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ECOROUTE_DB": str(database), **environment},
        check=False,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


ASKED = (
    *("recommend", "abcd" * 10, "--task-type", "chat", "--context-tokens", "90", "--output-tokens", "200"),
    *("--min-tier", "1", "--candidates", "qwen3-8b"),
)
HOW = "measured on this machine (NVIDIA H100 80GB HBM3, bf16, batch 1, 2026-11-21), prompts of 256 tokens"
HOW += ", random weights of its shape"


def test_the_command_answers_with_the_users_own_figures_at_once(database: Path) -> None:
    hosted = ecoroute(database, *ASKED, "--region", "SWE")["recommended"]
    assert hosted["provider"] == "alibaba"
    said = local.publish([EIGHT], database)
    assert said == (
        f"The router now takes qwen3-8b as measured on this machine ({refresh.this_machine(database)}); a server that "
        "is running does so from its next start."
    )
    answer = ecoroute(database, *ASKED, "--region", "SWE")
    best = answer["recommended"]
    assert (best["model"], best["provider"], best["energy_basis"]) == ("qwen3-8b", "this-machine", "measured")
    assert best["energy_how"] == HOW
    assert (best["zone"]["zone"], best["zone"]["chosen_by"]) == ("SWE", "the zone of this answer")
    # 100 tokens read (40 characters are 10 of them), 200 and its reasoning written, at what the trial took, times the
    # host's share and a PUE of 1; the device's time at 273 + 336 kg over a quarter of 4.5 years.
    written = best["output_tokens"]["mid"]
    joules = 100 * 0.022977714675963806 + written * 3.2989766239358986
    assert best["energy_j"]["mid"] == pytest.approx(joules * 1.43, rel=1e-9)
    grid = best["zone"]["intensity_g_per_kwh"]["mid"]
    assert best["operational_g"]["mid"] == pytest.approx(joules * 1.43 / 3_600_000 * grid, rel=1e-9)
    seconds = 100 / 30085.242659112806 + written / 169.77940172167715
    assert best["embodied_g"]["mid"] == pytest.approx(seconds * 609_000 / (4.5 * 31_557_600 * 0.25), rel=1e-9)
    assert best["carbon_g"]["mid"] == pytest.approx(best["operational_g"]["mid"] + best["embodied_g"]["mid"], rel=1e-12)
    assert answer["sources"]["this-machine"] == {
        "url": refresh.this_machine(database).as_uri(),
        "retrieved_on": "2026-11-21",
        "basis": "measured",
    }
    assert "this-machine" in best["energy_j"]["sources"]
    assert best["cost_usd"] is None
    assert best["notes"][0] == "run on this machine: no price per token, and its electricity is not priced"
    # Leaving the figures out, and deleting them, both give the hosted answer back.
    assert ecoroute(database, *ASKED, "--region", "SWE", "--hosted-only")["recommended"] == hosted
    refresh.this_machine(database).unlink()
    assert ecoroute(database, *ASKED, "--region", "SWE")["recommended"] == hosted


def test_the_zone_is_the_users_or_all_of_the_world(database: Path) -> None:
    local.publish([EIGHT], database)
    assert ecoroute(database, *ASKED, ECOROUTE_REGION="Poland")["recommended"]["zone"]["zone"] == "POL"
    answer = ecoroute(database, *ASKED)
    zone = answer["recommended"]["zone"]
    assert (zone["zone"], zone["chosen_by"]) == (
        "WOR",
        "where this machine stands was not said, so all countries' range: pass region",
    )
    countries = [row.intensity_g_per_kwh for row in refresh.read(ROOT / "data").grids if row.region_type == "country"]
    span = zone["intensity_g_per_kwh"]
    assert (span["low"], span["high"]) == (min(one.low for one in countries), max(one.high for one in countries))
    assert (
        "region: the grid each provider is taken to serve from; for this machine the world's mean; pass region for one "
        "grid" in answer["defaulted"]
    )


def test_rank_and_health_and_the_text_say_so(database: Path) -> None:
    local.publish([EIGHT, recorded("Llama-3.1-8B", 1)], database)
    rows = ecoroute(database, "rank", "--task-type", "chat", "--limit", "500")["rows"]
    here = {row["model"]: row["energy_how"] for row in rows if row["provider"] == "this-machine"}
    assert here == {"qwen3-8b": HOW, "llama-3.1-8b": HOW}
    assert ecoroute(database, "health")["local_models"] == 2
    text = subprocess.run(
        [sys.executable, "-m", "ecoroute_mcp", *ASKED],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "ECOROUTE_DB": str(database)},
        check=True,
    ).stdout
    assert f"- Energy: {HOW}\n" in text
    assert "- Cost: no price per token" in text


@pytest.fixture
def served(database: Path, tmp_path: Path, server_command: list[str]) -> Iterator[StdioPeer]:
    local.publish([EIGHT], database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECOROUTE_DB", str(database))
        with StdioPeer(server_command, cwd=tmp_path, stderr=tmp_path / "stderr.txt") as peer:
            peer.initialize()
            yield peer


def test_the_server_answers_with_them_in_text_and_structure(served: StdioPeer) -> None:
    result = served.call("score_task", task="say hello", min_tier=1, candidates=["qwen3-8b"], region="FRA")
    assert result["structuredContent"]["recommended"]["energy_how"] == HOW
    assert f"- Energy: {HOW}" in result["content"][0]["text"]
    state = served.call("health_check")
    assert state["structuredContent"]["local_models"] == 1
    assert "- Measured on this machine: 1 model\n" in state["content"][0]["text"]
