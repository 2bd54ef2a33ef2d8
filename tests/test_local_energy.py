"""Models measured on the user's own machine, in the router: which rows count, what they share, what is refused."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ecoroute_mcp import refresh, render, store
from ecoroute_mcp.catalogue import Catalogue, LocalEnergy, Source
from ecoroute_mcp.energy import Method, UnknownEnergy, middle
from ecoroute_mcp.ranking import Ranked, RankingsRequest, Request, Router
from ecoroute_mcp.sci import EcoRouteError, Estimate

DATA = Path(__file__).resolve().parents[1] / "data"
DAY = datetime.date(2026, 11, 21)
SOURCE = Source(id="this-machine", url="file:///this-machine.csv", retrieved_on=DAY, basis="measured")


def about(value: float) -> Estimate:
    return Estimate(low=0.99 * value, mid=value, high=1.01 * value, basis="measured", sources=("this-machine",))


def row(model: str = "qwen3-8b", read_j: float = 0.02, written_j: float = 3.0, **more: Any) -> LocalEnergy:
    return LocalEnergy(
        model=model,
        prefill_j_per_token=about(read_j),
        decode_j_per_token=about(written_j),
        prefill_s_per_token=about(3e-5),
        decode_s_per_token=about(6e-3),
        **{
            "precision": "bf16",
            "batch": 1,
            "prompt_tokens": 256,
            "generated_tokens": 256,
            "device_name": "NVIDIA H100 80GB HBM3",
            "device_uuid": "GPU-1",
            "measured_on": DAY,
            "energy_source": "counter",
            "weights": "checkpoint",
            "step": "CUDA graphs",
            **more,
        },
    )


@pytest.fixture(scope="module")
def here(catalogue: Catalogue) -> Any:
    """The project's catalogue on a machine where these rows were measured."""

    def measured(*rows: LocalEnergy) -> Catalogue:
        tables = {table.name: getattr(catalogue, table.name) for table in fields(catalogue)}
        return Catalogue.checked(**{**tables, "sources": (*catalogue.sources, SOURCE), "local_energy": rows})

    return measured


def how(catalogue: Catalogue, model: str = "qwen3-8b", prompt_tokens: float = 256) -> str:
    known = next(each for each in catalogue.models if each.id == model)
    return Method(catalogue).footprint(known, prompt_tokens).how


# Which row a model runs by.


def test_the_smallest_batch_is_the_nearest_to_one_user(here: Any) -> None:
    assert "batch 4, 2026-11-21" in how(here(row(batch=32), row(batch=4), row(batch=16)))


@pytest.mark.parametrize(
    ("measured", "taken"),
    [
        (("nf4", "bf16", "int8"), "bf16"),
        (("bf16", "as-served"), "as-served"),
        (("nf4", "int8"), "int8"),
        (("nf4", "q3"), "nf4"),
    ],
)
def test_as_served_counts_first_then_the_least_quantised(here: Any, measured: tuple[str, ...], taken: str) -> None:
    assert f", {taken}, batch 1," in how(here(*(row(precision=name) for name in measured)))


def test_the_device_measured_last_is_the_machine(here: Any) -> None:
    spark = row(device_uuid="GPU-2", device_name="NVIDIA GB10", batch=8)
    assert "NVIDIA GB10, bf16, batch 8" in how(here(spark, row(measured_on=datetime.date(2026, 1, 1))))
    assert "NVIDIA GB10, bf16, batch 8" in how(here(row(), spark))
    assert "NVIDIA H100 80GB HBM3" in how(here(spark, row()))


def test_a_doubtful_row_counts_only_where_there_is_no_other(here: Any) -> None:
    hot = row(doubt="software thermal throttling for 5.7 s")
    assert how(here(hot)).endswith("prompts of 256 tokens, software thermal throttling for 5.7 s")
    assert "batch 8" in how(here(hot, row(batch=8)))


def test_power_that_was_polled_is_said(here: Any) -> None:
    assert how(here(row(energy_source="polled"))).endswith("prompts of 256 tokens, energy by polled power")


def test_the_prompt_length_nearest_to_the_task_counts(here: Any) -> None:
    rows = (row(written_j=3.0), row(written_j=4.0, read_j=0.01, prompt_tokens=4096), row("llama-3.1-8b"))
    router = Router(here(*rows))
    # The geometric middle of 256 and 4,096 is 1,024.
    for context, read_j, written_j, length in ((900, 0.02, 3.0, 256), (1100, 0.01, 4.0, 4096), (900, 0.02, 3.0, 256)):
        ask = Request(
            task="abcd", task_type="chat", context_tokens=context - 1, output_tokens=100, min_tier=1, region="SWE"
        )
        best = router.recommend(replace(ask, candidates=("qwen3-8b",))).recommended
        assert best is not None
        expected = (context * read_j + best.output_tokens.mid * written_j) * 1.43
        assert best.energy_j.mid == pytest.approx(expected, rel=1e-12)
        assert f"prompts of {length} tokens" in best.energy_how
        both = router.rankings(RankingsRequest(task_type="chat", context_tokens=context, provider="this-machine"))
        assert {each.model for each in both.rows} == {"qwen3-8b", "llama-3.1-8b"}
        assert "prompts of 256 tokens" in next(each for each in both.rows if each.model == "llama-3.1-8b").energy_how


