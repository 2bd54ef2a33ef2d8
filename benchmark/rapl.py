"""A processor's own energy counters (RAPL), as the meter of trials on a CPU.

The kernel shows one domain per package under /sys/class/powercap, on Intel and on AMD alike (``intel-rapl:0``, named
``package-0``). Its counter ``energy_uj`` runs up to ``max_energy_range_uj`` and begins again at 0: under load that is
once in about half an hour, so a meter that reads more often than that can undo it. Domains within a package (core,
dram) are part of it or beside it by model, and are left out of the sum; ``psys`` covers the platform, packages too.

A package's energy is everybody's: unlike a GPU, a processor never runs one process alone. :meth:`RaplMeter.check_alone`
therefore refuses nothing, the identity says so, and :meth:`RaplMeter.busy_cores` tells how far others were at work,
which gates a trial (:mod:`benchmark.measure`).

Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmark.meter import Busy, Identity, Reading
from ecoroute_mcp.sci import EcoRouteError

PACKAGE_SENSORS = {"coretemp": "Package id", "k10temp": "T", "zenpower": "T"}
"""Drivers of a processor's own temperature, and how the labels begin that stand for a whole package."""

UNREADABLE = (
    "{path} is for root alone, as on every kernel since 5.10. Allow it for this boot with\n"
    "  sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj\n"
    "or for good with this line in /etc/udev/rules.d/90-rapl.rules:\n"
    '  SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"\n'
    "or give the interpreter the capability CAP_DAC_READ_SEARCH"
)


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One counter: its name as the kernel gives it, its file, and the microjoules after which it begins again."""

    name: str
    file: Path
    range_uj: int

    @property
    def is_package(self) -> bool:
        return self.name.startswith("package-") and self.file.parent.name.count(":") == 1


def domains(root: Path = Path("/")) -> tuple[Domain, ...]:
    """Every RAPL domain under a root, readable or not; none on a machine without RAPL."""
    found = []
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name, limit = _text(folder / "name"), _text(folder / "max_energy_range_uj")
        if name and limit and limit.isdigit():
            found.append(Domain(name=name, file=folder / "energy_uj", range_uj=int(limit)))
    return tuple(found)


_TRIES = 50  # at reading the kernel's counts within one of their hundredths of a second


class RaplMeter:
    """The packages of this machine, their energy summed. ``root`` is elsewhere for a recorded tree."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises EcoRouteError, naming the repair, without RAPL or where its counters may not be read."""
        self._packages = tuple(domain for domain in domains(root) if domain.is_package)
        if not self._packages:
            raise EcoRouteError(
                "no RAPL on this machine (no package under /sys/class/powercap): virtual machines and Arm processors "
                "have none, AMD's need Linux 5.8 and the module intel_rapl_common. Measure without energy"
            )
        self._root = root
        self._lock = threading.Lock()
        self._counted_uj = 0
        self._last_uj: tuple[int, ...] = self._counters()
        self._temperatures = _temperature_files(root)
        self._busy_s = self._cpu_s()
        unavailable = {
            "power_w": "RAPL counts energy and gives no power",
            "sm_mhz": "a processor has no such clock",
            "memory_mhz": "a processor has no such clock",
            "clock_events": "not given by RAPL",
            "alone": "a package's energy includes every process on the machine"
            + (f"; its load was {load.split()[0]} at the start" if (load := _text(root / "proc/loadavg")) else ""),
        }
        if not self._temperatures:
            unavailable["temperature_c"] = "neither x86_pkg_temp nor coretemp nor k10temp"
        uuid, why = _machine_id(root)
        if why:
            unavailable["uuid"] = why
        memory = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
        self.identity = Identity(
            name=processor(root) or "a processor of unknown model",
            uuid=uuid,
            driver=f"intel_rapl, Linux {_text(root / 'proc/sys/kernel/osrelease') or 'of unknown release'}",
            memory_gb=None if memory is None else int(memory[1]) * 1024 / 1e9,
            unavailable=unavailable,
            counter="rapl",
        )

    def _counters(self) -> tuple[int, ...]:
        return tuple(_counter(package.file) for package in self._packages)

    def read(self, *, slow: bool = True) -> Reading:
        """The present reading: joules of all packages since the meter was made; with ``slow``, the hottest package.

        Raises EcoRouteError where a counter can no longer be read."""
        with self._lock:
            at_s = time.perf_counter()
            present_uj = self._counters()
            for package, before, now in zip(self._packages, self._last_uj, present_uj, strict=True):
                self._counted_uj += now - before if now >= before else now + package.range_uj - before
            self._last_uj = present_uj
            energy_j = self._counted_uj / 1e6
        if not slow:
            return Reading(at_s=at_s, energy_j=energy_j)
        given = [int(text) / 1e3 for file in self._temperatures if (text := _text(file))]
        return Reading(at_s=at_s, energy_j=energy_j, temperature_c=max(given, default=None))

    def serving(self) -> frozenset[int]:
        """None in particular: a package's energy includes a server's on this machine in any case."""
        return frozenset()

    def check_alone(self, besides: frozenset[int] = frozenset(), *, loaded: bool = True) -> None:
        """Refuses nothing: a processor always runs others' work too. See :meth:`busy_cores`."""

    def busy_cores(self) -> Busy | None:
        """Cores that were busy, in the mean since the last time of asking or the meter's making.

        None where the kernel's counts cannot be read. Processes that this one started and has waited for are its own.
        The counts move in hundredths of a second: ask over a second and more."""
        before, self._busy_s = self._busy_s, self._cpu_s()
        if before is None or self._busy_s is None or self._busy_s[0] <= before[0]:
            return None
        passed_s, all_s, own_s = (now - then for now, then in zip(self._busy_s, before, strict=True))
        return Busy(own=own_s / passed_s, others=(all_s - own_s) / passed_s)

    def _counts(self) -> tuple[str, str, str] | None:
        """What the kernel says of the seconds since boot, of all processors and of this process; None unread."""
        uptime, stat, own = (_text(self._root / f"proc/{name}") for name in ("uptime", "stat", "self/stat"))
        return (uptime.split()[0], stat.split("\n", 1)[0], own) if uptime and stat and own else None

    def _cpu_s(self) -> tuple[float, float, float] | None:
        """Seconds since boot, seconds that all cores were busy, and those of this process and its waited-for ones."""
        before, counts = None, self._counts()
        for _ in range(_TRIES):
            if (
                before == counts
            ):  # else this process was put aside between the files, and one counts what another misses
                break
            before, counts = counts, self._counts()
        if counts is None:
            return None
        uptime, cpu, own = counts
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, softirq, steal = map(int, cpu.split()[1:9])
        times = own.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
        return (
            float(uptime),
            (user + nice + system + irq + softirq + steal) * tick_s,
            sum(map(int, times)) * tick_s,
        )


