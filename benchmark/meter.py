"""Reading a device's energy, and what the reading is worth; of NVIDIA's, by pynvml, which else only
:mod:`benchmark.sensors` uses.

A device's energy counter moves in steps (about every tenth of a second on data-centre boards), so a difference of two
readings is wrong by up to a step at each end. A :class:`Recorder` therefore watches the counter and keeps the moment of
every change; :meth:`Trace.energy_j` interpolates between changes. The error left is a watching interval, not a step.

Where a device has no counter, power is polled and integrated, and the row says so. Whatever a device does not support
is None with a reason in ``unavailable``: nothing is invented, and N/A is never 0. A :class:`Recording` of real readings
plays back through the same interface where there is no device.
"""

from __future__ import annotations

import bisect
import importlib
import itertools
import json
import os
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from ecoroute_mcp.sci import EcoRouteError

POWER_INSTANT_FIELD = 186
"""NVML_FI_DEV_POWER_INSTANT. The plain power reading is a one-second mean on recent boards."""

CONTEXT_BYTES = 64 * 2**20
"""Device memory in use beyond the driver's own that shows a process at work; a bare CUDA context takes several times
as much."""

CLOCK_EVENTS = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x020: "software thermal",
    0x040: "hardware thermal",
    0x080: "power brake",
}
"""Bits of nvmlClocksEventReasons that hold clocks down. Idle, user-set and sync-boost clocks are no throttling."""
THERMAL_EVENTS = ("hardware slowdown", "software thermal", "hardware thermal", "power brake")
"""The events that gate a trial. The power cap is how a loaded board runs; its time is stored."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One moment. ``at_s`` is on the monotonic clock of time.perf_counter; None is what the device does not give."""

    at_s: float
    energy_j: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    clock_events: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The device behind a meter. ``unavailable`` maps what it does not give to why; ``counter`` names its energy
    counter as a trial's ``energy_source`` does."""

    name: str
    uuid: str
    driver: str
    memory_gb: float | None
    unavailable: dict[str, str] = field(default_factory=dict)
    counter: Literal["counter", "rapl"] = "counter"


@dataclass(frozen=True, kw_only=True)
class Busy:
    """How many cores this process and others kept busy, in the mean over some time."""

    own: float
    others: float


class Meter(Protocol):
    """What gives readings: a device, or a recording of one."""

    identity: Identity

    def read(self, *, slow: bool = True) -> Reading:
        """The present reading; without ``slow``, energy and power alone."""

    def serving(self) -> frozenset[int]:
        """The other processes that compute on the device, where a server's model is loaded: they are taken for it.

        Raises EcoRouteError if nothing computes there: the server runs elsewhere."""

    def check_alone(self, besides: frozenset[int] = frozenset(), *, loaded: bool = True) -> None:
        """Raises EcoRouteError if another process, but for the ones given, computes on the device; and, as long as this
        process has ``loaded`` nothing there, if memory is held by nobody that is listed, as another container's is."""

    def busy_cores(self) -> Busy | None:
        """Who kept the cores busy since this was last asked, where the energy is a processor's, which is never one
        process's alone; None for any other device, and where that cannot be read."""


def on_this_machine(url: str) -> bool:
    """Whether a URL's host is this machine, whose energy a meter can read: an address that can be listened on here.

    A tunnel to another machine looks like this one. Raises EcoRouteError for a host that has no address."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EcoRouteError(f"no machine is called {host!r} ({error}): check the endpoint's URL") from error
    return any(_listens(family, address) for family, _, _, _, address in found)


def _listens(family: int, address: Any) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


DEVICE_FILES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/dxg")
"""What a driver makes, one of them: on a desktop or server, on a Jetson, under Windows' Linux."""


class NoDevice(EcoRouteError):
    """This machine has no NVIDIA device that NVML can use."""


