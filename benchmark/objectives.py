"""What a measured configuration is good for: grams per token, quality and speed, each with its doubt.

* **Carbon**: SCI per generated token, with that token's share of reading the prompt: gross energy at the machine's plug
  times the zone's intensity, plus embodied carbon for the seconds it took. Less is better.
* **Quality**: bits per byte of one held-out text where all weights are real (less is better), or else one published
  benchmark's score of the model's released weights (more is better; data/shape_quality.csv). What a precision loses is
  in the first and not in the second.
* **Speed**: generated tokens per second of all sequences together, reading the prompts included. More is better.

Two configurations are compared only on one kind of device, and by one benchmark or one text (:class:`Ground`). The
doubt of a figure is a standard deviation: of the repeats' mean, and of one occasion against another, which is the
larger (:class:`Noise`). What is the same for all of them, such as the zone's intensity, is in the interval of the grams
and not in the doubt of a comparison.
"""

from __future__ import annotations

import csv
import datetime
import functools
import hashlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from benchmark import trial
from benchmark.local import estimate
from benchmark.trial import Measured, Phase, Spread
from ecoroute_mcp.catalogue import THIS_MACHINE, Catalogue, Grid, Source
from ecoroute_mcp.energy import Method, UnknownEnergy
from ecoroute_mcp.sci import JOULES_PER_KWH, EcoRouteError, Estimate, sci_g
from ecoroute_mcp.zones import Zones

QualityKind = Literal["bits-per-byte", "published"]
AxisName = Literal["carbon", "quality", "speed"]
Taken = tuple[str | None, datetime.datetime]
"""What tells a row from every other: the board's UUID and when the trial began."""
SHIPPED = "data/measurements/"
"""How the address of a source begins that is a file of the project's own rows."""
SHAPE_QUALITY = "shape_quality.csv"
"""Published scores of the shapes that are measured with random weights, in the folder of the data."""
LEAST_PAIRS = 5
"""A noise from fewer pairs of occasions is believed only where it is larger than the usual one: a pair may agree by
chance, and then every difference would be sure."""
SPREAD_OF_TWO = math.sqrt(2)
"""Two occasions of one standard deviation each differ by this much of it."""


class NoFigure(EcoRouteError):
    """A configuration lacks one of the figures; the text says which, and why."""


@dataclass(frozen=True)
class Axis:
    """A figure to compare by. ``lower_is_better``: grams and bits; ``ratio``: doubts are shares of the figure."""

    name: AxisName
    unit: str
    lower_is_better: bool
    ratio: bool

    def cost(self, value: float) -> float:
        """The figure on a scale where less is better and equal steps count alike: logarithms of ratios."""
        scaled = math.log(value) if self.ratio else value
        return scaled if self.lower_is_better else -scaled