def _counter(file: Path) -> int:
    try:
        return int(file.read_bytes())
    except PermissionError as error:
        raise EcoRouteError(UNREADABLE.format(path=file)) from error
    except (OSError, ValueError) as error:
        raise EcoRouteError(f"the energy counter {file} cannot be read ({error}): measure without energy") from error


def _temperature_files(root: Path) -> tuple[Path, ...]:
    """What gives the temperature of a package: a thermal zone of the package if there is one, else its hwmon driver."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    found = [zone / "temp" for zone in zones if _text(zone / "type") == "x86_pkg_temp"]
    if found:
        return tuple(found)
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        beginning = PACKAGE_SENSORS.get(_text(folder / "name") or "")
        for file in sorted(folder.glob("temp*_input")) if beginning else ():
            label = _text(file.with_name(file.name.replace("_input", "_label"))) or "T"
            if label.startswith(str(beginning)):
                found.append(file)
    return tuple(found)


def processor(root: Path = Path("/")) -> str | None:
    """The model of a machine's processor; of an Arm one, which does not name it, the numbers of its cores' designs."""
    about = _text(root / "proc/cpuinfo") or ""
    found = re.search(r"^model name\s*:\s*(.+)$", about, re.MULTILINE)
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\S+)$", about, re.MULTILINE)))
    return found[1].strip() if found else f"Arm, part {', '.join(parts)}" if parts else None


def _machine_id(root: Path) -> tuple[str, str | None]:
    """An id of this machine, and what is wrong with it. The machine's own id is confidential (machine-id(5)), so it
    goes through a keyed hash, as that page asks for; without it the boot's id stands in."""
    if machine := _text(root / "etc/machine-id"):
        return "CPU-" + hmac.new(machine.encode(), b"ecoroute", hashlib.sha256).hexdigest()[:32], None
    if boot := _text(root / "proc/sys/kernel/random/boot_id"):
        return f"BOOT-{boot}", "no /etc/machine-id: the id is that of this boot"
    return "CPU-unknown", "neither /etc/machine-id nor a boot id"


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