def test_the_order_of_a_list_is_that_of_the_figures_shown(here: Any) -> None:
    rows = (row(), row("qwen3-32b", 0.05, 6.0), row("llama-3.1-8b", 0.03, 3.1, prompt_tokens=2048))
    ranked = Router(here(*rows)).rankings(RankingsRequest(task_type="chat", region="SWE", limit=500)).rows
    for adequate in (True, False):
        grams = [each.carbon_g.mid for each in ranked if each.adequate is adequate]
        assert grams == sorted(grams)
    assert sum(each.provider == "this-machine" for each in ranked) == 3


# What it means to run here.


def test_the_boundary_is_this_machines(here: Any) -> None:
    catalogue = here(row())
    method = Method(catalogue)
    known = next(each for each in catalogue.models if each.id == "qwen3-8b")
    footprint = method.footprint(known)
    (machine,) = (each for each in catalogue.providers if each.id == "this-machine")
    assert (machine.pue.low, machine.pue.mid, machine.pue.high) == (1, 1, 1)
    assert (footprint.decode_j, footprint.device) == (about(3.0), "H100 SXM")
    at_plug = method.facility_factor(machine, local=True)
    assert (at_plug.low, at_plug.mid, at_plug.high) == pytest.approx((1.1, 1.43, 1.82), rel=1e-12)
    one = Estimate.exact(1, basis="given", source="caller")
    token = method.at_facility(footprint, machine, one)
    assert token.decode_kwh.mid == pytest.approx(3.0 * 1.43 / 3_600_000, rel=1e-12)
    # 273 + 336 kg over 4.5 years at a quarter's use.
    assert token.decode_embodied_g.mid == pytest.approx(6e-3 * 609_000 / (4.5 * 31_557_600 * 0.25), rel=1e-12)


def test_a_dgx_spark_is_a_whole_machine(here: Any) -> None:
    catalogue = here(row(device_name="NVIDIA GB10"))
    grams = Method(catalogue).embodied_g_per_device_s("GB10", local=True)
    assert grams.mid == pytest.approx(465_300 / (4.5 * 31_557_600 * 0.25), rel=1e-12)
    assert "embodied-unpublished-v1" in grams.sources


def test_ranges_without_a_published_footprint_follow_from_those_with_one(catalogue: Catalogue) -> None:
    known = [device for device in catalogue.devices if device.embodied_kg and "boaviztapi-2.5.0" in cited(device)]
    per_gb = [
        device.embodied_kg.high / device.memory_gb
        for device in known
        if device.embodied_kg and "embodied-unpublished-v1" not in cited(device)
    ]
    low, high = min(per_gb) / 3.51, max(per_gb)
    for device in catalogue.devices:
        if device.embodied_kg and "embodied-unpublished-v1" in cited(device):
            figure = device.embodied_kg
            assert figure.low == pytest.approx(low * device.memory_gb, rel=1e-3)
            assert figure.mid == pytest.approx((low * high) ** 0.5 * device.memory_gb, rel=1e-3)
            assert figure.high == pytest.approx(high * device.memory_gb, rel=1e-3)


def cited(device: Any) -> tuple[str, ...]:
    sources: tuple[str, ...] = device.embodied_kg.sources
    return sources


def test_a_model_whose_api_has_ended_still_runs_here(here: Any, catalogue: Catalogue) -> None:
    retired = next(model.id for model in catalogue.models if model.availability == "retired")
    ask = RankingsRequest(task_type="chat", limit=500)
    assert retired not in {each.model for each in Router(catalogue).rankings(ask).rows}
    choices = Router(here(row(retired)))._choices
    assert retired in choices.model_ids


def test_running_here_has_no_price_and_no_price_limit_binds_it(here: Any) -> None:
    router = Router(here(row(precision="nf4")))
    ask = Request(task="hello", task_type="chat", min_tier=1, candidates=("qwen3-8b",), max_cost_usd=1e-9)
    best = router.recommend(ask).recommended
    assert best is not None
    assert best.cost_usd is None
    assert best.notes == (
        "run on this machine: no price per token, and its electricity is not priced",
        "its quality is that of the published weights; here it runs as nf4",
    )
    by_cost = router.rankings(RankingsRequest(task_type="chat", sort_by="cost", limit=500))
    assert "qwen3-8b" not in {each.model for each in by_cost.rows}
    assert "its price is not known" in {group.reason for group in by_cost.excluded}


