"""Energy of a processor's packages, on a tree in the shape of the kernel's whose counters the tests move."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark import measure as measuring
from benchmark import rapl, session
from benchmark.measure import Work, measure, shared
from benchmark.meter import Busy, Meter
from benchmark.rapl import RaplMeter, domains
from benchmark.thermal import Guard
from benchmark.trial import Measured, TrialConfig
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_measure import METRONOMIC, Metronome

RANGE_UJ = 262_143_328_850  # of a Xeon


def put(root: Path, content: dict[str, str | int]) -> None:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")


def energy(root: Path, package: int, microjoules: int) -> None:
    put(root, {f"sys/class/powercap/intel-rapl:{package}/energy_uj": microjoules})


@pytest.fixture
def two_packages(tmp_path: Path) -> Path:
    """Two packages with a domain in each, the platform's, the memory-mapped copy, and what identifies a machine."""
    powercap = "sys/class/powercap"
    for folder, name, counter in (
        ("intel-rapl:0", "package-0", 1_000_000),
        ("intel-rapl:0:0", "core", 900_000),
        ("intel-rapl:0:1", "dram", 50_000),
        ("intel-rapl:1", "package-1", 5_000_000),
        ("intel-rapl:2", "psys", 9_000_000),
        ("intel-rapl-mmio:0", "package-0", 1_000_000),
    ):
        put(
            tmp_path,
            {
                f"{powercap}/{folder}/name": name,
                f"{powercap}/{folder}/energy_uj": counter,
                f"{powercap}/{folder}/max_energy_range_uj": RANGE_UJ,
            },
        )
    put(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6430\n",
            "proc/meminfo": "MemTotal:       125442868 kB\nMemFree:        1 kB\n",
            "proc/loadavg": "0.42 0.30 0.20 1/900 1234",
            "proc/uptime": "1000.00 60000.00",
            "proc/stat": "cpu  10000 0 2000 900000 70 0 100 0 0 0\ncpu0 10000 0 2000 900000 70 0 100 0 0 0\n",
            "proc/self/stat": "77 (python -m (x) y) R 1 1 1 0 -1 4194304 9 9 0 0 3000 500 0 0 20 0 1 0 9",
            "proc/sys/kernel/osrelease": "6.8.0-generic",
            "etc/machine-id": "0123456789abcdef0123456789abcdef",
            "sys/class/thermal/thermal_zone0/type": "acpitz",
            "sys/class/thermal/thermal_zone0/temp": 27800,
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
            "sys/class/thermal/thermal_zone1/temp": 61000,
            "sys/class/thermal/thermal_zone2/type": "x86_pkg_temp",
            "sys/class/thermal/thermal_zone2/temp": 66000,
        },
    )
    return tmp_path


def test_the_packages_are_summed_and_nothing_within_or_around_them(two_packages: Path) -> None:
    meter: Meter = RaplMeter(two_packages)
    assert meter.read().energy_j == 0.0
    energy(two_packages, 0, 3_500_000)
    energy(two_packages, 1, 5_250_000)
    put(two_packages, {"sys/class/powercap/intel-rapl:0:0/energy_uj": 3_000_000})
    put(two_packages, {"sys/class/powercap/intel-rapl:2/energy_uj": 99_000_000})
    assert meter.read(slow=False).energy_j == 2.75
    assert meter.read().energy_j == 2.75


def test_each_counter_begins_again_after_its_own_range(two_packages: Path) -> None:
    put(two_packages, {"sys/class/powercap/intel-rapl:1/max_energy_range_uj": 65_532_610_987})
    energy(two_packages, 0, RANGE_UJ - 1_000_000)
    energy(two_packages, 1, 65_532_610_987 - 500_000)
    meter = RaplMeter(two_packages)
    energy(two_packages, 0, 2_000_000)
    assert meter.read().energy_j == 3.0
    energy(two_packages, 1, 250_000)
    assert meter.read().energy_j == 3.75
    energy(two_packages, 0, 1_999_999)  # a whole range less one microjoule
    assert meter.read().energy_j == pytest.approx(3.75 + (RANGE_UJ - 1) / 1e6, rel=1e-12)