class NvmlMeter:
    """The device with a UUID, or the machine's only device."""

    def __init__(self, uuid: str | None = None) -> None:
        """Raises NoDevice without a driver or a device; EcoRouteError without nvidia-ml-py where there may be a device,
        with several devices and no UUID, or in MIG mode."""
        try:
            self._nvml: Any = importlib.import_module("pynvml")
        except ImportError as error:
            if _no_driver():
                raise NoDevice(f"there is no NVIDIA device (no {', '.join(DEVICE_FILES)})") from error
            raise EcoRouteError("reading an NVIDIA device needs nvidia-ml-py: pip install nvidia-ml-py") from error
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            uuids = [
                _text(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
                for index in range(nvml.nvmlDeviceGetCount())
            ]
        except nvml.NVMLError as error:
            raise NoDevice(f"NVML finds no usable NVIDIA device ({error})") from error
        if not uuids:
            raise NoDevice("NVML finds no NVIDIA device")
        if uuid is None and len(uuids) > 1:
            raise EcoRouteError(f"several devices: name one with --uuid ({', '.join(uuids)})")
        if uuid is not None and uuid not in uuids:
            raise EcoRouteError(f"no device {uuid}; this machine has {', '.join(uuids)}")
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid or uuids[0])
        self._refuse_mig()
        self._unavailable: dict[str, str] = {}
        reading = self.read()
        memory = self._ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle).total)
        for name, value in asdict(reading).items():
            if value is None:
                self._unavailable.setdefault(name, "not given by the device")
        self.identity = Identity(
            name=_text(nvml.nvmlDeviceGetName(self._handle)),
            uuid=uuid or uuids[0],
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            memory_gb=None if memory is None else memory / 1e9,
            unavailable=dict(self._unavailable),
        )

    def _refuse_mig(self) -> None:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(self._handle)
        except self._nvml.NVMLError:
            return  # a device without MIG
        if current:
            raise EcoRouteError(
                "the device is in MIG mode: its energy counter covers all instances, so none can be measured"
            )

    def _ask(self, name: str, question: Any) -> Any:
        if name in self._unavailable:
            return None
        try:
            return question()
        except self._nvml.NVMLError as error:
            self._unavailable[name] = str(error)
            return None

    def _instant_w(self) -> float:
        (value,) = self._nvml.nvmlDeviceGetFieldValues(self._handle, [POWER_INSTANT_FIELD])
        if value.nvmlReturn != 0:
            raise self._nvml.NVMLError(value.nvmlReturn)
        return float(value.value.uiVal) / 1e3

    def read(self, *, slow: bool = True) -> Reading:
        nvml, handle = self._nvml, self._handle
        at_s = time.perf_counter()
        energy = self._ask("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
        power = self._ask("instant power", self._instant_w)
        if power is None:
            power = self._ask("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)
        reading = Reading(at_s=at_s, energy_j=energy, power_w=power)
        if not slow:
            return reading
        events = self._ask("clock_events", lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        return replace(
            reading,
            temperature_c=self._ask(
                "temperature_c", lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            ),
            sm_mhz=self._ask("sm_mhz", lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))),
            memory_mhz=self._ask("memory_mhz", lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM))),
            clock_events=None if events is None else clock_events(events),
        )

    def _others(self) -> frozenset[int]:
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError as error:
            raise EcoRouteError(f"cannot tell whether another process computes on the device ({error})") from error
        return frozenset(process.pid for process in running) - {os.getpid()}

    def serving(self) -> frozenset[int]:
        others = self._others()
        if not others and not self._holds_memory():
            raise EcoRouteError(
                f"no process computes on {self.identity.name} ({self.identity.uuid}), so the server runs elsewhere and "
                "its energy is not this device's: name the device that serves with --uuid, or use --device cpu"
            )
        return others

    def _holds_memory(self) -> bool:
        """Whether anybody holds memory on the device: processes of another container are not listed, but that is."""
        nvml = self._nvml
        used = self._ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle, version=nvml.nvmlMemory_v2).used)
        return used is not None and used > CONTEXT_BYTES

    def _draws(self) -> bool:
        """Whether a screen is drawn by the device, which takes memory and next to no work."""
        try:
            return bool(self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle))
        except self._nvml.NVMLError:
            return False

    def check_alone(self, besides: frozenset[int] = frozenset(), *, loaded: bool = True) -> None:
        others = sorted(self._others() - besides)
        if others:
            raise EcoRouteError(
                f"another process computes on the device (process {', '.join(map(str, others))}): its energy would be "
                "billed to this trial. Stop it, or measure on another device"
            )
        if not loaded and self._holds_memory() and not self._draws():
            raise EcoRouteError(
                f"memory of {self.identity.name} ({self.identity.uuid}) is held by a process that is not listed here, "
                "as one in another container is: its energy would be billed to this trial. Stop it, or measure on "
                "another device"
            )

    def busy_cores(self) -> None:
        """The device is one process's alone."""


