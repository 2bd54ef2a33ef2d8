"""Answers as short Markdown that a person can read: units chosen per figure, every interval shown, no JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from types import ModuleType

from ecoroute_mcp import energy, ranking, sci
from ecoroute_mcp.catalogue import THIS_MACHINE, Catalogue
from ecoroute_mcp.choices import Excluded
from ecoroute_mcp.ranking import Ability, Health, Ranked, Rankings, Recommendation, Saving, Standing, Zone
from ecoroute_mcp.sci import SECONDS_PER_HOUR, Estimate

_GRAMS = ((1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"), (1e-9, "ng"))
_TIMES = ((SECONDS_PER_HOUR, "h"), (60.0, "min"), (1.0, "s"))
LAMP_W = 10
"""A yardstick for reading joules, by the definition of the watt; no figure rests on it."""
_JOULES = ((SECONDS_PER_HOUR, "Wh"), (1.0, "J"), (1e-3, "mJ"))
RANKING_COLUMNS = ("model", "effort", "tier", "p(adequate)", "CO2e per task (90 %)", "cost of 1,000", "energy")


def quantity(value: float, units: tuple[tuple[float, str], ...] = _GRAMS) -> str:
    """Three significant digits in the unit that reads best, sign kept: ``0.00054 g`` -> ``540 µg``."""
    scale, unit = _unit(value, units)
    return f"{_digits(value / scale)} {unit}"


def interval(estimate: Estimate | Saving, units: tuple[tuple[float, str], ...] = _GRAMS, sign: int = 1) -> str:
    """``mid unit (low to high)``, all in the unit of the middle; ``sign`` -1 turns a saving into a cost."""
    scale, unit = _unit(estimate.mid, units)
    low, high = (estimate.low, estimate.high) if sign > 0 else (-estimate.high, -estimate.low)
    return f"{_digits(sign * estimate.mid / scale)} {unit} ({_digits(low / scale)} to {_digits(high / scale)})"


def _unit(value: float, units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    if value == 0:
        return units[1]
    return next((pair for pair in units if abs(value) >= pair[0] * 0.9995), units[-1])


def percent(share: float) -> str:
    """A probability, never rounded up to certainty."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{share:.0%}".replace("%", " %")


def dollars(estimate: Estimate | None) -> str:
    """Per task, or per 1,000 tasks where one costs less than a cent."""
    if estimate is None:
        return "price not known"
    many, of = (1000, " per 1,000 such tasks") if estimate.mid < 0.01 else (1, "")
    low, mid, high = (_digits(value * many) for value in (estimate.low, estimate.mid, estimate.high))
    return f"${mid} (${low} to ${high}){of}"


