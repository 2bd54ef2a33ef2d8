"""Joules, and seconds of a device, that a model takes per token: measured where someone did, else by a law.

The boundary, from the inside out:

* accelerator: what the measurements and the law give, joules per token read (prefill) and per token written (decode);
* server: times ``server_factor``, which adds host processors, memory and machines kept idle for availability;
* facility: times the provider's PUE, which adds cooling and power conversion.

The physics of decode: every step reads the weights once for the whole batch, so the energy per token falls with the
batch until arithmetic and communication between devices dominate. Prefill is bound by arithmetic: about 2 FLOP per
active parameter per token. Embodied carbon follows the device's time: a second of a device costs its embodied grams
over the seconds it will ever work.

How a hosted model is served is not published, so its batch, precision and stack enter as intervals
(data/parameters.csv) and every figure here is wide. What the law does not cover: the KV-cache reads of long contexts,
prompt caching (input tokens are counted as read in full), and speculative decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise

from ecoroute_mcp.catalogue import Catalogue, Device, EnergyLaw, MeasuredEnergy, Model, Provider
from ecoroute_mcp.sci import JOULES_PER_KWH, SECONDS_PER_YEAR, Basis, EcoRouteError, Estimate

GRAMS_PER_KG = 1000.0
DEVICES_PER_SERVER = 8
_PARAMETERS = (
    "server_factor",
    "batch",
    "bytes_per_param",
    "weights_share_max",
    "power_share_of_tdp",
    "prefill_share",
    "stack_factor",
    "device_utilisation",
)


class UnknownEnergy(EcoRouteError):
    """Nothing we know gives this model an energy figure; ``missing`` says what is lacking, in words many share."""

    def __init__(self, text: str, missing: str) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One token of one model: accelerator joules and device-seconds, the batch's share already taken.

    ``basis`` is that of the energy figure itself, before the assumptions about serving enter.
    """

    prefill_j: Estimate
    decode_j: Estimate
    prefill_device_s: Estimate
    decode_device_s: Estimate
    device: str
    basis: Basis
    how: str


@dataclass(frozen=True, kw_only=True)
class TokenCarbon:
    """One token of one model at the facility's meter: kWh, and grams of embodied carbon used up."""

    prefill_kwh: Estimate
    decode_kwh: Estimate
    prefill_embodied_g: Estimate
    decode_embodied_g: Estimate


def features(
    *, params_total_b: float, params_active_b: float, bytes_per_param: float, devices: int, batch: float
) -> tuple[float, float, float, float]:
    """Terms of the decode law, in the order of its coefficients: fixed, memory, arithmetic, communication.

    Parameters in 1e9. A mixture of experts reads, per step, the share of its weights that ``batch`` tokens touch when
    each picks its experts independently. Used where the law is fitted and where it is applied. Source: four-term form
    of data/energy_law.yaml.
    """
    touched = 1 - (1 - params_active_b / params_total_b) ** batch if params_active_b < params_total_b else 1.0
    weights_read_gb = params_total_b * bytes_per_param * touched
    return devices / batch, weights_read_gb / batch, params_active_b, float(devices)


def devices_needed(weights_gb: float, *, memory_gb: float, weights_share_max: float) -> int:
    """Smallest deployment whose memory holds the weights: 1, 2, 4 or 8 devices, or whole servers of 8."""
    needed = weights_gb / (memory_gb * weights_share_max)
    for devices in (1, 2, 4):
        if needed <= devices:
            return devices
    return DEVICES_PER_SERVER * math.ceil(needed / DEVICES_PER_SERVER)


