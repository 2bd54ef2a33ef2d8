"""Every channel of this machine that needs no root, found at run time, and a log of them once a second.

A channel is a *gauge* (a temperature, read as it stands) or a *counter* (bytes, joules, stolen time), of which the rate
since the last reading is given: a counter never misses what happened between two readings, as a gauge does. A channel
that cannot be read at some moment is None, never 0, and does not stop the others; one that comes back is read again.

Where Linux offers a figure twice, the cheap and true one is taken. A core's clock is ``cpuinfo_avg_freq``, counted by
the core itself (and refused, hence None, while it idles), before ``scaling_cur_freq``, which on a GB10 interrupts the
core, costs a hundred microseconds and has been seen to exceed its maximum twofold. The hwmon copy of a thermal zone is
left out: each of its readings would run the firmware's method a second time.

A log is lines of JSON. A line ``{"sensors": 1, ...}`` begins a segment: the machine and its channels with their units.
Every other line is a row: seconds since 1970, then the values in the segment's order. Each start of a
:class:`Logger` begins a segment, so that channels may differ within a file and between machines; :func:`read` joins
them by name.

Everything is read below a ``root``, so that a recorded tree (:func:`unpack`) is read like the machine itself; NVML's
answers lie in it as ``nvml.json``. Sources of the meanings and units: https://docs.kernel.org/admin-guide/ (thermal,
cpufreq, iostats, hugetlbpage), https://docs.kernel.org/hwmon/sysfs-interface.html,
https://docs.kernel.org/accounting/psi.html, https://docs.kernel.org/filesystems/proc.html and NVML's reference.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Protocol

from benchmark import file_lock, rapl
from benchmark.meter import CLOCK_EVENTS, POWER_INSTANT_FIELD
from ecoroute_mcp.sci import EcoRouteError

Kind = Literal["gauge", "counter"]
Value = float | None

SCHEMA = 1
SECTOR_BYTES = 512
"""Of /sys/block/*/stat, whatever the device's own sector."""
RDMA_WORD_BYTES = 4
"""InfiniBand's port counters count words of four bytes."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One figure: ``unit`` is that of the logged value, for a counter that of its rate. ``origin`` is where it is read.

    A reading times ``scale`` is the value; a counter that has ``wraps_at`` begins again from 0 there."""

    name: str
    unit: str
    kind: Kind
    origin: str
    scale: float = field(default=1, repr=False)
    wraps_at: int | None = field(default=None, repr=False)


class _Source(Protocol):
    """What is read in one go: a file, or a device. ``read`` gives one reading for each channel and does not raise."""

    channels: tuple[Channel, ...]

    def read(self) -> Sequence[Value]: ...


class _File:
    """A file, opened anew at each reading: it may go away and come back, and no descriptor is held for it."""

    def __init__(
        self, path: Path, channels: Iterable[Channel], parse: Callable[[bytes], Sequence[Value]] | None = None
    ) -> None:
        self.channels = tuple(channels)
        self._path, self._parse = str(path), parse
        self._nothing = (None,) * len(self.channels)

    def read(self) -> Sequence[Value]:
        try:
            if self._parse is None:
                return (_number(_content(self._path)),)
            return self._parse(_content(self._path))
        except (OSError, ValueError, IndexError):
            return self._nothing


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, 1 << 16)
        if len(content) < 256:  # of one value: whole at once
            return content
        while more := os.read(descriptor, 1 << 16):
            content += more
        return content
    finally:
        os.close(descriptor)


def _number(text: bytes | None) -> Value:
    """Raises ValueError for what is no number."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return None


def _single(
    path: Path, name: str, unit: str, scale: float = 1, kind: Kind = "gauge", wraps_at: int | None = None
) -> Iterator[_File]:
    """A file that holds one value, unless it is absent or closed to us. One that fails only now is a channel."""
    try:
        _content(str(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except OSError:
        pass
    yield _File(path, (Channel(name=name, unit=unit, kind=kind, origin=str(path), scale=scale, wraps_at=wraps_at),))


def _table(
    path: Path, parse: Callable[[bytes], Mapping[bytes, bytes]], channel: Callable[[str], Channel | None]
) -> Iterator[_File]:
    """A file of named values: those present now for which ``channel`` makes one of the name."""
    try:
        present = parse(_content(str(path)))
    except (OSError, ValueError, IndexError):
        return
    made = {key: made for key in present if (made := channel(key.decode(errors="replace"))) is not None}

    def values(content: bytes) -> Sequence[Value]:
        found = parse(content)
        return [_number(found.get(key)) for key in made]

    yield _File(path, made.values(), values)


def _pairs(content: bytes) -> dict[bytes, bytes]:
    words = content.split()
    return dict(zip(words[::2], words[1::2], strict=False))


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Entries that match a pattern, thermal_zone2 before thermal_zone10, each at its device's own place: a number in
    /sys/class may pass to another device when drivers are loaded again."""
    found = sorted(folder.glob(pattern), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)] or [-1])
    return [Path(os.path.realpath(path)) for path in found]


def _cpu(root: Path) -> Iterator[_Source]:
    """Cores' clocks, and where the cores' time went: of all cores by kind, of each core busy or not."""
    for policy in _numbered(root / "sys/devices/system/cpu/cpufreq", "policy*"):
        cores = (_text(policy / "related_cpus") or policy.name.removeprefix("policy")).split()
        name = f"cpu{cores[0]}" if len(cores) == 1 else f"cpu{cores[0]}-{cores[-1]}"
        for file in ("cpuinfo_avg_freq", "scaling_cur_freq"):
            if found := list(_single(policy / file, f"{name}.clock", "MHz", 1e-3)):
                yield from found
                break

    path, tick_s = root / "proc/stat", 1 / os.sysconf("SC_CLK_TCK")
    kinds = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

    def parse(content: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for line in content.split(b"\n"):
            name, *figures = line.split(None, 10)[:9]
            if name == b"cpu":
                found |= {b"all." + kind.encode(): figure for kind, figure in zip(kinds, figures, strict=False)}
            elif name.startswith(b"cpu"):
                user, nice, system, _, _, irq, softirq, steal = figures
                found[name] = b"%d" % sum(map(int, (user, nice, system, irq, softirq, steal)))
            else:
                found[name] = figures[0]
            if name == b"softirq":  # the last line of interest
                break
        return found

    def channel(name: str) -> Channel | None:
        if name.startswith("all."):
            return Channel(name=f"cpu.{name[4:]}", unit="cores", kind="counter", origin=str(path), scale=tick_s)
        if name.startswith("cpu"):
            return Channel(name=f"{name}.busy", unit="ratio", kind="counter", origin=str(path), scale=tick_s)
        if rate := {"intr": "interrupts", "ctxt": "switches", "processes": "forks"}.get(name):
            return Channel(name=f"cpu.{rate}", unit="1/s", kind="counter", origin=str(path))
        if name.startswith("procs_"):
            return Channel(name=f"cpu.{name}", unit="tasks", kind="gauge", origin=str(path))
        return None

    yield from _table(path, parse, channel)

    load = root / "proc/loadavg"
    if (text := _text(load)) and len(text.split()) == 5:
        names = ("1m", "5m", "15m", "tasks")
        yield _File(
            load,
            (Channel(name=f"load.{name}", unit="tasks", kind="gauge", origin=str(load)) for name in names),
            lambda content: [_number(part.rpartition(b"/")[2]) for part in content.split()[:4]],
        )


def _pressure(root: Path) -> Iterator[_Source]:
    """Pressure stall information: the share of time that some or all tasks waited for a resource."""

    def parse(content: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for line in content.splitlines():
            who, *pairs = line.split()
            found |= {who + b"." + name: value for name, _, value in (pair.partition(b"=") for pair in pairs)}
        return found

    for resource in ("cpu", "memory", "io", "irq"):
        path = root / "proc/pressure" / resource

        def channel(name: str, path: Path = path, resource: str = resource) -> Channel | None:
            who, _, what = name.partition(".")
            stalled = f"pressure.{resource}.{who}"
            if what == "total":
                return Channel(name=stalled, unit="ratio", kind="counter", origin=str(path), scale=1e-6)
            if what == "avg10":
                return Channel(name=f"{stalled}.10s", unit="ratio", kind="gauge", origin=str(path), scale=1e-2)
            return None

        yield from _table(path, parse, channel)


VMSTAT = (
    "pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "pgfree", "pgactivate", "pgdeactivate",
    "pgsteal_kswapd", "pgsteal_direct", "pgscan_kswapd", "pgscan_direct", "workingset_refault_anon",
    "workingset_refault_file", "oom_kill", "numa_hit", "numa_miss", "numa_pages_migrated", "pgmigrate_success",
    "compact_stall", "compact_fail", "compact_success", "thp_fault_alloc", "thp_fault_fallback", "thp_split_page",
    "swap_ra", "balloon_inflate",
)  # fmt: skip
"""The events of /proc/vmstat that tell of pressure, paging and huge pages; its other lines are in /proc/meminfo."""


def _memory(root: Path) -> Iterator[_Source]:
    """/proc/meminfo in bytes, the events of /proc/vmstat, and the pools of huge pages."""
    meminfo, vmstat = root / "proc/meminfo", root / "proc/vmstat"

    def of_meminfo(name: str) -> Channel | None:
        if name.startswith(("Vmalloc", "DirectMap", "Hugepagesize")):
            return None  # the address space and its mapping: constants of the kernel
        pages = name.startswith("HugePages_")
        return Channel(
            name=f"memory.{name}",
            unit="pages" if pages else "B",
            kind="gauge",
            origin=str(meminfo),
            scale=1 if pages else 1024,
        )

    def of_vmstat(name: str) -> Channel | None:
        if name not in VMSTAT and not name.startswith("allocstall"):
            return None
        if name in ("pgpgin", "pgpgout"):  # counted in KiB, the others in pages or events
            return Channel(name=f"vm.{name}", unit="B/s", kind="counter", origin=str(vmstat), scale=1024)
        return Channel(name=f"vm.{name}", unit="1/s", kind="counter", origin=str(vmstat))

    yield from _table(meminfo, lambda content: dict(re.findall(rb"^(\S+):\s+(\d+)", content, re.MULTILINE)), of_meminfo)
    yield from _table(vmstat, _pairs, of_vmstat)
    for pool in _numbered(root / "sys/kernel/mm/hugepages", "hugepages-*"):
        size = pool.name.removeprefix("hugepages-")
        yield from _single(pool / "nr_hugepages", f"hugepages.{size}.total", "pages")
        yield from _single(pool / "free_hugepages", f"hugepages.{size}.free", "pages")


HWMON: dict[str, tuple[str, float, Kind]] = {
    "temp": ("°C", 1e-3, "gauge"),
    "fan": ("RPM", 1, "gauge"),
    "in": ("V", 1e-3, "gauge"),
    "curr": ("A", 1e-3, "gauge"),
    "power": ("W", 1e-6, "gauge"),
    "energy": ("W", 1e-6, "counter"),
    "humidity": ("%", 1e-3, "gauge"),
    "freq": ("MHz", 1e-6, "gauge"),
}
"""Unit, scale and kind by the beginning of a hwmon file's name."""
SUPPLY = {
    "power_now": ("power", "W", 1e-6),
    "voltage_now": ("voltage", "V", 1e-6),
    "current_now": ("current", "A", 1e-6),
    "temp": ("temperature", "°C", 1e-1),
    "capacity": ("charge", "%", 1),
    "online": ("online", "flag", 1),
}


def _board(root: Path) -> Iterator[_Source]:
    """Thermal zones, hwmon (NVMe, network and Wi-Fi adapters, boards, processors) and power supplies."""
    for zone in _numbered(root / "sys/class/thermal", "thermal_zone*"):
        name = f"thermal.zone{zone.name.removeprefix('thermal_zone')}.{_text(zone / 'type') or 'unnamed'}"
        yield from _single(zone / "temp", name, "°C", 1e-3)
    for chip in _numbered(root / "sys/class/hwmon", "hwmon*"):
        device = _link(chip / "device")
        if device.startswith("thermal_zone"):
            continue
        driver = _text(chip / "name") or chip.name
        prefix = f"hwmon.{driver}" + (f"-{device}" if device and device != driver else "")
        for file in sorted(chip.iterdir(), key=lambda path: [*re.findall(r"\D+", path.name), *_digits(path.name)]):
            part = re.fullmatch(r"([a-z]+)(\d+)_(input|average)", file.name)
            if part is None or part[1] not in HWMON:
                continue
            if part[3] == "average" and (chip / f"{part[1]}{part[2]}_input").exists():
                continue
            unit, scale, kind = HWMON[part[1]]
            label = _text(chip / f"{part[1]}{part[2]}_label") or f"{part[1]}{part[2]}"
            yield from _single(file, f"{prefix}.{label}", unit, scale, kind)
    for supply in _numbered(root / "sys/class/power_supply", "*"):
        for file_name, (name, unit, scale) in SUPPLY.items():
            yield from _single(supply / file_name, f"supply.{supply.name}.{name}", unit, scale)


def _digits(name: str) -> str:
    return "".join(re.findall(r"\d+", name)).rjust(4, "0")


def _link(path: Path) -> str:
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return ""


def _storage(root: Path) -> Iterator[_Source]:
    """Traffic of block devices that are hardware; loop, RAM and compressed-RAM devices are not."""
    columns: tuple[tuple[str, str, float, Kind, int], ...] = (
        ("reads", "1/s", 1, "counter", 0),
        ("read", "B/s", SECTOR_BYTES, "counter", 2),
        ("writes", "1/s", 1, "counter", 4),
        ("written", "B/s", SECTOR_BYTES, "counter", 6),
        ("in_flight", "requests", 1, "gauge", 8),
        ("busy", "ratio", 1e-3, "counter", 9),
    )
    places = [place for *_, place in columns]

    def parse(content: bytes) -> Sequence[Value]:
        fields = content.split()
        return [int(fields[place]) for place in places]

    for device in sorted((root / "sys/block").glob("*")):
        path = device / "stat"
        if device.name.startswith(("loop", "ram", "zram")) or _text(path) is None:
            continue
        yield _File(
            path,
            (
                Channel(name=f"disk.{device.name}.{name}", unit=unit, kind=kind, origin=str(path), scale=scale)
                for name, unit, scale, kind, _ in columns
            ),
            parse,
        )


def _network(root: Path) -> Iterator[_Source]:
    """Traffic of network interfaces that are hardware, from one file, their link speeds, and the bytes that RDMA moves
    past the interfaces."""
    path = root / "proc/net/dev"
    names = {"rx": (0, "B/s"), "rx_packets": (1, "1/s"), "rx_errors": (2, "1/s"), "rx_drops": (3, "1/s"),
             "tx": (8, "B/s"), "tx_packets": (9, "1/s"), "tx_errors": (10, "1/s"), "tx_drops": (11, "1/s")}  # fmt: skip
    hardware = {
        folder.name for folder in (root / "sys/class/net").glob("*") if os.path.lexists(folder / "device")
    }  # bridges, tunnels and loopback have no device

    def parse(content: bytes) -> dict[bytes, bytes]:
        found = {}
        for line in content.splitlines()[2:]:
            interface, _, rest = line.partition(b":")
            figures = rest.split()
            for name, (place, _) in names.items():
                found[interface.strip() + b"." + name.encode()] = figures[place]
        return found

    def channel(key: str) -> Channel | None:
        interface, _, name = key.rpartition(".")
        if interface not in hardware:
            return None
        return Channel(name=f"net.{key}", unit=names[name][1], kind="counter", origin=str(path))

    yield from _table(path, parse, channel)
    for interface in sorted(hardware):
        speed = root / "sys/class/net" / interface / "speed"
        for found_speed in _single(speed, f"net.{interface}.speed", "Mb/s"):
            yield _File(speed, found_speed.channels, lambda content: [None if int(content) < 0 else int(content)])
    for port in sorted((root / "sys/class/infiniband").glob("*/ports/*/counters")):
        name = f"rdma.{port.parents[2].name}.{port.parent.name}"
        yield from _single(port / "port_rcv_data", f"{name}.rx", "B/s", RDMA_WORD_BYTES, "counter")
        yield from _single(port / "port_xmit_data", f"{name}.tx", "B/s", RDMA_WORD_BYTES, "counter")


def _energy(root: Path) -> Iterator[_Source]:
    """A processor's RAPL domains, where they may be read."""
    for domain in rapl.domains(root):
        place = domain.file.parent.name.removeprefix("intel-rapl:")
        yield from _single(domain.file, f"rapl.{place}.{domain.name}", "W", 1e-6, "counter", domain.range_uj)


@dataclass(frozen=True)
class _Question:
    """One call of NVML about a device; ``pick`` takes its readings out of the answer, one for each channel."""

    channels: tuple[tuple[str, str, float, Kind], ...]
    function: str
    arguments: tuple[Any, ...] = ()
    pick: Callable[[Any], Sequence[Value]] = lambda answer: (answer,)


FIELD_TYPES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""The members of nvmlValue_t, by nvmlValueType_t."""
LONG_TYPES = ("ulVal", "ullVal", "sllVal")


def _field(answer: Any) -> Sequence[Value]:
    (value,) = answer
    return (None if value.nvmlReturn != 0 else getattr(value.value, FIELD_TYPES[value.valueType]),)


def _bytes(answer: Any) -> Sequence[Value]:
    """A count of bytes; None where it has but 32 bits: a fast link runs through those several times a second."""
    return _field(answer) if FIELD_TYPES[answer[0].valueType] in LONG_TYPES else (None,)


def _processes(answer: Any) -> Sequence[Value]:
    used = [process.usedGpuMemory for process in answer]
    return len(used), None if None in used else sum(used)


def _gauge(name: str, unit: str, scale: float = 1) -> tuple[tuple[str, str, float, Kind], ...]:
    return ((name, unit, scale, "gauge"),)


NVML = (
    _Question(_gauge("temperature", "°C"), "nvmlDeviceGetTemperature", (0,)),
    _Question(_gauge("temperature.margin", "°C"), "nvmlDeviceGetMarginTemperature"),
    _Question(_gauge("temperature.memory", "°C"), "nvmlDeviceGetFieldValues", ([82],), _field),
    _Question(_gauge("power", "W", 1e-3), "nvmlDeviceGetPowerUsage"),
    _Question(_gauge("power.instant", "W", 1e-3), "nvmlDeviceGetFieldValues", ([POWER_INSTANT_FIELD],), _field),
    _Question(_gauge("power.limit", "W", 1e-3), "nvmlDeviceGetEnforcedPowerLimit"),
    _Question((("power.counted", "W", 1e-3, "counter"),), "nvmlDeviceGetTotalEnergyConsumption"),
    _Question(_gauge("clock.graphics", "MHz"), "nvmlDeviceGetClockInfo", (0,)),
    _Question(_gauge("clock.sm", "MHz"), "nvmlDeviceGetClockInfo", (1,)),
    _Question(_gauge("clock.memory", "MHz"), "nvmlDeviceGetClockInfo", (2,)),
    _Question(_gauge("clock.video", "MHz"), "nvmlDeviceGetClockInfo", (3,)),
    _Question(_gauge("performance_state", "P"), "nvmlDeviceGetPerformanceState"),
    _Question(
        tuple((f"throttle.{reason.replace(' ', '_')}", "flag", 1, "gauge") for reason in CLOCK_EVENTS.values()),
        "nvmlDeviceGetCurrentClocksEventReasons",
        (),
        lambda bits: [int(bool(bits & bit)) for bit in CLOCK_EVENTS],
    ),
    _Question(
        (("busy", "ratio", 1e-2, "gauge"), ("memory.busy", "ratio", 1e-2, "gauge")),
        "nvmlDeviceGetUtilizationRates",
        (),
        lambda rates: (rates.gpu, rates.memory),
    ),
    _Question(_gauge("encoder.busy", "ratio", 1e-2), "nvmlDeviceGetEncoderUtilization", (), lambda pair: pair[:1]),
    _Question(_gauge("decoder.busy", "ratio", 1e-2), "nvmlDeviceGetDecoderUtilization", (), lambda pair: pair[:1]),
    _Question(
        (("memory.total", "B", 1, "gauge"), ("memory.used", "B", 1, "gauge"), ("memory.free", "B", 1, "gauge")),
        "nvmlDeviceGetMemoryInfo",
        (),
        lambda memory: (memory.total, memory.used, memory.free),
    ),
    _Question(
        (("processes", "processes", 1, "gauge"), ("processes.memory", "B", 1, "gauge")),
        "nvmlDeviceGetComputeRunningProcesses_v3",
        (),
        _processes,
    ),
    _Question(_gauge("fan", "%"), "nvmlDeviceGetFanSpeed"),
    _Question(_gauge("pcie.generation", "generation"), "nvmlDeviceGetCurrPcieLinkGeneration"),
    _Question(_gauge("pcie.width", "lanes"), "nvmlDeviceGetCurrPcieLinkWidth"),
    _Question((("pcie.tx", "B/s", 1, "counter"),), "nvmlDeviceGetFieldValues", ([197],), _bytes),
    _Question((("pcie.rx", "B/s", 1, "counter"),), "nvmlDeviceGetFieldValues", ([198],), _bytes),
)
"""What is asked of each device. The PCIe traffic is by counters: NVML's own rate sleeps 20 ms for each answer."""


class _Device:
    """An NVIDIA device. What it does not support stays None and is not asked again."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.channels = tuple(
            Channel(name=f"gpu{index}.{name}", unit=unit, kind=kind, origin=question.function, scale=scale)
            for question in NVML
            for name, unit, scale, kind in question.channels
        )
        unsupported = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        self._calls: list[tuple[Callable[..., Any] | None, _Question]] = []
        for question in NVML:
            call = getattr(nvml, question.function, None)
            try:
                if call is not None:
                    call(self._handle, *question.arguments)
            except nvml.NVMLError as error:
                if error.value in unsupported:
                    call = None
            self._calls.append((call, question))

    def read(self) -> Sequence[Value]:
        readings: list[Value] = []
        for call, question in self._calls:
            picked: Sequence[Value] = (None,) * len(question.channels)
            if call is not None:
                with contextlib.suppress(self._nvml.NVMLError):  # fallen off the bus, a driver being reloaded
                    picked = question.pick(call(self._handle, *question.arguments))
            readings.extend(picked)
        return readings


class _RecordedNvml:
    """NVML's answers on file, for the calls that a :class:`_Device` makes; null is "not supported".

    ``{"driver": TEXT, "devices": [{"name": TEXT, "answers": {"FUNCTION ARGUMENTS": ANSWER}}]}``"""

    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_FUNCTION_NOT_FOUND = 13

    class NVMLError(Exception):
        value = 3

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        self.nvmlInit: Callable[[], None] = lambda: None
        self.nvmlDeviceGetCount: Callable[[], int] = lambda: len(document["devices"])
        self.nvmlDeviceGetHandleByIndex: Callable[[int], Any] = lambda index: document["devices"][index]
        self.nvmlDeviceGetName: Callable[[Any], str] = lambda device: str(device["name"])
        self.nvmlSystemGetDriverVersion: Callable[[], str] = lambda: str(document["driver"])

    def __getattr__(self, function: str) -> Callable[..., Any]:
        def answer(device: dict[str, Any], *arguments: Any) -> Any:
            given = device["answers"].get(_asked(function, arguments))
            if given is None:
                raise self.NVMLError
            return json.loads(json.dumps(given), object_hook=lambda fields: SimpleNamespace(**fields))

        return answer


def _nvml(root: Path) -> tuple[Any, str]:
    """NVML, the machine's or a recorded tree's, begun; or None and why it is absent."""
    if root != Path("/"):
        path = root / "nvml.json"
        return (_RecordedNvml(path), "") if path.is_file() else (None, "not recorded")
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, "needs nvidia-ml-py: pip install nvidia-ml-py"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, str(error)
    return nvml, ""


FINDERS: tuple[Callable[[Path], Iterator[_Source]], ...] = (
    _cpu, _pressure, _memory, _board, _storage, _network, _energy,
)  # fmt: skip


class Sensors:
    """The channels of a machine, as they were found when this was made."""

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.monotonic) -> None:
        """``absent`` says what gives no channel here and why. Nothing is raised for want of anything."""
        self._clock = clock
        self._sources: list[_Source] = [source for find in FINDERS for source in find(root)]
        self.absent: dict[str, str] = {}
        self.machine = _machine(root)
        nvml, why = _nvml(root)
        if nvml is None:
            self.absent["nvml"] = why
        else:
            try:
                devices = [_Device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
                self.machine["gpu"] = ", ".join(_decoded(nvml.nvmlDeviceGetName(device._handle)) for device in devices)
                self.machine["driver"] = _decoded(nvml.nvmlSystemGetDriverVersion())
                self._sources.extend(devices)
            except nvml.NVMLError as error:
                self.absent["nvml"] = str(error)
        self.channels = _distinct([channel for source in self._sources for channel in source.channels])
        origins = {channel.origin for channel in self.channels}
        for domain in rapl.domains(root):
            if str(domain.file) not in origins:
                self.absent["rapl"] = rapl.UNREADABLE.format(path=domain.file)
        self._last: tuple[float, list[Value]] | None = None

    def sample(self) -> dict[str, Value]:
        """Every channel's value now, by name, in the order of ``channels``. A counter's is its rate since the last
        sample: None in the first, and where the counter ran backwards because its device began anew."""
        at_s = self._clock()
        readings = [reading for source in self._sources for reading in source.read()]
        last_s, last = self._last or (at_s, readings)
        self._last = at_s, readings
        passed_s = at_s - last_s
        values: dict[str, Value] = {}
        for channel, now, before in zip(self.channels, readings, last, strict=True):
            if channel.kind == "gauge":
                values[channel.name] = None if now is None else now * channel.scale
            elif now is None or before is None or passed_s <= 0:
                values[channel.name] = None
            else:
                more = now - before
                if more < 0 and channel.wraps_at is not None:
                    more += channel.wraps_at
                values[channel.name] = more * channel.scale / passed_s if more >= 0 else None
        return values


def _distinct(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels, those of one name told apart by a number."""
    seen: dict[str, int] = {}
    named = []
    for channel in channels:
        count = seen[channel.name] = seen.get(channel.name, 0) + 1
        named.append(channel if count == 1 else Channel(**{**asdict(channel), "name": f"{channel.name}#{count}"}))
    return tuple(named)


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _machine(root: Path) -> dict[str, str]:
    """What kind of machine this is; nothing that identifies the one at hand."""
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    about = {
        "product": _text(root / "sys/class/dmi/id/product_name"),
        "processor": rapl.processor(root),
        "cores": str(len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))),
        "kernel": _text(root / "proc/sys/kernel/osrelease"),
    }
    return {name: text for name, text in about.items() if text}


class Logger:
    """Logs every channel from a thread while its ``with`` block runs, every ``period_s`` by the clock: what one row
    takes does not put off the next, and a moment that was slept through is left out.

    ``rows`` and ``cpu_s`` count the rows written and the processor time that they took, which is also the most that a
    step run eagerly beside it can lose to it: 0.8 ms a second for 130 channels (``sensors --cost``). A log that can no
    longer be written (a full disk) ends with ``failure`` set; the work that it accompanies goes on."""

    def __init__(self, path: Path, *, root: Path = Path("/"), period_s: float = 1.0) -> None:
        """Raises EcoRouteError if another process logs to the file or it cannot be opened."""
        self.sensors = Sensors(root)
        self.rows, self.cpu_s = 0, 0.0
        self.failure: str | None = None
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._log, name="sensors", daemon=True)
        self._file = _opened(path)
        header = {
            "sensors": SCHEMA,
            "period_s": period_s,
            "machine": self.sensors.machine,
            "absent": self.sensors.absent,
            "channels": [
                {name: value for name, value in asdict(channel).items() if name not in ("scale", "wraps_at")}
                for channel in self.sensors.channels
            ],
        }
        try:
            self._write(json.dumps(header, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            self._file.close()
            raise EcoRouteError(f"cannot log to {path}: {error}") from error

    def _write(self, text: bytes) -> None:
        if self._file.write(text) != len(text):
            raise OSError(errno.ENOSPC, "the last line was written in part: is the disk full?")

    def _log(self) -> None:
        begin_s, due = time.monotonic(), 0
        try:
            while not self._stop.wait(max(0.0, begin_s + due * self._period_s - time.monotonic())):
                cpu_s = time.thread_time()
                self._write(line(time.time(), self.sensors.sample().values()))
                self.rows += 1
                due = following(due, time.monotonic() - begin_s, self._period_s)
                self.cpu_s += time.thread_time() - cpu_s
        except OSError as error:
            self.failure = str(error)

    def __enter__(self) -> Logger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.close()


def following(due: int, passed_s: float, period_s: float) -> int:
    """The tick after the one that was ``due``; of ticks that went by meanwhile, the latest alone."""
    return max(due + 1, int(passed_s / period_s))


def _opened(path: Path) -> io.FileIO:
    """The file for appending, ours alone, its torn last line cut off."""
    file_lock.check()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise EcoRouteError(f"cannot log to {path}: {error}") from error
    try:
        file_lock.take(file)
    except BlockingIOError as error:
        file.close()
        raise EcoRouteError(f"another process logs to {path}: name another file") from error
    try:
        _cut_torn_line(file)
    except OSError as error:
        file.close()
        raise EcoRouteError(f"cannot log to {path}: {error}") from error
    return file


def _cut_torn_line(file: io.FileIO) -> None:
    end = file.seek(0, os.SEEK_END)
    begin = end
    while begin > 0:
        begin = max(0, begin - (1 << 16))
        file.seek(begin)
        newline = file.read(min(1 << 16, end - begin)).rfind(b"\n")
        if newline >= 0:
            file.truncate(begin + newline + 1)
            return
    file.truncate(0)


def line(at_s: float, values: Iterable[Value]) -> bytes:
    """A row of a log: seconds since 1970, then the values, floats to seven digits."""
    texts = ("null" if v is None else str(v) if isinstance(v, int) else format(v, ".7g") for v in values)
    return f"[{at_s:.3f},{','.join(texts)}]\n".encode()


@dataclass(frozen=True)
class Record:
    """Logs read back: one entry of ``at_s``, ``machines`` and of every column for each row, in the order of time.

    ``columns`` is the union of all segments' channels, None where a row's segment has no such channel. ``torn`` maps a
    file to its incomplete last line."""

    channels: dict[str, Channel]
    at_s: tuple[float, ...]
    machines: tuple[Mapping[str, str], ...]
    columns: dict[str, tuple[Value, ...]]
    torn: dict[Path, str]


def read(paths: Iterable[Path]) -> Record:
    """Logs of any machines and channels, together.

    Raises EcoRouteError, naming file and line, for what is not a log, and for channels of one name in two units."""
    channels: dict[str, Channel] = {}
    rows: list[tuple[float, Mapping[str, str], dict[str, Value]]] = []
    torn: dict[Path, str] = {}
    for path in paths:
        try:
            whole, _, rest = path.read_bytes().rpartition(b"\n")
        except OSError as error:
            raise EcoRouteError(f"cannot read {path}: {error}") from error
        if rest:
            torn[path] = rest.decode(errors="replace")
        names: list[str] = []
        machine: Mapping[str, str] = {}
        for number, text in enumerate(whole.split(b"\n") if whole else (), start=1):
            where = f"{path}, line {number}"
            try:
                document = json.loads(text)
                if isinstance(document, dict):
                    if document["sensors"] != SCHEMA:
                        raise EcoRouteError(f"{where}: a log of schema {document['sensors']}; this reads {SCHEMA}")
                    machine = document["machine"]
                    found = [Channel(**channel) for channel in document["channels"]]
                    names = [channel.name for channel in found]
                    for channel in found:
                        known = channels.setdefault(channel.name, channel)
                        if (known.unit, known.kind) != (channel.unit, channel.kind):
                            raise EcoRouteError(
                                f"{where}: {channel.name} is in {channel.unit} here and in {known.unit} elsewhere: "
                                "read the files apart"
                            )
                else:
                    at_s, *values = document
                    rows.append((at_s, machine, dict(zip(names, values, strict=True))))
            except (ValueError, KeyError, TypeError) as error:
                raise EcoRouteError(f"{where}: not a line of a sensors' log ({error})") from error
    rows.sort(key=lambda row: row[0])
    return Record(
        channels=channels,
        at_s=tuple(at_s for at_s, _, _ in rows),
        machines=tuple(machine for _, machine, _ in rows),
        columns={name: tuple(values.get(name) for _, _, values in rows) for name in channels},
        torn=torn,
    )


RECORDED = (
    "proc/cpuinfo", "proc/stat", "proc/loadavg", "proc/meminfo", "proc/vmstat", "proc/net/dev", "proc/pressure/*",
    "proc/sys/kernel/osrelease", "sys/class/dmi/id/product_name", "sys/kernel/mm/hugepages/*/*_hugepages",
    *(f"sys/devices/system/cpu/cpufreq/policy*/{name}" for name in
      ("related_cpus", "scaling_driver", "cpuinfo_max_freq", "cpuinfo_avg_freq", "scaling_cur_freq")),
    "sys/class/thermal/thermal_zone*/type", "sys/class/thermal/thermal_zone*/temp",
    "sys/class/hwmon/hwmon*/name", "sys/class/hwmon/hwmon*/device", "sys/class/hwmon/hwmon*/*_label",
    "sys/class/hwmon/hwmon*/*_input", "sys/class/hwmon/hwmon*/*_average",
    *(f"sys/class/power_supply/*/{name}" for name in SUPPLY),
    "sys/block/*/stat", "sys/class/net/*/device", "sys/class/net/*/speed",
    "sys/class/infiniband/*/ports/*/counters/port_*_data",
    *(f"sys/class/powercap/intel-rapl:*/{name}" for name in ("name", "energy_uj", "max_energy_range_uj")),
)  # fmt: skip
"""Every file that a channel is found or read by; none holds a serial number."""