def recommendation(answer: Recommendation) -> str:
    """At most 20 lines: the choice, its grams and cost, the saving, the bar, the runner-up, and what it rests on."""
    demand, best = answer.demand, answer.recommended
    lines = []
    if best is None:
        lines.append("**No model fits.**")
    else:
        lines.append(f"**{best.model}**{_effort(best)}: {interval(best.carbon_g)} CO2e for this task")
    lines += ["", answer.verdict, ""]
    if answer.saving_g is not None and answer.current is not None and answer.saving_g.mid != 0:
        verb, sign = ("saves", 1) if answer.saving_g.mid > 0 else ("costs", -1)
        said = f" ({answer.current_note})" if answer.current_note else ""
        lines.append(
            f"- The change {verb} {interval(answer.saving_g, sign=sign)} against {answer.current.model}"
            f"{_effort(answer.current)}{said}, {interval(answer.current.carbon_g)}"
        )
    elif answer.current_note:
        lines.append(f"- Current model: {answer.current_note}")
    bar = demand.requirement
    certainty = f"with {percent(bar.probability)} certainty"
    if bar.min_success is None:
        needs = f"needs tier {bar.min_tier} {certainty}: {bar.why[:1].lower()}{bar.why[1:]}"
    else:
        needs = f"has to {bar.reach} {certainty}, as asked"
        needs += f"; {bar.min_success.note}" if bar.min_success.note else ""
    lines.append(f"- Task: {demand.kind} ({demand.kind_why}); {needs}")
    if best is not None:
        if best.ability is not None:
            chance = best.ability.p_success
            likely = f"{percent(chance.value)} likely to succeed, " if chance is not None else ""
            lines.append(
                f"- Quality: tier {best.ability.tier}, {likely}{percent(best.ability.p_adequate)} sure to be adequate, "
                f"by {_evidence(best.ability)}"
            )
        lines.append(
            f"- Cost: {_cost(best)}; energy {interval(best.energy_j, _JOULES)}, as a {LAMP_W} W lamp in "
            f"{quantity(best.energy_j.mid / LAMP_W, _TIMES)}; {quantity(best.embodied_g.mid)} of the carbon is embodied"
        )
        basis = "" if _here(best) else f"{best.energy_basis.replace('_', ' ')}, "
        lines.append(f"- Energy: {basis}{best.energy_how}")
        lines.append(f"- Grid: {_zone(best.zone)}, {best.zone.chosen_by}")
        lines += [f"- Note: {note}" for note in best.notes[:3]]
    others = "; ".join(f"{other.model}{_effort(other)} {quantity(other.carbon_g.mid)}" for other in answer.runners_up)
    also = [f"Other adequate, greenest first: {others}"] if others else []
    if answer.cascade is not None and best is not None:
        tried = answer.cascade
        effort = "" if tried.effort == "default" else f" at effort {tried.effort}"
        also.append(
            f"Cascade: {tried.first}{effort} first ({percent(tried.p_first.value)} likely to do it), {best.model} only "
            f"where a test or a run shows that it failed: {interval(tried.carbon_g)} expected"
            f"{f'; {tried.note}' if tried.note else ''}"
        )
    if also:
        lines.append(f"- {'. '.join(also)}")
    if answer.excluded:
        lines.append(f"- Left out: {_excluded(answer.excluded)}")
    if answer.defaulted:
        lines.append(f"- Assumed: {'; '.join(answer.defaulted)}")
    return "\n".join(lines)


def rankings(answer: Rankings) -> str:
    """A Markdown table of the league, and what was left out."""
    demand, bar = answer.demand, answer.demand.requirement
    needed = f"tier {bar.min_tier} needed"
    if bar.min_success is not None:
        needed = f"success in at least {bar.min_success.percent} of such tasks needed"
        needed += f" ({bar.min_success.note})" if bar.min_success.note else ""
    lines = [
        f"**{demand.kind}** tasks ({demand.input_tokens.mid:,.0f} tokens in, {demand.output_tokens.mid:,.0f} out "
        f"before reasoning), {needed}, by {answer.sort_by}; grid "
        f"{_zone(answer.zone) if answer.zone is not None else 'of each provider'}",
        "",
        f"| {' | '.join(RANKING_COLUMNS)} |",
        f"|{'---|' * len(RANKING_COLUMNS)}",
    ]
    lines += [f"| {' | '.join(row)} |" for row in ranking_rows(answer.rows)]
    if not answer.rows:
        lines.append("\nNo model passes every condition; relax one of them.")
    if answer.excluded:
        lines += ["", f"Left out: {_excluded(answer.excluded)}"]
    if answer.defaulted:
        lines.append(f"Assumed: {'; '.join(answer.defaulted)}")
    return "\n".join(lines)


def ranking_rows(rows: Iterable[Ranked]) -> list[tuple[str, ...]]:
    """Cells under RANKING_COLUMNS."""
    return [
        (
            row.model,
            row.effort,
            str(row.ability.tier) if row.ability else "untested",
            percent(row.ability.p_adequate) if row.ability else "-",
            interval(row.carbon_g),
            f"${_digits(row.cost_usd.mid * 1000)}" if row.cost_usd else "no price" if _here(row) else "not known",
            "measured on this machine" if _here(row) else row.energy_basis.replace("_", " "),
        )
        for row in rows
    ]


def _here(ranked: Ranked) -> bool:
    return ranked.provider == THIS_MACHINE


def _cost(ranked: Ranked) -> str:
    return "no price per token" if _here(ranked) else dollars(ranked.cost_usd)


def _zone(zone: Zone) -> str:
    figure = zone.intensity_g_per_kwh
    span = f"{_digits(figure.mid)} g/kWh ({_digits(figure.low)} to {_digits(figure.high)})"
    return f"{zone.zone} {span}, data of {zone.valid_from[:4]}"


