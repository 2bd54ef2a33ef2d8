"""Which configuration next, and a study that any number of workers share.

**Strategies.** ``grid`` takes every candidate in order. ``random`` draws by a seed. ``tpe`` is Optuna's multi-objective
tree-structured Parzen estimator after :data:`TPE_FROM` random draws. ``auto`` takes the corners of the grid first: for
every combination of first and last value of every axis the candidate nearest to it, if the energy law expects that on
one of its foremost :data:`CORNER_FRONTS` fronts. Then it draws at random, where each further front that the law expects
has a quarter of the chance of the one before it; and from :data:`TPE_FROM` points on it follows TPE. What the law
expects orders the tries and enters no result; where it knows nothing of a device all candidates count alike.

**The study** is an Optuna study in an SQL database: SQLite by default, PostgreSQL for several machines. There is one
for each space, kind of hardware and set of objectives, so what is measured on different GPUs never meets. A trial is
begun in three steps, so that no configuration is measured twice: it is added as waiting, whole, in one transaction;
it is withdrawn if an older trial of the same configuration is alive; and it is taken by the one worker that the
database lets set it running. A worker that dies stops its heartbeat; after a grace period another one fails its trial
and puts it back in the queue. While the database cannot be reached, workers wait for it; what they measured meanwhile
is in their files.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, get_args

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from benchmark.objectives import Axis, NoFigure, Point
from benchmark.space import AXES, places, setting
from benchmark.trial import Measured, Rejected, TrialConfig
from ecoroute_mcp.sci import EcoRouteError

Strategy = Literal["auto", "grid", "random", "tpe"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
TPE_FROM = 20
"""Points from which on TPE chooses."""
CORNER_FRONTS = 2
"""A corner that the law puts further back teaches little of the front: it is drawn like any other. This and the quarter
were settled by replays on the H100's measurements, which they therefore do not prove."""
REJECTIONS_PER_CONFIG = 2
"""Rejections after which a configuration is left alone."""
HEARTBEAT_S = 10
GRACE_S = 60
STORAGES = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
CONNECTION = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Of libpq, in seconds, the last in milliseconds: a network that is gone is noticed in half a minute."""
RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to reach a database; the last is repeated."""
TAKEN = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError)
"""What a database says to the slower of two that make the same thing."""

optuna.logging.set_verbosity(optuna.logging.ERROR)

CONFIG, REJECTED, WITHDRAWN, STRATEGY, WORKER = "config", "rejected", "withdrawn", "strategy", "worker"
"""Names of what a trial of the study carries."""

History = Sequence[tuple[int, tuple[float, ...]]]
"""Candidates measured so far, by index, and their costs."""
Result = TypeVar("Result")