# Against others.


def test_a_saving_against_a_hosted_model_keeps_the_whole_doubt_of_each(here: Any) -> None:
    router = Router(here(row("llama-3.1-8b")))
    ask = Request(
        task="abcd", task_type="chat", context_tokens=99, output_tokens=100, min_tier=1, region="SWE",
        current_model="qwen3-8b", candidates=("llama-3.1-8b",),
    )  # fmt: skip
    answer = router.recommend(ask)
    saving = answer.saving_g
    assert saving is not None
    assert answer.current is not None
    assert answer.recommended is not None
    assert (answer.current.provider, answer.recommended.provider) == ("alibaba", "this-machine")
    grid = middle(router.zones.resolve("SWE").intensity_g_per_kwh)

    def grams(shown: Ranked, method: Method) -> Estimate:
        (choice,) = (one for one in router._choices.all if (one.model.id, one.effort) == (shown.model, shown.effort))
        per_token = method.at_facility(method.footprint(choice.model, 100), choice.provider, choice.multiplier)
        asked = answer.demand
        typical = replace(asked, input_tokens=middle(asked.input_tokens), output_tokens=middle(asked.output_tokens))
        growth = per_token.growth(router._choices.context_tokens(typical, choice))
        assert (growth is None) is (shown.provider == "this-machine")  # there the context is inside
        decode_kwh, decode_g = per_token.decode_kwh, per_token.decode_embodied_g
        if growth is not None:
            decode_kwh, decode_g = decode_kwh * growth, decode_g * growth
        energy_kwh = (per_token.prefill_kwh + decode_kwh).scaled(100)
        return energy_kwh * grid + (per_token.prefill_embodied_g + decode_g).scaled(100)

    full, own = Method(router.catalogue), Method(router.catalogue, shared=False)
    now, then = (grams(shown, full) for shown in (answer.current, answer.recommended))
    assert (saving.low, saving.mid, saving.high) == pytest.approx(
        (now.low - then.high, now.mid - then.mid, now.high - then.low), rel=1e-12
    )
    # Between two hosted models the batch and the stack would have been taken at their middles.
    assert now.high > 1.3 * grams(answer.current, own).high


def test_two_models_of_one_machine_share_its_doubts(here: Any) -> None:
    rows = (row("llama-3.1-8b", 0.02, 2.0), row("qwen3-8b", 0.02, 3.0))
    ask = Request(
        task="abcd", task_type="chat", context_tokens=99, output_tokens=100, min_tier=1,
        current_model="qwen3-8b", candidates=("llama-3.1-8b",),
    )  # fmt: skip
    router = Router(here(rows[0], replace(rows[1])))
    alike = router.recommend(ask).saving_g
    other = Router(here(rows[0], replace(rows[1], device_uuid="GPU-2"))).recommend(ask).saving_g
    assert alike is not None
    assert other is not None
    assert alike.mid == pytest.approx(other.mid, rel=1e-12)
    assert alike.high - alike.low < other.high - other.low


# What is refused, and how it is said.


def test_an_unknown_device_excludes_the_model_and_names_the_repair(here: Any) -> None:
    catalogue = here(row(device_name="x86_64", energy_source="rapl"), row("qwen3-14b"))
    known = next(each for each in catalogue.models if each.id == "qwen3-8b")
    with pytest.raises(UnknownEnergy, match=r"no row of data/devices.csv has 'x86_64' among its nvml_names: add it"):
        Method(catalogue).footprint(known)
    answer = Router(catalogue).rankings(RankingsRequest(task_type="chat", limit=500))
    (group,) = (group for group in answer.excluded if "x86_64" in group.reason)
    assert group.reason == (
        "no energy figure: measured on this machine's x86_64, which no row of data/devices.csv names (nvml_names): "
        "add it there"
    )
    assert group.models == ("qwen3-8b",)


def test_a_device_without_embodied_carbon_excludes_it_too(here: Any, catalogue: Catalogue) -> None:
    devices = tuple(
        replace(device, nvml_names=("Lacking",)) if device.id == "MI325X" else device for device in catalogue.devices
    )
    local = replace(here(row(device_name="Lacking")), devices=devices)
    answer = Router(local).rankings(RankingsRequest(task_type="chat", limit=500))
    assert (
        "no energy figure: no embodied carbon is known for MI325X; data/devices.csv is where to add it",
        ("qwen3-8b",),
    ) in {(group.reason, group.models) for group in answer.excluded}