CARBON = Axis("carbon", "g CO2e/token", lower_is_better=True, ratio=True)
SPEED = Axis("speed", "tokens/s", lower_is_better=False, ratio=True)
BITS = Axis("quality", "bits/byte", lower_is_better=True, ratio=False)
SCORE = Axis("quality", "score", lower_is_better=False, ratio=False)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What has to be the same for two points to be compared. ``quality``: the text that bits per byte are of, or the
    scale of published scores."""

    device: str
    quality: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured configuration as figures. ``values`` and ``sds`` follow ``axes``; an sd is in the axis' own unit, or a
    share of the value where the axis is a ratio. ``costs`` is what fronts are made of: less is better."""

    row: Measured = field(repr=False)
    ground: Ground
    axes: tuple[Axis, ...]
    values: tuple[float, ...]
    sds: tuple[float, ...]
    carbon_g: Estimate | None

    @property
    def costs(self) -> tuple[float, ...]:
        return tuple(axis.cost(value) for axis, value in zip(self.axes, self.values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far one occasion lies from another: standard deviations as shares, of energy and of speed.

    ``pairs`` is how many pairs of occasions they were read from; with none, they are the shipped machine's."""

    energy: float
    speed: float
    pairs: int

    @classmethod
    def of(cls, rows: Sequence[Measured], otherwise: Noise) -> Noise:
        """From what was measured on several occasions, on devices of one name; ``otherwise`` where nothing was. Where
        no row has energy, that of ``otherwise`` stands for it."""
        same: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
        metered = any(row.decode.j_per_token is not None for row in rows)
        for row in rows:
            if not metered or row.decode.j_per_token is not None:
                same[row.machine.name, row.config.subject].append(row)
        energy, speed = [], []
        for group in same.values():
            for one, other in itertools.pairwise(group):
                speed.append(math.log(other.decode.tokens_per_s.mean / one.decode.tokens_per_s.mean))
                if metered:
                    energy.append(math.log(_joules(other.decode, other).mean / _joules(one.decode, one).mean))
        if not speed:
            return otherwise
        joules = _of_differences(energy) if metered else otherwise.energy
        return cls(energy=joules, speed=_of_differences(speed), pairs=len(speed))

    @classmethod
    def known(cls, rows: Sequence[Measured], usual: Sequence[Measured]) -> Noise:
        """The noise of ``rows``, one machine's; where these have fewer than :data:`LEAST_PAIRS` pairs of occasions, not
        less than that of ``usual``, the rows that are shipped. Rows that failed a gate do not count.

        Raises EcoRouteError where nothing at all was measured on two occasions."""
        other = cls.of([row for row in usual if not row.gates_failed], cls(energy=0.0, speed=0.0, pairs=0))
        own = cls.of([row for row in rows if not row.gates_failed], replace(other, pairs=0))
        if own.pairs >= LEAST_PAIRS:
            return own
        if not own.pairs + other.pairs:
            raise EcoRouteError(
                "nothing was measured on two occasions, so how far they lie apart is unknown: measure a configuration "
                "again with --occasion 2"
            )
        return cls(energy=max(own.energy, other.energy), speed=max(own.speed, other.speed), pairs=own.pairs)


def _of_differences(logs: Sequence[float]) -> float:
    return math.sqrt(math.fsum(log * log for log in logs) / len(logs)) / SPREAD_OF_TWO


@dataclass(frozen=True, kw_only=True)
class Score:
    """A published score of a model's released weights. ``setting``: the words before its first comma tell settings
    apart. ``source`` is a row of data/sources.csv."""

    model: str
    benchmark: str
    score: float
    setting: str
    evaluator: str
    source: str

    @property
    def scale(self) -> str:
        """The benchmark in its setting, such as MMLU 0-shot CoT: scores of one scale compare, and no others."""
        return f"{self.benchmark} {self.setting.partition(',')[0]}".strip()


def published(data: Path) -> dict[str, Score]:
    """The scores of data/shape_quality.csv by model, all of one scale: the benchmark and the setting that score most of
    the models.

    Raises EcoRouteError for a file that cannot be read so: no number, a model scored twice, or two benchmarks or
    settings that score equally many."""
    path = data / SHAPE_QUALITY
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        rows = TypeAdapter(list[Score]).validate_python(list(csv.DictReader(lines)), extra="forbid")
    except (OSError, ValidationError) as error:
        raise EcoRouteError(f"{path} is no table of published scores: {error}") from error
    scales = Counter(row.scale for row in rows)
    most = [scale for scale, count in scales.items() if count == max(scales.values())]
    if len(most) != 1:
        raise EcoRouteError(
            f"{path}: scores of different benchmarks or settings cannot share an axis, and "
            f"{' and '.join(most) or 'none'} score most models: leave one with the most"
        )
    found: dict[str, Score] = {}
    for row in rows:
        if row.scale != most[0]:
            continue
        if row.model in found or not math.isfinite(row.score):
            raise EcoRouteError(f"{path}: {row.model} needs one finite score of {row.benchmark}")
        found[row.model] = row
    return found


def over_occasions(points: Sequence[Point]) -> Point:
    """What one configuration measured on several occasions is: the mean of its figures, whose doubt shrinks with the
    number of occasions, since each is one draw of what :class:`Noise` is about. ``row`` is the last one's.

    Raises EcoRouteError for points of different configurations or grounds, or for none."""
    if len({(point.ground, point.axes, point.row.config.subject) for point in points}) != 1:
        raise EcoRouteError("a mean over occasions is of one configuration on one ground: group the points first")
    count, last = len(points), points[-1]
    if count == 1:
        return last
    values, sds = [], []
    for place, axis in enumerate(last.axes):
        value, sd = mean_of(
            [point.values[place] for point in points], [point.sds[place] for point in points], axis.ratio
        )
        values.append(value)
        sds.append(sd)
    carbon_g = last.carbon_g
    if carbon_g is not None:
        carbon_g = functools.reduce(add, (point.carbon_g for point in points if point.carbon_g)).scaled(1 / count)
    return replace(last, values=tuple(values), sds=tuple(sds), carbon_g=carbon_g)


def mean_of(values: Sequence[float], sds: Sequence[float], ratio: bool) -> tuple[float, float]:
    """The mean of independent figures, and its standard deviation; with ``ratio`` an sd is a share of its figure."""
    weights = list(values) if ratio else [1.0] * len(values)
    apart = math.hypot(*(weight * sd for weight, sd in zip(weights, sds, strict=True)))
    return math.fsum(values) / len(values), apart / math.fsum(weights)


def shipped_sources(data: Path, sources: Sequence[Source]) -> Mapping[Taken, str]:
    """The source of each row that the project ships, by board and time: the one whose address is the row's file."""
    return {
        taken(row): source.id
        for source in sources
        if source.url.startswith(SHIPPED)
        and (file := data / "measurements" / source.url.removeprefix(SHIPPED)).exists()
        for row in trial.read(file).measured
    }


def taken(row: Measured) -> Taken:
    """The key of a row."""
    return row.machine.uuid, row.started_at


class Objectives:
    """Rows to points, at one zone and by one kind of quality."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        zone: str,
        quality: QualityKind,
        noise: Noise,
        scores: Mapping[str, Score],
        sources: Mapping[Taken, str] | None = None,
    ) -> None:
        """``scores`` are published scores by the model's name in a configuration, ``sources`` those of rows that are
        not this machine's own (see :func:`shipped_sources`).

        Raises EcoRouteError for a zone that is not known, and for scores of several scales."""
        self.zone: Grid = Zones(catalogue.grids, catalogue.zone_aliases).resolve(zone)
        self.quality: QualityKind = quality
        self.noise = noise
        scales = sorted({score.scale for score in scores.values()})
        if len(scales) > 1:
            raise EcoRouteError(f"scores of {' and '.join(scales)} cannot share an axis: give those of one")
        self._published = " ".join(("published", *scales))
        self._scores = {model: score.score for model, score in scores.items()}
        self._sources = sources or {}
        self._method = Method(catalogue)
        self._devices = {name: device.id for device in catalogue.devices for name in device.nvml_names}
        self._here = next(provider for provider in catalogue.providers if provider.id == THIS_MACHINE)

    def point(self, row: Measured, *, energy: bool = True) -> Point:
        """The figures of a row; without ``energy`` there is no carbon among them.

        Raises NoFigure where one of them is not known."""
        ground, quality, axis = self._quality(row)
        axes, values, sds = [axis, SPEED], [quality, self.tokens_per_s(row)], [0.0, self.speed_sd(row)]
        carbon_g = None
        if energy:
            carbon_g = self.carbon_g(row)
            axes, values, sds = [CARBON, *axes], [carbon_g.mid, *values], [self.carbon_sd(row), *sds]
        return Point(
            row=row, ground=ground, axes=tuple(axes), values=tuple(values), sds=tuple(sds), carbon_g=carbon_g
        )  # fmt: skip

    def axes(self, *, energy: bool = True) -> tuple[Axis, ...]:
        """The axes of :meth:`point`."""
        own = (SCORE if self.quality == "published" else BITS, SPEED)
        return (CARBON, *own) if energy else own

    def ground(self, device: str, text_sha256: str | None) -> Ground:
        """Of what is measured on devices of a name, and judged by a text where quality is in bits per byte."""
        scale = self._published if self.quality == "published" else f"text {text_sha256}"
        return Ground(device=device, quality=scale)

    @property
    def digest(self) -> str:
        """The zone, and eight hexadecimal digits that differ where a row's grams or score would."""
        of = (self.zone.intensity_g_per_kwh.mid, sorted(self._scores.items()), self._grams_per(), self.quality)
        return f"{self.zone.zone} {hashlib.sha256(repr(of).encode()).hexdigest()[:8]}"

    def _grams_per(self) -> tuple[object, ...]:
        """What grams are made of beside the zone's intensity."""
        embodied = []
        for device in sorted(set(self._devices.values())):
            try:
                embodied.append((device, self._method.embodied_g_per_device_s(device, local=True).mid))
            except UnknownEnergy:
                continue
        return (self._method.facility_factor(self._here, local=True).mid, *embodied)

    def knows(self, device: str) -> bool:
        """Whether a device's embodied carbon is known by its name, without which there are no grams."""
        return device in self._devices

    def tokens_per_s(self, row: Measured) -> float:
        """Generated tokens per second of all sequences together, reading the prompts included."""
        return 1 / _s_per_token(row)

    def energy_j(self, row: Measured) -> Estimate:
        """Gross joules of the device per generated token, with that token's share of reading the prompt.

        Raises NoFigure where no energy was read, or where its repeats lie so far apart that nothing is known."""
        reads, makes = _shares(row)
        read, made = _joules(row.prefill, row), _joules(row.decode, row)
        source = self._sources.get(taken(row), THIS_MACHINE)
        try:
            return estimate(read, source).scaled(reads) + estimate(made, source).scaled(makes)
        except EcoRouteError as error:
            raise NoFigure(f"{row.config}: {error}") from error

    def carbon_g(self, row: Measured) -> Estimate:
        """SCI in grams per generated token, with that token's share of reading the prompt.

        Raises NoFigure where no energy was read, or where the device is not in data/devices.csv."""
        to_kwh = self._method.facility_factor(self._here, local=True).scaled(1 / JOULES_PER_KWH)
        return sci_g(
            energy_kwh=self.energy_j(row) * to_kwh,
            intensity_g_per_kwh=self.zone.intensity_g_per_kwh,
            embodied_g=self._embodied_g(row),
        )

    def carbon_sd(self, row: Measured) -> float:
        """The doubt of a comparison by grams: a standard deviation, as a share of them. Operational carbon is as
        doubtful as the joules and embodied carbon as the speed; the two add end to end, since a slow occasion raises
        both.

        Raises NoFigure as :meth:`carbon_g` does."""
        embodied = self._embodied_g(row).mid / self.carbon_g(row).mid
        return (1 - embodied) * self.energy_sd(row) + embodied * self.speed_sd(row)

    def energy_sd(self, row: Measured) -> float:
        """The doubt of a comparison by joules: a standard deviation, as a share of the figure.

        Raises NoFigure where no energy was read."""
        return math.hypot(self.noise.energy, _of_mean(_joules(row.decode, row)))

    def speed_sd(self, row: Measured) -> float:
        """The doubt of a comparison by speed: a standard deviation, as a share of the figure."""
        return math.hypot(self.noise.speed, _of_mean(row.decode.tokens_per_s))

    def _embodied_g(self, row: Measured) -> Estimate:
        device = self._devices.get(row.machine.name)
        if device is None:
            raise NoFigure(
                f"no row of data/devices.csv has {row.machine.name!r} among its nvml_names, which its embodied carbon "
                "needs: add it there"
            )
        return self._method.embodied_g_per_device_s(device, local=True).scaled(_s_per_token(row))

    def _quality(self, row: Measured) -> tuple[Ground, float, Axis]:
        device = row.machine.name
        if self.quality == "published":
            score = self._scores.get(row.config.model)
            if score is None:
                raise NoFigure(
                    f"no published score of {row.config.model} in the setting of the others is known: add it to "
                    "data/shape_quality.csv"
                )
            return self.ground(device, None), score, SCORE
        if row.quality is None:
            raise NoFigure(f"{row.config.model} has {row.weights.source} weights, and so no bits per byte")
        return self.ground(device, row.quality.text_sha256), row.quality.bits_per_byte, BITS


def _shares(row: Measured) -> tuple[float, float]:
    """Tokens read, and tokens made by a decode step, for each generated token: prefill makes the first."""
    config = row.config
    return config.prompt_tokens / config.generated_tokens, (config.generated_tokens - 1) / config.generated_tokens


def _s_per_token(row: Measured) -> float:
    reads, makes = _shares(row)
    return reads / row.prefill.tokens_per_s.mean + makes / row.decode.tokens_per_s.mean


def _joules(phase: Phase, row: Measured) -> Spread:
    if phase.j_per_token is None:
        raise NoFigure(f"{row.config}: no energy was read ({row.unavailable.get('energy', row.energy_source)})")
    return phase.j_per_token


def _of_mean(spread: Spread) -> float:
    """The standard deviation of the repeats' mean, as a share of it."""
    return spread.cv / math.sqrt(spread.n)