def clock_events(bits: int) -> tuple[str, ...]:
    """The names of the throttling reasons set in a bit mask of nvmlClocksEventReasons."""
    return tuple(name for bit, name in CLOCK_EVENTS.items() if bits & bit)


def _no_driver(root: Path = Path("/dev")) -> bool:
    """Whether it is sure that no NVIDIA driver has a device: on Windows there are no such files to look for."""
    return sys.platform != "win32" and not any(any(root.glob(Path(name).name)) for name in DEVICE_FILES)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Trace:
    """Readings in order of time. Times are those of time.perf_counter; a stretch is ``begin_s`` to ``end_s``."""

    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        if any(after.at_s < before.at_s for before, after in itertools.pairwise(self.readings)):
            raise EcoRouteError("readings must be in order of time")
        counted = [(reading.at_s, reading.energy_j) for reading in self.readings if reading.energy_j is not None]
        if any(after[1] < before[1] for before, after in itertools.pairwise(counted)):
            raise EcoRouteError("the energy counter went backwards: the driver was reloaded; measure again")
        changes = [counted[0], *(b for a, b in itertools.pairwise(counted) if b[1] != a[1])] if counted else []
        if len(changes) > 1:
            changes = changes[1:]  # when the first value began is not known
        object.__setattr__(self, "_changes", changes)

    def energy_j(self, begin_s: float, end_s: float) -> float | None:
        """Joules by the counter, interpolated between its changes. None without a counter, or if the stretch reaches
        beyond the first or last change: the record does not cover it."""
        changes: list[tuple[float, float]] = getattr(self, "_changes")  # noqa: B009
        if len(changes) < 2 or begin_s < changes[0][0] or end_s > changes[-1][0]:
            return None
        return _between(changes, end_s) - _between(changes, begin_s)

    def polled_j(self, begin_s: float, end_s: float) -> float | None:
        """Joules by the trapezoid rule over polled power; None if the polls do not cover the stretch."""
        polls = [(reading.at_s, reading.power_w) for reading in self.readings if reading.power_w is not None]
        if len(polls) < 2 or begin_s < polls[0][0] or end_s > polls[-1][0]:
            return None
        inner = [poll for poll in polls if begin_s < poll[0] < end_s]
        edges = [(begin_s, _between(polls, begin_s)), *inner, (end_s, _between(polls, end_s))]
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(edges))

    def updates(self, begin_s: float, end_s: float) -> int:
        """How often the counter changed within the stretch; without a counter, how often the polled power did."""
        changes: list[tuple[float, float]] = getattr(self, "_changes")  # noqa: B009
        if not changes:
            polls = [(reading.at_s, reading.power_w) for reading in self.readings if reading.power_w is not None]
            changes = [b for a, b in itertools.pairwise(polls) if b[1] != a[1]]
        return sum(begin_s < at_s <= end_s for at_s, _ in changes)

    def events_s(self, begin_s: float, end_s: float) -> dict[str, float]:
        """Seconds that each throttling reason was in force: each slow reading stands until the next."""
        seen = [reading for reading in self.readings if reading.clock_events is not None]
        seconds: dict[str, float] = {}
        for position, reading in enumerate(seen):
            until = seen[position + 1].at_s if position + 1 < len(seen) else end_s
            share = min(until, end_s) - max(reading.at_s, begin_s)
            for name in reading.clock_events or ():
                if share > 0:
                    seconds[name] = seconds.get(name, 0.0) + share
        return seconds

    def within(self, name: str, begin_s: float, end_s: float) -> list[float]:
        """The values that a field of Reading had within the stretch."""
        values = [getattr(reading, name) for reading in self.readings if begin_s <= reading.at_s <= end_s]
        return [value for value in values if value is not None]


