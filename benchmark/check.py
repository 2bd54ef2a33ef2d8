"""Whether measured configurations keep to their budgets, and whether one of them got worse: for the CI of those who
measure their own.

The rules stand in a YAML file (:class:`Rules`). A **budget** names configurations and a limit for each of them. A
**regression** is a configuration's SCI, grams per generated token, above that of a baseline: the same configuration,
measured earlier on a device of the same name. Figures and their doubts are those of :mod:`benchmark.objectives`.

A difference counts where it is larger than noise: with ``sd`` the doubt of the figure, or of two figures together, and
``z`` the normal quantile of the wanted confidence, that is a share of ``exp(z sd) - 1``. A check of many configurations
gives chance many tries, so for a regression the confidence is that of the whole check: of those that compare what has
not changed, it is the share that passes (Šidák's correction).

* A mean beyond its limit by more than its noise is exceeded; by less it is within noise of the limit, which is said and
  fails only a ``strict`` check.
* Several occasions of a configuration are averaged. A row that the baseline has too is no new measurement, and is left
  out where there is one: a file that only ever grows can be checked against what it was.
* A row that failed a measuring gate is not judged beside one that did not; with no other its configuration is
  untrusted, and ``untrusted`` says what follows.
* A question that cannot be answered is an error and no pass: a budget without a row to judge, a baseline with nothing
  to compare.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, Strict, TypeAdapter, ValidationError

from benchmark import trial
from benchmark.objectives import LEAST_PAIRS, Noise, Objectives, mean_of
from benchmark.trial import Measured, Precision, Rejected, Trial, TrialConfig
from ecoroute_mcp import refresh
from ecoroute_mcp.catalogue import Catalogue, Grid
from ecoroute_mcp.sci import EcoRouteError

TOKENS = 1_000_000
"""Grams are told, and limited, per so many generated tokens."""

Status = Literal[
    "within", "within noise", "exceeded",
    "unchanged", "improved", "regressed", "not measured again", "new", "vanished",
    "untrusted", "unknown", "rejected", "not comparable",
]  # fmt: skip
UNJUDGED: frozenset[Status] = frozenset({"untrusted", "unknown", "rejected", "not comparable"})
WARNINGS: frozenset[Status] = UNJUDGED | {"within noise", "vanished"}


def _several(value: object) -> object:
    """One value, or a list of them, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


