"""Rows on a branch: real repositories, and remotes that refuse, hang, are gone or were pushed to by somebody else."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark.results_branch import BEHIND, ResultsBranch
from ecoroute_mcp.sci import EcoRouteError
from tests.benchmark.test_bench import wait_until_gone

BRANCH = "results/here"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git as on a machine where nobody has set it up."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], check=True)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, remote: Path) -> Path:
    """A clone with a commit, pushed, on main; its rows are ignored by git and already hold a line."""
    folder = tmp_path / "checkout"
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    git(folder, "config", "user.name", "Somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    git(folder, "remote", "add", "origin", str(remote))
    (folder / "code.py").write_text("1\n")
    (folder / ".gitignore").write_text("*.jsonl\n*.ndjson\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    git(folder, "push", "-q", "origin", "main")
    (folder / "rows.jsonl").write_text("one\n")
    return folder


def branch(checkout: Path, said: list[str] | None = None, *, every_s: float = 600.0, **more: float) -> ResultsBranch:
    return ResultsBranch(
        [checkout / "rows.jsonl", checkout / "rows.controller.ndjson"],
        branch=BRANCH,
        remote="origin",
        every_s=every_s,
        say=(said if said is not None else []).append,
        **more,
    )


def add(checkout: Path, text: str) -> None:
    with (checkout / "rows.jsonl").open("a") as file:
        file.write(text)


def rows(folder: Path, ref: str = BRANCH) -> list[str]:
    return git(folder, "show", f"{ref}:rows.jsonl").split("\n")


def state(checkout: Path) -> Sequence[str]:
    """All that is the user's: branch, commit, index, work tree, stash."""
    return (
        git(checkout, "symbolic-ref", "HEAD"),
        git(checkout, "rev-parse", "HEAD"),
        git(checkout, "ls-files", "--stage"),
        git(checkout, "status", "--porcelain=v2", "--untracked-files=all"),
        git(checkout, "diff"),
        git(checkout, "diff", "--cached"),
        git(checkout, "stash", "list"),
    )


def test_rows_are_committed_and_pushed_and_nothing_of_the_users_is_touched(checkout: Path, remote: Path) -> None:
    (checkout / "code.py").write_text("staged\n")
    git(checkout, "add", "code.py")
    (checkout / "code.py").write_text("unstaged\n")
    (checkout / "new.py").write_text("untracked\n")
    before = state(checkout)
    index = (checkout / ".git" / "index").read_bytes()
    made = branch(checkout)
    made.sync()
    assert rows(remote) == ["one"]
    add(checkout, "two\nthree, not yet who")
    (checkout / "rows.controller.ndjson").write_text("lap\n")
    made.sync()
    made.sync()  # nothing is new
    assert (checkout / ".git" / "index").read_bytes() == index
    assert state(checkout) == before
    assert rows(remote) == rows(checkout) == ["one", "two"]  # whole lines alone
    log = git(remote, "log", "--format=%s %an", BRANCH).split("\n")
    assert log == [
        "Add measurements: rows.jsonl, rows.controller.ndjson Somebody", "Add measurements: rows.jsonl Somebody",
        "Begin Somebody",
    ]  # fmt: skip
    assert git(remote, "show", f"{BRANCH}:code.py") == "1"
    assert git(remote, "ls-tree", "--name-only", BRANCH).split() == [
        ".gitignore", "code.py", "rows.controller.ndjson", "rows.jsonl",
    ]  # fmt: skip
    assert (made.summary(), made.failures) == (f"results branch {BRANCH}: 2 commits, 2 pushes to origin", {})


def test_the_thread_commits_meanwhile_and_leaving_commits_the_rest(checkout: Path, remote: Path) -> None:
    with branch(checkout, every_s=0.01) as made:
        until = time.monotonic() + 30
        while made.pushes == 0:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert rows(remote) == ["one"]
    with branch(checkout) as made:
        add(checkout, "two\n")
    assert (rows(remote), made.commits) == (["one", "two"], 1)