def _between(points: Sequence[tuple[float, float]], at_s: float) -> float:
    position = min(max(bisect.bisect_left(points, at_s, key=lambda point: point[0]), 1), len(points) - 1)
    (left, low), (right, high) = points[position - 1], points[position]
    return low + (high - low) * (at_s - left) / (right - left) if right > left else high


class Recorder:
    """Watches a meter from a thread: energy and power every ``period_s``, the rest every ``slow_s``."""

    def __init__(self, meter: Meter, *, period_s: float = 0.01, slow_s: float = 0.25) -> None:
        self._meter, self._period_s, self._slow_s = meter, period_s, slow_s
        self._readings: list[Reading] = []
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def _watch(self) -> None:
        slow_at = 0.0
        try:
            while not self._stop.is_set():
                slow = time.perf_counter() >= slow_at
                reading = self._meter.read(slow=slow)
                if slow:
                    slow_at = reading.at_s + self._slow_s
                self._readings.append(reading)
                self._stop.wait(self._period_s)
        except (OSError, RuntimeError, EcoRouteError) as failure:
            self._failure = failure

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def trace(self) -> Trace:
        """All readings so far. Raises EcoRouteError if the meter failed on the way."""
        if self._failure is not None:
            raise EcoRouteError(f"the meter failed while recording: {self._failure}") from self._failure
        return Trace(tuple(self._readings))


@dataclass(frozen=True)
class Recording:
    """A device's readings on file: the identity on the first line, then one reading a line."""

    identity: Identity
    readings: tuple[Reading, ...]

    def write(self, path: Path) -> None:
        lines = [asdict(self.identity), *(asdict(reading) for reading in self.readings)]
        compact = ({name: value for name, value in line.items() if value is not None} for line in lines)
        path.write_text("".join(json.dumps(line) + "\n" for line in compact), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Recording:
        first, *rest = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        first.setdefault("memory_gb", None)
        readings = (
            Reading(**{**line, "clock_events": tuple(line["clock_events"])} if "clock_events" in line else line)
            for line in rest
        )
        return cls(Identity(**first), tuple(readings))


class ReplayMeter:
    """A recording played back on the present clock, again from the start when it ends; the counter keeps rising."""

    def __init__(self, recording: Recording) -> None:
        if len(recording.readings) < 2:
            raise EcoRouteError("a recording needs two readings or more")
        self.identity = recording.identity
        self._readings = recording.readings
        self._times = [reading.at_s - recording.readings[0].at_s for reading in recording.readings]
        counted = [reading.energy_j for reading in recording.readings if reading.energy_j is not None]
        self._lap_j = counted[-1] - counted[0] if counted else 0.0
        self._begin_s = time.perf_counter()

    def read(self, *, slow: bool = True) -> Reading:
        at_s = time.perf_counter()
        lap, into = divmod(at_s - self._begin_s, self._times[-1])
        position = max(bisect.bisect_right(self._times, into) - 1, 0)
        found = self._readings[position]
        energy = None if found.energy_j is None else found.energy_j + lap * self._lap_j
        if not slow:
            return Reading(at_s=at_s, energy_j=energy, power_w=found.power_w)
        last_slow = next((r for r in reversed(self._readings[: position + 1]) if r.temperature_c is not None), found)
        return replace(last_slow, at_s=at_s, energy_j=energy, power_w=found.power_w)

    def serving(self) -> frozenset[int]:
        """None is recorded."""
        return frozenset()

    def check_alone(self, besides: frozenset[int] = frozenset(), *, loaded: bool = True) -> None:
        """A recording is of one process."""

    def busy_cores(self) -> None:
        """None is recorded."""
