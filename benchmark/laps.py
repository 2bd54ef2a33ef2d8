"""Laps of a search: what its controller took around each trial. A file of them lies beside a file of rows."""

from __future__ import annotations

import datetime
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark.trial import TrialConfig
from ecoroute_mcp.sci import EcoRouteError


@dataclass(frozen=True, kw_only=True)
class Lap:
    """One trial as the controller saw it. ``between_s`` lies before it, ``waited_s`` of waiting for other workers left
    out; ``cpu_s`` is the controller's processor time since the lap before."""

    at: datetime.datetime
    config: TrialConfig
    strategy: str
    outcome: str
    between_s: float
    waited_s: float
    start_s: float
    load_s: float
    trial_s: float
    cpu_s: float


LAPS = ".controller.ndjson"
"""How the file of laps beside a file of rows ends; not *.jsonl, which are rows."""


def read(path: Path) -> tuple[Lap, ...]:
    """The laps of a file, one a line. Raises EcoRouteError, naming file and line, for what is none."""
    laps = []
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                laps.append(_LAP.validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
                raise EcoRouteError(f"{path} line {number} is no lap of a search ({said}): remove it") from error
    except OSError as error:
        raise EcoRouteError(f"cannot read laps from {path} ({error}): name a file of them") from error
    return tuple(laps)


_LAP = TypeAdapter(Lap)


@dataclass
class Tally:
    """The laps of a run, and how it ended."""

    laps: list[Lap] = field(default_factory=list)
    ended: str = "not begun"
    failed: bool = False

    @property
    def rejected(self) -> int:
        return sum(lap.outcome == "rejected" for lap in self.laps)

    def document(self) -> dict[str, Any]:
        """Figures as plain data; overheads are shares of the trials' time."""
        shares = [lap.between_s / lap.trial_s for lap in self.laps if lap.trial_s > 0]
        measuring_s = math.fsum(lap.trial_s for lap in self.laps)
        between_s = math.fsum(lap.between_s for lap in self.laps)
        return {
            "ended": self.ended,
            "trials": len(self.laps),
            "rejected": self.rejected,
            "trials_s": measuring_s,
            "between_s": between_s,
            "starting_s": math.fsum(lap.start_s for lap in self.laps),
            "loading_s": math.fsum(lap.load_s for lap in self.laps),
            "waiting_s": math.fsum(lap.waited_s for lap in self.laps),
            "overhead_median": statistics.median(shares) if shares else None,
            "overhead_total": between_s / measuring_s if measuring_s else None,
            "controller_cpu_s": math.fsum(lap.cpu_s for lap in self.laps),
        }