class Method:
    """The energy and embodied method over one catalogue.

    ``shared`` False takes what models served alike have in common (batch, stack, server, device) at its middle, so
    that the intervals left are each model's own (parameters, precision, the law's residual): what the difference of
    two models needs.
    """

    def __init__(self, catalogue: Catalogue, *, shared: bool = True) -> None:
        keep: Callable[[Estimate], Estimate] = (lambda estimate: estimate) if shared else middle
        self._parameters = {
            row.name: row.value if row.name == "bytes_per_param" else keep(row.value) for row in catalogue.parameters
        }
        self._devices = {row.id: row for row in catalogue.devices}
        self._providers = {row.id: row for row in catalogue.providers}
        self._keep = keep
        self._measured: dict[str, list[MeasuredEnergy]] = {}
        for row in catalogue.measured_energy:
            self._measured.setdefault(row.model, []).append(row)
        hosted = [law for law in catalogue.energy_laws if law.hosted]
        if len(hosted) != 1:
            raise EcoRouteError("exactly one law in data/energy_law.yaml must have `hosted: true`")
        self._law = hosted[0]
        for name in _PARAMETERS:
            if name not in self._parameters:
                raise EcoRouteError(f"data/parameters.csv lacks the row {name!r}")

    def footprint(self, model: Model) -> Footprint:
        """Joules and device-seconds per token. Raises UnknownEnergy where no figure can be had."""
        law_device = self._devices[self._law.device]
        prefill_j = self._prefill_j(model)
        basis: Basis
        measured = self._measured.get(model.id)
        if measured:
            decode_j, decode_device_s, device, how = self._from_measurements(measured)
            basis = measured[0].decode_j_per_token.basis
        else:
            decode_j, how = self._from_law(model, law_device)
            device = law_device
            basis = "estimated"
            decode_device_s = decode_j / self._power_w(device)
        return Footprint(
            prefill_j=prefill_j,
            decode_j=decode_j,
            prefill_device_s=prefill_j / self._power_w(law_device),
            decode_device_s=decode_device_s,
            device=device.id,
            basis=basis,
            how=how,
        )

    def at_facility(self, footprint: Footprint, provider: Provider, multiplier: Estimate) -> TokenCarbon:
        """Per-token kWh at the facility's meter and embodied grams; ``multiplier`` scales the written tokens."""
        to_kwh = self.facility_factor(provider).scaled(1 / JOULES_PER_KWH)
        embodied_g_per_s = self.embodied_g_per_device_s(footprint.device)
        return TokenCarbon(
            prefill_kwh=footprint.prefill_j * to_kwh,
            decode_kwh=footprint.decode_j * multiplier * to_kwh,
            prefill_embodied_g=footprint.prefill_device_s * embodied_g_per_s,
            decode_embodied_g=footprint.decode_device_s * multiplier * embodied_g_per_s,
        )

    def facility_factor(self, provider: Provider) -> Estimate:
        """Energy at the facility's meter over energy at the accelerator."""
        return self._parameters["server_factor"] * provider.pue

    def embodied_g_per_device_s(self, device_id: str) -> Estimate:
        """Embodied grams (device and its share of the server) used up by one second of work of one device."""
        device = self._devices[device_id]
        if device.embodied_kg is None or device.server_share_kg is None or device.life_years is None:
            raise UnknownEnergy(
                f"no embodied carbon is known for {device_id}: add its row to data/devices.csv",
                missing=f"no embodied carbon is known for {device_id}",
            )
        worked_s = self._keep(device.life_years).scaled(SECONDS_PER_YEAR) * self._parameters["device_utilisation"]
        embodied_kg = self._keep(device.embodied_kg) + self._keep(device.server_share_kg)
        return embodied_kg.scaled(GRAMS_PER_KG) / worked_s

    def _power_w(self, device: Device) -> Estimate:
        return self._parameters["power_share_of_tdp"].scaled(device.tdp_w)

    def _prefill_j(self, model: Model) -> Estimate:
        active_b = model.params_active_prefill_b or model.params_active_b
        if active_b is None:
            raise _size_unknown(model)
        joules_per_b = Estimate.exact(self._law.coefficients[2], basis="estimated", source=self._law.sources[0])
        return active_b * joules_per_b * self._parameters["prefill_share"] * self._parameters["stack_factor"]

    def _from_law(self, model: Model, device: Device) -> tuple[Estimate, str]:
        total_b, active_b = model.params_total_b, model.params_active_b
        if total_b is None or active_b is None:
            raise _size_unknown(model)
        batch, bytes_per_param = self._parameters["batch"], self._parameters["bytes_per_param"]

        def joules(total: float, active: float, bytes_: float, sequences: float) -> float:
            return predict(
                self._law,
                params_total_b=total,
                params_active_b=active,
                bytes_per_param=bytes_,
                devices=devices_needed(
                    total * bytes_,
                    memory_gb=device.memory_gb,
                    weights_share_max=self._parameters["weights_share_max"].mid,
                ),
                batch=sequences,
            )

        mid = joules(total_b.mid, active_b.mid, bytes_per_param.mid, batch.mid)
        own = _factor(
            mid,
            (
                joules(total_b.low, active_b.low, bytes_per_param.mid, batch.mid),
                joules(total_b.high, active_b.high, bytes_per_param.mid, batch.mid),
            ),
            total_b + active_b,
        )
        precision = _factor(
            mid,
            (
                joules(total_b.mid, active_b.mid, bytes_per_param.low, batch.mid),
                joules(total_b.mid, active_b.mid, bytes_per_param.high, batch.mid),
            ),
            bytes_per_param,
        )
        batching = _factor(
            mid,
            (
                joules(total_b.mid, active_b.mid, bytes_per_param.mid, batch.low),
                joules(total_b.mid, active_b.mid, bytes_per_param.mid, batch.high),
            ),
            batch,
        )
        law = Estimate.exact(mid, basis="estimated", source=self._law.sources[0]) * self._law.residual_factor
        decode_j = law * own * precision * batching * self._parameters["stack_factor"]
        devices = devices_needed(
            total_b.mid * bytes_per_param.mid,
            memory_gb=device.memory_gb,
            weights_share_max=self._parameters["weights_share_max"].mid,
        )
        beyond = ", beyond the sizes it was fitted on" if devices > DEVICES_PER_SERVER else ""
        return decode_j, f"energy law for {devices} x {device.id} at batch {batch.mid:g}{beyond}"

    def _from_measurements(self, rows: list[MeasuredEnergy]) -> tuple[Estimate, Estimate, Device, str]:
        batch = self._parameters["batch"]
        on_law_device = [row for row in rows if row.device == self._law.device]
        used = on_law_device or rows
        device = self._devices[used[0].device]
        series = [
            run
            for run in _deployments(row for row in used if row.device == device.id)
            if run[0].batch <= batch.mid <= run[-1].batch
        ]
        if not series:
            missing = f"its measurements do not reach a batch of {batch.mid:g}"
            raise UnknownEnergy(f"{rows[0].model} cannot be placed: {missing}", missing=missing)
        joules = _across(series, batch, lambda row: row.decode_j_per_token.mid)
        seconds = _across(series, batch, lambda row: row.devices / row.tokens_per_s)
        low, high = min(run[0].batch for run in series), max(run[-1].batch for run in series)
        runs = sum(len(run) for run in series)
        how = f"{runs} measurements on {device.id}, batch {low:.0f} to {high:.0f}, taken at batch {batch.mid:g}"
        stack = self._parameters["stack_factor"]
        return joules * stack, seconds * stack, device, how


