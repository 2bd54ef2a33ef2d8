"""Trials of this machine -> the figures that the router uses for the models that run here.

The router reads ``this-machine.csv`` beside its database, in the place of what it knows of those models from elsewhere,
and says "measured on this machine". A row is one configuration: gross joules and seconds per token, prefill and decode
apart, each with the 95 % interval of its repeats. The rows carry their device; writing replaces rows of the same device
and configuration by newer ones and leaves all others as they are.

What a row needs: energy, no gate failed, and a model of the catalogue, by a name that
:class:`ecoroute_mcp.identity.Identity` is sure of; nothing is guessed. A trial whose only fault is throttling stands
in where its device has no better one of that model, and says so: some machines always throttle, and then that is what
they take.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from benchmark.trial import Measured, Spread, TrialConfig
from ecoroute_mcp import refresh, store
from ecoroute_mcp.catalogue import KEYS, THIS_MACHINE, LocalEnergy
from ecoroute_mcp.energy import Method, UnknownEnergy
from ecoroute_mcp.identity import Identity
from ecoroute_mcp.sci import EcoRouteError, Estimate

THROTTLED = " throttling for "
"""What the gates of throttling, and no others, have in their text."""
COMMENT = (
    "# written by `python -m benchmark`: what it measured on this machine; without this file the router has hosted\n"
)


@dataclass(frozen=True, kw_only=True)
class Written:
    """The rows of a file as it now stands, and why each trial that is not among them was left out."""

    path: Path
    rows: tuple[LocalEnergy, ...]
    left_out: tuple[str, ...]


def publish(trials: Sequence[Measured], database: Path | None = None) -> str:
    """Give the router what was measured: write the rows beside its database (None: the one that `ecoroute` uses) and
    bring that up to date. Returns a line or two for people.

    ``trials`` are this machine's; the caller answers for that. Raises EcoRouteError where a file cannot be written."""
    if database is None:
        from ecoroute_mcp.__main__ import database_path

        database = database_path()
    written = write(trials, refresh.this_machine(database))
    catalogue = refresh.open_catalogue(database, refresh.packaged_data()).catalogue
    method = Method(catalogue)
    used, left_out = [], list(written.left_out)
    for model in catalogue.models:
        if model.id in method.local_models:
            try:
                method.embodied_g_per_device_s(method.footprint(model).device, local=True)
                used.append(model.id)
            except UnknownEnergy as error:
                left_out.append(str(error))
    lines = ["The router has no figure of this machine."]
    if used:
        lines = [
            f"The router now takes {', '.join(used)} as measured on this machine ({written.path}); a server that is "
            "running does so from its next start."
        ]
    if left_out:
        lines.append(f"Not for the router: {'; '.join(left_out)}.")
    return "\n".join(lines)


def write(trials: Sequence[Measured], path: Path, data: Path | None = None) -> Written:
    """Bring the file at ``path`` up to date with these trials, whole and in one step; ``data``: the catalogue's folder
    (None: the package's).

    Raises EcoRouteError where the file cannot be written."""
    catalogue = refresh.read(data or refresh.packaged_data())
    identity = Identity(catalogue.models, catalogue.aliases)
    before, left_out = refresh.local_rows(path, {model.id for model in catalogue.models})
    reasons: Counter[tuple[str, str]] = Counter()
    rows = {_key(row): row for row in before}
    for trial in sorted(trials, key=lambda trial: (trial.started_at, trial.config.occasion)):
        try:
            row = _row(trial, identity)
        except EcoRouteError as error:
            reasons[trial.config.model, str(error).partition(". ")[0]] += 1
            continue
        old = rows.get(_key(row))
        if old is None or (not old.doubt, old.measured_on) <= (not row.doubt, row.measured_on):
            rows.pop(_key(row), None)  # the last written stands last
            rows[_key(row)] = row
        else:
            reasons[row.model, row.doubt or "measured again later"] += 1
    sure = {(row.model, row.device_name, row.device_uuid) for row in rows.values() if not row.doubt}
    for key, row in list(rows.items()):
        if row.doubt and (row.model, row.device_name, row.device_uuid) in sure:
            del rows[key]
            reasons[row.model, row.doubt] += 1
    kept = tuple(rows.values())
    if kept != before or left_out:
        _replace(path, kept)
    left_out += tuple(
        f"{count} trial{'' if count == 1 else 's'} of {model} ({reason})" for (model, reason), count in reasons.items()
    )
    return Written(path=path, rows=kept, left_out=left_out)


def model_id(config: TrialConfig, identity: Identity) -> str:
    """The catalogue's id of what was measured. Raises EcoRouteError where no model surely has that name."""
    name = config.model
    if config.endpoint is None and (name.startswith(("/", "./", "../", "~")) or name.endswith(".gguf")):
        name = PurePath(name).name.removesuffix(".gguf")
    return identity.resolve(name).model_id


def _row(trial: Measured, identity: Identity) -> LocalEnergy:
    config, machine = trial.config, trial.machine
    read_j, written_j = trial.prefill.j_per_token, trial.decode.j_per_token
    if read_j is None or written_j is None:
        raise EcoRouteError("no energy was read")
    wrong = [gate for gate in trial.gates_failed if THROTTLED not in gate]
    if wrong:
        raise EcoRouteError(", ".join(wrong))
    return LocalEnergy(
        model=model_id(config, identity),
        precision=config.precision,
        batch=config.batch,
        prompt_tokens=config.prompt_tokens,
        generated_tokens=config.generated_tokens,
        prefill_j_per_token=estimate(read_j),
        decode_j_per_token=estimate(written_j),
        prefill_s_per_token=estimate(trial.prefill.tokens_per_s).inverse(),
        decode_s_per_token=estimate(trial.decode.tokens_per_s).inverse(),
        device_name=_line(machine.name),
        device_uuid=_line(machine.uuid or ""),
        measured_on=trial.started_at.date(),
        energy_source=trial.energy_source,
        weights=trial.weights.source,
        step=_line(trial.step),
        doubt=_line(", ".join(trial.gates_failed)),
    )


def estimate(spread: Spread, source: str = THIS_MACHINE) -> Estimate:
    """A mean and the 95 % interval of its repeats. Raises EcoRouteError where that reaches zero."""
    if spread.low <= 0:
        raise EcoRouteError("an interval of the repeats reaches zero: measure with more of them")
    return Estimate(low=spread.low, mid=spread.mean, high=spread.high, basis="measured", sources=(source,))


def _key(row: LocalEnergy) -> tuple[object, ...]:
    return tuple(getattr(row, name) for name in KEYS["local_energy"])


def _line(text: str) -> str:
    return " ".join(text.split())


def _replace(path: Path, rows: Sequence[LocalEnergy]) -> None:
    text = io.StringIO()
    text.write(COMMENT)
    table = [refresh.cells(row) for row in rows]
    writer = csv.DictWriter(text, fieldnames=list(table[0]) if table else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = store.temporary_beside(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EcoRouteError(f"cannot write {path} ({error}): free it, or set ECOROUTE_DB to another place") from error