def test_a_reading_has_energy_and_the_hottest_package_and_no_power(two_packages: Path) -> None:
    meter = RaplMeter(two_packages)
    slow, fast = meter.read(), meter.read(slow=False)
    assert (slow.temperature_c, slow.power_w, slow.sm_mhz, slow.clock_events) == (66.0, None, None, None)
    assert (fast.temperature_c, fast.power_w) == (None, None)


def test_without_a_package_zone_the_drivers_package_labels_count(two_packages: Path) -> None:
    shutil.rmtree(two_packages / "sys/class/thermal")
    assert RaplMeter(two_packages).identity.unavailable["temperature_c"].startswith("neither x86_pkg_temp")
    put(
        two_packages,
        {
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": 90000,
            "sys/class/hwmon/hwmon1/name": "coretemp",
            "sys/class/hwmon/hwmon1/temp1_label": "Package id 0",
            "sys/class/hwmon/hwmon1/temp1_input": 58000,
            "sys/class/hwmon/hwmon1/temp2_label": "Core 0",
            "sys/class/hwmon/hwmon1/temp2_input": 71000,
        },
    )
    assert RaplMeter(two_packages).read().temperature_c == 58.0
    put(two_packages, {"sys/class/hwmon/hwmon2/name": "k10temp", "sys/class/hwmon/hwmon2/temp1_input": 62125})
    assert RaplMeter(two_packages).read().temperature_c == 62.125


def test_the_identity_names_the_processor_and_says_what_a_package_cannot(two_packages: Path) -> None:
    identity = RaplMeter(two_packages).identity
    assert identity.name == "Intel(R) Xeon(R) Gold 6430"
    assert identity.driver == "intel_rapl, Linux 6.8.0-generic"
    assert identity.memory_gb == 125442868 * 1024 / 1e9
    assert identity.unavailable["alone"] == (
        "a package's energy includes every process on the machine; its load was 0.42 at the start"
    )
    assert "energy_j" not in identity.unavailable
    assert set(identity.unavailable) == {"power_w", "sm_mhz", "memory_mhz", "clock_events", "alone"}


def test_the_machines_id_is_stable_and_does_not_give_away_the_systems_own(two_packages: Path) -> None:
    first = RaplMeter(two_packages).identity.uuid
    assert first == RaplMeter(two_packages).identity.uuid
    assert first.startswith("CPU-")
    assert "0123456789abcdef" not in first
    put(two_packages, {"etc/machine-id": "f" * 32})
    assert RaplMeter(two_packages).identity.uuid != first
    (two_packages / "etc/machine-id").unlink()
    put(two_packages, {"proc/sys/kernel/random/boot_id": "3d5f"})
    of_this_boot = RaplMeter(two_packages).identity
    assert of_this_boot.uuid == "BOOT-3d5f"
    assert of_this_boot.unavailable["uuid"] == "no /etc/machine-id: the id is that of this boot"


