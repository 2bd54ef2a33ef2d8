"""One holder per GPU: between processes, past a holder's death, and between the commands that measure."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark import bench, device_lock
from benchmark.bench import ProcessBench
from benchmark.device_lock import DeviceLock
from benchmark.meter import Identity
from benchmark.trial import Rejected, TrialConfig, read
from ecoroute_mcp.sci import EcoRouteError

ROOT = Path(__file__).resolve().parents[2]
DEVICE = Identity(name="NVIDIA Test", uuid="GPU-1", driver="1.0", memory_gb=80.0)
SEARCH = "python -m benchmark search"


# -- the lock


def test_the_second_is_told_at_once_who_holds_the_device_and_how_to_go_on(tmp_path: Path) -> None:
    with DeviceLock(DEVICE, SEARCH, tmp_path):
        with pytest.raises(EcoRouteError) as refused:
            DeviceLock(DEVICE, "python -m benchmark run", tmp_path)
        with DeviceLock(Identity(name="NVIDIA Test", uuid="GPU-2", driver="1.0", memory_gb=80.0), SEARCH, tmp_path):
            pass  # another board
    assert re.sub(r"since \S+ \S+ UTC", "since then", str(refused.value)) == (
        f"NVIDIA Test (GPU-1) is held by process {os.getpid()}, `{SEARCH}`, since then: of two on one device each "
        "would be billed the other's energy. Wait for its end, name another device with --uuid, or stop it with "
        f"`kill {os.getpid()}`, which keeps what it measured"
    )
    with DeviceLock(DEVICE, SEARCH, tmp_path):
        pass


def test_a_dead_holder_holds_nothing_though_a_child_of_its_lives(tmp_path: Path) -> None:
    holding = (
        "import subprocess, sys; from pathlib import Path; from tests.benchmark.test_device_lock import *\n"
        f"lock = DeviceLock(DEVICE, SEARCH, Path({str(tmp_path)!r}))\n"
        "print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid, flush=True)\n"
        "signal.pause()"
    )
    command = [sys.executable, "-c", holding]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        with pytest.raises(EcoRouteError, match=f"held by process {holder.pid}, "):
            DeviceLock(DEVICE, SEARCH, tmp_path)
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        with DeviceLock(DEVICE, SEARCH, tmp_path), pytest.raises(EcoRouteError, match=f"process {os.getpid()}, "):
            DeviceLock(DEVICE, SEARCH, tmp_path)


def test_a_holder_that_has_not_said_who_it_is_still_holds(tmp_path: Path) -> None:
    with DeviceLock(DEVICE, SEARCH, tmp_path) as lock:
        lock.path.write_text("")
        with pytest.raises(EcoRouteError, match=r"is held by another command of this project: .* or stop it$"):
            DeviceLock(DEVICE, SEARCH, tmp_path)


def test_every_user_may_lock_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with DeviceLock(DEVICE, SEARCH, tmp_path) as lock:
            assert stat.S_IMODE(lock.path.stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_a_file_removed_before_it_is_locked_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, path = fcntl.flock, tmp_path / "ecoroute-GPU-1.lock"

    def removed_meanwhile(file: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with DeviceLock(DEVICE, SEARCH, tmp_path), pytest.raises(EcoRouteError, match="is held by process"):
        DeviceLock(DEVICE, SEARCH, tmp_path)


def test_a_file_that_is_a_link_or_cannot_be_made_is_refused_with_the_repair(tmp_path: Path) -> None:
    (tmp_path / "ecoroute-GPU-1.lock").symlink_to(tmp_path / "elsewhere")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(EcoRouteError, match=r"cannot be locked against other commands: .* or remove it$"):
            DeviceLock(DEVICE, SEARCH, folder)
    assert not (tmp_path / "elsewhere").exists()


# -- the commands, on a machine whose NVML shows one idle device


@dataclass(frozen=True)
class Gpu:
    """A device that is nobody else's, as the processes of a test find it, and a folder for their rows."""

    uuid: str
    folder: Path

    def command(self, *words: str, rows: str) -> list[str]:
        output = ["--output", str(self.folder / rows), "--no-publish"]
        return [sys.executable, "-m", "benchmark", *words, "--device", "cuda", *output]


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    found = Gpu(f"GPU-{uuid.uuid4()}", tmp_path)
    (tmp_path / "pynvml.py").write_text(
        "import sys\nfrom tests.benchmark.test_meter import Driver\n"
        "class Here(Driver):\n    def nvmlDeviceGetUUID(self, handle):\n"
        f"        return {found.uuid!r}\nsys.modules[__name__] = Here()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path, ROOT))))
    monkeypatch.chdir(ROOT)
    yield found
    (device_lock.FOLDER / f"ecoroute-{found.uuid}.lock").unlink(missing_ok=True)


def served(port: int) -> tuple[str, ...]:
    return ("run", "--endpoint", f"http://127.0.0.1:{port}/v1", "--model", "qwen3")


def test_no_command_measures_on_a_device_that_another_holds(gpu: Gpu) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(gpu.command(*served(port), rows="first.jsonl"), stderr=subprocess.DEVNULL) as holder:
            talk, _ = server.accept()  # its trial has begun, and is never answered
            with talk:
                space = gpu.folder / "space.yaml"
                space.write_text("name: small\nmodels: [Qwen3-0.6B]\nprecisions: [bf16]\n")
                for words in (served(port), ("search", "--space", str(space)), ("--model", "Qwen3-0.6B")):
                    done = subprocess.run(
                        gpu.command(*words, rows="second.jsonl"), capture_output=True, text=True, check=False
                    )
                    said = done.stderr.splitlines()[-1]
                    assert done.returncode == 2, said
                    assert said.startswith(
                        f"error: NVIDIA Test ({gpu.uuid}) is held by process {holder.pid}, `python -m benchmark run`, "
                    )
                    assert not (gpu.folder / "second.jsonl").exists()
                holder.send_signal(signal.SIGKILL)
                holder.wait()
    again = gpu.command(*served(port), rows="second.jsonl")
    assert subprocess.run(again, capture_output=True, check=False).returncode == 1
    (row,) = read(gpu.folder / "second.jsonl").trials
    assert isinstance(row, Rejected)  # nobody listens there any more
    assert "held by" not in row.reason


def test_a_server_elsewhere_needs_no_device_of_this_machine(gpu: Gpu) -> None:
    held = Identity(name="NVIDIA Test", uuid=gpu.uuid, driver="1.0", memory_gb=80.0)
    words = ("run", "--endpoint", "http://nowhere.invalid/v1", "--model", "qwen3")
    with DeviceLock(held, SEARCH):
        done = subprocess.run(gpu.command(*words, rows="rows.jsonl"), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # tried, and rejected
    assert len(read(gpu.folder / "rows.jsonl").trials) == 1


def test_the_child_that_measures_for_the_holder_is_not_refused(gpu: Gpu) -> None:
    held = Identity(name="NVIDIA Test", uuid=gpu.uuid, driver="1.0", memory_gb=80.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    config = TrialConfig(
        model="qwen3", precision="as-served", batch=1, prompt_tokens=16, generated_tokens=8, endpoint=closed
    )
    with DeviceLock(held, SEARCH), ProcessBench(bench.command(device="cuda", uuid=gpu.uuid)) as measuring:
        row = measuring.measure(config, 60.0)
    assert isinstance(row, Rejected)
    assert row.reason.startswith("no server answers at http://127.0.0.1:")