def pack(root: Path, recording: Path) -> None:
    """Record a machine in the form that :func:`unpack` reads; a file that refuses an answer now is recorded empty."""
    lines: list[str] = []
    for pattern in RECORDED:
        folders, _, last = pattern.rpartition("/")
        if last == "device":  # a link, whose target is not followed
            links = sorted(folder / last for folder in root.glob(folders) if (folder / last).is_symlink())
            lines.extend(f"{link.relative_to(root)}\t-> {os.readlink(link)}" for link in links)
            continue
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root)
            try:
                content = _content(str(path)).decode(errors="replace").removesuffix("\n")
            except PermissionError:
                continue
            except OSError:
                content = ""
            lines.append(f"{name}\t{_escaped(content)}")
    nvml, _ = _nvml(root)
    if nvml is not None:
        devices = []
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            answers: dict[str, Any] = {}
            for question in NVML:
                answer = None
                with contextlib.suppress(nvml.NVMLError, AttributeError):
                    answer = _plain(getattr(nvml, question.function)(device, *question.arguments))
                answers[_asked(question.function, question.arguments)] = answer
            devices.append({"name": _decoded(nvml.nvmlDeviceGetName(device)), "answers": answers})
        document = {"driver": _decoded(nvml.nvmlSystemGetDriverVersion()), "devices": devices}
        lines.append(f"nvml.json\t{_escaped(json.dumps(document))}")
    about = ", ".join(_machine(root).values())
    try:
        recording.parent.mkdir(parents=True, exist_ok=True)
        recording.write_text("\n".join([f"# Recorded from a machine: {about}", *lines, ""]), encoding="utf-8")
    except OSError as error:
        raise EcoRouteError(f"cannot record to {recording} ({error.strerror}): name another file") from error


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _asked(function: str, arguments: Sequence[Any]) -> str:
    return " ".join([function, *map(json.dumps, arguments)])


