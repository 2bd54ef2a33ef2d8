"""P(a model of ability θ succeeds on this task): the task's difficulty on the quality scale, from its kind and text.

One latent scale for both: success = logistic(offset + slope × θ - difficulty). The link between the scales is a line
through few models, so a model may lie off it: by the line's residual, and the more the further its θ is from theirs.
A kind's tasks spread around its mean, so a kind's difficulty is a normal distribution; where the words of a kind have
been found to say something, they shift the mean and narrow the spread, the more of them are known; elsewhere the kind's
own stands. Only the words' proportions count, not the length of the text: a hard task can be said briefly. The
laboratory trains the coefficients (`python -m benchmark route-train`); applying them takes plain Python.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.wording import BUCKETS, read, weighted

VERSION = 1
SOURCES = ("routing-difficulty-v1",)
FARTHEST = 8.0
"""No model lies so far from the middle of the quality scale: its unit is about one standard deviation of the models."""
_EDGE_TOLERANCE = 1e-9
KNOWN_TERMS = 30
"""So many known words and pairs count as much as the kind's own difficulty does; a judgement."""

# Nodes and weights of Gauss-Hermite quadrature of order 9 for a standard normal; symmetric around 0.
_NODES = (
    (0.0, 0.40634920634920635),
    (1.0232556637891326, 0.24409750289493909),
    (2.0768479786778302, 0.0499164067652179),
    (3.2054290028564703, 0.0027891413212317653),
    (4.512745863399783, 2.2345844007746584e-05),
)


@dataclass(frozen=True)
class Predicted:
    """A task's difficulty in logits: normal with this mean and spread. ``by_text``: the text took part."""

    mean: float
    spread: float
    by_text: bool


@dataclass(frozen=True)
class Cascade:
    """Trying one model and, where its answer is found wanting, another: P(success) and expected grams."""

    p_success: float
    grams: float


@dataclass(frozen=True)
class Link:
    """ability = offset + slope × θ, a line through ``models`` models; ``residual_sd`` in logits.

    Their θ lie from ``theta_from`` to ``theta_to``, ``theta_mean`` their mean, ``theta_squares`` the sum of squares
    around it.
    """

    offset: float
    slope: float
    residual_sd: float
    models: int
    theta_from: float
    theta_to: float
    theta_mean: float
    theta_squares: float

    def doubt(self, theta: float) -> float:
        """Standard deviation in logits of a new model's ability at this θ: the residual and the line's own error."""
        apart = (theta - self.theta_mean) ** 2 / self.theta_squares
        return self.residual_sd * math.sqrt(1 + 1 / self.models + apart)


@dataclass(frozen=True)
class _Kind:
    mean: float
    spread: float
    tasks: int


@dataclass(frozen=True)
class _Text:
    """A linear reading of the words, on top of the kind's mean; ``spread`` is what it leaves unexplained."""

    idf: tuple[float, ...]
    words: tuple[float, ...]
    intercept: float
    spread: float

    def read(self, text: str) -> tuple[float, float]:
        """The shift in logits, and how far to believe it: 0 without a known word, towards 1 with many."""
        known = weighted(read(text).words, self.idf)
        shift = self.intercept + sum(value * self.words[bucket] for bucket, value in known.items())
        return shift, len(known) / (len(known) + KNOWN_TERMS)