def test_others_are_counted_apart_from_this_process_and_its_children(two_packages: Path) -> None:
    meter = RaplMeter(two_packages)
    meter.check_alone()
    assert meter.busy_cores() is None  # no time has passed
    put(
        two_packages,
        {
            "proc/uptime": "1010.00 60000.00",
            "proc/stat": "cpu  14000 100 2300 999999 99 50 150 0 0 0\n",
            "proc/self/stat": "77 (python -m (x) y) R 1 1 1 0 -1 4194304 9 9 0 0 5000 600 900 0 20 0 1 0 9",
        },
    )
    assert os.sysconf("SC_CLK_TCK") == 100
    assert meter.busy_cores() == Busy(own=3.0, others=1.5)
    (two_packages / "proc/stat").unlink()
    assert meter.busy_cores() is None


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user to whom permissions apply, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def reachable(two_packages: Path) -> Iterator[Path]:
    """The tree where every user may go."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        shutil.copytree(two_packages, root, dirs_exist_ok=True)
        root.chmod(0o755)
        yield root


def test_a_counter_for_root_alone_is_refused_with_the_repairs(reachable: Path) -> None:
    counter = reachable / "sys/class/powercap/intel-rapl:1/energy_uj"
    with unprivileged():
        assert RaplMeter(reachable).read().energy_j == 0.0
    counter.chmod(0o400 if os.geteuid() == 0 else 0)
    with unprivileged(), pytest.raises(EcoRouteError) as refused:
        RaplMeter(reachable)
    for repair in (str(counter), "sudo chmod a+r", "/etc/udev/rules.d/", "CAP_DAC_READ_SEARCH"):
        assert repair in str(refused.value)


def test_a_counter_that_goes_away_fails_the_reading(two_packages: Path) -> None:
    meter = RaplMeter(two_packages)
    (two_packages / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    with pytest.raises(EcoRouteError, match=r"intel-rapl:0/energy_uj cannot be read .*measure without energy"):
        meter.read(slow=False)


def test_a_machine_without_packages_is_told_so(two_packages: Path, tmp_path: Path) -> None:
    with pytest.raises(EcoRouteError, match="no RAPL on this machine"):
        RaplMeter(tmp_path / "elsewhere")
    for package in ("intel-rapl:0", "intel-rapl:1"):
        shutil.rmtree(two_packages / "sys/class/powercap" / package)
    with pytest.raises(EcoRouteError, match="no RAPL on this machine"):
        RaplMeter(two_packages)


def test_every_domain_is_listed_with_its_kernels_name(two_packages: Path) -> None:
    assert [(domain.name, domain.is_package) for domain in domains(two_packages)] == [
        ("package-0", True),
        ("core", False),
        ("dram", False),
        ("package-1", True),
        ("psys", False),
    ]


# -- whole trials


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short times about the windows."""
    for name in ("IDLE_S", "IDLE_SETTLE_S", "WARM_S", "EDGE_S"):
        monkeypatch.setattr(measuring, name, 0.25)


LONGER = replace(METRONOMIC, window_s=0.5)


class Worker(Metronome):
    """A metronome that knows how long it has worked, what passed between two passes included."""

    def __init__(self) -> None:
        super().__init__()
        self._worked_s, self._begin_s, self._end_s = 0.0, math.inf, -math.inf

    def worked_s(self) -> float:
        return self._worked_s + max(0.0, time.perf_counter() - self._begin_s)

    def prefill(self, prompts: str) -> None:
        self._begin()
        super().prefill(prompts)
        self._end()

    def decode(self, generated_tokens: int) -> Work:
        self._begin()
        done = super().decode(generated_tokens)
        self._end()
        return done

    def _begin(self) -> None:
        self._begin_s = time.perf_counter()
        if self._begin_s - self._end_s < 0.2:
            self._begin_s = self._end_s

    def _end(self) -> None:
        self._end_s = time.perf_counter()
        self._worked_s += self._end_s - self._begin_s
        self._begin_s = math.inf


class Processor:
    """Two packages at work: 20 W between them while an engine idles and 80 W while it works, on four cores of its own
    and some of others'. The first package's counter begins again on the way. As the kernel's, its files say what is so
    when they are read, and what /proc says of one moment holds together."""

    IDLE_W, WORKING_W = 20.0, 80.0

    def __init__(self, engine: Worker, others_cores: float, always: bool) -> None:
        self._engine, self._others, self._always = engine, others_cores, always
        self._begin_s = time.perf_counter()
        self._moment = self._now()

    def _now(self) -> tuple[float, float]:
        return time.perf_counter() - self._begin_s, self._engine.worked_s()

    def counter(self, file: Path) -> int:
        passed_s, worked_s = self._now()
        microjoules = 1e6 * (self.IDLE_W * passed_s + (self.WORKING_W - self.IDLE_W) * worked_s)
        if file.parent.name == "intel-rapl:0":
            return (int(microjoules * 0.75) + RANGE_UJ - 30_000_000) % RANGE_UJ
        return int(microjoules * 0.25)

    def uptime(self) -> str:
        self._moment = self._now()
        return f"{1000 + self._moment[0]:.2f} 60000.00"

    def stat(self) -> str:
        """Others' processor time is, of a server, whose others are told from an idle stretch, all the time; else while
        the engine works, so that their share holds."""
        passed_s, worked_s = self._moment
        return (
            f"cpu  {int(100 * (4.0 * worked_s + self._others * (passed_s if self._always else worked_s)))}" + " 0" * 9
        )

    def own_stat(self) -> str:
        return f"77 (python) R 1 1 1 0 -1 0 0 0 0 0 {int(400 * self._moment[1])} 0 0 0 20 0"


