"""The Software Carbon Intensity equation, and the only way numbers combine here.

SCI = (E x I) + M per R (ISO/IEC 21031:2024): energy times grid intensity, plus the share of the hardware's embodied
carbon that the work used up. R, the functional unit, is one task: its tokens in and its tokens out.

Nothing is a bare number. An :class:`Estimate` is a 90 % interval around a middle value that also remembers how it is
known (``basis``) and from where (``sources``); ``+`` and ``*`` carry all of it along, so a figure cannot lose its
provenance on the way to the reader:

* ``a * b`` treats the two as independent log-normal intervals: the middles multiply, and the multiplicative half-widths
  (``mid/low`` and ``high/mid``) combine as the root of the sum of squared logarithms.
* ``a + b`` adds end to end, as if fully dependent. That is never too narrow, and right for terms driven by the same
  thing (operational and embodied carbon both follow the device's time).
* The basis of a result is the weakest among its inputs; the sources are all of theirs.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

SECONDS_PER_HOUR = 3600.0
JOULES_PER_KWH = 1000 * SECONDS_PER_HOUR
SECONDS_PER_YEAR = 31_557_600.0  # Julian year: 365.25 days of 86,400 s

Basis = Literal["given", "measured", "vendor_reported", "published", "estimated"]
BASES: tuple[Basis, ...] = get_args(Basis)
"""From the strongest to the weakest. ``given`` marks a number that the caller stated about their own task."""
_WEAKNESS = {basis: place for place, basis in enumerate(BASES)}


class EcoRouteError(Exception):
    """Anything a caller can put right. The text names the repair and reads as it stands."""


SHOWN_CHARACTERS = 60


def shown(text: str) -> str:
    """The first 60 printable characters of a caller's text, safe to echo in a message."""
    printable = (character for character in text[: 4 * SHOWN_CHARACTERS] if character.isprintable())
    return "".join(printable)[:SHOWN_CHARACTERS]


def weakest(*bases: Basis) -> Basis:
    """The basis of a figure derived from figures with these bases: its weakest input."""
    return max(bases, key=_WEAKNESS.__getitem__)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A quantity with its 90 % interval, how it is known and from where. The unit is in the name that holds it.

    Invariant: ``0 <= low <= mid <= high``, all finite, and at least one source id. There is no ordering: two intervals
    are compared by who needs the comparison, with the field they mean.
    """

    low: float
    mid: float
    high: float
    basis: Basis
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.mid <= self.high < math.inf):
            raise EcoRouteError(
                f"an estimate needs 0 <= low <= mid <= high, all finite; got {self.low}, {self.mid}, {self.high}"
            )
        if not self.sources:
            raise EcoRouteError("an estimate needs at least one source: name where the figure comes from")

    @classmethod
    def exact(cls, value: float, *, basis: Basis, source: str) -> Estimate:
        """A value stated without an interval."""
        return cls(low=value, mid=value, high=value, basis=basis, sources=(source,))

    def __add__(self, other: Estimate) -> Estimate:
        return _derived(self.low + other.low, self.mid + other.mid, self.high + other.high, self, other)

    def __mul__(self, other: Estimate | float) -> Estimate:
        if not isinstance(other, Estimate):
            return self.scaled(other)
        mid = self.mid * other.mid
        if mid > 0:
            low = mid / _combined(_spread(self.mid, self.low), _spread(other.mid, other.low))
            high = mid * _combined(_spread(self.high, self.mid), _spread(other.high, other.mid))
        else:
            low, high = 0.0, self.high * other.high
        return _derived(min(low, mid), mid, max(high, mid), self, other)

    def __truediv__(self, other: Estimate) -> Estimate:
        """Quotient of independent intervals; the divisor must exclude zero."""
        return self * other.inverse()

    def scaled(self, factor: float) -> Estimate:
        """Multiplied by an exact, non-negative number such as a unit conversion or a count."""
        return _derived(self.low * factor, self.mid * factor, self.high * factor, self, self)

    def inverse(self) -> Estimate:
        """One over this; the ends swap. Raises EcoRouteError where the interval touches zero."""
        if self.low <= 0:
            raise EcoRouteError(f"cannot divide by an interval that touches zero ({self.low} to {self.high})")
        return _derived(1 / self.high, 1 / self.mid, 1 / self.low, self, self)


Quantity = TypeVar("Quantity", float, Estimate)


def sci_g(*, energy_kwh: Quantity, intensity_g_per_kwh: Quantity, embodied_g: Quantity) -> Quantity:
    """Grams of CO2e of one functional unit: (E x I) + M. Source: ISO/IEC 21031:2024.

    Works on numbers and on Estimates alike: the formula exists once.
    """
    return energy_kwh * intensity_g_per_kwh + embodied_g


def _derived(low: float, mid: float, high: float, one: Estimate, other: Estimate) -> Estimate:
    """An estimate of what two are known by. Its fields are set at once, as a question makes hundreds: a frozen
    dataclass sets each by a call."""
    made = object.__new__(Estimate)
    made.__dict__.update(
        low=low,
        mid=mid,
        high=high,
        basis=one.basis if one.basis == other.basis else weakest(one.basis, other.basis),
        sources=one.sources if one.sources == other.sources else _union(one.sources, other.sources),
    )
    made.__post_init__()
    return made


def _spread(upper: float, lower: float) -> float:
    """Multiplicative half-width; infinite where the lower end is zero, one where both are."""
    if upper == lower:
        return 1.0
    return upper / lower if lower > 0 else math.inf


def _combined(one: float, other: float) -> float:
    if one == 1.0 or other == 1.0:
        return one * other
    return math.exp(math.hypot(math.log(one), math.log(other)))


@functools.lru_cache(maxsize=4096)
def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
