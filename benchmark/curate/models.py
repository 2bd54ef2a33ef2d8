"""Models and their other names, from the catalogues of prices and model cards that were read.

Upstream: ``models.csv`` (one row per model, cross-checked over the catalogues its ``sources`` column names),
``model_corrections.csv`` (cells of it that are wrong, each with the page that shows it), ``model_aliases.csv``
(how those catalogues spell the models) and ``model_snapshots.csv`` (spellings filed there that are another product).
What is not certain is left out: a release date that is only an upper bound, open weights taken over from another member
of the family, a price of zero. Parameters that nobody publishes or estimates come from :mod:`benchmark.curate.sizes`,
and say so; a count that a source gives is never replaced.

The alias table keeps only what :mod:`ecoroute_mcp.identity` cannot reach by rule, in its barest form, so that every
wrapped spelling of it resolves too.
"""

from __future__ import annotations

import csv
import datetime
import functools
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from benchmark.curate.sizes import POINT_FACTOR, Regression, Study, a_point
from ecoroute_mcp.catalogue import Ability, Alias, Availability, Model
from ecoroute_mcp.identity import Identity, core, has_known_route
from ecoroute_mcp.sci import Basis, EcoRouteError, Estimate

TODAY = datetime.date(2026, 11, 21)

_CATALOGUES = {
    "model-prices": "model-prices-0.0.5",
    "genai-prices": "genai-prices",
    "litellm": "litellm-prices",
    "pi-ai": "pi-ai-models",
    "openrouter": "openrouter-models",
    "models.dev": "models-dev",
    "AA 2026-08-22": "artificial-analysis-2026-08-22",
    "AA 2026-10-03": "artificial-analysis-2026-10-03",
    "AA": "artificial-analysis-2026-08-22",
    "ecologits": "ecologits-0.11.3",
}
"""The name of a catalogue in upstream tables -> its id in data/sources.csv."""

_REFUSED = re.compile(
    r"[-:](batch|highspeed|contributor|nitro|extended|fast|turbo|online|customtools|search|base|chat|vl|[0-9]+k"
    r"|experimental)(?=[-:]|$)"
)
"""Words of a spelling that mean another price, another service or other weights than the model it was filed under."""

_OWN_WORDS = re.compile(r"grok-(?:4|4[.-]1|code)-fast|grok-4[.-]20-experimental|deepseek-chat-v3")
"""Where such a word belongs to the name of a model that the catalogue has, or to an early snapshot of it."""

_ANOTHER_MODEL = re.compile(
    r"ministral-[38]b|ministral-8b(?:-instruct)?-2410"  # of October 2024 (Azure, OpenRouter) or of December 2025
    r"|magistral-(?:medium|small)-2506"  # 1.0, not 1.2
    r"|ministral-3-[0-9]+b-reasoning-2512|phi-4-reasoning"  # weights of their own
    r"|(?:cohere\.)?command-a-reasoning|llama-3\.1-405b-reasoning"
    r"|qwen3-coder"  # a family of three
)
"""Names that upstream files under a model which they are not, or not alone."""

POINT_SOURCE = "size-point-v1"
"""Why a total that is estimated without a range is given POINT_FACTOR as its doubt."""

_NO_PARAMETERS = "no parameter count published or estimated by any source we read"

_DEAR_USD_PER_MTOK = 1.0
"""The dearest sixth of the models with published sizes costs more; most closed models without any do."""


def tables(upstream: Path) -> dict[str, list[dict[str, str]]]:
    """File name -> rows of ``models.csv``, ``sources_models.csv`` and ``aliases.csv``. Deterministic."""
    models, sources = [], []
    study = _study(upstream)
    spellings = list(rows(upstream / "model_aliases.csv"))
    for row in corrected(upstream):
        models.append(_model(row, study))
        if row["params_source"]:
            sources.append(_parameter_source(row))
    sources.extend(_regression_source(regression) for regression in study.regressions)
    aliases = _aliases(models, spellings, list(rows(upstream / "model_snapshots.csv")))
    return {"models.csv": models, "sources_models.csv": sources, "aliases.csv": aliases}


def notes(upstream: Path) -> dict[str, list[str]]:
    """Comments for ``models.csv``: the regressions behind estimated sizes, and how they stand to EcoLogits' figures."""
    study = _study(upstream)
    return {
        "models.csv": [
            *(f"{regression.formula}: {regression.figures}" for regression in study.regressions),
            *(f"beside EcoLogits (no input): {agreement.figures}" for agreement in study.agreements),
            *(
                f"{found.shapes} shapes above {found.usd_per_mtok:g} USD from those below, {found.target}: true over "
                f"predicted {found.bias:.2f} (geometric mean), median factor {found.median_factor:.2f}"
                for found in study.extrapolations(_DEAR_USD_PER_MTOK)
            ),
        ]
    }