def on_the_processor(root: Path, others_cores: float, config: TrialConfig) -> Measured:
    """A trial by the meter that a session finds."""
    engine = Worker()
    processor = Processor(engine, others_cores, always=config.endpoint is not None)
    said = {"uptime": processor.uptime, "stat": processor.stat, "self/stat": processor.own_stat}
    live = {root / "proc" / name: text for name, text in said.items()}
    read_text = rapl._text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rapl, "_counter", processor.counter)
        patch.setattr(rapl, "_text", lambda file: live[file]() if file in live else read_text(file))
        machine = session.find("cpu", memory_gb=8.0, root=root)
        assert isinstance(machine.meter, RaplMeter)
        return measure(
            config,
            engine,
            meter=machine.meter,
            guard=Guard(zones=root, start_c=70),
            software={},
            copy_gb_per_s=None,
            quality=None,
            no_energy=machine.no_energy,
        )


def others_percent(trial: Measured) -> float:
    """By the gate on others, which the trial failed."""
    said = re.fullmatch(r"other processes took (.+)% of the processor's busy time > 5%", trial.gates_failed[-1])
    assert said is not None
    return float(said[1])


@pytest.mark.usefixtures("brisk")
def test_a_trial_on_a_processor_takes_its_packages_energy_gross_and_idle(two_packages: Path) -> None:
    trial = on_the_processor(two_packages, 0.1, LONGER)
    assert trial.energy_source == "rapl"
    assert (trial.machine.name, trial.machine.driver) == (
        "Intel(R) Xeon(R) Gold 6430",
        "intel_rapl, Linux 6.8.0-generic",
    )
    assert trial.machine.uuid == RaplMeter(two_packages).identity.uuid
    assert trial.idle_w == pytest.approx(20.0, rel=0.05)
    for phase in (trial.prefill, trial.decode):
        assert [window.polled_j for window in phase.windows] == [None] * 3  # RAPL gives no power
        joules = sum(window.energy_j for window in phase.windows if window.energy_j is not None)
        assert joules / sum(window.seconds for window in phase.windows) == pytest.approx(80.0, rel=0.05)
        assert phase.j_per_token is not None
        tokens = sum(window.tokens for window in phase.windows)
        assert phase.j_per_token.mean == pytest.approx(joules / tokens, rel=0.05)
    said = re.fullmatch(
        r"a package's energy is every process's: others took (\d\.\d)% of the busy time", trial.unavailable["alone"]
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * 0.1 / 4.1, rel=0.1)
    assert not any("other processes" in gate for gate in trial.gates_failed)


@pytest.mark.usefixtures("brisk")
def test_a_trial_beside_other_work_is_marked(two_packages: Path) -> None:
    trial = on_the_processor(two_packages, 1.0, LONGER)
    assert others_percent(trial) == pytest.approx(100 * 1.0 / 5.0, rel=0.05)


@pytest.mark.usefixtures("brisk")
def test_beside_a_server_others_are_who_worked_while_it_idled(two_packages: Path) -> None:
    served = replace(LONGER, precision="as-served", endpoint="http://127.0.0.1:1/v1", device="cpu")
    trial = on_the_processor(two_packages, 0.4, served)
    assert others_percent(trial) == pytest.approx(100 * 0.4 / 4.4, rel=0.1)
    assert trial.unavailable["alone"].endswith("of the busy time, as far as an idle server tells")


def test_the_gate_on_others_is_a_twentieth() -> None:
    assert (shared(None), shared(0.05)) == ((), ())
    assert shared(0.0501) == ("other processes took 5.0% of the processor's busy time > 5%",)


def test_without_rapl_there_is_no_energy_and_the_reason_is_said(tmp_path: Path) -> None:
    machine = session.find("cpu", memory_gb=8.0, root=tmp_path)
    assert machine.meter is None
    assert machine.notices == (f"no energy will be measured: {machine.no_energy}",)
    assert machine.no_energy is not None
    assert machine.no_energy.startswith("no RAPL on this machine")