Text = Annotated[str, Strict(), Field(min_length=1)]
Count = Annotated[int, Strict(), Field(ge=1)]
Flag = Annotated[bool, Strict()]
Limit = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_several), Field(min_length=1)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_several), Field(min_length=1)]
Precisions = Annotated[tuple[Precision, ...], BeforeValidator(_several), Field(min_length=1)]
Flags = Annotated[tuple[Flag, ...], BeforeValidator(_several), Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Which configurations a budget is about: those that have, for every key given, one of its values."""

    device: Texts | None = None
    model: Texts | None = None
    precision: Precisions | None = None
    batch: Counts | None = None
    prompt_tokens: Counts | None = None
    generated_tokens: Counts | None = None
    eager: Flags | None = None
    endpoint: Texts | None = None

    def takes(self, config: TrialConfig, device: str | None) -> bool:
        """Whether a configuration is meant; ``device`` is None where it is not known, and then any will do."""
        return all(
            (wanted := getattr(self, key)) is None or value in wanted for key, value in _keys(config, device).items()
        )

    def misses(self, rows: Sequence[Measured]) -> str:
        """Why none of these rows is meant, for a reader."""
        every = [_keys(row.config, row.machine.name) for row in rows]
        for key in every[0]:
            wanted, there = getattr(self, key), {keys[key] for keys in every}
            if wanted is not None and not there & set(wanted):
                return f"no row has {key} {' or '.join(map(str, wanted))}; there is {_and(map(str, there))}"
        return "each key fits some row, and no row fits all of them"


def _keys(config: TrialConfig, device: str | None) -> dict[str, object]:
    """What a match can ask for, by key; without a device that is not known."""
    keys: dict[str, object] = {} if device is None else {"device": device}
    return keys | {spec.name: getattr(config, spec.name) for spec in dataclasses.fields(Match) if spec.name != "device"}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits for every configuration that ``match`` takes: grams per million generated tokens, gross joules per
    generated token, generated tokens per second; each with reading the prompts."""

    name: Text
    match: Match
    max_g_per_million_tokens: Limit | None = None
    max_j_per_token: Limit | None = None
    min_tokens_per_s: Limit | None = None


@dataclass(frozen=True, kw_only=True)
class Regression:
    """What is compared with what. ``baseline``: a folder or file of rows, relative to the rules' file; ``figure``: SCI,
    or energy alone, for a device whose embodied carbon nobody knows; ``tolerance``: a share allowed on top of noise."""

    baseline: Text | None = None
    figure: Literal["sci", "energy"] = "sci"
    tolerance: Annotated[float, Strict(), Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the file says. ``untrusted``: what follows for a configuration that failed a measuring gate: a warning, a
    failure, or that it is judged like any other, on a machine that always throttles."""

    zone: Text
    budgets: tuple[Budget, ...] = ()
    regression: Regression | None = None
    confidence: Annotated[float, Strict(), Field(gt=0.5, lt=1)] = 0.95
    untrusted: Literal["warn", "fail", "judge"] = "warn"
    strict: Flag = False


_RULES = TypeAdapter(Rules)
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]|[^:]*:)")


def read_rules(path: Path) -> Rules:
    """The rules of a file. Raises EcoRouteError, with file, line, key and repair, for anything that is not one."""
    document, root = _parsed(path)
    try:
        rules = _RULES.validate_python(document, extra="forbid")
    except ValidationError as error:
        raise EcoRouteError("\n".join(_complaint(path, root, each) for each in error.errors())) from error
    names = [budget.name for budget in rules.budgets]
    for number, budget in enumerate(rules.budgets):
        where = _where(path, root, ("budgets", number))
        if names.index(budget.name) < number:
            raise EcoRouteError(f"{where}: a second budget is called {budget.name!r}: give each its own name")
        if not any(True for _ in _limits(budget)):
            keys = ", ".join(kind.limit for kind in KINDS)
            raise EcoRouteError(f"{where}: budget {budget.name!r} limits nothing: give it one or more of {keys}")
    return rules


def _parsed(path: Path) -> tuple[Any, yaml.Node]:
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise EcoRouteError(f"{path}: must be a mapping that begins with a zone, such as 'zone: SWE'")
        _refuse_twice_or_empty(path, root, set())
        return loader.construct_document(root), root
    except OSError as error:
        raise EcoRouteError(f"cannot read {path} ({error.strerror}): name the file of budgets") from error
    except yaml.MarkedYAMLError as error:
        where = f"{path}, line {error.problem_mark.line + 1}" if error.problem_mark else str(path)
        raise EcoRouteError(f"{where}: is not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EcoRouteError(f"{path}: is not YAML: {error}") from error


def _refuse_twice_or_empty(path: Path, node: yaml.Node, seen: set[int]) -> None:
    """YAML keeps the last of two equal keys without a word, and a key without a value would be a limit left out."""
    if id(node) in seen:
        return
    seen.add(id(node))
    line = f"{path}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and _ODD_NUMBER.match(node.value):
        raise EcoRouteError(f"{line}: YAML reads {node.value} as base 8 or 60: write it without the leading 0 or colon")
    if node.tag == "tag:yaml.org,2002:null":
        raise EcoRouteError(f"{line}: a key or an item without a value: give it one, or remove it")
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if str(key.value) in keys:
                raise EcoRouteError(f"{path}, line {key.start_mark.line + 1}: {key.value!r} appears twice: keep one")
            keys.add(str(key.value))
            _refuse_twice_or_empty(path, value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice_or_empty(path, item, seen)


def _where(path: Path, root: yaml.Node, keys: Sequence[str | int]) -> str:
    """File and line of a key, or of the innermost thing around it that the file has."""
    node, line = root, root.start_mark.line
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == key]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
        else:
            break
    return f"{path}, line {line + 1}"


def _complaint(path: Path, root: yaml.Node, error: Any) -> str:
    keys: tuple[str | int, ...] = error["loc"]
    key, value = ".".join(map(str, keys)), error["input"]
    where = f"{_where(path, root, keys)}: {key}"
    match error["type"]:
        case "unexpected_keyword_argument":
            owner: type = {"budgets": Budget, "regression": Regression}.get(str(keys[0]), Rules)
            names = [spec.name for spec in dataclasses.fields(Match if "match" in keys[:-1] else owner)]
            close = difflib.get_close_matches(str(keys[-1]), names, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            return f"{where}: there is no such key: {guess}The keys are {', '.join(names)}"
        case "missing":
            return f"{where}: is missing: add it"
        case "string_type" if isinstance(value, bool):
            country = " (Norway is NOR)" if keys == ("zone",) else ""
            code = f", or write a country's alpha-3 code{country}" if keys == ("zone",) else ""
            return f"{where}: YAML reads NO, off, on and yes as {value}: put the word in quotes{code}"
        case "string_type":
            return f"{where}: must be text; got {value!r}: put it in quotes"
        case "float_type" | "int_type" if isinstance(value, str):
            hint = f"; YAML reads {value} as text: write it out, such as 0.001" if _EXPONENT.fullmatch(value) else ""
            return f"{where}: must be a number without quotes; got {value!r}{hint}"
        case _:
            return f"{where}: {error['msg']}; got {value!r}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A figure that can be limited. ``limit`` is its key in a budget; ``value`` and ``sd`` give it of a row."""

    limit: str
    unit: str
    at_most: bool
    value: Callable[[Objectives, Measured], float]
    sd: Callable[[Objectives, Measured], float]

    def of(self, objectives: Objectives, rows: Sequence[Measured]) -> Figure:
        """The mean of some rows. Raises EcoRouteError where one of them lacks the figure."""
        sds = [self.sd(objectives, row) for row in rows]
        value, sd = mean_of([self.value(objectives, row) for row in rows], sds, ratio=True)
        return Figure(value=value, sd=sd)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean, and its doubt: a standard deviation as a share of it."""

    value: float
    sd: float


GRAMS = Kind(
    limit="max_g_per_million_tokens",
    unit="g/million tokens",
    at_most=True,
    value=lambda objectives, row: objectives.carbon_g(row).mid * TOKENS,
    sd=Objectives.carbon_sd,
)
JOULES = Kind(
    limit="max_j_per_token",
    unit="J/token",
    at_most=True,
    value=lambda objectives, row: objectives.energy_j(row).mid,
    sd=Objectives.energy_sd,
)
SPEED = Kind(
    limit="min_tokens_per_s", unit="tokens/s", at_most=False, value=Objectives.tokens_per_s, sd=Objectives.speed_sd
)
KINDS = (GRAMS, JOULES, SPEED)


def _limits(budget: Budget) -> Iterator[tuple[Kind, float]]:
    for kind in KINDS:
        limit = getattr(budget, kind.limit)
        if limit is not None:
            yield kind, limit


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One configuration on devices of one name, and its rows."""

    device: str
    subject: str
    rows: tuple[Measured, ...] = field(repr=False)

    @property
    def config(self) -> TrialConfig:
        return self.rows[0].config

    @property
    def name(self) -> str:
        return name(self.config)


def name(config: TrialConfig) -> str:
    """A configuration in words, whichever occasion; two have the same name only if they measure the same."""
    unsaid = [
        f", {spec.name} {getattr(config, spec.name)}"
        for spec in dataclasses.fields(config)
        if spec.name in ("endpoint", "device", "repeats", "window_s", "seed")
        and getattr(config, spec.name) != spec.default
    ]
    return f"{replace(config, occasion=1)}{''.join(unsaid)}"


def configurations(rows: Iterable[Measured]) -> dict[tuple[str, str], Configuration]:
    """Rows by device name and subject."""
    groups: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
    for row in rows:
        groups[row.machine.name, row.config.subject].append(row)
    return {
        (device, subject): Configuration(device=device, subject=subject, rows=tuple(group))
        for (device, subject), group in groups.items()
    }


Present = Mapping[tuple[str, str], Configuration]
"""Configurations by device name and subject, with the rows measured since the baseline where there are such."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What ``check``, a budget or the regression, says of one configuration. ``against`` is the limit, or the
    baseline's figure; ``worse`` is by what share ``value`` is worse, ``allowed`` what noise and tolerance allow."""

    check: str
    device: str | None
    configuration: str
    status: Status
    fails: bool
    unit: str
    value: float | None = None
    against: float | None = None
    worse: float | None = None
    allowed: float | None = None
    why: str = ""

    @property
    def warns(self) -> bool:
        return not self.fails and self.status in WARNINGS


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings, in the order of the rules. ``compared`` is how many configurations were set against a baseline."""

    zone: Grid
    noise: Noise
    confidence: float
    compared: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return any(finding.fails for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """The rows of some files, each once, and what is to be said of the files."""

    files: tuple[Path, ...]
    trials: tuple[Trial, ...] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[Measured, ...]:
        return tuple(row for row in self.trials if isinstance(row, Measured))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        return tuple(row for row in self.trials if isinstance(row, Rejected))

    @classmethod
    def read(cls, *places: Path) -> Measurements:
        """The rows of files, and of all ``*.jsonl`` files of folders.

        Raises EcoRouteError for a place that is not there, cannot be read or holds no measured row."""
        files: dict[Path, Path] = {}
        for place in places:
            found = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
            if not found:
                raise EcoRouteError(f"{place} holds no *.jsonl file: name a folder of measurements")
            if not all(file.is_file() for file in found):
                raise EcoRouteError(f"there is no file or folder {place}: name one that holds measurements")
            files |= {file.resolve(): file for file in found}
        found_rows: list[Trial] = []
        notes = []
        for file in files.values():
            rows = trial.read(file)
            found_rows += rows.trials
            if rows.torn is not None:
                notes.append(f"{file}: an incomplete last line is left out")
        read = cls(files=tuple(files), trials=trial.distinct(found_rows), notes=tuple(notes))
        if not read.measured:
            raise EcoRouteError(f"no row of {', '.join(map(str, places))} was measured: there is nothing to check")
        return read


def noise_of(shipped: Sequence[Measured], *sides: Sequence[Measured]) -> Noise:
    """How far occasions lie apart: of the side with the most pairs of them, each side by itself, since what lies
    between the two sides is the question. Raises EcoRouteError where nothing at all was measured twice."""
    return max((Noise.known(rows, shipped) for rows in sides), key=lambda noise: noise.pairs)


def _trusted(rows: Iterable[Measured]) -> tuple[Measured, ...]:
    return tuple(row for row in rows if not row.gates_failed)


def quantile(confidence: float, comparisons: int = 1) -> float:
    """How many standard deviations one of so many comparisons may lie off, on one side, for all to stay within with
    this confidence."""
    return statistics.NormalDist().inv_cdf(confidence ** (1 / comparisons))


def check(
    rules: Rules, now: Measurements, baseline: Measurements | None, *, catalogue: Catalogue, shipped: Sequence[Measured]
) -> Report:
    """Judge rows by rules; ``baseline`` where regressions are looked for, ``shipped`` are rows to read the usual noise
    from.

    Raises EcoRouteError for an unknown zone, and for every question that the rows cannot answer."""
    if not rules.budgets and baseline is None:
        raise EcoRouteError("nothing to check: the rules have no budgets, and no baseline is named")
    if baseline is not None and set(baseline.files) == set(now.files):
        raise EcoRouteError("the baseline is the very files to be checked: name rows that were measured before")
    old = frozenset(map(trial.dump, baseline.measured)) if baseline is not None else frozenset()
    fresh = tuple(row for row in now.measured if trial.dump(row) not in old)
    sides = [fresh] if baseline is None else [baseline.measured, fresh]
    present = configurations(now.measured) | configurations(fresh)
    noise = noise_of(shipped, *sides)
    try:
        objectives = Objectives(catalogue, zone=rules.zone, quality="bits-per-byte", noise=noise, scores={})
    except EcoRouteError as error:
        raise EcoRouteError(f"zone: {error}") from error
    judge = _Judge(rules, objectives)
    findings = [finding for budget in rules.budgets for finding in judge.budget(budget, present, now)]
    notes = [*now.notes]
    compared = 0
    if baseline is not None:
        notes += baseline.notes
        comparison = judge.regression(rules.regression or Regression(), present, now, baseline)
        findings += comparison.findings
        notes += comparison.notes
        compared = comparison.compared
    own = f"{noise.pairs or 'no'} pair{'' if noise.pairs == 1 else 's'} of occasions"
    usual = "" if noise.pairs >= LEAST_PAIRS else ", too few to say less than the shipped measurements do"
    notes.append(
        f"noise: from one occasion to another a standard deviation of {noise.energy:.2%} in energy and "
        f"{noise.speed:.2%} in speed; from {own} here{usual}"
    )
    return Report(
        zone=objectives.zone,
        noise=noise,
        confidence=rules.confidence,
        compared=compared,
        findings=tuple(findings),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    compared: int


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A configuration on both sides, and what else is to be said of it."""

    configuration: Configuration
    now: Figure
    before: Figure
    why: str


@dataclass(frozen=True)
class _Judge:
    """Rules, and what gives figures."""

    rules: Rules
    objectives: Objectives

    def budget(self, budget: Budget, present: Present, now: Measurements) -> list[Finding]:
        """Every configuration that the budget takes, by every limit of it."""
        there = [each for each in present.values() if budget.match.takes(each.config, each.device)]
        if not there:
            raise EcoRouteError(
                f"budget {budget.name!r} matches no row that was measured: {budget.match.misses(now.measured)}"
                f"{''.join(f'; rejected: {row.config}: {row.reason}' for row in _given_up(now, budget.match))}"
            )
        found = []
        for kind, limit in _limits(budget):
            mine = [self._within(budget, kind, limit, each) for each in there]
            mine += [
                self._finding(
                    check=f"budget {budget.name}", device=None, configuration=name(row.config), status="rejected",
                    unit=kind.unit, why=row.reason,
                )
                for row in _given_up(now, budget.match)
            ]  # fmt: skip
            if all(finding.status in UNJUDGED and not finding.fails for finding in mine):
                reasons = "; ".join(dict.fromkeys(f"{each.status}: {each.why}" for each in mine))
                raise EcoRouteError(
                    f"budget {budget.name!r} has no row to judge {kind.unit} by ({reasons}): measure again, or set "
                    "'untrusted' to fail or judge"
                )
            found += mine
        return found

    def _within(self, budget: Budget, kind: Kind, limit: float, each: Configuration) -> Finding:
        finding = functools.partial(
            self._finding,
            check=f"budget {budget.name}",
            device=each.device,
            configuration=each.name,
            unit=kind.unit,
            against=limit,
        )
        rows, gates = self._judged(each.rows)
        try:
            figure = kind.of(self.objectives, rows or each.rows)
        except EcoRouteError as error:
            return finding(status="unknown", why=str(error))
        worse = (figure.value / limit if kind.at_most else limit / figure.value) - 1
        told = functools.partial(finding, value=figure.value, worse=worse, why=gates)
        if not rows:
            return told(status="untrusted")
        allowed = math.expm1(quantile(self.rules.confidence) * figure.sd)
        return told(status="within" if worse <= 0 else "within noise" if worse <= allowed else "exceeded",
                    allowed=allowed)  # fmt: skip

    def regression(self, asked: Regression, present: Present, now: Measurements, baseline: Measurements) -> _Comparison:
        """Every configuration of a device that both sides know."""
        kind = GRAMS if asked.figure == "sci" else JOULES
        past = configurations(baseline.measured)
        devices, known = {device for device, _ in present}, {device for device, _ in past}
        if not devices & known:
            raise EcoRouteError(
                f"the baseline has {_and(known)}, the rows to check have {_and(devices)}: devices of different names "
                "are not compared; name a baseline of the same"
            )
        notes = [f"{device}: the baseline has no row of it, and others are not compared" for device in devices - known]
        notes += [f"{device}: only the baseline has rows of it, which are left alone" for device in known - devices]
        given_up = {row.config.subject: row.reason for row in now.rejected if row not in baseline.rejected}
        sides = [
            self._pair(kind, each, past.get(key), given_up.get(each.subject))
            for key, each in present.items()
            if each.device in known
        ]
        pairs = [side for side in sides if isinstance(side, _Pair)]
        others = [side for side in sides if isinstance(side, Finding)]
        if not pairs and not any(side.fails or side.status == "not measured again" for side in others):
            reasons = "; ".join(f"{side.configuration}: {side.status}, {side.why}" for side in others)
            raise EcoRouteError(f"nothing could be compared with the baseline ({reasons}): measure what it has again")
        off = quantile(self.rules.confidence, max(len(pairs), 1))
        findings = [side if isinstance(side, Finding) else self._against(side, off, asked, kind) for side in sides]
        findings += [
            self._gone(each, kind, given_up.get(each.subject))
            for key, each in past.items()
            if key not in present and each.device in devices
        ]
        return _Comparison(findings=tuple(findings), notes=tuple(sorted(notes)), compared=len(pairs))

    def _pair(
        self, kind: Kind, each: Configuration, past: Configuration | None, given_up: str | None
    ) -> _Pair | Finding:
        """A configuration's figures on both sides, or why there is nothing to set against each other. ``given_up`` is
        why it was rejected since."""
        said = functools.partial(
            self._finding, check="regression", unit=kind.unit, device=each.device, configuration=each.name
        )
        if past is None:
            return said(status="new", why="the baseline does not have it")
        if all(row in past.rows for row in each.rows):
            if given_up is not None:
                return self._gone(each, kind, given_up)
            return said(status="not measured again", why="these are the baseline's own rows")
        (rows, gates), (before, gates_before) = self._judged(each.rows), self._judged(past.rows)
        why = [gates, gates_before and f"baseline: {gates_before}"]
        if not rows or not before:
            return said(status="untrusted", why="; ".join(filter(None, why)))
        if (was := _read_by(before)) != (is_now := _read_by(rows)):
            return said(status="not comparable", why=f"energy was read by {was} then, by {is_now} now")
        try:
            return _Pair(
                configuration=each,
                now=kind.of(self.objectives, rows),
                before=kind.of(self.objectives, before),
                why="; ".join(filter(None, (*why, _changed(before, rows)))),
            )
        except EcoRouteError as error:
            return said(status="unknown", why=f"{error}{', or set regression.figure to energy' * (kind is GRAMS)}")

    def _against(self, pair: _Pair, off: float, asked: Regression, kind: Kind) -> Finding:
        allowed = math.expm1(off * math.hypot(pair.now.sd, pair.before.sd)) + asked.tolerance
        worse = pair.now.value / pair.before.value - 1
        better = pair.before.value / pair.now.value - 1
        return self._finding(
            check="regression",
            device=pair.configuration.device,
            configuration=pair.configuration.name,
            status="regressed" if worse > allowed else "improved" if better > allowed else "unchanged",
            unit=kind.unit,
            value=pair.now.value,
            against=pair.before.value,
            worse=worse,
            allowed=allowed,
            why=pair.why,
        )

    def _gone(self, each: Configuration, kind: Kind, given_up: str | None) -> Finding:
        """A configuration that the baseline has and that was not measured since: it fails if a budget is about it."""
        wanted = [budget.name for budget in self.rules.budgets if budget.match.takes(each.config, each.device)]
        why = ["the baseline has it"]
        if wanted:
            why.append(f"budget {_and(wanted)} is about it")
        if given_up is not None:
            why.append(f"it was rejected: {given_up}")
        return self._finding(
            check="regression",
            device=each.device,
            configuration=each.name,
            status="vanished",
            fails=bool(wanted),
            unit=kind.unit,
            why="; ".join(why),
        )

    def _judged(self, rows: Sequence[Measured]) -> tuple[tuple[Measured, ...], str]:
        """The rows to judge by, none where all are untrusted; and the gates that any of them failed, for a reader."""
        chosen = tuple(rows) if self.rules.untrusted == "judge" else _trusted(rows)
        gates = tuple(dict.fromkeys(gate for row in rows for gate in row.gates_failed))
        aside = f"{len(rows) - len(chosen)} of {len(rows)} rows left out: " if 0 < len(chosen) < len(rows) else ""
        return chosen, f"{aside}{', '.join(gates)}"

    def _finding(self, *, status: Status, fails: bool | None = None, **told: Any) -> Finding:
        failing = (
            status in ("exceeded", "regressed")
            or (status == "within noise" and self.rules.strict)
            or (status in UNJUDGED and self.rules.untrusted == "fail")
        )
        return Finding(status=status, fails=failing if fails is None else fails, **told)


def _given_up(now: Measurements, match: Match) -> list[Rejected]:
    """The last rejection of each configuration that a budget may mean and that no row has measured."""
    done = {row.config.subject for row in now.measured}
    last = {row.config.subject: row for row in now.rejected}
    return [row for subject, row in last.items() if subject not in done and match.takes(row.config, None)]


def _read_by(rows: Sequence[Measured]) -> str:
    return _and({row.energy_source for row in rows})


def _changed(before: Sequence[Measured], now: Sequence[Measured]) -> str:
    """What else is different between two measurements, for a reader."""
    sides: list[Mapping[str, set[str]]] = []
    for rows in (before, now):
        values: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            for key, value in {"driver": row.machine.driver, "step": row.step, **row.machine.software}.items():
                values[key].add(value or "unknown")
        sides.append(values)
    was, is_now = sides
    return ", ".join(
        f"{key} {_and(was.get(key, {'none'}))} -> {_and(is_now.get(key, {'none'}))}"
        for key in dict.fromkeys((*was, *is_now))
        if was.get(key) != is_now.get(key)
    )


def _and(words: Iterable[str]) -> str:
    return " and ".join(sorted(words))


def shipped_rows() -> tuple[Measured, ...]:
    """The measurements that come with the package."""
    return tuple(row for rows in trial.read_all(refresh.packaged_data() / "measurements") for row in rows.measured)
