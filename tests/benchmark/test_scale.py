"""The latent-ability scale: it finds a known truth, keeps order, refuses bad input, and gives what is committed."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields, replace
from datetime import date, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from benchmark import scale
from benchmark.__main__ import DATA, main
from benchmark.scale import Background, Cell, Report, Table
from ecoroute_mcp.catalogue import Effort, Quality
from ecoroute_mcp.sci import EcoRouteError

HEADER = ",".join(scale.COLUMNS)
IDS = {"alpha-1": "alpha-1", "alpha-1-max": "alpha-1-max", "beta-2": "beta-2"}


def synthetic(models: int = 120, seed: int = 7) -> tuple[list[Cell], dict[str, float]]:
    """Cells of a known world: 11 leaderboards of two benchmarks each, half of the cells missing, and a view of its own
    (sd 0.3) that each leaderboard takes of each model. Returns the cells and the true ability of each model."""
    random = np.random.default_rng(seed)
    truth = {f"m-{index:03d}": float(random.normal()) for index in range(models)}
    cells = []
    for _, (start, *_) in scale.FAMILIES:
        seen = {model: float(random.normal(0, 0.3)) for model in truth if random.random() < 0.5}
        for part in (f"{start}_a", f"{start}_b"):
            loading, noise, level = random.uniform(0.7, 1.3), random.uniform(0.3, 0.6), random.normal()
            cells += [
                Cell(
                    model=model,
                    effort="default",
                    benchmark=part,
                    value=level + loading * (truth[model] + view) + float(random.normal(0, noise)),
                    files=("made.csv",),
                )
                for model, view in seen.items()
            ]
    return cells, truth


def test_known_abilities_are_recovered_within_their_stated_errors() -> None:
    covered = []
    for seed in range(1, 6):
        cells, truth = synthetic(seed=seed)
        rows = scale.qualities(scale.fit(Table(cells), scale.SHIPPED), inflation=1.0)
        true = np.array([truth[row.model] for row in rows])
        true = (true - true.mean()) / true.std()
        theta = np.array([row.theta for row in rows])
        error = np.array([row.theta_se for row in rows])
        assert float(np.corrcoef(theta, true)[0, 1]) > 0.96
        assert theta.mean() == pytest.approx(0, abs=1e-3)
        assert theta.std() == pytest.approx(1, abs=1e-3)
        covered.append(float(np.mean(np.abs(theta - true) < scale.Z90 * error)))
    assert 0.84 <= sum(covered) / len(covered) <= 0.94


def test_held_out_groups_of_a_known_world_are_predicted_and_covered() -> None:
    table = Table(synthetic()[0])
    figures = scale.held_out(table, scale.SHIPPED, table.held).figures()
    assert figures["cells"] == len(table.z)
    assert isinstance(figures["r"], float)
    assert isinstance(figures["coverage_90"], float)
    assert figures["r"] > 0.75
    assert 0.86 <= figures["coverage_90"] <= 0.94


def test_columns_of_one_leaderboard_count_less_than_leaderboards() -> None:
    """Four columns of one site leave more doubt than four sites."""
    cells, _ = synthetic()
    one_site = [replace(cell, benchmark=f"sole_{cell.benchmark}") for cell in cells]
    same = [
        Cell(model=model, effort="default", benchmark=f"bfcl_{part}", value=value + 0.01 * part, files=("made.csv",))
        for model, value in {cell.model: cell.value for cell in one_site}.items()
        for part in range(4)
    ]
    table = Table([*one_site, *same])
    fitted = scale.fit(table, scale.SHIPPED)
    in_site = np.flatnonzero(np.array([cell.benchmark.startswith("bfcl_") for cell in table.cells]))
    fitted.loading[:] = 1.0
    fitted.noise_var[:] = 0.2
    fitted.family_model_var[:] = 0.1
    fitted.family_row_var[:] = 0.1
    fitted.group_var[:] = 0.0
    fitted.effects_cov[:] = 0.0
    fitted.model_var, fitted.row_var = 1.0, 0.0
    _, error = fitted.abilities(in_site)
    # var = 1 - 1 / (1 + 0.1 + 0.1 + 0.2 / 4), by hand
    assert error[~np.isnan(error)] == pytest.approx(math.sqrt(1 - 1 / 1.25), rel=1e-9)


def test_higher_in_every_cell_is_higher_on_the_scale() -> None:
    cells, truth = synthetic()
    for model in sorted(truth)[:20]:
        better = [replace(cell, model="z-better", value=cell.value + 0.02) for cell in cells if cell.model == model]
        table = Table([*cells, *better])
        mean, _ = scale.fit(table, scale.SHIPPED, iterations=10).abilities(np.arange(len(table.z)))
        assert mean[table.rows.index(("z-better", "default"))] > mean[table.rows.index((model, "default"))]


def test_families_of_one_group_of_tasks_are_not_independent_witnesses() -> None:
    """By hand: cells t + k + e of variance 1 + 1/2 + 1/4; two of one group covary by 3/2, of two groups by 1."""
    names = ("bp_toolathlon", "bp_mcpatlas", "bp_gpqa_diamond")
    cells = [
        Cell(model=f"m-{model:02d}", effort="default", benchmark=name, value=float(model % 7 + index), files=("f.csv",))
        for model in range(12)
        for index, name in enumerate(names)
    ]
    table = Table(cells)
    fitted = scale.fit(table, scale.SHIPPED, iterations=1)
    fitted.loading[:], fitted.noise_var[:], fitted.group_var[:] = 1.0, 0.25, 0.5
    fitted.family_model_var[:], fitted.family_row_var[:] = 0.0, 0.0
    fitted.model_var, fitted.row_var = 1.0, 0.0
    fitted.effects_cov[:] = 0.0
    label = np.array([cell.benchmark for cell in table.cells])
    _, agents = fitted.abilities(np.flatnonzero(np.isin(label, names[:2])))
    _, mixed = fitted.abilities(np.flatnonzero(np.isin(label, names[1:])))
    assert agents == pytest.approx(math.sqrt(1 - 2 / (1.75 + 1.5)))
    assert mixed == pytest.approx(math.sqrt(1 - 2 / (1.75 + 1.0)))


def test_makers_scores_are_held_out_with_the_default_row() -> None:
    """The same score can stand under two levels, so neither may be left to predict the other."""
    cells, _ = synthetic(models=40)
    name = cells[0].benchmark
    model = cells[0].model
    stated = replace(cells[0], effort="max", files=("benchpress_matrix.csv",))
    third = replace(cells[0], effort="high")
    table = Table([*cells, stated, third])
    held = {cell.effort: label for cell, label in zip(table.cells, table.held, strict=True) if cell.model == model}
    of_benchmark = {
        cell.effort: label
        for cell, label in zip(table.cells, table.held, strict=True)
        if cell.model == model and cell.benchmark == name
    }
    assert of_benchmark["max"] == of_benchmark["default"] != of_benchmark["high"]
    assert set(held) == {"default", "max", "high"}


def dated(truth: dict[str, float]) -> dict[str, Background]:
    """Backgrounds whose release date tells ability exactly: half a year for one standard deviation."""
    return {
        model: Background(
            maker="one",
            reasons=False,
            released_on=scale.DATE_ZERO + timedelta(days=round(182.5 * ability)),
            open_params_b=None,
        )
        for model, ability in truth.items()
    }


def test_a_background_helps_where_little_is_known() -> None:
    cells, truth = synthetic()
    plain, informed = Table(cells), Table(cells, (), dated(truth))
    without = scale.held_out(plain, scale.SHIPPED, plain.model)
    with_dates = scale.held_out(informed, scale.SHIPPED, informed.model)
    before, after = without.figures(), with_dates.figures()
    assert before["r"] is not None
    assert after["r"] is not None
    assert after["r"] > 0.75 > 0.2 > before["r"]
    assert after["coverage_90"] is not None
    assert 0.85 <= after["coverage_90"] <= 0.95


def test_a_row_that_rests_on_its_background_is_untested() -> None:
    """One poor cell of a model that its date places well: no tier, and the report says by how much it misses."""
    cells, truth = synthetic()
    kept = [cell for cell in cells if cell.model != "m-000"]
    lone = next(cell for cell in cells if cell.model == "m-000")
    fitted = scale.fit(Table([*kept, lone], (), dated(truth)), scale.SHIPPED)
    refused = scale.untested(fitted, inflation=1.0)
    error = refused["m-000@default"]
    assert error is not None
    assert error > scale.SE_LIMIT
    assert "m-000" not in {row.model for row in scale.qualities(fitted, 1.0)}
    assert all(error is None or error > scale.SE_LIMIT for error in refused.values())


def test_a_score_of_an_unnamed_effort_gets_no_row() -> None:
    cells, _ = synthetic()
    model = cells[0].model
    table = Table([*cells, *(replace(cell, effort="reported") for cell in cells if cell.model == model)])
    fitted = scale.fit(table, scale.SHIPPED, iterations=10)
    assert (model, "reported") in table.rows
    assert scale.untested(fitted, 1.0)[f"{model}@reported"] is None
    assert {row.effort for row in scale.qualities(fitted, 1.0)} == {"default"}


def test_covariates_by_hand() -> None:
    known = {
        "a": Background(maker="x", reasons=True, released_on=date(2026, 9, 1), open_params_b=150 * math.e),
        "b": Background(maker="y", reasons=False, released_on=None, open_params_b=None),
    }
    cells = [
        Cell(model=model, effort="default", benchmark="bp_ifeval", value=value, files=("f.csv",))
        for value, model in enumerate(["a", "b", *(f"m-{index}" for index in range(10))])
    ]
    lines = Table(cells, (), known).background
    assert lines[0] == pytest.approx([1, 0, 0.7, 0, 1, 1, 0, 1, 0])
    assert lines[1] == pytest.approx([0, 0, 0, 1, 0, 0, 1, 0, 1])
    assert not lines[2:].any()


def test_order_of_the_cells_does_not_matter() -> None:
    cells, _ = synthetic(models=40)
    forward = scale.qualities(scale.fit(Table(cells), scale.SHIPPED), 1.0)
    assert scale.qualities(scale.fit(Table(cells[::-1]), scale.SHIPPED), 1.0) == forward


@pytest.mark.parametrize(
    ("theta", "tier"),
    [(-9, 1), (-1.65, 1), (-1.64, 2), (-0.73, 3), (-0.71, 4), (0.0, 5), (0.21, 6), (1.57, 8), (2.05, 10), (7, 10)],
)
def test_tiers_have_equal_width_and_open_ends(theta: float, tier: int) -> None:
    assert scale.tier(theta) == tier


@pytest.mark.parametrize(
    ("model", "variant", "effort"),
    [
        ("gpt-5", "", "default"),
        ("gemma-3-4b", "it", "default"),
        ("llama-3.1-405b", "instruct|bf16", "default"),
        ("gpt-5.1-codex-max", "max", "default"),
        ("gpt-5.1-codex-max", "max|xhigh", "xhigh"),
        ("mistral-medium-3.5", "medium", "default"),
        ("gpt-5", "medium", "medium"),
        ("kimi-k2-thinking", "thinking", "default"),
        ("kimi-k2.6", "thinking", "thinking"),
        ("claude-sonnet-4", "16k", "thinking"),
        ("claude-opus-4-6", "thinking|auto|high|effort", "high"),
        ("gemini-3-flash", "thinking|minimal", "minimal"),
        ("gemini-2.5-flash-lite", "preview|no|thinking", "none"),
        ("grok-4.20", "beta|nonreasoning", "none"),
        ("gpt-6-sol", "max", "max"),
        ("gpt-5.4", "reported", "reported"),
    ],
)
def test_the_effort_of_a_variant(model: str, variant: str, effort: str) -> None:
    assert scale.effort_of(model, variant) == effort


def test_transforms_by_hand() -> None:
    assert scale.transformed("bp_ifeval", 50) == 0
    assert scale.transformed("bp_ifeval", 100) == pytest.approx(math.log(102 / 2))
    assert scale.transformed("bp_ifeval", 0) == pytest.approx(-math.log(102 / 2))
    assert scale.transformed("arena_text", 1503.5) == 1503.5
    assert scale.transformed("arena_agent", -19.8) == -19.8


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("bp_ifeval,alpha-1,Alpha 1,,61.5,2026-01-01,", "7 values for 8 columns"),
        (",alpha-1,Alpha 1,,61.5,2026-01-01,,f.csv", "benchmark is empty"),
        (
            "bp_ifeval,alpha-3,Alpha 3,,61.5,2026-01-01,,f.csv",
            "'alpha-3' is no id of data/models.csv; closest: alpha-1",
        ),
        ("bp_ifeval,alpha-1,Alpha 1,,n/a,2026-01-01,,f.csv", "score 'n/a' is not a number"),
        ("bp_ifeval,alpha-1,Alpha 1,,,2026-01-01,,f.csv", "score '' is not a number"),
        ("bp_ifeval,alpha-1,Alpha 1,,nan,2026-01-01,,f.csv", "score 'nan' is not finite"),
        ("bp_ifeval,alpha-1,Alpha 1,,161.5,2026-01-01,,f.csv", "is a percentage, got 161.5; give it as 0 to 100"),
        ("bp_ifeval,alpha-1,Alpha 1,,61.5,last week,,f.csv", "date 'last week' is not YYYY-MM-DD"),
        ("bp_ifeval,alpha-1,Alpha 1,,61.5,2026-01-01,-2,f.csv", "se is negative"),
        ("bp_ifeval,alpha-1,Alpha 1,ultra,61.5,2026-01-01,,f.csv", "unknown word 'ultra'; words, joined by |: none"),
        ("bp_ifeval,alpha-1,Alpha 1,,61.5,2026-01-01,,", "file is empty"),
    ],
)
def test_a_malformed_line_is_named_with_its_repair(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"# a comment\n{HEADER}\nbp_ifeval,alpha-1,Alpha 1,high,61.5,,,f.csv\n{line}\n", encoding="utf-8")
    with pytest.raises(EcoRouteError) as caught:
        scale.read_cells(path, IDS)
    assert complaint in str(caught.value)
    assert f"{path}:4: " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no rows"),
        (b"model,score\nalpha-1,3\n", "the header must be benchmark,canonical,"),
        (b"\xff\xfe\x00", "give --scores a UTF-8 CSV file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(EcoRouteError) as caught:
        scale.read_cells(path, IDS)
    assert complaint in str(caught.value)


def test_cells_of_a_table(tmp_path: Path) -> None:
    """Repeated scores are averaged, and a part counts only where its whole is missing."""
    path = tmp_path / "scores.csv"
    lines = [
        "arena_text,alpha-1,Alpha,,1400,,2.5,f.csv",
        "arena_text,alpha-1,Alpha again,it,1410,,,g.csv",
        "arena_coding,alpha-1,Alpha,,1500,,,f.csv",
        "arena_coding,beta-2,Beta,high,1300,,,f.csv",
    ]
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    assert scale.read_cells(path, IDS) == [
        Cell(model="alpha-1", effort="default", benchmark="arena_text", value=1405, files=("f.csv", "g.csv")),
        Cell(model="beta-2", effort="high", benchmark="arena_coding", value=1300, files=("f.csv",)),
    ]


def test_too_few_rows_are_said_so() -> None:
    cells, _ = synthetic(models=8)
    with pytest.raises(EcoRouteError, match="at least 10 models: give --scores more rows"):
        Table(cells)


def test_the_command_reads_scores_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells, _ = synthetic(models=40)
    ids = sorted(scale.model_ids(DATA).values())
    names = dict(zip(sorted({cell.model for cell in cells}), ids, strict=False))
    path = tmp_path / "scores.csv"
    lines = [
        f"{cell.benchmark},{names[cell.model]},,,{100 / (1 + math.exp(-cell.value)):.4f},,,f.csv" for cell in cells
    ]
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    assert main(["scale", "--scores", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == len(report["quality"]) == sum(report["rows_per_tier"].values())
    assert report["rows"] + len(report["untested"]["rows"]) == 40
    assert report["quality"][0]["sources"] == ["f", "quality-scale-v1"]
    assert main(["scale", "--scores", str(path)]) == 0
    plain = capsys.readouterr().out
    assert "90 % intervals cover  0.87 to 0.93" in plain
    assert "\x1b" not in plain
    assert main(["scale", "--scores", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot read scores from ")


@pytest.fixture(scope="module")
def committed() -> Report:
    return scale.study(scale.read_cells(DATA / "quality_scores.csv", scale.model_ids(DATA)))


@pytest.mark.slow
def test_the_committed_scale_is_a_fresh_fit(committed: Report) -> None:
    assert (DATA / "quality.csv").read_bytes() == scale.quality_csv(committed.rows)
    assert (DATA / "quality_validation.yaml").read_bytes() == scale.validation_yaml(committed)


@pytest.mark.slow
def test_held_out_cells_are_covered_and_predicted_as_well_as_reported(committed: Report) -> None:
    grouped = committed.document["grouped_cross_validation"]
    low, high = scale.BAR_COVERAGE
    assert low <= grouped["all"]["coverage_90"] <= high
    assert low <= grouped["row_known"]["coverage_90"] <= high
    assert grouped["all"]["r"] >= 0.83
    assert grouped["model_known"]["r"] >= 0.84
    assert 0.88 <= committed.document["theta_coverage"]["flat_inflated"] <= 0.96
    bars = committed.document["bars"]
    assert bars["grouped_r"]["reached"] == (grouped["all"]["r"] >= scale.BAR_R)
    assert bars["grouped_coverage_90"]["reached"]


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="measured r is in data/quality_validation.yaml; these cells do not reach it")
def test_held_out_cells_are_predicted_to_the_bar(committed: Report) -> None:
    assert committed.document["grouped_cross_validation"]["all"]["r"] >= scale.BAR_R


def committed_rows() -> dict[tuple[str, str], dict[str, str]]:
    text = (DATA / "quality.csv").read_text(encoding="utf-8")
    assert text.startswith("# generated by `python -m benchmark scale --write`")
    rows = list(csv.DictReader(io.StringIO(text.partition("\n")[2])))
    assert list(rows[0]) == [field.name for field in fields(Quality)]
    return {(row["model"], row["effort"]): row for row in rows}


def test_every_committed_row_has_evidence_a_tier_and_known_references() -> None:
    rows = committed_rows()
    sources = {line.split(",", 1)[0] for line in (DATA / "sources.csv").read_text(encoding="utf-8").splitlines()}
    models = set(scale.model_ids(DATA).values())
    for (model, effort), row in rows.items():
        cited = row["sources"].split("|")
        assert model in models
        assert effort in get_args(Effort)
        assert int(row["benchmarks"]) >= 1
        assert int(row["tier"]) == scale.tier(float(row["theta"]))
        assert set(cited) <= sources
        assert cited[-1] == scale.FIT_SOURCE
        assert 0.05 < float(row["theta_se"]) < 0.6


def test_the_order_of_well_known_models() -> None:
    rows = committed_rows()
    theta = {key: float(row["theta"]) for key, row in rows.items()}
    assert theta["claude-opus-5", "high"] > theta["claude-opus-4-5", "high"]
    assert theta["gpt-5.5", "xhigh"] > theta["gpt-5.5", "medium"] > theta["gpt-5", "medium"]
    assert theta["gpt-4o", "default"] > theta["gpt-4o-mini", "default"]
    assert rows["llama-3.1-8b", "default"]["tier"] == "1"
    validation = yaml.safe_load((DATA / "quality_validation.yaml").read_text(encoding="utf-8"))
    assert validation["rows"] == len(rows)
