"""`predict`, for one deployment and for tables of them, as people have them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from benchmark import deployments, law, prediction
from benchmark.__main__ import main
from ecoroute_mcp.catalogue import ANY_DEVICE
from ecoroute_mcp.energy import Deployment, predict
from ecoroute_mcp.sci import EcoRouteError

DATA = Path(__file__).resolve().parents[2] / "data"
UPSTREAM = (DATA / "upstream" / "mlenergy_v3.csv").read_text("utf-8")
OUTCOMES = ("tokens_per_s", "j_per_output_token", "j_per_request", "avg_power_w", "median_itl_ms", "p95_itl_ms")
LOW, MID, HIGH, NOTE = prediction.PREDICTED_COLUMNS


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def told(**cells: str) -> dict[str, str]:
    """The prediction of a table of one row: an 8e9 dense model on an H100 at batch 32, but for what is said."""
    given = {"total_params_b": "8", "gpu": "H100", "avg_batch": "32", **cells}
    out, _ = prediction.predict_csv(",".join(given) + "\n" + ",".join(given.values()) + "\n", DATA)
    (row,) = rows(out)
    return row


def test_every_measured_row_gets_a_prediction_and_keeps_its_cells() -> None:
    out, failed = prediction.predict_csv(UPSTREAM, DATA)
    given, predicted = rows(UPSTREAM), rows(out)
    assert (failed, len(predicted)) == (0, 688)
    assert [{name: row[name] for name in given[0]} for row in predicted] == given
    assert list(predicted[0])[-4:] == list(prediction.PREDICTED_COLUMNS)
    texts = [row for row in predicted if row["task"] in ("lm-arena-chat", "gpqa")]
    inside = [float(row[LOW]) <= float(row["j_per_output_token"]) <= float(row[HIGH]) for row in texts]
    assert sum(inside) / len(inside) > 0.9


def test_outcomes_are_never_looked_at() -> None:
    given = rows(UPSTREAM)[:40]
    blind = [{name: "x" if name in OUTCOMES else cell for name, cell in row.items()} for row in given]
    tables = []
    for each in (given, blind):
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(given[0]))
        writer.writeheader()
        writer.writerows(each)
        out, failed = prediction.predict_csv(text.getvalue(), DATA)
        assert failed == 0
        tables.append([(row[LOW], row[MID], row[HIGH], row[NOTE]) for row in rows(out)])
    assert tables[0] == tables[1]


def test_a_row_is_the_law_at_its_deployment() -> None:
    known, found = prediction.laws(DATA), deployments.devices(DATA)
    told_row = told(active_params_b="8", n_gpus="2", precision="fp8", task="gpqa", avg_output_len="1000")
    deployment = Deployment(
        device=found["H100 SXM"],
        devices=2,
        params_total_b=8,
        params_active_b=8,
        bytes_per_param=1,
        batch=32,
        context_tokens=250 + 500,
        prompt_per_output=0.25,
    )
    law_here = known["H100 SXM"]
    assert float(told_row[MID]) == pytest.approx(predict(law_here, deployment), rel=1e-5)
    assert float(told_row[HIGH]) == pytest.approx(float(told_row[MID]) * law_here.residual_factor.high, rel=1e-5)
    assert told_row[NOTE] == "H100 taken as H100 SXM, not H100 PCIe"


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"avg_batch": ""}, "avg_batch is missing"),
        ({"total_params_b": ""}, "total_params_b is missing"),
        ({"total_params_b": "8B"}, "total_params_b must be a positive number, not '8B'"),
        ({"avg_batch": "nan"}, "avg_batch must be a positive number, not 'nan'"),
        ({"gpu": "TPU v5"}, "unknown GPU 'TPU v5': data/devices.csv has H100 SXM"),
        ({"gpu": "RTX 5090"}, "needs the arithmetic rate of RTX 5090"),
        ({"precision": "ternary"}, "unknown precision 'ternary': one of fp32"),
        ({"active_params_b": "9"}, "active parameters <= total parameters"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why_and_stays(cells: dict[str, str], says: str) -> None:
    row = told(**cells)
    assert row[NOTE].startswith("not predicted: ")
    assert says in row[NOTE]
    assert (row[LOW], row[MID], row[HIGH]) == ("", "", "")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("FP8-dynamic", "fp8"), ("mxfp4", "nf4"), ("nvfp4", "fp4"), ("AWQ-INT4", "int4"), ("Bfloat16", "bf16")],
)
def test_precisions_are_known_by_their_usual_names(written: str, meant: str) -> None:
    assert told(precision=written)[MID] == told(precision=meant)[MID]


def test_what_is_assumed_is_said() -> None:
    assert "avg_batch taken as max_num_seqs" in told(avg_batch="", max_num_seqs="32")[NOTE]
    assert told(avg_batch="", max_num_seqs="32")[MID] == told()[MID]
    assert "prompt length of task 'haiku' not known" in told(task="haiku", avg_output_len="9")[NOTE]
    assert told(active_params_b="")[MID] == told(active_params_b="8")[MID]


def test_older_stacks_take_more() -> None:
    now, then = told(dataset="v3.0 (vLLM 0.11.1)"), told(dataset="v2.1 (vLLM 0.5.4)")
    assert float(then[MID]) == pytest.approx(1.6 * float(now[MID]), rel=1e-5)
    width = [math.log(float(row[HIGH]) / float(row[LOW])) for row in (now, then)]
    assert width[1] > width[0]
    assert told()[MID] == now[MID]
    assert "an older serving stack: 1.6 times the law" in then[NOTE]
    for newest in ("vLLM v1 engine", "ShareGPT v1", "Nemotron Nano v2 card"):
        assert told(dataset=newest)[MID] == now[MID]


@pytest.mark.parametrize("name", ["B200", "NVIDIA B200", "B200 SXM"])
def test_only_rows_of_the_campaign_that_the_host_held_up_are_predicted_so_and_say_it(name: str) -> None:
    cells = {"gpu": name, "task": "gpqa", "avg_output_len": "5000"}
    held = told(**cells, dataset="v3.0 (vLLM 0.11.1, steady state)")
    free = told(**cells, dataset="ours")
    assert "the host held up" in held[NOTE]
    assert "the host held up" not in free[NOTE]
    assert float(held[MID]) > 1.3 * float(free[MID])


def test_what_is_missing_is_said() -> None:
    assert "avg_output_len is missing: prompts and what is written are not counted" in told(task="gpqa")[NOTE]
    assert "task is missing: prompts taken as none" in told()[NOTE]


@pytest.mark.parametrize("name", ["A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB", "A100 SXM 40GB"])
def test_a_gpu_that_nobody_measured_has_the_wider_interval_of_all(name: str) -> None:
    row, known = told(gpu=name), prediction.laws(DATA)
    assert "no measurements on A100 SXM 40GB: the law of all measured devices" in row[NOTE]
    factor = known[ANY_DEVICE].residual_factor.high
    assert float(row[HIGH]) / float(row[MID]) == pytest.approx(factor, rel=1e-4)
    assert factor > known["H100 SXM"].residual_factor.high


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs a header with total_params_b"),
        ("model,gpu\nm,H100\n", "needs a header with total_params_b"),
        (f"total_params_b,gpu,avg_batch,{MID}\n8,H100,32,1\n", f"has a column {MID} already"),
    ],
)
def test_a_table_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(EcoRouteError, match=says):
        prediction.predict_csv(text, DATA)


def test_the_command_for_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("total_params_b,gpu,avg_batch\n8,H100,32\n8,,32\n", "utf-8-sig")
    assert main(["predict", "--csv", str(path)]) == 1
    said = capsys.readouterr()
    assert [row[MID] != "" for row in rows(said.out)] == [True, False]
    assert said.err == "1 rows could not be predicted: their predicted_note says why\n"
    assert main(["predict", "--csv", str(tmp_path / "none.csv")]) == 2


ONE = ["predict", "--params-total-b", "8", "--gpu", "H100 SXM", "--batch", "1", "--json"]


def test_the_command_for_one_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ONE, "--context", "1000"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(document["terms"].values()) == pytest.approx(document["j_per_token"]["mid"], rel=1e-12)
    assert document["terms"]["cache"] > 0.01
    assert document["j_per_token"]["basis"] == "estimated"
    assert main(ONE[:-1]) == 0
    text = capsys.readouterr().out
    assert "J per written token" in text
    assert "cache" not in text
    assert main(["predict", "--gpu", "H100"]) == 2
    assert "predict needs --params-total-b, --batch, or --csv FILE" in capsys.readouterr().err


def test_a_machine_that_has_measured_moves_and_narrows_the_law(capsys: pytest.CaptureFixture[str]) -> None:
    own = DATA / "measurements" / "h100-80gb-hbm3.jsonl"
    assert main(ONE) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*ONE, "--measured", str(own)]) == 0
    here = json.loads(capsys.readouterr().out)
    known = prediction.laws(DATA)["H100 SXM"]
    trials = [row for row in law.own_rows(DATA, [own]) if row.device == "H100 SXM"]
    machine = law.calibrated(
        trials, [predict(known, row.deployment) for row in trials], math.log(known.residual_factor.high)
    )
    assert here["j_per_token"]["mid"] == pytest.approx(machine.factor * alone["j_per_token"]["mid"], rel=1e-9)
    assert here["law"] == f"H100 SXM, calibrated on {machine.models} models measured on this machine"
    assert main([*ONE[:4], "B200 SXM", *ONE[5:], "--measured", str(own)]) == 2
    assert "has no trial of B200 SXM at 16 bits" in capsys.readouterr().err