def test_a_name_may_not_stand_for_two_devices(catalogue: Catalogue) -> None:
    devices = tuple(replace(device, nvml_names=("Same",)) for device in catalogue.devices[:2])
    tables = {table.name: getattr(catalogue, table.name) for table in fields(catalogue)}
    with pytest.raises(EcoRouteError, match="devices: 'Same' names both H100 SXM and H100 PCIe"):
        Catalogue.checked(**{**tables, "devices": (*devices, *catalogue.devices[2:])})


def test_health_counts_them_and_lacks_nothing_without(here: Any, router: Router) -> None:
    said: dict[str, Any] = {"version": "1", "database": "d", "notice": "", "detected": Request(task="").detected}
    none = router.health(**said)
    assert (none.status, none.local_models) == ("ok", 0)
    assert "- Measured on this machine: 0 models" in render.health(none).splitlines()
    some = Router(here(row(), row(batch=8), row("qwen3-14b"))).health(**said)
    assert (some.local_models, some.rows["local_energy"]) == (2, 3)


# From file to database.


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "sci.db"


def put(database: Path, *lines: str) -> Path:
    """This machine's file with the header of its columns and these lines."""
    file = refresh.this_machine(database)
    file.write_text("\n".join((",".join(refresh.cells(row())), *lines)) + "\n", "utf-8")
    return file


def line(measured: LocalEnergy) -> str:
    return ",".join(refresh.cells(measured).values())


def test_a_new_file_is_taken_up_and_a_deleted_one_forgotten(database: Path) -> None:
    refresh.open_catalogue(database, DATA)
    file = put(database, line(row()))
    opened = refresh.open_catalogue(database, DATA)
    assert opened.catalogue.local_energy == (row(),)
    assert "other data than is here now" in opened.notice
    (source,) = (each for each in opened.catalogue.sources if each.id == "this-machine")
    assert (source.url, source.retrieved_on, source.basis) == (file.as_uri(), DAY, "measured")
    assert "NVIDIA H100 80GB HBM3 GPU-1" in source.note
    assert store.load(database) == opened.catalogue
    file.unlink()
    assert refresh.open_catalogue(database, DATA).catalogue == refresh.read(DATA)


def test_refresh_says_what_came_and_went(database: Path) -> None:
    file = put(database, line(row()))
    report = refresh.refresh(database, DATA)
    assert "local_energy: 1 rows, 1 added (qwen3-8b bf16 1 256 NVIDIA H100 80GB HBM3 GPU-1)" in report.text()
    assert report.failed == {}
    file.unlink()
    assert "local_energy: 0 rows, 1 removed" in refresh.refresh(database, DATA).text()


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (line(row(batch=8)).replace("bf16,8,", "bf16,eight,"), "line 3, column batch: 'eight' is not a plain finite"),
        (
            line(row(batch=8)).replace(",0.0198,0.02,", ",0.0201,0.02,"),
            "line 3: an estimate needs 0 <= low <= mid <= high",
        ),
        (line(row(batch=8)).replace("this-machine", "vllm", 1), "line 3, prefill_j_per_token: names source 'vllm'"),
        (line(row("no-such-model")), "'no-such-model' is no model of data/models.csv"),
        (line(row()), "qwen3-8b, bf16, 1, 256, NVIDIA H100 80GB HBM3, GPU-1 appears twice"),
        ("qwen3-8b,bf16", "line 3: has 2 cells where the header has"),
        ('"qwen3-8b', "line 3: unexpected end of data"),
    ],
)
def test_a_damaged_line_is_named_and_the_others_kept(database: Path, damaged: str, said: str) -> None:
    put(database, line(row()), damaged, line(row("qwen3-14b")))
    for _ in range(2):  # the notice stays with the database
        opened = refresh.open_catalogue(database, DATA)
        assert [each.model for each in opened.catalogue.local_energy] == ["qwen3-8b", "qwen3-14b"]
        assert said in opened.notice
        assert "remove these lines, or measure again" in opened.notice
    assert said in refresh.refresh(database, DATA).notice


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"model,preciseness\nqwen3-8b,bf16\n", b"\0"])
def test_a_file_that_is_no_table_stops_nothing(database: Path, content: bytes) -> None:
    refresh.this_machine(database).write_bytes(content)
    opened = refresh.open_catalogue(database, DATA)
    assert opened.catalogue == refresh.read(DATA)
    assert str(refresh.this_machine(database)) in opened.notice


def test_sources_of_yesterday_do_not_double_this_machines(database: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(DATA, data, ignore=shutil.ignore_patterns("upstream", "measurements"))
    put(database, line(row()))
    refresh.refresh(database, data)
    (data / "sources.csv").write_text("damaged", "utf-8")
    report = refresh.refresh(database, data)
    assert list(report.failed) == ["sources"]
    assert store.load(database).local_energy == (row(),)
