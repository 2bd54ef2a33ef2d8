"""Results on a branch of their own while a search goes on: committed and pushed now and then, by a thread.

The user's work tree, index and current branch are not touched: a commit is put together in an index of its own
(``hash-object``, ``update-index``, ``write-tree``, ``commit-tree``) and the branch moved onto it (``update-ref``, which
refuses where somebody else moved it meanwhile). Only whole lines of a file are committed.

Every git command runs in a process group of its own with a time-out, without a terminal to ask anything at, so a remote
that refuses, hangs or is gone costs the search nothing: what failed is said once for each kind, and the next time
everything that is new is pushed together. Hooks that the user has for pushing are left out: they could run anything
beside a measurement.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from ecoroute_mcp.sci import EcoRouteError

TIMEOUT_S = 60.0
"""For one git command."""
LAST_S = 30.0
"""For the last commit and push together, when the search is over."""
WATCHED_S = 0.25
BEHIND = "the remote has commits that are not here"
QUIETLY = ("-c", f"core.hooksPath={os.devnull}", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
"""Nothing runs but what is asked for."""
NOBODY = ("-c", "user.name=EcoRoute workbench", "-c", "user.email=workbench@localhost")
"""Who commits where git knows nobody."""


class _Failed(Exception):
    """A git command did not do what it should; ``kind`` in a few words that are the same for the same trouble."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class ResultsBranch:
    """Commits files to a branch, and pushes it, every ``every_s`` and once more on leaving, which takes ``last_s`` at
    most. A context manager.

    ``say`` hears of every kind of failure once."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        branch: str,
        remote: str,
        every_s: float,
        say: Callable[[str], None],
        timeout_s: float = TIMEOUT_S,
        last_s: float = LAST_S,
    ) -> None:
        """Raises EcoRouteError for files outside a git checkout, a name that no branch can have or a branch that is
        checked out, a remote that the checkout does not know, and no time between commits."""
        if every_s <= 0:
            raise EcoRouteError(
                f"the time between two commits is more than nothing; got {every_s:g} s: --sync-every 10m"
            )
        self._paths = [path.resolve() for path in paths]
        self._branch, self._ref, self._remote = branch, f"refs/heads/{branch}", remote
        self._theirs = f"refs/remotes/{remote}/{branch}"
        self._every_s, self._timeout_s, self._last_s = every_s, timeout_s, last_s
        self._say = say
        self._root = self._paths[0].parent
        self._until_s = math.inf
        self._ssh: tuple[str, ...] = ()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="results branch", daemon=True)
        self._tip: str | None = None
        self._pushed: str | None = None
        self.commits = self.pushes = 0
        self.failures: Counter[str] = Counter()
        try:
            self._root = Path(self._git("rev-parse", "--show-toplevel"))
            self._git("check-ref-format", "--branch", branch)
            self._refuse_checked_out()
            self._git("remote", "get-url", remote)
            self._ssh = ("-c", f"core.sshCommand={self._configured('core.sshCommand') or 'ssh'} -oBatchMode=yes")
        except _Failed as error:
            raise EcoRouteError(
                f"rows cannot be committed to the branch {branch!r} from {paths[0]}: {error}. --sync git needs rows "
                "inside a git checkout (--output), a branch of their own (--sync-branch) and a remote (--sync-remote)"
            ) from error
        outside = [path for path in self._paths if not path.is_relative_to(self._root)]
        if outside:
            raise EcoRouteError(f"{outside[0]} is not inside {self._root}: name a file there with --output")

    def __enter__(self) -> ResultsBranch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """One last time, within a bound; what is under way is given that long too."""
        end_s = time.monotonic() + self._last_s
        self._until_s = end_s - self._last_s / 2
        self._over.set()
        self._thread.join(self._last_s / 2 + WATCHED_S)
        self._until_s = end_s
        self.sync()

    def _work(self) -> None:
        while not self._over.wait(self._every_s):
            self.sync()

    def sync(self) -> None:
        """Commit what is new and push what is not pushed. A failure is counted, and said if it is the first such."""
        try:
            self._commit()
            self._push()
        except _Failed as error:
            self.failures[error.kind] += 1
            if self.failures[error.kind] == 1:
                self._say(f"results branch: {error}; the search goes on, and this is tried again")
        except OSError as error:
            self.failures["files"] += 1
            if self.failures["files"] == 1:
                self._say(f"results branch: {error}; the search goes on, and this is tried again")

    def summary(self) -> str:
        """What came of it, in a line."""
        trouble = ", ".join(f"{kind} ({count} times)" for kind, count in self.failures.items())
        unpushed = "" if self._pushed == self._tip else "; not all of it is pushed"
        return (
            f"results branch {self._branch}: {self.commits} commits, {self.pushes} pushes to {self._remote}{unpushed}"
            + (f"; failed: {trouble}" if trouble else "")
        )

    # -- committing

    def _refuse_checked_out(self) -> None:
        """Moving a branch under a work tree would turn the difference into changes of the user's."""
        trees = self._git("worktree", "list", "--porcelain").splitlines()
        if f"branch {self._ref}" in trees:
            raise _Failed("the branch is checked out", "choose another with --sync-branch")

    def _commit_of(self, name: str) -> str | None:
        """The commit that a name stands for; None where there is no such."""
        try:
            return self._git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except _Failed:
            return None

    def _configured(self, name: str) -> str | None:
        try:
            return self._git("config", name)
        except _Failed:
            return None

    def _commit(self, onto: str | None = None) -> None:
        """Put the files' whole lines on the branch, on top of ``onto`` too, where that is given."""
        self._refuse_checked_out()
        tip = self._commit_of(self._ref)
        theirs = onto or (None if tip else self._commit_of(self._theirs))
        base = theirs or tip or self._commit_of("HEAD")
        parents = list(dict.fromkeys(each for each in (onto, tip or base) if each is not None))
        with TemporaryDirectory(prefix="ecoroute-index-") as folder:
            index = f"{folder}/index"
            if base is not None:
                self._git("read-tree", base, index=index)
            for path in self._paths:
                if path.exists():
                    content = path.read_bytes()
                    whole = content[: content.rfind(b"\n") + 1]
                    if theirs is not None:
                        self._refuse_to_replace(theirs, path, whole)
                    blob = self._git("hash-object", "-w", "--stdin", given=whole)
                    entry = f"100644,{blob},{path.relative_to(self._root).as_posix()}"
                    self._git("update-index", "--add", "--cacheinfo", entry, index=index)
            tree = self._git("write-tree", index=index)
        if base is not None and onto is None and tree == self._git("rev-parse", f"{base}^{{tree}}"):
            return
        message = f"Add measurements: {', '.join(path.name for path in self._paths if path.exists())}"
        chain = [word for parent in parents for word in ("-p", parent)]
        commit = self._git(*self._identity(), "commit-tree", tree, *chain, "-m", message)
        self._git("update-ref", "-m", "measurements", self._ref, commit, tip or "0" * len(commit))
        self.commits += 1

    def _refuse_to_replace(self, commit: str, path: Path, whole: bytes) -> None:
        """Raises _Failed where a commit's file has lines that are not among ours."""
        name = path.relative_to(self._root).as_posix()
        if not self._git("ls-tree", commit, "--", name):
            return
        theirs = self._git("cat-file", "blob", f"{commit}:{name}").splitlines()
        if not set(theirs) <= set(whole.decode(errors="replace").splitlines()):
            raise _Failed("the branch holds other rows in a file of ours", f"{name}: choose another with --sync-branch")

    def _identity(self) -> Sequence[str]:
        try:
            self._git("var", "GIT_COMMITTER_IDENT")
        except _Failed:
            return NOBODY
        return ()

    # -- pushing

    def _push(self) -> None:
        self._tip = tip = self._commit_of(self._ref)
        if tip is None or tip == self._pushed:
            return
        try:
            self._pushing(tip)
        except _Failed as error:
            if error.kind != BEHIND:
                raise
            # Another machine or clone has pushed to it: join both.
            self._git("fetch", "--no-tags", "--quiet", self._remote, f"+{self._ref}:{self._theirs}")
            self._commit(onto=self._commit_of(self._theirs))
            self._tip = tip = self._commit_of(self._ref)
            self._pushing(str(tip))
        self._pushed = tip
        self.pushes += 1

    def _pushing(self, tip: str) -> None:
        self._git("push", "--porcelain", self._remote, f"{tip}:{self._ref}")

    # -- git

    def _git(self, *words: str, index: str | None = None, given: bytes = b"") -> str:
        """A git command's output. Raises _Failed where it fails, or takes too long."""
        quiet = ["GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS_REQUIRE=never", "LC_ALL=C"]
        if index is not None:
            quiet.append(f"GIT_INDEX_FILE={index}")
        # Files and no pipes: a connection that ssh keeps for later would hold a pipe open.
        with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
            stdin.write(given)
            stdin.seek(0)
            process = subprocess.Popen(
                ["env", *quiet, "git", "-C", str(self._root), *QUIETLY, *self._ssh, *words],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # no terminal to ask at, and one group to kill
            )
            ended = self._wait(process)
            stdout.seek(0)
            stderr.seek(0)
            said, complaint = (file.read().decode(errors="replace").strip() for file in (stdout, stderr))
        if not ended:
            raise _Failed(f"git {words[0]} did not end in time", "its processes were killed")
        if process.returncode != 0:
            raise _Failed(*_trouble(words[0], said, complaint))
        return said

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a process ended in time; its group is killed if not."""
        until_s = time.monotonic() + self._timeout_s
        while (left_s := min(until_s, self._until_s) - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(left_s, WATCHED_S))
                return True
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(WATCHED_S)
        return False


def _trouble(name: str, said: str, complaint: str) -> tuple[str, str]:
    """A kind of trouble, and what git said of it."""
    lines = [line.strip() for line in (*complaint.splitlines(), *said.splitlines()) if line.strip()]
    behind = [line for line in lines if "[rejected]" in line]
    refused = [line for line in lines if "[remote rejected]" in line or line.startswith("remote: ")]
    if behind:
        return BEHIND, behind[0]
    if refused:
        return "the remote refuses", " / ".join(refused)
    kind = "the remote cannot be reached" if name in ("push", "fetch") else f"git {name} failed"
    return kind, lines[0] if lines else ""
