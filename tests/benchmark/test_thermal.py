"""The thermal guard against scripted temperatures, on a clock of the test's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.meter import Reading, Recording, ReplayMeter
from benchmark.thermal import Guard, hottest_zone_c
from ecoroute_mcp.sci import EcoRouteError

RECORDING = Recording.load(Path(__file__).parent / "recordings" / "h100-idle-load-idle.jsonl")


class Kettle(ReplayMeter):
    """The recording, with temperatures of our choosing, one a reading; the last one stays."""

    def __init__(self, *temperatures: float | None) -> None:
        super().__init__(RECORDING)
        self.temperatures = list(temperatures)

    def read(self, *, slow: bool = True) -> Reading:
        now = self.temperatures.pop(0) if len(self.temperatures) > 1 else self.temperatures[0]
        return replace(RECORDING.readings[0], temperature_c=now)


def zones(root: Path, *contents: str) -> Path:
    for index, content in enumerate(contents):
        (root / f"thermal_zone{index}").mkdir()
        (root / f"thermal_zone{index}" / "temp").write_text(content)
    return root


def guard(root: Path, pauses: list[float], **limits: float) -> Guard:
    return Guard(zones=root, clock=lambda: sum(pauses), pause=pauses.append, **limits)


def test_a_hot_device_is_waited_for_and_a_device_without_a_thermometer_is_not(tmp_path: Path) -> None:
    pauses: list[float] = []
    guard(tmp_path, pauses, start_c=60).wait_until_cool(Kettle(70, 65, 60))
    assert pauses == [1.0, 1.0]
    guard(tmp_path, pauses, start_c=60).wait_until_cool(Kettle(None))
    assert pauses == [1.0, 1.0]


def test_a_device_that_stays_hot_is_given_up(tmp_path: Path) -> None:
    pauses: list[float] = []
    with pytest.raises(EcoRouteError, match=r"^the device is still at 91 °C after 30 s of rest"):
        guard(tmp_path, pauses, start_c=60, patience_s=30).wait_until_cool(Kettle(91))
    assert sum(pauses) == 31


def test_a_rest_lasts_until_device_and_zones_are_at_the_temperature_to_resume_at(tmp_path: Path) -> None:
    pauses: list[float] = []
    root = zones(tmp_path, "66000\n", "70000\n")
    assert guard(root, pauses).rest(Kettle(88, 80, 71, 70)) == 3.0
    assert guard(root, pauses).rest(None) == 0.0
    (root / "thermal_zone1" / "temp").write_text("70001\n")
    with pytest.raises(EcoRouteError, match=r"^aborted: a thermal zone of the machine is still at 70.001 °C after 5 s"):
        guard(root, pauses, patience_s=5).rest(Kettle(50))


def test_the_hottest_of_device_and_zones_is_named(tmp_path: Path) -> None:
    root = zones(tmp_path, "66500\n", "61000\n")
    assert guard(root, []).hottest(Kettle(70)) == ("the device", 70.0)
    assert guard(root, []).hottest(Kettle(None)) == ("a thermal zone of the machine", 66.5)
    assert guard(root / "nowhere", []).hottest(None) is None


def test_absurd_and_unreadable_zones_are_passed_over(tmp_path: Path) -> None:
    root = zones(tmp_path, "0\n", "-274000\n", "255000\n", "45\n", "not a number\n", "", "52125\n")
    (root / "thermal_zone7" / "temp").mkdir(parents=True)  # reading it fails, as a sleeping zone's does
    (root / "thermal_zone8").mkdir()
    (root / "cooling_device0").mkdir()
    assert hottest_zone_c(root) == 52.125
    (root / "thermal_zone6" / "temp").write_text("200000\n")
    assert hottest_zone_c(root) is None


def test_a_guard_that_would_resume_above_its_limit_is_refused() -> None:
    with pytest.raises(EcoRouteError, match="resume below the limit of 65 °C; got 70 °C"):
        Guard(limit_c=65)
