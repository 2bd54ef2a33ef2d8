"""Cool before measuring, and rest when it gets too hot.

A hot chip leaks more, so a trial's start temperature is part of its result. Between two windows, never inside one, the
device and the machine's hottest thermal zone are compared with a limit; above it the trial rests until both are down to
the temperature at which it resumes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.meter import Meter
from ecoroute_mcp.sci import EcoRouteError

ZONES = Path("/sys/class/thermal")
PLAUSIBLE_C = (1.0, 150.0)
"""A zone outside these is not read but broken or asleep: drivers give 0, -274 or 255 where they know nothing."""


def hottest_zone_c(root: Path = ZONES) -> float | None:
    """The hottest of the kernel's thermal zones, in °C; None if no zone gives a plausible temperature.

    A zone that cannot be read (asleep, without permission) or is not plausible is passed over."""
    plausible = []
    for path in root.glob("thermal_zone*/temp"):
        try:
            celsius = int(path.read_text(encoding="ascii")) / 1000  # the kernel's interface gives thousandths
        except (OSError, ValueError):
            continue
        if PLAUSIBLE_C[0] <= celsius <= PLAUSIBLE_C[1]:
            plausible.append(celsius)
    return max(plausible, default=None)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A trial begins with the device at or below ``start_c``. Above ``limit_c``, the device or a thermal zone of the
    machine, it rests until both are at or below ``resume_c``. It is given up where either takes over ``patience_s``.

    ``clock`` gives seconds and ``pause`` waits for some. Raises EcoRouteError where the temperatures are out of order.
    """

    start_c: float = 60.0
    limit_c: float = 85.0
    resume_c: float = 70.0
    patience_s: float = 300.0
    zones: Path = ZONES
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    pause: Callable[[float], object] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if not self.resume_c < self.limit_c:
            raise EcoRouteError(
                f"a trial must resume below the limit of {self.limit_c:g} °C; got {self.resume_c:g} °C to resume at"
            )

    def hottest(self, meter: Meter | None) -> tuple[str, float] | None:
        """What is hottest, the device or a thermal zone, and its °C; None if neither gives a temperature."""
        device = None if meter is None else meter.read().temperature_c
        zone = hottest_zone_c(self.zones)
        known = [("the device", device), ("a thermal zone of the machine", zone)]
        return max(
            ((name, celsius) for name, celsius in known if celsius is not None), key=lambda x: x[1], default=None
        )

    def wait_until_cool(self, meter: Meter) -> None:
        """Return once the device is cool enough to begin, at once if it gives no temperature.

        Raises EcoRouteError when it stays hot."""

        def device() -> tuple[str, float] | None:
            celsius = meter.read().temperature_c
            return None if celsius is None else ("the device", celsius)

        self._wait(device, self.start_c, f"a trial begins at {self.start_c:g} °C or below")

    def rest(self, meter: Meter | None) -> float:
        """Wait until everything is cool enough to resume. Returns the seconds that took.

        Raises EcoRouteError when it stays hot: the trial is aborted."""
        return self._wait(
            lambda: self.hottest(meter),
            self.resume_c,
            f"over the limit of {self.limit_c:g} °C, a trial resumes at {self.resume_c:g} °C or below",
            "aborted: ",
        )

    def _wait(
        self, hottest: Callable[[], tuple[str, float] | None], target_c: float, rule: str, verdict: str = ""
    ) -> float:
        begin = self.clock()
        while (hot := hottest()) is not None and hot[1] > target_c:
            if self.clock() - begin > self.patience_s:
                raise EcoRouteError(
                    f"{verdict}{hot[0]} is still at {hot[1]:g} °C after {self.patience_s:g} s of rest ({rule}): "
                    "improve its cooling"
                )
            self.pause(1.0)
        return self.clock() - begin