def _evidence(ability: Ability) -> str:
    count = f"{ability.benchmarks} benchmark{'s' if ability.benchmarks != 1 else ''}"
    return f"{count} of one leaderboard" if ability.basis == "estimated" else f"{count} of several leaderboards"


def _excluded(excluded: tuple[Excluded, ...]) -> str:
    """Counts by reason in few words; the structured answer has each reason in full, with examples."""
    return "; ".join(f"{group.count} {group.reason.partition(':')[0]}" for group in excluded)


def _effort(ranked: Ranked) -> str:
    return "" if ranked.effort == "default" else f" at effort {ranked.effort}"


def _digits(value: float) -> str:
    """Three significant digits, never in exponent notation."""
    text = f"{value:#.3g}"
    if "e" in text:
        text = f"{float(text):,.0f}" if abs(value) >= 1 else f"{float(text):.10f}".rstrip("0")
    return text.rstrip(".")


def health(state: Health) -> str:
    """One line per fact."""
    lines = [
        f"**EcoRoute {state.version}: {state.status}**",
        "",
        f"- Models: {state.rows['models']}, of which {state.rankable_models} have an energy figure and "
        f"{state.tested_models} of those a place on the quality scale",
        f"- Measured on this machine: {state.local_models} model{'' if state.local_models == 1 else 's'}",
        f"- Grids: {state.rows['grids']}; measured deployments: {state.rows['measured_energy']}; "
        f"sources: {state.rows['sources']}, read {state.sources_read_from} to {state.sources_read_to}",
        f"- Database: {state.database}",
        f"- Region by default: {state.region_default}; candidates: {state.candidates_default}",
        f"- Current model: {state.current_model}",
    ]
    lines += [f"- Note: {state.notice}"] if state.notice else []
    return "\n".join(lines + [f"- Problem: {problem}" for problem in state.problems])


def methodology(catalogue: Catalogue) -> str:
    """The method in words, then every assumption it makes with its interval and sources."""
    parts = [f"# How EcoRoute counts\n\n{_prose(sci)}", f"## Energy\n\n{_prose(energy)}", "## Assumptions\n"]
    for row in catalogue.parameters:
        value = row.value
        span = f"{value.mid:g}" if value.low == value.high else f"{value.mid:g} ({value.low:g} to {value.high:g})"
        parts.append(f"- `{row.name}` = {span}. {row.note}. Sources: {', '.join(value.sources)}.")
    parts.append("\n## Law\n")
    for law in catalogue.energy_laws:
        terms = ", ".join(f"{term} {coefficient:g}" for term, coefficient in asdict(law.coefficients).items())
        parts.append(f"- On {law.device}: {terms}. {law.validation}")
    parts.append(f"\n## Choice\n\n{_prose(ranking)}")
    return "\n".join(parts)


def _prose(module: ModuleType) -> str:
    """A module's docstring without the marks that only documentation tools read."""
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", module.__doc__ or "").replace("``", "`")


def usage(kinds: Iterable[str], standing: Standing) -> str:
    """What `/eco` says when it is given no task: where the current model stands, and how to ask."""
    current, best = standing.current, standing.greenest
    lines = []
    if current is None:
        lines.append(f"- Current model: {standing.current_note}")
    else:
        said = f" ({standing.current_note})" if standing.current_note else ""
        ability = current.ability
        sure = (
            f"{percent(ability.p_adequate)} sure to be adequate" if ability else "untested, so not known to be adequate"
        )
        lines.append(
            f"- Current model: {current.model}{_effort(current)}{said}: {interval(current.carbon_g)} CO2e for a usual "
            f"{standing.kind} task, {sure}"
        )
        lines.append(f"- Of {standing.adequate} adequate models {standing.greener} emit less")
    if best is not None:
        named = f"{best.model}{_effort(best)}, {interval(best.carbon_g)}"
        lines.append(f"- Greenest adequate for a usual {standing.kind} task: {named}")
    return (
        "Write what is to be done after the command, for example `/eco fix the failing pytest in our payment module`: "
        "the answer names the greenest model that does it well enough.\n\n"
        + "\n".join(lines)
        + f"\n- Kinds of task: {', '.join(kinds)}"
    )