def test_without_a_name_and_without_any_commit_rows_are_committed_all_the_same(tmp_path: Path, remote: Path) -> None:
    folder = tmp_path / "fresh"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    git(folder, "remote", "add", "origin", str(remote))
    git(folder, "config", "user.useConfigOnly", "true")
    (folder / "rows.jsonl").write_text("one\n")
    made = branch(folder)
    made.sync()
    assert (rows(remote), made.failures) == (["one"], {})
    assert git(remote, "log", "--format=%an <%ae> %s", BRANCH) == (
        "EcoRoute workbench <workbench@localhost> Add measurements: rows.jsonl"
    )


# -- remotes that do not do what they should


def test_a_remote_that_refuses_is_said_once_and_its_commits_go_out_once_it_relents(
    checkout: Path, remote: Path
) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected: ask the owner' >&2\nexit 1\n")
    hook.chmod(0o755)
    said: list[str] = []
    made = branch(checkout, said)
    made.sync()
    add(checkout, "two\n")
    made.sync()
    assert rows(checkout) == ["one", "two"]  # it is committed here
    assert made.failures == {"the remote refuses": 2}
    assert len(said) == 1
    assert said[0].startswith("results branch: the remote refuses: remote: protected: ask the owner")
    assert made.summary() == (
        f"results branch {BRANCH}: 2 commits, 0 pushes to origin; not all of it is pushed; "
        "failed: the remote refuses (2 times)"
    )
    hook.unlink()
    made.sync()
    assert rows(remote) == ["one", "two"]


def test_a_remote_that_hangs_is_left_and_its_processes_are_killed(checkout: Path, tmp_path: Path) -> None:
    note, hanging = tmp_path / "process", tmp_path / "receive-pack"
    hanging.write_text(f"#!/bin/sh\necho $$ > {note}\nexec sleep 600\n")
    hanging.chmod(0o755)
    git(checkout, "config", "remote.origin.receivepack", str(hanging))
    said: list[str] = []
    made = branch(checkout, said, timeout_s=1.0)
    begin = time.monotonic()
    made.sync()
    assert time.monotonic() - begin < 10
    assert said == [
        "results branch: git push did not end in time: its processes were killed; "
        "the search goes on, and this is tried again"
    ]
    wait_until_gone(int(note.read_text()))
    assert rows(checkout) == ["one"]


