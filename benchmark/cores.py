"""Who runs on which cores: what only waits and writes goes to the small ones, so that a trial has the fast ones alone.

A DGX Spark has ten Cortex-X925 and ten Cortex-A725; a recent Intel processor has P-cores and E-cores. The kernel says
how much each core can do as ``cpu_capacity``, where it knows; else its highest clock stands for that, which within one
machine tells the kinds apart. Fast cores of one machine differ by a few percent among themselves, so a core is small
only where it has less than :data:`SMALL_SHARE` of the fastest one's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecoroute_mcp.sci import EcoRouteError

SMALL_SHARE = 0.85
CPUS = Path("sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class Division:
    """Cores for the controller, cores for the trials, and the rule behind them; both empty where all cores stay
    everyone's, and then ``why`` says why."""

    controller: frozenset[int] = frozenset()
    trials: frozenset[int] = frozenset()
    why: str


def divide(allowed: Iterable[int], root: Path = Path("/")) -> Division:
    """The small cores to the controller and the others to the trials, of those that this process may use."""
    usable = frozenset(allowed)
    able, by = _capacities(root / CPUS)
    if missing := usable - able.keys():
        return Division(why=f"the kernel does not say what core {min(missing)} can do")
    fastest = max(able[core] for core in usable)
    small = frozenset(core for core in usable if able[core] < SMALL_SHARE * fastest)
    if not small:
        return Division(why=f"all {len(usable)} cores are of one kind by their {by}")
    share = max(able[core] for core in small) / fastest
    why = f"cores {spelled(small)} have at most {share:.0%} of the fastest one's {by}"
    return Division(controller=small, trials=usable - small, why=why)


def _capacities(cpus: Path) -> tuple[dict[int, float], str]:
    capacities = {
        int(path.parent.name.removeprefix("cpu")): float(path.read_text(encoding="ascii"))
        for path in cpus.glob("cpu[0-9]*/cpu_capacity")
    }
    if capacities:
        return capacities, "capacity"
    clocks: dict[int, float] = {}
    for policy in (cpus / "cpufreq").glob("policy[0-9]*"):
        try:
            khz = float((policy / "cpuinfo_max_freq").read_text(encoding="ascii"))
            cores = (policy / "related_cpus").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue  # a policy that does not answer says nothing of its cores
        clocks |= {int(core): khz for core in cores}
    return clocks, "highest clock"


def usable() -> frozenset[int]:
    """The cores that this process may use; none where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def pin(cores: Iterable[int]) -> None:
    """Keep this thread, and what it starts from now on, to these cores.

    Raises EcoRouteError where the system refuses."""
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        raise EcoRouteError(f"cannot run on cores {spelled(cores)} alone: {error}") from error


def spelled(cores: Iterable[int]) -> str:
    """As the kernel writes lists of cores: 0-4,10-14."""
    spans: list[list[int]] = []
    for core in sorted(cores):
        if spans and spans[-1][1] == core - 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def read(text: str) -> frozenset[int]:
    """The cores of a list that :func:`spelled` wrote. Raises EcoRouteError for any other text."""
    cores: set[int] = set()
    for span in text.split(","):
        first, dash, last = span.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise EcoRouteError(f"a list of cores is written like 0-4,10-14; got {text!r}")
        cores.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(cores)