def _plain(answer: Any) -> Any:
    """An answer of NVML as JSON can hold it: structures become objects."""
    if isinstance(answer, list | tuple | ctypes.Array):
        return [_plain(part) for part in answer]
    if isinstance(answer, ctypes.Structure | ctypes.Union):
        names = [name for name, *_ in answer._fields_]
    elif answer is None or isinstance(answer, int | float | str):
        return answer
    else:
        names = list(vars(answer))
    return {name: _plain(getattr(answer, name)) for name in names}


ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


def unpack(recording: Path, folder: Path) -> Path:
    """Write a recorded tree out under a folder, and return the folder.

    A recording is a text: ``PATH<tab>CONTENT`` a line, with newlines, tabs and backslashes of the content escaped, or
    ``PATH<tab>-> TARGET`` for a link; lines that begin with # are for the reader. Raises EcoRouteError for anything
    else, a path out of the folder included."""
    try:
        lines = recording.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EcoRouteError(f"{recording} is no recording ({error}): make one with sensors --record") from error
    for number, text in enumerate(lines, start=1):
        if not text or text.startswith("#"):
            continue
        name, tab, content = text.partition("\t")
        if not tab or Path(name).is_absolute() or ".." in Path(name).parts:
            raise EcoRouteError(f"{recording}, line {number}: not PATH<tab>CONTENT with a path below the root")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            whole = re.sub(r"\\([nt\\])", lambda found: ESCAPES[found[1]], content)
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")
    return folder