class Chooser:
    """Picks among candidates, given by index, from what is measured and what is free. Knows no storage.

    ``expected`` is the front that each candidate is expected on, from 0; without it all count alike. ``seed`` fixes all
    chance."""

    def __init__(
        self, configs: Sequence[TrialConfig], strategy: Strategy, seed: int, expected: Sequence[int] | None = None
    ) -> None:
        self._strategy = strategy
        self._seed = seed
        self._places = places(configs)
        self._expected = list(expected) if expected is not None else [0] * len(configs)
        self._corners = self._corner_indices() if strategy == "auto" else []
        self._chance = random.Random(seed)

    def choose(self, history: History, free: Sequence[int], running: Sequence[int] = ()) -> tuple[int, str]:
        """The next candidate of ``free``, which must not be empty, and what chose it."""
        open_ = set(free)
        if self._strategy == "grid":
            return min(open_), "grid"
        if self._strategy == "auto":
            corner = next((index for index in self._corners if index in open_), None)
            if corner is not None:
                return corner, "corner"
        if self._strategy == "random" or len(history) < TPE_FROM:
            return self._drawn(sorted(open_)), "random"
        return self._by_tpe(history, sorted(open_), running), "tpe"

    def _drawn(self, free: Sequence[int]) -> int:
        if self._strategy != "auto":
            return self._chance.choice(free)
        return self._chance.choices(free, weights=[4.0 ** -self._expected[index] for index in free])[0]

    def _corner_indices(self) -> list[int]:
        width = len(self._places[0]) if self._places else 0
        found = {
            min(range(len(self._places)), key=lambda index: self._distance(self._places[index], corner))
            for corner in itertools.product((0.0, 1.0), repeat=width)
        }
        order = sorted(index for index in found if self._expected[index] < CORNER_FRONTS)
        random.Random(self._seed).shuffle(order)
        return sorted(order, key=lambda index: self._expected[index])

    @staticmethod
    def _distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
        return sum(abs(a - b) for a, b in zip(one, other, strict=True))

    def _by_tpe(self, history: History, free: Sequence[int], running: Sequence[int]) -> int:
        """Where TPE wants to look, and of the free candidates the one nearest to it."""
        width = len(self._places[0])
        space: dict[str, optuna.distributions.BaseDistribution] = {
            f"x{column}": optuna.distributions.FloatDistribution(0.0, 1.0) for column in range(width)
        }

        def at(index: int) -> dict[str, float]:
            return {f"x{column}": place for column, place in enumerate(self._places[index])}

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=1, seed=self._seed + len(history)
            )
            study = optuna.create_study(directions=["minimize"] * len(history[0][1]), sampler=sampler)
            study.add_trials(
                optuna.create_trial(params=at(index), distributions=space, values=list(costs))
                for index, costs in history
            )
            study.add_trials(
                optuna.create_trial(params=at(index), distributions=space, state=TrialState.RUNNING)
                for index in running
            )
            wanted = study.ask(space)
        place = tuple(float(wanted.params[f"x{column}"]) for column in range(width))
        return min(free, key=lambda index: self._distance(self._places[index], place))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial to make: its configuration, its number in the study and what chose it."""

    config: TrialConfig
    number: int
    strategy: str


class Search:
    """One worker's hold on a shared study. Use as a context manager: leaving gives back a trial that was not told."""

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        axes: Sequence[Axis],
        point: Callable[[Measured], Point],
        *,
        name: str,
        storage: str,
        worker: str,
        choices: Mapping[str, Sequence[Any]] | None = None,
        strategy: Strategy = "auto",
        seed: int = 0,
        expected: Sequence[int] | None = None,
        say: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
        heartbeat_s: int = HEARTBEAT_S,
        grace_s: int = GRACE_S,
    ) -> None:
        """``name`` of the study: the same for workers that share it, and for no others. ``storage``: sqlite:///FILE or
        postgresql://USER@HOST/DATABASE. ``point``: the figures of a row, or NoFigure. ``choices``: all values that a
        setting may have in this study, on whatever machine; None: those of ``configs``. ``stop`` ends a wait for the
        database: true once the user wants to leave. A worker shows itself every ``heartbeat_s``; one that is silent for
        ``grace_s`` is taken for dead.

        Raises EcoRouteError where the storage is no database that can be used, or the grace is so short that a living
        worker would be taken for dead."""
        if grace_s < 2 * heartbeat_s:
            raise EcoRouteError(
                f"a grace of {grace_s} s is too short: workers show themselves every {heartbeat_s} s, and one that is "
                f"late once may live. Give {2 * heartbeat_s} s or more"
            )
        self.configs = tuple(configs)
        self.axes = tuple(axes)
        self.waiting_for = 0
        self._point = point
        self._index = {config.key: index for index, config in enumerate(self.configs)}
        self._chooser = Chooser(self.configs, strategy, seed, expected)
        self._worker = worker
        self._say, self._stop = say, stop
        self._heartbeat_s = heartbeat_s
        if choices is None:
            choices = {axis: sorted({setting(config, axis) for config in self.configs}) for axis in AXES.values()}
        self._choices = choices
        self._reaps_from = 0.0
        self._storage = self._opened(storage, grace_s)
        self._study: optuna.Study = self._patiently(
            lambda: optuna.create_study(
                storage=self._storage,
                study_name=name,
                directions=["minimize" if axis.lower_is_better else "maximize" for axis in self.axes],
                load_if_exists=True,
            ),
            attempts=10,
        )
        self._study_id = self._patiently(lambda: self._storage.get_study_id_from_name(name))
        self._held: Asked | None = None
        self._untold: tuple[Asked, tuple[float, ...] | None, dict[str, str]] | None = None
        self._pulse: _Pulse | None = None

    def _opened(self, url: str, grace_s: int) -> optuna.storages.RDBStorage:
        kind, _, rest = url.partition("://")
        arguments: dict[str, Any] = {"pool_pre_ping": True}
        if kind in ("postgresql", "postgres"):
            url = f"postgresql+psycopg://{rest}"
            arguments["connect_args"] = CONNECTION
        elif kind == "sqlite":
            arguments["connect_args"] = {"timeout": 60}
        else:
            raise EcoRouteError(f"--storage is {STORAGES}; got one that begins with {kind!r}")
        try:
            sqlalchemy.engine.make_url(url)
        except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # its text would show a password
            raise EcoRouteError(f"--storage is no database address: it is {STORAGES}") from error

        def opened() -> optuna.storages.RDBStorage:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=arguments,
                    heartbeat_interval=self._heartbeat_s,
                    grace_period=grace_s,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
                )

        try:
            return self._patiently(opened, attempts=10)
        except ImportError as error:
            raise EcoRouteError(
                f"a PostgreSQL study needs a driver: pip install 'psycopg[binary]' ({error})"
            ) from error

    def __enter__(self) -> Search:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._untold is not None:
                self._finish(*self._untold)
            elif self._held is not None:
                self.give_back(self._held)
        except (KeyboardInterrupt, EcoRouteError):
            self._say(
                "the study could not be told of the last trial: what is on file is told at the next start, and another "
                "worker may make the trial before"
            )
        finally:
            self._quieten()
            self._storage.remove_session()
            self._storage.engine.dispose()

    # -- what the study holds

    def history(self) -> list[tuple[TrialConfig, tuple[float, ...]]]:
        """What is measured, by any worker: configurations and their values, in the order of the axes."""
        return [
            (self.configs[self._index[key]], tuple(trial.values))
            for trial in self._trials()
            if trial.state == TrialState.COMPLETE and (key := str(trial.user_attrs.get(CONFIG))) in self._index
        ]

    @property
    def left(self) -> int:
        """Candidates that nobody has measured, runs or has given up."""
        taken = self._taken(self._trials())
        return sum(config.key not in taken for config in self.configs)

    def adopt(self, rows: Sequence[Measured]) -> int:
        """Add what was measured before as completed trials. Returns how many were new."""
        added = 0
        taken = self._taken(self._trials())
        for row in rows:
            key = row.config.key
            if key not in self._index or key in taken:
                continue
            try:
                values = self._point(row).values
            except NoFigure:
                continue
            self._add(row.config, TrialState.COMPLETE, "adopted", values)
            taken.add(key)
            added += 1
        return added

    def ask(self, allowed: Callable[[TrialConfig], bool] = lambda config: True) -> Asked | None:
        """The next trial to make, now this worker's, of those that it allows: others it leaves to other workers. None
        where nothing is free: ``waiting_for`` then says how many trials others are still making, one of which may come
        back.

        Raises EcoRouteError while another trial is held, and KeyboardInterrupt where ``stop`` ended a wait."""
        if self._held is not None:
            raise EcoRouteError(f"trial {self._held.number} is not told yet: tell it or give it back first")
        while True:
            self._reap()
            trials = self._trials()
            for trial in trials:
                if (
                    trial.state == TrialState.WAITING
                    and (place := self._index.get(str(trial.user_attrs.get(CONFIG)))) is not None
                    and allowed(self.configs[place])
                    and (asked := self._taken_up(trial)) is not None
                ):
                    return asked
            taken = self._taken(trials)
            free = [index for index, config in enumerate(self.configs) if config.key not in taken and allowed(config)]
            running = self._indices(trials, TrialState.RUNNING)
            self.waiting_for = len(running)
            if not free:
                return None
            rejected = self._rejections(trials)
            free = [index for index in free if not rejected[self.configs[index].key]] or free  # others come first
            history = [
                (self._index[str(trial.user_attrs[CONFIG])], self._costs(trial))
                for trial in trials
                if trial.state == TrialState.COMPLETE and trial.user_attrs.get(CONFIG) in self._index
            ]
            index, strategy = self._chooser.choose(history, free, running)
            self._add(self.configs[index], TrialState.WAITING, strategy)

    def tell(self, asked: Asked, trial: Measured | Rejected) -> None:
        """Hand in what came of a trial. A rejected one is a failed trial of the study, never a number."""
        values: tuple[float, ...] | None = None
        reason: str | None = None
        if isinstance(trial, Measured):
            try:
                values = self._point(trial).values
            except NoFigure as error:
                reason = str(error)
        else:
            reason = trial.reason
        self._finish(asked, values, {REJECTED: reason} if reason is not None else {})

    def give_back(self, asked: Asked) -> None:
        """Leave a trial unmade: its configuration is free again for any worker."""
        self._finish(asked, None, {})

    def _finish(self, asked: Asked, values: tuple[float, ...] | None, attributes: dict[str, str]) -> None:
        """Tell the study, and only then let go of the trial: what a wait breaks off is told on leaving."""
        self._untold = (asked, values, attributes)
        trial_id = self._patiently(
            lambda: self._storage.get_trial_id_from_study_id_trial_number(self._study_id, asked.number)
        )
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        try:
            for name, text in attributes.items():
                self._patiently(partial(self._storage.set_trial_user_attr, trial_id, name, text))
            self._patiently(lambda: self._storage.set_trial_state_values(trial_id, state, values))
        except UpdateFinishedTrialError:
            # Taken for dead and put back in the queue, or a commit whose answer was lost.
            found = self._patiently(lambda: self._storage.get_trial(trial_id))
            if values is not None and found.state != TrialState.COMPLETE:
                self._hand_in_late(asked, values)
        self._quieten()
        self._held = self._untold = None

    def _quieten(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None

    def _hand_in_late(self, asked: Asked, values: tuple[float, ...]) -> None:
        """A trial that was put back in the queue although its worker lived: complete the one that waits in its place.

        Where another worker already runs or has made it, that one stands."""
        for trial in self._trials():
            if trial.state == TrialState.WAITING and trial.user_attrs.get(CONFIG) == asked.config.key:
                move = partial(self._storage.set_trial_state_values, trial._trial_id)
                try:
                    self._patiently(partial(self._storage.record_heartbeat, trial._trial_id))
                    if self._patiently(partial(move, TrialState.RUNNING)):
                        self._patiently(partial(move, TrialState.COMPLETE, values))
                except UpdateFinishedTrialError:
                    return  # made by another meanwhile
                return
        if asked.config.key not in self._taken(self._trials()):
            self._add(asked.config, TrialState.COMPLETE, asked.strategy, values)

    # -- the protocol

    def _trials(self) -> list[FrozenTrial]:
        return self._patiently(lambda: self._study.get_trials(deepcopy=False))

    def _costs(self, trial: FrozenTrial) -> tuple[float, ...]:
        return tuple(axis.cost(value) for axis, value in zip(self.axes, trial.values, strict=True))

    def _indices(self, trials: Sequence[FrozenTrial], state: TrialState) -> list[int]:
        return [
            self._index[key]
            for trial in trials
            if trial.state == state and (key := str(trial.user_attrs.get(CONFIG))) in self._index
        ]

    def _taken(self, trials: Sequence[FrozenTrial]) -> set[str]:
        """Keys of configurations that are measured, being measured, queued, or rejected too often."""
        alive = {str(trial.user_attrs.get(CONFIG)) for trial in trials if trial.state != TrialState.FAIL}
        return alive | {key for key, count in self._rejections(trials).items() if count >= REJECTIONS_PER_CONFIG}

    def _rejections(self, trials: Sequence[FrozenTrial]) -> Counter[str]:
        return Counter(str(trial.user_attrs.get(CONFIG)) for trial in trials if REJECTED in trial.user_attrs)

    def _add(
        self, config: TrialConfig, state: TrialState, strategy: str, values: tuple[float, ...] | None = None
    ) -> None:
        """One transaction: number, settings and state of a trial appear together."""
        distributions: dict[str, optuna.distributions.BaseDistribution] = {
            axis: optuna.distributions.CategoricalDistribution(tuple(values)) for axis, values in self._choices.items()
        }
        self._patiently(
            lambda: self._study.add_trial(
                optuna.create_trial(
                    state=state,
                    params={axis: setting(config, axis) for axis in distributions},
                    distributions=distributions,
                    user_attrs={CONFIG: config.key, STRATEGY: strategy, WORKER: self._worker},
                    values=None if values is None else list(values),
                )
            )
        )

    def _taken_up(self, trial: FrozenTrial) -> Asked | None:
        """Make a waiting trial this worker's, unless an older one of its configuration lives or another was faster."""
        key = str(trial.user_attrs.get(CONFIG))
        if key not in self._index:
            return None
        older = any(
            other.number < trial.number and other.user_attrs.get(CONFIG) == key and other.state != TrialState.FAIL
            for other in self._trials()
        )
        trial_id = trial._trial_id
        try:
            if older:
                self._patiently(lambda: self._storage.set_trial_user_attr(trial_id, WITHDRAWN, "an older one lives"))
                self._patiently(lambda: self._storage.set_trial_state_values(trial_id, TrialState.FAIL))
                return None
            self._patiently(lambda: self._storage.record_heartbeat(trial_id))
            if not self._patiently(lambda: self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)):
                return None
        except UpdateFinishedTrialError:
            return None
        config = self.configs[self._index[key]]
        strategy = "retry" if "failed_trial" in trial.system_attrs else str(trial.user_attrs.get(STRATEGY, ""))
        self._held = Asked(config=config, number=trial.number, strategy=strategy)
        self._pulse = _Pulse(lambda: self._storage.record_heartbeat(trial_id), self._missed, self._heartbeat_s)
        if trial.user_attrs.get(WORKER) != self._worker:  # added by another, or by one that died
            with suppress(UpdateFinishedTrialError):
                self._patiently(lambda: self._storage.set_trial_user_attr(trial_id, WORKER, self._worker))
        return self._held

    def _reap(self) -> None:
        """Put the trials of dead workers back in the queue; not soon after the database was away, when the living could
        not show themselves either."""
        now = time.monotonic()
        if self._reaps_from == 0.0:
            self._reaps_from = now + 2 * self._heartbeat_s
        if now < self._reaps_from:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._patiently(lambda: optuna.storages.fail_stale_trials(self._study))

    def _patiently(self, act: Callable[[], Result], attempts: int | None = None) -> Result:
        """Do something with the database, waiting while it cannot be reached; ``attempts`` bounds that. Where another
        worker was a moment faster, as in making the tables, the second attempt succeeds and nothing is said.

        Raises KeyboardInterrupt where the user wants to leave meanwhile, EcoRouteError after too many attempts."""
        said = False
        for attempt in itertools.count():
            try:
                result = act()
            except (StorageInternalError, sqlalchemy.exc.DBAPIError) as error:
                cause = error.__cause__ or error
                if attempts is not None and attempt + 1 >= attempts:
                    raise EcoRouteError(f"the study's database cannot be used: {_first_line(cause)}") from error
                raced = isinstance(error, TAKEN) or isinstance(error.__cause__, TAKEN)
                if not said and (attempt or not raced):
                    self._say(f"the study's database does not answer, waiting for it: {_first_line(cause)}")
                    said = True
                self._storage_rest(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            except UpdateFinishedTrialError:  # an answer too: a commit before it may have come through unheard
                self._back(said)
                raise
            else:
                self._back(said)
                return result
        raise AssertionError

    def _back(self, said: bool) -> None:
        if said:
            self._say("the study's database answers again")
            self._missed()

    def _missed(self) -> None:
        """The database was away: the living get time to show themselves before anyone is taken for dead."""
        self._reaps_from = time.monotonic() + 2 * self._heartbeat_s

    def _storage_rest(self, seconds: float) -> None:
        if self._stop():
            raise KeyboardInterrupt
        threading.Event().wait(seconds)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


class _Pulse:
    """A trial's heartbeat, from a thread of its own. A beat that the database does not take is left out, and told."""

    def __init__(self, beat: Callable[[], None], missed: Callable[[], None], interval_s: float) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(beat, missed, interval_s), daemon=True)
        self._thread.start()

    def _run(self, beat: Callable[[], None], missed: Callable[[], None], interval_s: float) -> None:
        while not self._over.wait(interval_s):
            try:
                beat()
            except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError):
                missed()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
