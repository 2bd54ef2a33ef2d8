"""Channels of recorded trees, moved by hand where rates are meant, and logs of them.

recordings/dgx-spark.tsv is in the shape of a DGX Spark, after public listings: its head says what is from where."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import sensors
from benchmark.__main__ import main
from benchmark.sensors import Channel, Logger, Sensors
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_rapl import put, unprivileged

RECORDING = Path(__file__).parent / "recordings" / "dgx-spark.tsv"


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def spark(tmp_path: Path) -> Path:
    return sensors.unpack(RECORDING, tmp_path / "spark")


def change(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert text.count(old) == 1
    put(root, {name: text.replace(old, new).removesuffix("\n")})


# -- a DGX Spark


def test_a_spark_has_274_channels_of_which_260_give_a_value(spark: Path) -> None:
    clock = Clock()
    found = Sensors(spark, clock=clock)
    assert len(found.channels) == 274
    assert len({channel.name for channel in found.channels}) == 274
    first = found.sample()
    clock.now_s += 1
    values = found.sample()
    assert list(values) == [channel.name for channel in found.channels]
    assert {name for name, value in values.items() if value is None} == {
        "cpu3.clock", "cpu17.clock",  # idle: the kernel refuses
        "net.enp1s0f1np1.speed", "net.enP2p1s0f1np1.speed", "net.wlP9s9.speed",  # down, or Wi-Fi
        "gpu0.temperature.memory", "gpu0.power.limit", "gpu0.clock.memory", "gpu0.fan",
        "gpu0.memory.total", "gpu0.memory.used", "gpu0.memory.free", "gpu0.pcie.tx", "gpu0.pcie.rx",
    }  # fmt: skip
    counters = {channel.name for channel in found.channels if channel.kind == "counter"}
    assert len(counters) == 135
    assert all(first[name] is None for name in counters)
    assert found.absent == {}
    assert found.machine == {
        "product": "NVIDIA_DGX_Spark",
        "processor": "Arm, part 0xd85, 0xd87",
        "cores": "20",
        "kernel": "6.17.0-1008-nvidia",
        "gpu": "NVIDIA GB10",
        "driver": "580.126.09",
    }


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("cpu0.clock", 2807.0, "MHz"),
        ("cpu12.clock", 2847.0, "MHz"),  # scaling_cur_freq says 7332
        ("cpu19.clock", 4004.0, "MHz"),
        ("thermal.zone0.acpitz", 40.9, "°C"),
        ("thermal.zone6.acpitz", 40.6, "°C"),
        ("hwmon.nvme-nvme0.Composite", 37.85, "°C"),
        ("hwmon.nvme-nvme0.Sensor 1", 37.85, "°C"),
        ("hwmon.mlx5-0000:01:00.1.asic", 43.0, "°C"),
        ("hwmon.mlx5-0002:01:00.0.asic", 42.0, "°C"),
        ("hwmon.mt7925_phy0-phy0.temp1", 42.0, "°C"),
        ("load.1m", 0.3, "tasks"),
        ("load.tasks", 1043, "tasks"),
        ("cpu.procs_running", 1, "tasks"),
        ("pressure.cpu.some.10s", 0.0012, "ratio"),
        ("pressure.irq.full.10s", 0.0002, "ratio"),
        ("memory.MemTotal", 125442868 * 1024, "B"),
        ("memory.MemAvailable", 118629056 * 1024, "B"),
        ("memory.HugePages_Total", 0, "pages"),
        ("hugepages.32768kB.free", 0, "pages"),
        ("net.enP7s7.speed", 1000, "Mb/s"),
        ("net.enp1s0f0np0.speed", 200000, "Mb/s"),
        ("disk.nvme0n1.in_flight", 0, "requests"),
        ("gpu0.temperature", 39, "°C"),
        ("gpu0.temperature.margin", 57, "°C"),
        ("gpu0.power", 4.19, "W"),
        ("gpu0.power.instant", 4.51, "W"),
        ("gpu0.clock.sm", 208, "MHz"),
        ("gpu0.clock.video", 598, "MHz"),
        ("gpu0.performance_state", 8, "P"),
        ("gpu0.throttle.power_cap", 0, "flag"),
        ("gpu0.processes.memory", 97716 * 1024 * 1024, "B"),
        ("gpu0.pcie.generation", 1, "generation"),
        ("gpu0.clock.memory", None, "MHz"),
        ("gpu0.memory.used", None, "B"),
        ("gpu0.fan", None, "%"),
    ],
)
def test_a_gauge_is_read_in_its_unit(spark: Path, name: str, value: float | None, unit: str) -> None:
    found = Sensors(spark)
    (channel,) = [channel for channel in found.channels if channel.name == name]
    assert (channel.kind, channel.unit) == ("gauge", unit)
    assert found.sample()[name] == (None if value is None else pytest.approx(value, rel=1e-12, abs=0))


def test_a_counter_gives_its_rate_since_the_last_sample(spark: Path) -> None:
    clock = Clock()
    found = Sensors(spark, clock=clock)
    found.sample()
    clock.now_s += 2.0
    change(spark, "proc/net/dev", "512044110", "513044110")
    change(spark, "proc/stat", "ctxt 15870024", "ctxt 15870324")
    change(spark, "proc/stat", "cpu19 2803 3 1109 ", "cpu19 2903 3 1159 ")
    stat = (spark / "proc/stat").read_text().split("\n", 1)[0]
    user, rest = stat.split()[1], stat.split()[2:]
    change(spark, "proc/stat", stat, f"cpu  {int(user) + 300} {' '.join(rest)}")
    change(spark, "proc/pressure/io", "total=830112", "total=1330112")
    change(spark, "proc/vmstat", "pgpgin 3410221", "pgpgin 3410421")
    change(spark, "proc/vmstat", "pgmajfault 9120", "pgmajfault 9126")
    change(spark, "sys/block/nvme0n1/stat", "6820442", "6820642")
    change(spark, "sys/block/nvme0n1/stat", " 60112 ", " 61112 ")
    put(spark, {"sys/class/infiniband/rocep1s0f0/ports/1/counters/port_rcv_data": 20411 + 1000})
    values = found.sample()
    rates = {
        "net.enP7s7.rx": (500_000.0, "B/s"),
        "net.enP7s7.tx": (0.0, "B/s"),
        "cpu.switches": (150.0, "1/s"),
        "cpu.user": (1.5, "cores"),
        "cpu.softirq": (0.0, "cores"),
        "cpu19.busy": (0.75, "ratio"),
        "cpu0.busy": (0.0, "ratio"),
        "pressure.io.some": (0.25, "ratio"),
        "vm.pgpgin": (102_400.0, "B/s"),
        "vm.pgmajfault": (3.0, "1/s"),
        "disk.nvme0n1.read": (51_200.0, "B/s"),
        "disk.nvme0n1.busy": (0.5, "ratio"),
        "rdma.rocep1s0f0.1.rx": (2_000.0, "B/s"),
        "gpu0.power.counted": (0.0, "W"),
    }
    units = {channel.name: channel.unit for channel in found.channels}
    assert os.sysconf("SC_CLK_TCK") == 100
    assert {name: values[name] for name in rates} == pytest.approx({name: rate for name, (rate, _) in rates.items()})
    assert {name: units[name] for name in rates} == {name: unit for name, (_, unit) in rates.items()}


def test_a_counter_that_began_anew_has_no_rate_and_then_has_one_again(spark: Path) -> None:
    clock = Clock()
    found = Sensors(spark, clock=clock)
    for counted, rate in ((20411, None), (500, None), (750, 1000.0)):
        put(spark, {"sys/class/infiniband/rocep1s0f0/ports/1/counters/port_rcv_data": counted})
        clock.now_s += 1
        assert found.sample()["rdma.rocep1s0f0.1.rx"] == rate


def test_what_vanishes_is_none_alone_and_is_read_again_when_it_returns(spark: Path) -> None:
    clock = Clock()
    found = Sensors(spark, clock=clock)
    before = found.sample()
    shutil.move(spark / "sys/class/hwmon/hwmon1", spark / "away")
    net = (spark / "proc/net/dev").read_text()
    put(spark, {"proc/net/dev": "\n".join(line for line in net.splitlines() if "wlP9s9" not in line)})
    (spark / "proc/vmstat").unlink()
    put(spark, {"proc/pressure/cpu": "some avg10=N/A avg60=0 avg300=0 total=1"})
    clock.now_s += 1
    without = found.sample()
    gone = {name for name, value in without.items() if value is None and before[name] is not None}
    assert gone == {
        "hwmon.nvme-nvme0.Composite", "hwmon.nvme-nvme0.Sensor 1", "pressure.cpu.some.10s", "pressure.cpu.full.10s",
    }  # fmt: skip
    assert without["net.wlP9s9.rx"] is None
    assert without["net.enP7s7.rx"] == 0.0
    assert without["vm.pgfault"] is None
    shutil.move(spark / "away", spark / "sys/class/hwmon/hwmon1")
    assert found.sample()["hwmon.nvme-nvme0.Composite"] == pytest.approx(37.85)


# -- other machines


@pytest.fixture
def desktop(tmp_path: Path) -> Path:
    """Fans, voltages and powers, cores that share a clock, packages with RAPL, a battery, and two NVIDIA devices."""
    root = tmp_path / "desktop"
    board = "sys/class/hwmon/hwmon10"
    answers: dict[str, Any] = {
        "nvmlDeviceGetTemperature 0": 61,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x4 | 0x20,
        "nvmlDeviceGetUtilizationRates": {"gpu": 98, "memory": 45},
        "nvmlDeviceGetMemoryInfo": {"total": 85520809984, "used": 1073741824, "free": 84447068160},
        "nvmlDeviceGetComputeRunningProcesses_v3": [{"usedGpuMemory": 5}, {"usedGpuMemory": None}],
    }
    put(
        root,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU",
            f"{board}/name": "nct6798",
            f"{board}/fan1_input": 1240,
            f"{board}/fan1_label": "CPU",
            f"{board}/fan2_input": 0,
            f"{board}/fan2_label": "CPU",
            f"{board}/in0_input": 1096,
            f"{board}/curr1_input": 2500,
            f"{board}/power1_average": 35_000_000,
            f"{board}/power2_input": 12_500_000,
            f"{board}/power2_average": 99_000_000,
            f"{board}/energy1_input": 1_000_000,
            f"{board}/humidity1_input": 41_000,
            f"{board}/temp1_max": 90_000,
            f"{board}/pwm1": 128,
            "sys/class/hwmon/hwmon9/name": "amdgpu",
            "sys/class/hwmon/hwmon9/freq1_input": 1_800_000_000,
            "sys/devices/system/cpu/cpufreq/policy0/related_cpus": "0 1 2 3",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 3_400_000,
            "sys/class/powercap/intel-rapl:0/name": "package-0",
            "sys/class/powercap/intel-rapl:0/energy_uj": 65_532_610_000,
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj": 65_532_610_987,
            "sys/class/power_supply/BAT0/power_now": 17_250_000,
            "sys/class/power_supply/BAT0/capacity": 83,
            "nvml.json": json.dumps(
                {"driver": "1", "devices": [{"name": "A", "answers": answers}, {"name": "B", "answers": {}}]}
            ),
        },
    )
    return root


def test_boards_clocks_batteries_and_packages_are_found_by_their_files(desktop: Path) -> None:
    clock = Clock()
    found = Sensors(desktop, clock=clock)
    found.sample()
    clock.now_s += 2
    put(desktop, {"sys/class/hwmon/hwmon10/energy1_input": 31_000_000})
    put(desktop, {"sys/class/powercap/intel-rapl:0/energy_uj": 19_999_013})
    values = found.sample()
    units = {channel.name: channel.unit for channel in found.channels}
    expected = {
        "cpu0-3.clock": (3400.0, "MHz"),
        "hwmon.amdgpu.freq1": (1800.0, "MHz"),
        "hwmon.nct6798.curr1": (2.5, "A"),
        "hwmon.nct6798.energy1": (15.0, "W"),
        "hwmon.nct6798.CPU": (1240, "RPM"),
        "hwmon.nct6798.CPU#2": (0, "RPM"),
        "hwmon.nct6798.humidity1": (41.0, "%"),
        "hwmon.nct6798.in0": (1.096, "V"),
        "hwmon.nct6798.power1": (35.0, "W"),
        "hwmon.nct6798.power2": (12.5, "W"),
        "supply.BAT0.power": (17.25, "W"),
        "supply.BAT0.charge": (83, "%"),
        "rapl.0.package-0": (10.0, "W"),
    }
    of_board = {name: value for name, value in values.items() if not name.startswith("gpu")}
    assert of_board == pytest.approx({name: value for name, (value, _) in expected.items()})
    assert {name: units[name] for name in of_board} == {name: unit for name, (_, unit) in expected.items()}
    assert found.machine["gpu"] == "A, B"


def test_each_nvidia_device_answers_for_itself(desktop: Path) -> None:
    values = Sensors(desktop).sample()
    of_a = {name.removeprefix("gpu0."): value for name, value in values.items() if name.startswith("gpu0.")}
    of_b = {name.removeprefix("gpu1."): value for name, value in values.items() if name.startswith("gpu1.")}
    assert {name: value for name, value in of_a.items() if value is not None} == {
        "temperature": 61,
        "throttle.power_cap": 1,
        "throttle.hardware_slowdown": 0,
        "throttle.software_thermal": 1,
        "throttle.hardware_thermal": 0,
        "throttle.power_brake": 0,
        "busy": 0.98,
        "memory.busy": 0.45,
        "memory.total": 85520809984,
        "memory.used": 1073741824,
        "memory.free": 84447068160,
        "processes": 2,
    }
    assert of_a.keys() == of_b.keys()
    assert set(of_b.values()) == {None}


def test_a_file_for_root_alone_is_no_channel_and_its_repair_is_named(desktop: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = shutil.copytree(desktop, Path(folder) / "root")
        root.parent.chmod(0o755)
        with unprivileged():
            assert "rapl.0.package-0" in Sensors(root).sample()
        (root / "sys/class/powercap/intel-rapl:0/energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
        with unprivileged():
            found = Sensors(root)
        assert "rapl.0.package-0" not in found.sample()
        assert "sudo chmod a+r" in found.absent["rapl"]


def test_an_empty_tree_has_no_channels_and_says_what_is_absent(tmp_path: Path) -> None:
    found = Sensors(tmp_path)
    assert (found.channels, found.sample(), found.absent) == ((), {}, {"nvml": "not recorded"})


def test_this_machine_is_read_without_root_and_without_raising() -> None:
    found = Sensors()
    values = found.sample()
    assert values["memory.MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert {"cpu.user", "cpu0.busy", "load.1m", "vm.pgfault"} <= values.keys()
    assert ("nvml" in found.absent) != any(name.startswith("gpu0.") for name in values)


# -- logs


def rows(logger: Logger, count: int) -> None:
    """Let a logger run until it has written that many rows."""
    with logger:
        while logger.rows < count and logger.failure is None:
            pass


def test_a_log_reads_back_as_it_was_sampled(spark: Path, tmp_path: Path) -> None:
    logger = Logger(tmp_path / "deep" / "log.jsonl", root=spark, period_s=0.01)
    rows(logger, 3)
    record = sensors.read([tmp_path / "deep" / "log.jsonl"])
    assert len(record.at_s) == logger.rows >= 3
    assert list(record.at_s) == sorted(record.at_s)
    assert list(record.channels) == [channel.name for channel in logger.sensors.channels]
    assert record.channels["gpu0.power"] == Channel(
        name="gpu0.power", unit="W", kind="gauge", origin="nvmlDeviceGetPowerUsage"
    )
    assert record.machines[0]["gpu"] == "NVIDIA GB10"
    assert set(record.columns["gpu0.power"]) == {4.19}
    assert set(record.columns["thermal.zone5.acpitz"]) == {39.8}
    assert set(record.columns["memory.MemTotal"]) == {125442868 * 1024}
    assert set(record.columns["gpu0.clock.memory"]) == {None}
    assert record.columns["net.enP7s7.rx"][:2] == (None, 0.0)
    assert record.torn == {}
    assert logger.failure is None
    assert 0 < logger.cpu_s / logger.rows < 0.5


def test_a_restart_with_other_channels_begins_a_segment_of_the_same_file(spark: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows(Logger(path, root=spark, period_s=0.001), 2)
    shutil.rmtree(spark / "sys/class/infiniband")
    put(spark, {"sys/class/thermal/thermal_zone7/type": "new", "sys/class/thermal/thermal_zone7/temp": 50_000})
    first = len(sensors.read([path]).at_s)
    rows(Logger(path, root=spark, period_s=0.001), 2)
    record = sensors.read([path])
    assert len(record.channels) == 275
    new, rdma = record.columns["thermal.zone7.new"], record.columns["rdma.rocep1s0f0.1.rx"]
    assert set(new[:first]) == {None}
    assert set(new[first:]) == {50.0}
    assert rdma[first - 1] == 0.0
    assert set(rdma[first:]) == {None}
    assert path.read_bytes().count(b'{"sensors": 1,') == 2


def test_logs_of_different_machines_are_read_together(spark: Path, desktop: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "spark.jsonl", tmp_path / "desktop.jsonl"
    rows(Logger(two, root=desktop, period_s=0.001), 2)
    rows(Logger(one, root=spark, period_s=0.001), 2)
    record = sensors.read([one, two])
    assert record.machines[0]["processor"] == "Some CPU @ 3 GHz"
    assert record.machines[-1]["product"] == "NVIDIA_DGX_Spark"
    assert len({len(column) for column in record.columns.values()} | {len(record.at_s)}) == 1
    assert (record.columns["hwmon.nct6798.in0"][0], record.columns["hwmon.nct6798.in0"][-1]) == (1.096, None)
    assert (record.columns["thermal.zone0.acpitz"][0], record.columns["thermal.zone0.acpitz"][-1]) == (None, 40.9)
    assert (record.columns["gpu0.temperature"][0], record.columns["gpu0.temperature"][-1]) == (61, 39)


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_start(desktop: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows(Logger(path, root=desktop, period_s=0.001), 2)
    whole = path.read_bytes()
    complete = sensors.read([path])
    path.write_bytes(whole + b"[1795251827.123,61,nul")
    record = sensors.read([path])
    assert record.torn == {path: "[1795251827.123,61,nul"}
    assert (record.at_s, record.columns) == (complete.at_s, complete.columns)
    rows(Logger(path, root=desktop, period_s=0.001), 1)
    again = path.read_bytes()
    assert again.startswith(whole + b'{"sensors": 1,')
    assert sensors.read([path]).torn == {}
    path.write_bytes(b"x" * 100_000)
    rows(Logger(path, root=desktop, period_s=0.001), 1)
    assert path.read_bytes().startswith(b'{"sensors": 1,')


HEADER = '{"sensors": 1, "machine": {}, "channels": [{"name": "a", "unit": "W", "kind": "gauge", "origin": "o"}]}\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEADER + "[1.0, 2, 3]\n", r"log\.jsonl, line 2: not a line of a sensors' log"),
        (HEADER + "[1.0, 2]\n\x00\n", "line 3: not a line"),
        ("[1.0, 2]\n", "line 1: not a line"),
        ('{"model": "x"}\n', "line 1: not a line"),
        (HEADER.replace("1,", "2,"), "line 1: a log of schema 2; this reads 1"),
        (HEADER + HEADER.replace('"W"', '"mW"'), "line 2: a is in mW here and in W elsewhere: read the files apart"),
    ],
)
def test_what_is_no_log_is_refused_by_file_and_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(EcoRouteError, match=fault):
        sensors.read([path])


def test_a_second_process_cannot_log_to_the_file(desktop: Path, tmp_path: Path) -> None:
    with (
        Logger(tmp_path / "log.jsonl", root=desktop),
        pytest.raises(EcoRouteError, match=r"another process logs to .*: name another file"),
    ):
        Logger(tmp_path / "log.jsonl", root=desktop)
    with pytest.raises(EcoRouteError, match="cannot log to"):
        Logger(tmp_path, root=desktop)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files may grow to 64 KiB: the next write is in part, and those after it fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_log_that_can_no_longer_be_written_ends_and_says_so(spark: Path, tmp_path: Path) -> None:
    logger = Logger(tmp_path / "log.jsonl", root=spark, period_s=0.0001)
    rows(logger, 10_000)
    assert logger.failure is not None
    assert f"[Errno {errno.ENOSPC}]" in logger.failure or f"[Errno {errno.EFBIG}]" in logger.failure
    assert len(sensors.read([tmp_path / "log.jsonl"]).at_s) == logger.rows


def test_the_ticks_keep_to_the_clock_and_missed_ones_are_left_out() -> None:
    assert sensors.following(0, 0.002, 1.0) == 1
    assert sensors.following(1, 1.9, 1.0) == 2
    assert sensors.following(2, 7.4, 1.0) == 7
    assert sensors.following(7, 7.5, 1.0) == 8


# -- recordings and the command


def test_a_recording_of_a_recording_gives_the_same_values(spark: Path, tmp_path: Path) -> None:
    sensors.pack(spark, tmp_path / "again.tsv")
    again = sensors.unpack(tmp_path / "again.tsv", tmp_path / "again")
    assert Sensors(again).sample() == Sensors(spark).sample()
    assert Sensors(again).machine == Sensors(spark).machine
    assert (tmp_path / "again.tsv").read_text().startswith("# Recorded from a machine: NVIDIA_DGX_Spark, Arm, part")


@pytest.mark.parametrize(
    ("field", "kind", "union", "number", "name", "value"),
    [
        (186, 1, "uiVal", 4510, "power.instant", 4.51),
        (186, 0, "dVal", 4510.0, "power.instant", 4.51),
        (82, 1, "uiVal", 77, "temperature.memory", 77),
    ],
)
def test_nvmls_own_structures_are_recorded(
    field: int, kind: int, union: str, number: float, name: str, value: float, tmp_path: Path
) -> None:
    pynvml = pytest.importorskip("pynvml")
    given = (pynvml.c_nvmlFieldValue_t * 1)()
    given[0].fieldId, given[0].valueType = field, kind
    setattr(given[0].value, union, number)
    answers = {f"nvmlDeviceGetFieldValues [{field}]": sensors._plain(given)}
    put(tmp_path, {"nvml.json": json.dumps({"driver": "1", "devices": [{"name": "A", "answers": answers}]})})
    assert Sensors(tmp_path).sample()[f"gpu0.{name}"] == value


def test_bytes_over_pcie_are_counted_in_64_bits_or_not_at_all(tmp_path: Path) -> None:
    clock = Clock()
    answers = {
        f"nvmlDeviceGetFieldValues [{field}]": [
            {"nvmlReturn": 0, "valueType": kind, "value": {"uiVal": 7, "ullVal": 7}}
        ]
        for field, kind in ((197, 1), (198, 3))
    }
    put(tmp_path, {"nvml.json": json.dumps({"driver": "1", "devices": [{"name": "A", "answers": answers}]})})
    found = Sensors(tmp_path, clock=clock)
    found.sample()
    clock.now_s += 1
    values = found.sample()
    assert (values["gpu0.pcie.tx"], values["gpu0.pcie.rx"]) == (None, 0.0)


@pytest.mark.parametrize("line", ["../up\tx", "/etc/passwd\tx", "no tab"])
def test_a_recording_stays_in_its_folder(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text(f"# head\n\nproc/uptime\t1 2\n{line}\n")
    with pytest.raises(EcoRouteError, match="line 4: not PATH<tab>CONTENT with a path below the root"):
        sensors.unpack(tmp_path / "bad.tsv", tmp_path / "out")


def test_the_command_lists_channels_with_value_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensors", "--root", str(RECORDING)]) == 0
    table = capsys.readouterr().out
    assert "NVIDIA_DGX_Spark, Arm, part 0xd85, 0xd87, 20, 6.17.0-1008-nvidia, NVIDIA GB10, 580.126.09" in table
    shown = {tuple(line.split()) for line in table.splitlines()}
    assert ("thermal.zone5.acpitz", "39.8", "°C", "-") in shown
    assert ("gpu0.fan", "-", "%", "-") in shown
    assert ("cpu.user", "-", "cores", "rate") in shown
    assert "274 channels, 147 of them without a value now" in table
    assert main(["sensors", "--root", str(RECORDING), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["channels"]) == 274
    assert {
        "name": "gpu0.power", "unit": "W", "kind": "gauge", "origin": "nvmlDeviceGetPowerUsage", "value": 4.19
    } in document["channels"]  # fmt: skip


def test_the_command_logs_records_and_tells_the_cost(
    spark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, copy = tmp_path / "log.jsonl", tmp_path / "copy.tsv"
    assert main(["sensors", "--root", str(spark), "--log", str(log), "--for", "0.3s"]) == 0
    logged = sensors.read([log]).columns["gpu0.temperature"]
    assert capsys.readouterr().out == f"{len(logged)} rows in {log}\n"
    assert set(logged) == {39}
    assert main(["sensors", "--root", str(spark), "--record", str(copy)]) == 0
    assert len(Sensors(sensors.unpack(copy, tmp_path / "copied")).channels) == 274
    capsys.readouterr()
    assert main(["sensors", "--root", str(spark), "--cost", "--for", "0.3s", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["channels"] == 274
    assert figures["share_of_a_core"] == pytest.approx(figures["ms_per_row"] / 1e3)
    assert main(["sensors", "--root", str(tmp_path / "nowhere")]) == 2
    assert "no such folder or recording" in capsys.readouterr().err
