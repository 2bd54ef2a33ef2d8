"""Energy from a meter's readings: by hand on small traces, and on readings recorded on an H100.

The recording holds one second of idling, three of decoding Qwen3-8B's shape at batch 8, and one of idling again."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from benchmark import meter
from benchmark.meter import (
    NvmlMeter,
    Reading,
    Recorder,
    Recording,
    ReplayMeter,
    Trace,
    clock_events,
    on_this_machine,
)
from ecoroute_mcp.sci import EcoRouteError

RECORDING = Recording.load(Path(__file__).parent / "recordings" / "h100-idle-load-idle.jsonl")


def stepped(seconds: float, watts: float, step_s: float = 0.1, watch_s: float = 0.01) -> Trace:
    """A counter that moves every ``step_s`` under constant power, watched every ``watch_s``."""
    readings = []
    for index in range(round(seconds / watch_s)):
        at_s = index * watch_s
        steps = int(round(at_s / step_s, 6))
        readings.append(Reading(at_s=at_s, energy_j=steps * step_s * watts, power_w=watts))
    return Trace(tuple(readings))


@pytest.mark.parametrize("begin", [0.5, 0.537, 0.5999])
@pytest.mark.parametrize("length", [2.0, 2.05, 0.33])
def test_a_coarse_counter_gives_exact_energy_wherever_the_window_lies(begin: float, length: float) -> None:
    trace = stepped(4.0, 500.0)
    assert trace.energy_j(begin, begin + length) == pytest.approx(500.0 * length, rel=1e-9)
    assert trace.polled_j(begin, begin + length) == pytest.approx(500.0 * length, rel=1e-9)


def test_updates_are_changes_of_the_counter_within_the_window() -> None:
    trace = stepped(4.0, 500.0)
    assert trace.updates(0.55, 2.55) == 20
    assert trace.updates(0.55, 0.59) == 0


def test_a_window_that_the_record_does_not_cover_has_no_energy() -> None:
    trace = stepped(4.0, 500.0)
    assert trace.energy_j(0.05, 1.0) is None  # before the second change: when the first value began is unknown
    assert trace.energy_j(1.0, 3.95) is None  # after the last change
    assert trace.polled_j(1.0, 4.5) is None
    assert Trace(()).energy_j(0.0, 1.0) is None


def test_without_a_counter_power_is_integrated_and_its_changes_counted() -> None:
    readings = tuple(Reading(at_s=float(at_s), power_w=100.0 * at_s) for at_s in range(5))
    trace = Trace(readings)
    assert trace.energy_j(1.0, 3.0) is None
    assert trace.polled_j(1.0, 3.0) == pytest.approx(400.0)
    assert trace.polled_j(1.5, 2.5) == pytest.approx(200.0)
    assert trace.updates(0.5, 3.5) == 3


def test_a_counter_that_runs_backwards_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="backwards"):
        Trace((Reading(at_s=0.0, energy_j=5.0), Reading(at_s=1.0, energy_j=4.0)))
    with pytest.raises(EcoRouteError, match="order of time"):
        Trace((Reading(at_s=1.0), Reading(at_s=0.0)))


def test_a_throttling_reason_stands_until_the_next_reading() -> None:
    readings = (
        Reading(at_s=0.0, clock_events=()),
        Reading(at_s=1.0, clock_events=("power cap",)),
        Reading(at_s=1.5, energy_j=1.0),
        Reading(at_s=2.0, clock_events=("power cap", "software thermal")),
        Reading(at_s=3.0, clock_events=()),
    )
    assert Trace(readings).events_s(1.25, 2.5) == {"power cap": 1.25, "software thermal": 0.5}


def test_reasons_are_read_from_the_bits_and_idling_is_no_throttling() -> None:
    assert clock_events(0x1) == ()
    assert clock_events(0x2 | 0x10 | 0x100) == ()
    assert clock_events(0x4 | 0x40) == ("power cap", "hardware thermal")


def test_the_recorded_counter_moves_about_every_tenth_of_a_second() -> None:
    changes = [b.at_s for a, b in itertools.pairwise(RECORDING.readings) if a.energy_j != b.energy_j]
    gaps = sorted(b - a for a, b in itertools.pairwise(changes))
    assert 0.08 < gaps[len(gaps) // 2] < 0.12


def test_recorded_energy_by_counter_and_by_polling_agree_under_load() -> None:
    trace = Trace(RECORDING.readings)
    begin = RECORDING.readings[0].at_s
    counted, polled = trace.energy_j(begin + 1.6, begin + 3.6), trace.polled_j(begin + 1.6, begin + 3.6)
    assert counted is not None
    assert polled is not None
    assert polled == pytest.approx(counted, rel=0.02)
    assert 400 < counted / 2 < 700  # watts: a loaded board, under its 700 W limit
    assert 19 <= trace.updates(begin + 1.6, begin + 3.6) <= 21


def test_a_recording_survives_the_file(tmp_path: Path) -> None:
    RECORDING.write(tmp_path / "again.jsonl")
    assert Recording.load(tmp_path / "again.jsonl") == RECORDING
    assert RECORDING.identity.name == "NVIDIA H100 80GB HBM3"


def test_a_replay_gives_the_recorded_readings_on_the_present_clock() -> None:
    meter = ReplayMeter(RECORDING)
    with Recorder(meter, period_s=0.002, slow_s=0.01) as recorder:
        begin = time.perf_counter()
        readings: tuple[Reading, ...] = ()
        while len(readings) <= 50 or len({reading.temperature_c is None for reading in readings}) < 2:
            readings = recorder.trace().readings
            assert time.perf_counter() < begin + 60
    recorded = {reading.energy_j for reading in RECORDING.readings}
    assert all(reading.energy_j in recorded for reading in readings)
    assert all(begin - 0.1 < reading.at_s < time.perf_counter() for reading in readings)


def test_a_recorder_passes_on_what_its_meter_failed_with() -> None:
    class Broken(ReplayMeter):
        def read(self, *, slow: bool = True) -> Reading:
            raise RuntimeError("the device fell off the bus")

    with Recorder(Broken(RECORDING)) as recorder:
        pass
    with pytest.raises(EcoRouteError, match="fell off the bus"):
        recorder.trace()


@pytest.mark.parametrize("name", ["nvidia0", "nvidiactl", "nvhost-gpu", "dxg"])
def test_a_drivers_files_tell_a_machine_that_may_have_a_device(name: str, tmp_path: Path) -> None:
    (tmp_path / "null").touch()
    assert meter._no_driver(tmp_path)
    (tmp_path / name).touch()
    assert not meter._no_driver(tmp_path)


def test_without_a_device_the_message_says_what_to_do() -> None:
    with pytest.raises(EcoRouteError, match=r"NVIDIA device|pip install nvidia-ml-py|this machine has"):
        NvmlMeter("GPU-of-another-machine")


class Driver(ModuleType):
    """NVML as far as processes go, on a machine whose device has no thermometer and no counter."""

    nvmlMemory_v2 = 0x02000028
    NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = NVML_CLOCK_MEM = 0

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.pids: list[int] = []
        self.used = 0
        self.screens: list[int] | None = None

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def unsupported(*_: object, **__: object) -> None:
            raise self.NVMLError("Not Supported")

        return unsupported

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return "handle"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return "GPU-1"

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"NVIDIA Test"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "1.0"

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int | None = None) -> SimpleNamespace:
        return SimpleNamespace(total=80e9, used=self.used if version else self.used + 600e6)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        if self.screens is None:
            raise self.NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid) for pid in self.screens]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    stand_in = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


def test_another_process_is_refused_but_for_the_servers(driver: Driver) -> None:
    meter = NvmlMeter()
    driver.pids = [os.getpid(), 7, 8]
    with pytest.raises(EcoRouteError, match=r"another process computes on the device \(process 7, 8\)"):
        meter.check_alone()
    served = meter.serving()
    assert served == {7, 8}
    meter.check_alone(besides=served)
    driver.pids = [8, 9]
    with pytest.raises(EcoRouteError, match=r"\(process 9\)"):
        meter.check_alone(besides=served)


def test_memory_held_by_nobody_listed_is_refused_until_this_process_holds_some(driver: Driver) -> None:
    meter = NvmlMeter()
    meter.check_alone(loaded=False)
    driver.used = 60 * 2**30
    for driver.screens in (None, []):
        with pytest.raises(EcoRouteError, match="is held by a process that is not listed here"):
            meter.check_alone(loaded=False)
    meter.check_alone()
    driver.screens = [42]
    meter.check_alone(loaded=False)  # a desktop's


def test_a_device_on_which_nothing_computes_serves_nobody(driver: Driver) -> None:
    meter = NvmlMeter()
    driver.pids = [os.getpid()]
    driver.used = 3 * 2**20  # the driver's own lies beside it
    with pytest.raises(
        EcoRouteError, match=r"no process computes on NVIDIA Test \(GPU-1\), so the server runs elsewhere"
    ):
        meter.serving()
    driver.used = 5 * 2**30  # a process of another container: not listed, but it holds memory
    assert meter.serving() == frozenset()


def test_an_address_of_this_machine_is_told_from_others() -> None:
    for url in ("http://127.0.0.1:8000/v1", "http://localhost:11434", "http://127.1.2.3", "https://0.0.0.0:1"):
        assert on_this_machine(url)
    assert on_this_machine(f"http://{socket.gethostname()}:8000")
    assert not on_this_machine("http://192.0.2.7:8000/v1")  # an address for documentation, nobody's
    with pytest.raises(EcoRouteError, match=r"no machine is called 'nowhere\.invalid'"):
        on_this_machine("http://nowhere.invalid:8000")