@functools.lru_cache(maxsize=1)
def _study(upstream: Path) -> Study:
    return Study(corrected(upstream))


def rows(path: Path) -> Iterable[dict[str, str]]:
    """The rows of one upstream table, every cell as text."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def corrected(upstream: Path) -> list[dict[str, str]]:
    """The upstream models with the cells of ``model_corrections.csv`` put right."""
    models = {row["id"]: row for row in rows(upstream / "models.csv")}
    for correction in rows(upstream / "model_corrections.csv"):
        models[correction["id"]][correction["column"]] = correction["value"]
    return list(models.values())


def refused(spelling: str, snapshots: Collection[str]) -> str | None:
    """The word for which an upstream spelling is not carried over; None where it is carried.

    ``snapshots``: the names that are sold at a price of their own.
    """
    if spelling.startswith("~"):
        return "moving pointer"
    if not has_known_route(spelling):
        return "unknown host"
    if _ANOTHER_MODEL.fullmatch(core(spelling)) or _ANOTHER_MODEL.fullmatch(_name(spelling)):
        return "another model"
    if _name(spelling) in snapshots:
        return "another price"
    found = _REFUSED.findall(_OWN_WORDS.sub("", _name(spelling)))
    return found[-1] if found else None


def _name(spelling: str) -> str:
    return re.sub(r":free$", "", spelling.lower().rpartition("/")[2])


def _model(row: dict[str, str], study: Study) -> dict[str, str]:
    published = [word for word in row["sources"].split(";") if word]
    parameters = _parameters(row) | _sized(row, study)
    price_note = _price_note(row)
    priced = float(row["price_in_usd_per_mtok"] or 0) > 0 and float(row["price_out_usd_per_mtok"] or 0) > 0
    return {
        "id": bare(row["id"]),
        "provider": row["provider"],
        "family": row["family"],
        "sources": "|".join(dict.fromkeys(_CATALOGUES[name.split("(")[0]] for name in published)),
        "availability": availability(row),
        "retires_on": row["deprecation_date"],
        "released_on": "" if "upper bound" in row["release_date_source"] else row["release_date"],
        "context_tokens": _whole(row["context_window"]),
        "max_output_tokens": _whole(row["max_output"]) if _fits(row) else "",
        "price_in_usd_per_mtok": _number(row["price_in_usd_per_mtok"]) if priced else "",
        "price_out_usd_per_mtok": _number(row["price_out_usd_per_mtok"]) if priced else "",
        "price_sources": _CATALOGUES[row["price_source"]] if priced else "",
        "price_note": price_note,
        "open_weights": "" if "open_weights" in row["unverified"] else row["open_weights"].lower(),
        "licence": {"Mit": "MIT"}.get(row["license"], row["license"]),
        "weights_url": row["hf_url"],
        **{
            f"{field}.{end}": parameters.get(field, {}).get(end, "")
            for field in ("params_total_b", "params_active_b", "params_active_prefill_b")
            for end in ("low", "mid", "high", "sources")
        },
        "params_note": _parameters_note(row, study),
        "abilities": "|".join(_abilities(row)),
        "reasons": row["supports_reasoning"].lower(),
    }


def bare(upstream_id: str) -> str:
    """``anthropic/claude-sonnet-4-5`` -> ``claude-sonnet-4-5``: ids are unique without their vendor."""
    return upstream_id.partition("/")[2]


def availability(row: dict[str, str]) -> Availability:
    """Whether the model can be had on 2026-11-21: weights that were published stay downloadable after an API ends."""
    ended = bool(row["deprecation_date"]) and datetime.date.fromisoformat(row["deprecation_date"]) <= TODAY
    downloadable = row["open_weights"] == "True" and "open_weights" not in row["unverified"]
    out_of_catalogues = row["available_nov2026"] == "False"
    if (ended or (out_of_catalogues and row["deprecated"] == "True")) and not downloadable:
        return "retired"
    if row["deprecated"] == "True" or ended or (out_of_catalogues and _superseded(row)):
        return "deprecated"
    return "current"


def _superseded(row: dict[str, str]) -> bool:
    return row["id"] == "deepseek/deepseek-v3"  # the vendor's API serves V3.1 and later; 0324 replaced the first V3


def _parameters(row: dict[str, str]) -> dict[str, dict[str, str]]:
    source = f"params:{bare(row['id'])}"
    basis: Basis = "estimated" if row["params_kind"] == "estimate" else "published"
    fields: dict[str, dict[str, str]] = {}
    for field in ("params_total_b", "params_active_b"):
        if not row[field]:
            continue
        mid = low = high = float(row[field])
        if basis == "estimated":
            low, high = float(row[field.replace("_b", "_min_b")]), float(row[field.replace("_b", "_max_b")])
        cited: tuple[str, ...] = (source,)
        if a_point(row) and field == "params_total_b":
            low, high, cited = mid / POINT_FACTOR, mid * POINT_FACTOR, (source, POINT_SOURCE)
        fields[field] = _cells(Estimate(low=low, mid=mid, high=high, basis=basis, sources=cited))
    if row["id"] == "deepseek/deepseek-v4.1-flash":  # upstream's "range" is 8 in prefill, 16 in decode
        prefill = float(row["params_active_min_b"])
        fields["params_active_prefill_b"] = _cells(Estimate.exact(prefill, basis=basis, source=source))
    return fields


def _sized(row: dict[str, str], study: Study) -> dict[str, dict[str, str]]:
    """The counts that no source gives, to three digits; each cites its regression and what that was applied to."""
    fields: dict[str, dict[str, str]] = {}
    for target, size in study.sizes(row).items():
        applied_to = {
            "price": _CATALOGUES.get(row["price_source"], ""),
            "context": "",
            "total": f"params:{bare(row['id'])}",
        }
        cited = [size.regression.source, *filter(None, (applied_to[name] for name in size.regression.names))]
        cited += [POINT_SOURCE] if "total" in size.regression.names and a_point(row) else []
        ends = {"low": size.low, "mid": size.mid, "high": size.high}
        fields[target] = {name: _number(f"{end:.3g}") for name, end in ends.items()} | {"sources": "|".join(cited)}
    return fields


def _cells(value: Estimate) -> dict[str, str]:
    ends = {"low": value.low, "mid": value.mid, "high": value.high}
    return {name: _number(end) for name, end in ends.items()} | {"sources": "|".join(value.sources)}


def _parameters_note(row: dict[str, str], study: Study) -> str:
    if not row["params_active_b"]:
        return _sized_note(row, study)
    if row["id"] == "deepseek/deepseek-v4.1-flash":
        return "activates 8 B of 552 B in prefill and 16 B in decode"
    if row["params_kind"] == "estimate":
        return "not disclosed; estimated by EcoLogits from prices, benchmarks and leaks" + (
            f"; its range of the total is a point, taken as a factor of {POINT_FACTOR:g} either way"
            if a_point(row)
            else ""
        )
    if "dense assumed" in row["params_source"]:
        return "total from the vendor's model id; dense is assumed"
    return ""


def _sized_note(row: dict[str, str], study: Study) -> str:
    given = _NO_PARAMETERS
    if row["params_total_b"]:
        page = "statement" if row["params_kind"] == "estimate" else "page"
        given = f"total only: the {page} it rests on gives no active parameters"
        if a_point(row):
            given += f", and no range of the total, taken as a factor of {POINT_FACTOR:g} either way"
    sizes = study.sizes(row)
    if not sizes:
        lacking = "the catalogues disagree on its price" if row["price_conflict"] == "True" else "it has no price"
        return f"{given}; {lacking}, so that none can be inferred either"
    traits = dict.fromkeys(name for size in sizes.values() for name in size.regression.names)
    remarks = [given, f"inferred from {' and '.join(traits)}, within a wide factor (see its source)"]
    remarks += [f"its {name} lies beyond those of all models that the regression knows" for name in study.doubts(row)]
    remarks += ["the price is a preview's"] if "preview" in row["id"] else []
    remarks += (
        ["the price is what OpenRouter lists"] if "price" in traits and row["price_source"] == "openrouter" else []
    )
    return "; ".join(remarks)


def _fits(row: dict[str, str]) -> bool:
    """Whether the longest answer fits the context: upstream mixes up the two of Ministral 3B."""
    return not row["max_output"] or float(row["max_output"]) <= float(row["context_window"])


def _price_note(row: dict[str, str]) -> str:
    notes = []
    if not float(row["price_in_usd_per_mtok"] or 0) > 0 or not float(row["price_out_usd_per_mtok"] or 0) > 0:
        notes.append("no catalogue we read has a price for it")
    elif row["available_nov2026"] == "False":
        notes.append("last price seen; no catalogue we read sells it now")
    elif "lists price 0" in row["unverified"]:
        notes.append("the vendor's own API lists a price of zero (free tier); this is OpenRouter's")
    if row["price_conflict"] == "True":
        notes.append("the catalogues disagree on this price")
    if availability(row) != "retired" and row["available_nov2026"] == "False" and row["open_weights"] == "True":
        notes.append("its weights can be downloaded")
    return "; ".join(notes)


def _abilities(row: dict[str, str]) -> list[Ability]:
    abilities: list[Ability] = []
    if row["supports_vision"] == "True":
        abilities.append("vision")
    if row["supports_tools"] == "True":
        abilities.append("tools")
    return abilities


def _parameter_source(row: dict[str, str]) -> dict[str, str]:
    text = row["params_source"]
    url = re.search(r"https?://[^\s|;)]+", text)
    page = re.search(
        r"\b((?:unsloth\.ai|cloud\.baidu\.com|docs\.oxen\.ai|ai-tldr\.dev|flowerclaw\.tech)[^\s:;,)]*)", text
    )
    day = re.search(r"\bAA (20\d\d-\d\d-\d\d)", text)
    if row["params_kind"] == "estimate" and "EcoLogits" in text:  # the pages it cites give no parameters
        address = "https://github.com/mlco2/ecologits/blob/main/ecologits/data/models.json"
    elif url is not None:
        address = url.group()
    elif page is not None:
        address = f"https://{page.group(1)}"
    elif "vendor model id" in text:
        address = f"https://openrouter.ai/{row['ids'].partition('openrouter=')[2].partition(';')[0]}"
    else:
        address = "https://artificialanalysis.ai/models"
    basis: Basis
    if row["params_kind"] == "estimate" or "dense assumed" in text:
        basis = "estimated"
    elif row["open_weights"] == "True" and "third party" not in text and (url or "vendor model id" in text):
        basis = "vendor_reported"
    else:
        basis = "published"
    return {
        "id": f"params:{bare(row['id'])}",
        "url": address,
        "retrieved_on": day.group(1) if day else TODAY.isoformat(),
        "basis": basis,
        "licence": "MPL-2.0" if "EcoLogits" in text else "",
        "note": re.sub(r"https?://", "", text),
    }


def _regression_source(regression: Regression) -> dict[str, str]:
    return {
        "id": regression.source,
        "url": "data/README.md#models",
        "retrieved_on": TODAY.isoformat(),
        "basis": "estimated",
        "licence": "MIT",
        "note": f"{regression.formula} (parameters in 1e9, USD per 1e6 tokens); {regression.figures}",
    }


def _aliases(
    models: list[dict[str, str]], spellings: list[dict[str, str]], snapshots: list[dict[str, str]]
) -> list[dict[str, str]]:
    known = [as_model(row) for row in models]
    now = Identity(known, ())
    kept: dict[str, Alias] = {}
    own_price = {row["snapshot"] for row in snapshots}
    left = [row for row in spellings if refused(row["alias"], own_price) is None and not reached(now, row)]
    for form in (core, str.lower):  # the barest form first; the whole spelling where that is not enough
        wanted: dict[str, list[dict[str, str]]] = {}
        for row in left:
            wanted.setdefault(form(row["alias"]), []).append(row)
        for spelling, found in wanted.items():
            key = re.sub(r"[.:@]", "-", spelling)
            if len({row["canonical"] for row in found}) == 1 and key not in kept:
                source = _CATALOGUES[found[0]["catalogue"]]
                kept[key] = Alias(alias=spelling, model=bare(found[0]["canonical"]), sources=(source,))
        now = Identity(known, tuple(kept.values()))
        left = [row for row in left if not reached(now, row)]
    for key in sorted(kept, key=lambda key: (-len(key), key)):  # what the shorter names reach already
        others = tuple(alias for other, alias in kept.items() if other != key)
        if reached(Identity(known, others), {"alias": kept[key].alias, "canonical": f"/{kept[key].model}"}):
            del kept[key]
    carried = [*kept.values(), *map(_apart, snapshots)]
    return [
        {"alias": alias.alias, "model": alias.model, "sources": "|".join(alias.sources), "refused": alias.refused}
        for alias in sorted(carried, key=lambda alias: (alias.model, alias.alias))
    ]


def _apart(row: dict[str, str]) -> Alias:
    paid = [_number(row[f"price_{way}_usd_per_mtok"]) for way in ("in", "out")]
    return Alias(
        alias=row["snapshot"],
        model=bare(row["canonical"]),
        sources=(_CATALOGUES[row["catalogue"]],),
        refused=f"a snapshot with a price of its own ({paid[0]} USD in and {paid[1]} out per 1e6 tokens), not in the "
        "catalogue",
    )


def reached(identity: Identity, row: dict[str, str]) -> bool:
    """Whether an upstream spelling resolves, and to the model it was filed under."""
    try:
        return identity.resolve(row["alias"]).model_id == bare(row["canonical"])
    except EcoRouteError:
        return False


def as_model(row: dict[str, str]) -> Model:
    """As much of a row as identity looks at."""
    total_b = row["params_total_b.mid"]
    return Model(
        id=row["id"],
        provider=row["provider"],
        family=row["family"],
        sources=tuple(row["sources"].split("|")),
        open_weights=row["open_weights"] == "true",
        params_total_b=Estimate.exact(float(total_b), basis="published", source="upstream") if total_b else None,
        reasons={"true": True, "false": False}.get(row["reasons"]),
    )


def _number(text: str | float) -> str:
    return f"{float(text):.6g}"


def _whole(text: str) -> str:
    return str(int(float(text))) if text else ""
