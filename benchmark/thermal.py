"""Cool before measuring: a hot chip leaks more, so a trial's start temperature is part of its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmark.meter import Meter
from ecoroute_mcp.sci import EcoRouteError


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A trial begins at or below ``start_c`` and is given up where cooling to it takes longer than ``patience_s``."""

    start_c: float = 60.0
    patience_s: float = 300.0

    def wait_until_cool(
        self,
        meter: Meter,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Return once the device is cool enough, at once if it gives no temperature.

        Raises EcoRouteError when it stays hot."""
        begin = clock()
        while (temperature := meter.read().temperature_c) is not None and temperature > self.start_c:
            if clock() - begin > self.patience_s:
                raise EcoRouteError(
                    f"the device is still at {temperature:g} °C after {self.patience_s:g} s of rest (a trial begins at "
                    f"{self.start_c:g} °C or below): improve its cooling"
                )
            pause(1.0)