def predict(
    law: EnergyLaw,
    *,
    params_total_b: float,
    params_active_b: float,
    bytes_per_param: float,
    devices: int,
    batch: float,
) -> float:
    """The law's middle value: accelerator joules per token written."""
    terms = features(
        params_total_b=params_total_b,
        params_active_b=params_active_b,
        bytes_per_param=bytes_per_param,
        devices=devices,
        batch=batch,
    )
    return sum(coefficient * term for coefficient, term in zip(law.coefficients, terms, strict=True))


def middle(estimate: Estimate) -> Estimate:
    """The same figure without its interval."""
    return Estimate(
        low=estimate.mid, mid=estimate.mid, high=estimate.mid, basis=estimate.basis, sources=estimate.sources
    )


def _factor(mid: float, ends: tuple[float, float], of: Estimate) -> Estimate:
    """How far one uncertain input moves the law, as a factor around 1."""
    return Estimate(
        low=min(1.0, *(end / mid for end in ends)),
        mid=1.0,
        high=max(1.0, *(end / mid for end in ends)),
        basis=of.basis,
        sources=of.sources,
    )


def _deployments(rows: Iterable[MeasuredEnergy]) -> list[list[MeasuredEnergy]]:
    """Rows that differ in batch alone, ordered by it."""

    def key(row: MeasuredEnergy) -> tuple[str, int, str, str, str]:
        return row.device, row.devices, row.precision, row.workload, row.stack

    ordered = sorted(rows, key=lambda row: (key(row), row.batch))
    return [list(run) for _, run in groupby(ordered, key)]


def _across(series: list[list[MeasuredEnergy]], batch: Estimate, value: Callable[[MeasuredEnergy], float]) -> Estimate:
    """Geometric mean over deployments at the middle batch; ends: their extremes over the batches measured in range."""
    at_mid = [_interpolate(run, batch.mid, value) for run in series]
    spread = at_mid + [
        _interpolate(run, end, value)
        for run in series
        for end in (max(batch.low, run[0].batch), min(batch.high, run[-1].batch))
    ]
    sources = tuple(dict.fromkeys(source for run in series for row in run for source in row.decode_j_per_token.sources))
    return Estimate(
        low=min(spread),
        mid=math.exp(math.fsum(map(math.log, at_mid)) / len(at_mid)),
        high=max(spread),
        basis=series[0][0].decode_j_per_token.basis,
        sources=tuple(dict.fromkeys(sources + batch.sources)),
    )


def _interpolate(run: list[MeasuredEnergy], batch: float, value: Callable[[MeasuredEnergy], float]) -> float:
    """Straight line in logarithms between the two measured batches around ``batch``."""
    for before, after in pairwise(run):
        if before.batch <= batch <= after.batch:
            position = math.log(batch / before.batch) / math.log(after.batch / before.batch)
            return float(value(before) * (value(after) / value(before)) ** position)
    return value(run[0]) if batch <= run[0].batch else value(run[-1])


def _size_unknown(model: Model) -> UnknownEnergy:
    reason = model.params_note or "its parameter counts are not known"
    return UnknownEnergy(
        f"{model.id} has no measurement, and the law needs its parameters: {reason}",
        missing="neither measured nor are its parameters published or estimated",
    )
