"""Which cores are small, on trees of machines that have several kinds and of such that have one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import cores, sensors
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_rapl import put
from tests.benchmark.test_sensors import RECORDING


def capacities(root: Path, values: list[int]) -> Path:
    put(root, {f"sys/devices/system/cpu/cpu{core}/cpu_capacity": value for core, value in enumerate(values)})
    return root


def test_a_spark_gives_the_controller_its_ten_a725(tmp_path: Path) -> None:
    spark = sensors.unpack(RECORDING, tmp_path)  # it has no cpu_capacity: by the clocks
    found = cores.divide(range(20), spark)
    assert cores.spelled(found.controller) == "0-4,10-14"
    assert cores.spelled(found.trials) == "5-9,15-19"
    assert found.why == "cores 0-4,10-14 have at most 71% of the fastest one's highest clock"


def test_a_capacity_counts_more_than_a_clock(tmp_path: Path) -> None:
    spark = capacities(sensors.unpack(RECORDING, tmp_path), [1024] * 10 + [718] * 10)
    found = cores.divide(range(20), spark)
    assert (cores.spelled(found.controller), cores.spelled(found.trials)) == ("10-19", "0-9")
    assert found.why == "cores 10-19 have at most 70% of the fastest one's capacity"


def test_fast_cores_that_differ_a_little_are_of_one_kind(tmp_path: Path) -> None:
    assert cores.divide(range(4), capacities(tmp_path, [1024, 1024, 981, 871])) == cores.Division(
        why="all 4 cores are of one kind by their capacity"
    )


def test_only_cores_that_this_process_may_use_are_divided(tmp_path: Path) -> None:
    root = capacities(tmp_path, [400, 400, 1024, 1024])
    assert cores.divide({0, 1}, root).why == "all 2 cores are of one kind by their capacity"
    found = cores.divide({1, 2}, root)
    assert (cores.spelled(found.controller), cores.spelled(found.trials)) == ("1", "2")


def test_where_the_kernel_says_nothing_all_cores_are_everyones(tmp_path: Path) -> None:
    put(tmp_path, {"sys/devices/system/cpu/cpufreq/policy0/related_cpus": 0})  # without a clock
    assert cores.divide({0, 1}, tmp_path) == cores.Division(why="the kernel does not say what core 0 can do")


def test_a_list_of_cores_is_written_as_the_kernel_does_and_reads_back() -> None:
    for listed in ({0}, {0, 1, 2}, {0, 2, 3, 4, 9}, set(range(5, 10)) | set(range(15, 20))):
        assert cores.read(cores.spelled(listed)) == listed
    assert cores.spelled({0, 2, 3, 4, 9}) == "0,2-4,9"
    for text in ("", "0-", "a", "0,,1", "-1"):
        with pytest.raises(EcoRouteError, match="a list of cores is written like"):
            cores.read(text)


@pytest.mark.skipif(not cores.usable(), reason="this system does not say which cores a process may use")
def test_a_pinned_process_and_its_children_stay_on_their_cores() -> None:
    one = max(cores.usable())
    code = f"""
import subprocess, sys
from benchmark import cores
cores.pin({{{one}}})
print(cores.spelled(cores.usable()), flush=True)
subprocess.run([sys.executable, "-c", "from benchmark import cores; print(cores.spelled(cores.usable()))"], check=True)
try:
    cores.pin({{4095}})
except cores.EcoRouteError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert (first, second) == (str(one), str(one))
    assert third.startswith("cannot run on cores 4095 alone: ")