def test_a_server_that_never_answers_does_not_hold_up_the_end(checkout: Path) -> None:
    """The thread is in a push when the search ends, and the last push hangs too: the bound holds for both together."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        git(checkout, "remote", "set-url", "origin", f"git://127.0.0.1:{server.getsockname()[1]}/rows.git")
        with branch(checkout, every_s=0.01, last_s=2.0) as made:
            server.settimeout(30)
            connection, _ = server.accept()
            add(checkout, "two\n")
            begin = time.monotonic()
        took = time.monotonic() - begin
        connection.close()
    assert took < 5
    assert made.failures == {"git push did not end in time": 2}
    assert rows(checkout) == ["one", "two"]


def test_a_remote_that_is_gone_stops_nothing(checkout: Path, remote: Path) -> None:
    said: list[str] = []
    made = branch(checkout, said)
    remote.rename(remote.with_name("elsewhere"))
    made.sync()
    made.sync()
    assert (made.failures, len(said)) == ({"the remote cannot be reached": 2}, 1)
    assert f"'{remote}' does not appear to be a git repository" in said[0]
    remote.with_name("elsewhere").rename(remote)
    made.sync()
    assert rows(remote) == ["one"]


def another(remote: Path, folder: Path) -> Path:
    """A clone of the branch by somebody else."""
    subprocess.run(["git", "clone", "-q", "-b", BRANCH, str(remote), str(folder)], check=True)
    git(folder, "config", "user.name", "Another")
    git(folder, "config", "user.email", "another@example.org")
    return folder


def test_what_others_pushed_to_the_branch_is_kept(checkout: Path, remote: Path, tmp_path: Path) -> None:
    made = branch(checkout)
    made.sync()
    other = another(remote, tmp_path / "other")
    (other / "theirs.jsonl").write_text("theirs\n")
    git(other, "add", "-f", "theirs.jsonl")
    git(other, "commit", "-qm", "Add measurements: theirs.jsonl")
    git(other, "push", "-q", "origin", BRANCH)
    add(checkout, "two\n")
    made.sync()
    assert (made.failures, rows(remote)) == ({}, ["one", "two"])
    assert git(remote, "show", f"{BRANCH}:theirs.jsonl") == "theirs"
    assert git(checkout, "rev-parse", BRANCH) == git(remote, "rev-parse", BRANCH)
    # A checkout that has never seen the branch finds it on the remote too.
    git(checkout, "update-ref", "-d", f"refs/heads/{BRANCH}")
    git(checkout, "update-ref", "-d", f"refs/remotes/origin/{BRANCH}")
    add(checkout, "three\n")
    again = branch(checkout)
    again.sync()
    assert (again.failures, rows(remote)) == ({}, ["one", "two", "three"])
    assert BEHIND not in again.summary()


def test_rows_of_others_in_a_file_of_the_same_name_are_not_replaced(
    checkout: Path, remote: Path, tmp_path: Path
) -> None:
    made = branch(checkout)
    made.sync()
    other = another(remote, tmp_path / "other")
    add(other, "theirs\n")
    git(other, "commit", "-qam", "Add measurements: rows.jsonl")
    git(other, "push", "-q", "origin", BRANCH)
    add(checkout, "two\n")
    said: list[str] = []
    again = branch(checkout, said)
    again.sync()
    assert said == [
        "results branch: the branch holds other rows in a file of ours: rows.jsonl: choose another with --sync-branch; "
        "the search goes on, and this is tried again"
    ]
    assert (rows(remote), rows(checkout)) == (["one", "theirs"], ["one", "two"])
    git(checkout, "update-ref", "-d", f"refs/heads/{BRANCH}")  # known of the remote alone
    again.sync()
    assert again.failures == {"the branch holds other rows in a file of ours": 2}


def test_no_hook_of_the_users_runs(checkout: Path, remote: Path, tmp_path: Path) -> None:
    for name in ("pre-push", "reference-transaction", "post-index-change"):
        hook = checkout / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >> {tmp_path / 'hooks'}\nexit 1\n")
        hook.chmod(0o755)
    made = branch(checkout)
    made.sync()
    assert (rows(remote), made.failures) == (["one"], {})
    assert not (tmp_path / "hooks").exists()


# -- what is refused before anything is measured


def test_what_cannot_work_is_refused_at_the_start(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "branch", BRANCH)
    git(checkout, "worktree", "add", "-q", str(tmp_path / "tree"), BRANCH)
    with pytest.raises(EcoRouteError, match="the branch is checked out: choose another with --sync-branch"):
        branch(checkout)
    git(checkout, "worktree", "remove", str(tmp_path / "tree"))
    with pytest.raises(EcoRouteError, match=r"more than nothing; got 0 s: --sync-every 10m"):
        branch(checkout, every_s=0.0)
    assert branch(checkout).failures == {}
    git(checkout, "remote", "remove", "origin")
    with pytest.raises(EcoRouteError, match="No such remote 'origin'"):
        branch(checkout)
    with pytest.raises(EcoRouteError, match="not a git repository"):
        branch(tmp_path)
    with pytest.raises(EcoRouteError, match=r"'a\.\.b' is not a valid branch name"):
        ResultsBranch([checkout / "rows.jsonl"], branch="a..b", remote="origin", every_s=1, say=print)
    git(checkout, "remote", "add", "origin", "nowhere")
    with pytest.raises(EcoRouteError, match=r"elsewhere\.jsonl is not inside .*checkout: name a file there"):
        ResultsBranch(
            [checkout / "rows.jsonl", tmp_path / "elsewhere.jsonl"], branch="b", remote="origin", every_s=1, say=print
        )


def test_a_branch_that_the_user_checks_out_meanwhile_is_left_alone(checkout: Path) -> None:
    said: list[str] = []
    made = branch(checkout, said)
    made.sync()
    tip = git(checkout, "rev-parse", BRANCH)
    git(checkout, "rm", "-q", "--cached", "--ignore-unmatch", "rows.jsonl")
    (checkout / "rows.jsonl").rename(checkout / "kept")
    git(checkout, "checkout", "-q", BRANCH)
    add(checkout, "two\n")
    made.sync()
    assert git(checkout, "rev-parse", BRANCH) == tip
    assert made.failures == {"the branch is checked out": 1}