class Difficulty:
    """Difficulties by kind and text, and the link of the quality scale to them. Immutable."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """``document`` as the laboratory writes it. Raises EcoRouteError for another version or a broken one."""
        try:
            if document["version"] != VERSION:
                raise EcoRouteError(
                    f"the difficulty coefficients are of version {document['version']!r}, not {VERSION}: "
                    "run `python -m benchmark route-train`"
                )
            link = document["link"]
            self.link = Link(**{row.name: link[row.name] for row in fields(Link)})
            self._kinds = {
                str(kind): _Kind(float(row["mean"]), float(row["spread"]), int(row["tasks"]))
                for kind, row in document["kinds"].items()
            }
            self._texts = {str(kind): _text(row) for kind, row in document["texts"].items()}
        except (KeyError, TypeError, ValueError) as error:
            raise EcoRouteError(f"the difficulty coefficients are broken ({error!r}): restore the file") from error

    @classmethod
    def parse(cls, text: str) -> Difficulty:
        """From the JSON text of the file. Raises EcoRouteError."""
        try:
            return cls(json.loads(text))
        except json.JSONDecodeError as error:
            raise EcoRouteError(f"the difficulty coefficients are no JSON ({error}): restore the file") from error

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds whose difficulty is known from outcomes."""
        return tuple(self._kinds)

    def predict(self, kind: str, text: str | None = None, *, never_easier: bool = False) -> Predicted | None:
        """The difficulty of a task; None for a kind without outcomes. Of a kind whose text says nothing, the kind's.

        ``never_easier`` lets the text only raise the mean and keeps the kind's spread: then no wording can make any
        chance higher than the kind's own, and none can lower the bar."""
        known = self._kinds.get(kind)
        if known is None:
            return None
        reading = self._texts.get(kind)
        if reading is None or text is None or not text.strip():
            return Predicted(known.mean, known.spread, False)
        shift, belief = reading.read(text)
        if belief == 0 or (never_easier and shift <= 0):
            return Predicted(known.mean, known.spread, False)
        spread = known.spread
        if not never_easier:
            spread = math.sqrt((1 - belief) * known.spread**2 + belief * reading.spread**2)
        return Predicted(known.mean + belief * shift, spread, True)

    def ability(self, theta: float) -> float:
        """A place on the quality scale in logits of the difficulty scale."""
        return self.link.offset + self.link.slope * theta

    def extrapolated(self, theta: float) -> str | None:
        """Why a chance at this θ is an extrapolation; None between the models that set the link."""
        if self.link.theta_from <= theta <= self.link.theta_to:
            return None
        than = "abler" if theta > self.link.theta_to else "weaker"
        return f"{than} than all {self.link.models} models whose outcomes set these chances"

    def p_success(self, theta: float, task: Predicted, theta_se: float = 0.0) -> float:
        """P(success), averaged over what is not known of the task, of the link and, with ``theta_se``, of the model."""
        return self._averaged(theta, _points(task.mean, math.hypot(task.spread, self.link.slope * theta_se)))

    def edge(self, p: float, task: Predicted) -> float | None:
        """The θ from which on ``p_success(θ, task) >= p``, from -FARTHEST to FARTHEST; None where FARTHEST has less.

        By bisection, to a billionth and rounded up, since P(success) grows with θ. A ``p`` near 1 has no edge: the
        link's doubt grows with the distance from its models and keeps P(success) below it."""
        points = _points(task.mean, task.spread)
        if self._averaged(FARTHEST, points) < p:
            return None
        below, above = -FARTHEST, FARTHEST
        if self._averaged(below, points) >= p:
            return below
        while above - below > _EDGE_TOLERANCE:
            middle = (below + above) / 2
            if self._averaged(middle, points) < p:
                below = middle
            else:
                above = middle
        return above

    def _averaged(self, theta: float, points: Sequence[tuple[float, float]]) -> float:
        """P(success) at this θ over weighted difficulties."""
        chance = self._chance(theta)
        return sum(weight * chance(value) for value, weight in points)

    def _chance(self, theta: float) -> Callable[[float], float]:
        """P(success) on a task of this difficulty, the link's doubt averaged over: a flatter logistic.

        MacKay's approximation, within 0.01 of the integral for a doubt of up to 2 logits."""
        ability, flatter = self.ability(theta), 1 / math.sqrt(1 + math.pi / 8 * self.link.doubt(theta) ** 2)
        return lambda value: _logistic(flatter * (ability - value))

    def cascade(
        self, task: Predicted, first: tuple[float, float], then: tuple[float, float], detected: float = 1.0
    ) -> Cascade:
        """``first`` and ``then`` are (θ, grams) of a try; failures are noticed with probability ``detected``.

        A task that the first model fails is likelier a hard one, so the second model's chance is reckoned given that:
        both meet the same difficulty. The second answer is taken as it comes."""
        success = grams = 0.0
        chance_first, chance_then = self._chance(first[0]), self._chance(then[0])
        for value, weight in _points(task.mean, task.spread):
            p_first = chance_first(value)
            retried = (1 - p_first) * detected
            success += weight * (p_first + retried * chance_then(value))
            grams += weight * (first[1] + retried * then[1])
        return Cascade(success, grams)


def _text(row: Mapping[str, Any]) -> _Text:
    def numbers(name: str, count: int | None = None) -> tuple[float, ...]:
        values = tuple(float(value) for value in row[name])
        if count is not None and len(values) != count:
            raise ValueError(f"{name} has {len(values)} numbers, not {count}")
        return values

    idf = numbers("idf")
    if not idf or BUCKETS % len(idf):
        raise ValueError(f"idf has {len(idf)} numbers, which does not divide {BUCKETS}")
    return _Text(idf, numbers("words", len(idf)), float(row["intercept"]), float(row["spread"]))


def _points(mean: float, spread: float) -> list[tuple[float, float]]:
    points = [(mean + spread * node, weight) for node, weight in _NODES]
    return points + [(mean - spread * node, weight) for node, weight in _NODES[1:]]


def _logistic(value: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * value))
