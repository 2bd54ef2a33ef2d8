"""Joules, and seconds of a device, that a model takes per token: measured where someone did, else by a law.

All models are taken as served alike (one kind of device, a batch, a precision, each with its interval), so that two of
them can be compared; a measurement made otherwise is carried there by the law's ratio between the two deployments.

The boundary, from the inside out:

* accelerator: what the measurements and the law give, joules per token read (prefill) and per token written (decode);
* server: times ``server_factor``, which adds host processors, memory and machines kept idle for availability;
* facility: times the provider's PUE, which adds cooling and power conversion.

A model measured on the user's own machine (``python -m benchmark``) is taken as run there: its joules and seconds per
token are the measured ones, prefill and decode apart, gross, at the batch nearest to one user and the measured prompt
length nearest to the task's. What the machine takes beside the device's own reading is ``local_machine_factor``, there
is no facility (PUE 1), and the device's embodied carbon is spread over ``local_utilisation`` of its life.

The physics of decode: every step reads the weights once for the whole batch, so the energy per token falls with the
batch until arithmetic, host work per sequence and the reading of each sequence's own KV cache are what is left. The
last grows with the context, so a token written after a long prompt takes more. Prefill is bound by arithmetic: about 2
FLOP per active parameter per token. Embodied carbon follows the device's time: a second of a device costs its embodied
grams over the seconds it will ever work.

How a hosted model is served is not published, so its device, batch, precision and stack enter as intervals
(data/parameters.csv) and every figure here is wide. What the law does not cover: attention's arithmetic in long
prompts, prompt caching (input tokens are counted as read in full), and speculative decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ecoroute_mcp.catalogue import (
    ANY_DEVICE,
    Catalogue,
    Device,
    EnergyLaw,
    LocalEnergy,
    MeasuredEnergy,
    Model,
    Precision,
    Provider,
    Structure,
)
from ecoroute_mcp.sci import JOULES_PER_KWH, SECONDS_PER_YEAR, Basis, EcoRouteError, Estimate, weakest

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
    "cache_factor",
    "device_utilisation",
    "local_machine_factor",
    "local_utilisation",
)
_EACH_ITS_OWN = ("bytes_per_param", "cache_factor")
"""Assumptions that differ between two models served side by side."""

_LOCAL_PRECISIONS = ("as-served", "bf16", "fp16", "fp32", "int8", "int8-pure", "awq", "gptq", "nf4")
"""Which of several measured precisions a model is taken to run at: the first of these; others after them."""


_READ_BY = {"polled": "polled power", "rapl": "the processor's own counters"}


class UnknownEnergy(EcoRouteError):
    """Nothing we know gives this model an energy figure; ``missing`` says what is lacking, in words many share."""

    def __init__(self, text: str, missing: str) -> None:
        super().__init__(text)
        self.missing = missing


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One token of one model: accelerator joules and device-seconds, the batch's share already taken.

    ``basis`` is that of the energy figure itself, before the assumptions about serving enter. ``machine`` is the device
    of the user's own machine that it was measured on, empty for a model served elsewhere; ``runs_as`` is its precision
    there where that is not the published weights' own. ``context_share`` is what a written token takes more for each
    token of the context before it, as a share of ``decode_j`` and ``decode_device_s``; None where it is inside them.
    """

    prefill_j: Estimate
    decode_j: Estimate
    prefill_device_s: Estimate
    decode_device_s: Estimate
    context_share: Estimate | None
    device: str
    basis: Basis
    how: str
    machine: str = ""
    runs_as: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenCarbon:
    """One token of one model at the facility's meter: kWh, and grams of embodied carbon used up.

    ``context_share``: of a written token's, that each token of its context adds; None where it is inside.
    """

    prefill_kwh: Estimate
    decode_kwh: Estimate
    prefill_embodied_g: Estimate
    decode_embodied_g: Estimate
    context_share: Estimate | None

    def growth(self, context_tokens: Estimate) -> Estimate | None:
        """What a written token takes with this context before it, over without any; None where it is inside."""
        if self.context_share is None:
            return None
        more = self.context_share * context_tokens
        return replace(more, low=1 + more.low, mid=1 + more.mid, high=1 + more.high)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One model served in one way, as far as its energy depends on it; parameters in 1e9.

    ``batch`` sequences are decoded together on ``devices`` devices. A written token attends to ``context_tokens`` in
    the mean; ``prompt_per_output`` tokens are read for each token written, their energy counted with it (0: decode
    alone). ``recurrent``: most layers keep a state instead of a KV cache. ``host_bound``: the host, not the device,
    sets the pace, as in some measurements and in no deployment worth predicting.
    """

    device: Device
    params_total_b: float
    params_active_b: float
    bytes_per_param: float
    batch: float
    devices: int = 1
    context_tokens: float = 0.0
    prompt_per_output: float = 0.0
    recurrent: bool = False
    host_bound: bool = False


def features(deployment: Deployment, structure: Structure) -> dict[str, float]:
    """Joules per written token that each term of the law takes where its coefficient is 1, by the term's name.

    Each is the device's TDP for an ideal time, the batch's share taken:

    * ``step`` 1 ms of every device per step; ``collectives`` as much per 40 layers where several devices take part;
      ``experts`` as much per 40 layers of a mixture, falling with the root of the batch only, for the experts' small
      uneven shares of the batch fill the device badly until there are many; ``host`` 10 ms where it sets the pace;
    * ``weights`` the weights a step reads, at full bandwidth: of a mixture the shared part and the experts that a batch
      touches when each token picks its own independently; ``narrow`` the same again for weights under two bytes, whose
      kernels do not pay in full;
    * ``cache`` the KV cache of the context, ``state`` a recurrent state, at full bandwidth;
    * ``arithmetic`` 2 FLOP per active parameter at the dense bf16 rate; ``prefill`` the same per prompt token;
    * ``sequence`` 0.1 ms of every device per token, for scheduling and sampling each sequence.

    Used where the law is fitted and where it is applied. Raises EcoRouteError for a device whose rate is not known, and
    for sizes, batches or contexts that cannot be.
    """
    device, total_b, active_b = deployment.device, deployment.params_total_b, deployment.params_active_b
    batch, devices = deployment.batch, deployment.devices
    if device.bf16_dense_tflops is None:
        raise EcoRouteError(f"the law needs the arithmetic rate of {device.id}: add it to data/devices.csv")
    if not (0 < active_b <= total_b < math.inf and 0 < deployment.bytes_per_param < math.inf):
        raise EcoRouteError("the law needs 0 < active parameters <= total parameters, and a positive size of each")
    if not (1 <= batch < math.inf and devices >= 1):
        raise EcoRouteError("the law needs a batch of at least 1 and at least 1 device")
    if not (0 <= deployment.context_tokens < math.inf and 0 <= deployment.prompt_per_output < math.inf):
        raise EcoRouteError("the law needs a context and a prompt of 0 tokens or more")
    mixture = active_b < total_b
    read_gb = deployment.bytes_per_param * _params_read_b(total_b, active_b, batch, structure)
    cache_gb = structure.cache_gb * active_b**structure.cache_power * deployment.context_tokens
    if deployment.recurrent:
        cache_gb *= structure.recurrent_cache_share
    forty_layers = structure.layers * total_b**structure.layers_power / 40
    step_s = devices / batch / 1000
    weights_s = read_gb / batch / device.bandwidth_gb_per_s
    arithmetic_s = 2 * active_b / device.bf16_dense_tflops / 1000
    seconds = {
        "step": step_s,
        "weights": weights_s,
        "narrow": weights_s if deployment.bytes_per_param < _WIDE else 0.0,
        "cache": cache_gb / device.bandwidth_gb_per_s,
        "state": structure.state_gb / device.bandwidth_gb_per_s if deployment.recurrent else 0.0,
        "arithmetic": arithmetic_s,
        "prefill": arithmetic_s * deployment.prompt_per_output,
        "sequence": devices / 10_000,
        "collectives": step_s * forty_layers if devices > 1 else 0.0,
        "experts": devices / math.sqrt(batch) / 1000 * forty_layers if mixture else 0.0,
        "host": 10 * step_s if deployment.host_bound else 0.0,
    }
    return {term: device.tdp_w * second for term, second in seconds.items()}


_WIDE = 2.0  # bytes per parameter of bf16 and fp16, which every kernel was written for


def _params_read_b(total_b: float, active_b: float, batch: float, structure: Structure) -> float:
    """Parameters (1e9) that one step reads for a whole batch."""
    if active_b == total_b:
        return total_b
    shared_b = structure.shared_share * active_b
    touched: float = 1 - (1 - (active_b - shared_b) / (total_b - shared_b)) ** batch
    return shared_b + (total_b - shared_b) * touched


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
            row.name: row.value if row.name in _EACH_ITS_OWN else keep(row.value) for row in catalogue.parameters
        }
        self._devices = {row.id: row for row in catalogue.devices}
        self._named_devices = {name: row.id for row in catalogue.devices for name in row.nvml_names}
        self._local = _as_run(catalogue.local_energy)
        self._providers = {row.id: row for row in catalogue.providers}
        self._keep = keep
        self._measured: dict[str, list[MeasuredEnergy]] = {}
        for row in catalogue.measured_energy:
            self._measured.setdefault(row.model, []).append(row)
        self._laws = {law.device: law for law in catalogue.energy_laws}
        hosted = [law for law in catalogue.energy_laws if law.hosted]
        if len(hosted) != 1:
            raise EcoRouteError("exactly one law in data/energy_law.yaml must have `hosted: true`")
        self._law = hosted[0]
        for name in _PARAMETERS:
            if name not in self._parameters:
                raise EcoRouteError(f"data/parameters.csv lacks the row {name!r}")
        self._batches = next(row.value for row in catalogue.parameters if row.name == "batch")

    @property
    def local_models(self) -> frozenset[str]:
        """Ids of the models measured on this machine."""
        return frozenset(self._local)

    def local_row(self, model_id: str, prompt_tokens: float) -> LocalEnergy:
        """What a model of ``local_models`` takes here: at the measured prompt length nearest, by ratio, to this one."""
        return min(self._local[model_id], key=lambda row: abs(math.log(row.prompt_tokens / max(prompt_tokens, 1.0))))

    def footprint(self, model: Model, prompt_tokens: float = 1.0) -> Footprint:
        """Joules and device-seconds per token; ``prompt_tokens`` is looked at for models measured on this machine.

        Raises UnknownEnergy where no figure can be had."""
        if model.id in self._local:
            return self._local_footprint(self.local_row(model.id, prompt_tokens))
        total_b, active_b = model.params_total_b, model.params_active_b
        if total_b is None or active_b is None:
            raise _size_unknown(model)
        device = self._devices[self._law.device]
        mid_j, context_share, doubt, devices = self._reference(total_b, active_b, device)
        measured = self._measured.get(model.id)
        if measured:
            energy, seconds, how = self._calibration(measured, total_b.mid, active_b.mid)
            basis = energy.basis
        else:
            energy = seconds = self._law.residual_factor
            basis = "estimated"
            beyond = ", beyond the sizes it was fitted on" if devices > DEVICES_PER_SERVER else ""
            how = f"energy law{beyond}"
        joules = Estimate.exact(mid_j, basis="estimated", source=self._law.sources[0]) * doubt
        power_w = self._parameters["power_share_of_tdp"].scaled(device.tdp_w)
        prefill_j = self._prefill_j(model.params_active_prefill_b or active_b, device)
        return Footprint(
            prefill_j=prefill_j,
            decode_j=joules * energy,
            prefill_device_s=prefill_j / power_w,
            decode_device_s=joules / power_w * seconds,
            context_share=self._parameters["cache_factor"].scaled(context_share),
            device=device.id,
            basis=basis,
            how=f"{how}, served on {devices} x {device.id} at batch {self._parameters['batch'].mid:g}",
        )

    def at_facility(self, footprint: Footprint, provider: Provider, multiplier: Estimate) -> TokenCarbon:
        """Per-token kWh at the facility's meter and embodied grams; ``multiplier`` scales the written tokens."""
        local = bool(footprint.machine)
        to_kwh = self.facility_factor(provider, local=local).scaled(1 / JOULES_PER_KWH)
        embodied_g_per_s = self.embodied_g_per_device_s(footprint.device, local=local)
        return TokenCarbon(
            prefill_kwh=footprint.prefill_j * to_kwh,
            decode_kwh=footprint.decode_j * multiplier * to_kwh,
            prefill_embodied_g=footprint.prefill_device_s * embodied_g_per_s,
            decode_embodied_g=footprint.decode_device_s * multiplier * embodied_g_per_s,
            context_share=footprint.context_share,
        )

    def facility_factor(self, provider: Provider, *, local: bool = False) -> Estimate:
        """Energy at the facility's meter, or the ``local`` machine's plug, over energy at the accelerator."""
        return self._parameters["local_machine_factor" if local else "server_factor"] * provider.pue

    def embodied_g_per_device_s(self, device_id: str, *, local: bool = False) -> Estimate:
        """Embodied grams (device and its share of the server) used up by one second of work of one device."""
        device = self._devices[device_id]
        if device.embodied_kg is None or device.server_share_kg is None or device.life_years is None:
            raise UnknownEnergy(
                f"no embodied carbon is known for {device_id}: add its row to data/devices.csv",
                missing=f"no embodied carbon is known for {device_id}; data/devices.csv is where to add it",
            )
        worked = self._parameters["local_utilisation" if local else "device_utilisation"]
        worked_s = self._keep(device.life_years).scaled(SECONDS_PER_YEAR) * worked
        embodied_kg = self._keep(device.embodied_kg) + self._keep(device.server_share_kg)
        return embodied_kg.scaled(GRAMS_PER_KG) / worked_s

    def _local_footprint(self, row: LocalEnergy) -> Footprint:
        device = self._named_devices.get(row.device_name)
        if device is None:
            raise UnknownEnergy(
                f"{row.model} was measured on this machine, but no row of data/devices.csv has {row.device_name!r} "
                "among its nvml_names: add it there, or leave this machine's figures out with --hosted-only",
                missing=f"measured on this machine's {row.device_name}, which no row of data/devices.csv names "
                "(nvml_names): add it there",
            )
        conditions = f"{row.device_name}, {row.precision}, batch {row.batch}, {row.measured_on}"
        remarks = [f"prompts of {row.prompt_tokens} tokens"]
        remarks += ["random weights of its shape"] if row.weights == "random" else []
        remarks += (
            []
            if row.energy_source == "counter"
            else [f"energy by {_READ_BY.get(row.energy_source, row.energy_source)}"]
        )
        remarks += [row.doubt] if row.doubt else []
        return Footprint(
            prefill_j=row.prefill_j_per_token,
            decode_j=row.decode_j_per_token,
            prefill_device_s=row.prefill_s_per_token,
            decode_device_s=row.decode_s_per_token,
            context_share=None,
            device=device,
            basis=weakest(row.prefill_j_per_token.basis, row.decode_j_per_token.basis),
            how=f"measured on this machine ({conditions}), {', '.join(remarks)}",
            machine=row.device_uuid or row.device_name,
            runs_as="" if row.precision in ("bf16", "fp16", "fp32") else row.precision.removeprefix("as-"),
        )

    def _prefill_j(self, active_b: Estimate, device: Device) -> Estimate:
        one_b = self._deployment(1.0, 1.0, device, prompt_per_output=1.0)
        joules_per_b = Estimate.exact(
            terms(self._law, one_b)["prefill"], basis="estimated", source=self._law.sources[0]
        )
        return active_b * joules_per_b * self._parameters["prefill_share"] * self._parameters["stack_factor"]

    def _deployment(
        self,
        total_b: float,
        active_b: float,
        device: Device,
        *,
        bytes_per_param: float | None = None,
        batch: float | None = None,
        prompt_per_output: float = 0.0,
    ) -> Deployment:
        """How a model of these sizes is taken to be served, without context."""
        bytes_ = self._parameters["bytes_per_param"].mid if bytes_per_param is None else bytes_per_param
        return Deployment(
            device=device,
            devices=devices_needed(
                total_b * bytes_,
                memory_gb=device.memory_gb,
                weights_share_max=self._parameters["weights_share_max"].mid,
            ),
            params_total_b=total_b,
            params_active_b=active_b,
            bytes_per_param=bytes_,
            batch=self._parameters["batch"].mid if batch is None else batch,
            prompt_per_output=prompt_per_output,
        )

    def _reference(self, total_b: Estimate, active_b: Estimate, device: Device) -> tuple[float, float, Estimate, int]:
        """The law at the middle of how models are served: joules without context, the share of them that a token of
        context adds, the factor of doubt about it, and the devices."""
        batch, bytes_per_param = self._parameters["batch"], self._parameters["bytes_per_param"]

        def joules(total: float, active: float, bytes_: float | None = None, sequences: float | None = None) -> float:
            served = self._deployment(total, active, device, bytes_per_param=bytes_, batch=sequences)
            return predict(self._law, served)

        served = self._deployment(total_b.mid, active_b.mid, device)
        mid = predict(self._law, served)
        context_j = terms(self._law, replace(served, context_tokens=1.0))["cache"]
        sizes = [joules(t, a) for t, a in _ends(total_b, active_b)]
        precisions = [joules(total_b.mid, active_b.mid, bytes_=end) for (end,) in _ends(bytes_per_param)]
        batches = [joules(total_b.mid, active_b.mid, sequences=end) for (end,) in _ends(batch)]
        doubt = (
            _factor(mid, sizes, total_b + active_b)
            * _factor(mid, precisions, bytes_per_param)
            * _factor(mid, batches, batch)
            * self._keep(_factor(mid, self._on_other_devices(total_b.mid, active_b.mid), self._law.residual_factor))
            * self._parameters["stack_factor"]
        )
        return mid, context_j / mid, doubt, served.devices

    def _on_other_devices(self, total_b: float, active_b: float) -> list[float]:
        """Joules on the other devices that have a law of their own: which one serves a hosted model is not known."""
        others = [law for law in self._laws.values() if law.device not in (self._law.device, ANY_DEVICE)]
        return [predict(law, self._deployment(total_b, active_b, self._devices[law.device])) for law in others]

    def _calibration(
        self, rows: list[MeasuredEnergy], total_b: float, active_b: float
    ) -> tuple[Estimate, Estimate, str]:
        """Measured over predicted, for joules and for device-seconds, each measurement at its own deployment.

        A measurement stands at some batch, precision, device and number of devices. Dividing it by the law at that very
        deployment gives what this model takes more or less than the law says; times the law at the reference deployment
        it is the measurement carried there, and the measurement itself where the two agree. Rows at the reference
        precision are used where there are any, else those of the next precision up; batches outside the parameter's
        interval only where there are no others.
        """
        batch = self._batches
        precision = min(
            {STORED_BYTES[row.precision] for row in rows},
            key=lambda bytes_: abs(math.log(bytes_ / self._parameters["bytes_per_param"].mid)),
        )
        alike = [row for row in rows if STORED_BYTES[row.precision] == precision]
        used = [row for row in alike if batch.low <= row.batch <= batch.high] or alike
        energy, seconds = [], []
        for row in used:
            law, device = self._laws[row.device], self._devices[row.device]
            predicted_j = predict(
                law,
                Deployment(
                    device=device,
                    devices=row.devices,
                    params_total_b=total_b,
                    params_active_b=active_b,
                    bytes_per_param=precision,
                    batch=row.batch,
                    context_tokens=row.context_tokens,
                    prompt_per_output=row.prompt_per_output,
                ),
            )
            predicted_s = predicted_j / (self._parameters["power_share_of_tdp"].mid * device.tdp_w)
            energy.append(row.decode_j_per_token.mid / predicted_j)
            seconds.append(row.devices / row.tokens_per_s / predicted_s)
        sources = tuple(dict.fromkeys(source for row in used for source in row.decode_j_per_token.sources))
        basis = weakest(*(row.decode_j_per_token.basis for row in used))
        devices = " and ".join(sorted({row.device for row in used}))
        how = f"{len(used)} measurements ({used[0].precision}, {devices}) over the energy law"
        return _pooled(energy, basis, sources), _pooled(seconds, basis, sources), how


STORED_BYTES: dict[Precision, float] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp4": 0.5625}
"""Of a weight. NVIDIA's FP4 holds 4 bits and an 8-bit scale for 16 of them."""


def _as_run(rows: Sequence[LocalEnergy]) -> dict[str, list[LocalEnergy]]:
    """Per model the rows it is taken to run by, one a prompt length: those of the device measured last, at its first
    precision of _LOCAL_PRECISIONS, at the smallest batch; a row with a doubt only where the device has no other."""
    models: dict[str, list[LocalEnergy]] = {}
    for row in rows:
        models.setdefault(row.model, []).append(row)
    run = {}
    for model, measured in models.items():
        last = max(reversed(measured), key=lambda row: row.measured_on)  # of one day's, the one written last
        here = [row for row in measured if (row.device_name, row.device_uuid) == (last.device_name, last.device_uuid)]
        sure = [row for row in here if not row.doubt] or here
        first = min(sure, key=lambda row: (_local_rank(row.precision), row.precision, row.batch))
        run[model] = [row for row in sure if (row.precision, row.batch) == (first.precision, first.batch)]
    return run


def _local_rank(precision: str) -> int:
    return _LOCAL_PRECISIONS.index(precision) if precision in _LOCAL_PRECISIONS else len(_LOCAL_PRECISIONS)


def predict(law: EnergyLaw, deployment: Deployment) -> float:
    """The law's middle value: accelerator joules per token written."""
    return math.fsum(terms(law, deployment).values())


def terms(law: EnergyLaw, deployment: Deployment) -> dict[str, float]:
    """What each term adds to it, by name."""
    ideal = features(deployment, law.structure)
    return {term: float(getattr(law.coefficients, term)) * joules for term, joules in ideal.items()}


def middle(estimate: Estimate) -> Estimate:
    """The same figure without its interval."""
    return Estimate(
        low=estimate.mid, mid=estimate.mid, high=estimate.mid, basis=estimate.basis, sources=estimate.sources
    )


def _ends(*estimates: Estimate) -> Iterator[tuple[float, ...]]:
    """The low ends together, then the high ends together."""
    yield tuple(estimate.low for estimate in estimates)
    yield tuple(estimate.high for estimate in estimates)


def _factor(mid: float, at_ends: Sequence[float], of: Estimate) -> Estimate:
    """How far one uncertain input moves the law, as a factor around 1."""
    ratios = [1.0, *(end / mid for end in at_ends)]
    return Estimate(low=min(ratios), mid=1.0, high=max(ratios), basis=of.basis, sources=of.sources)


def _pooled(ratios: Sequence[float], basis: Basis, sources: tuple[str, ...]) -> Estimate:
    """Geometric mean of measured ratios, with their range as the interval."""
    mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    low, high = min(ratios), max(ratios)
    return Estimate(low=min(low, mean), mid=mean, high=max(high, mean), basis=basis, sources=sources)


def _size_unknown(model: Model) -> UnknownEnergy:
    reason = model.params_note or "its parameter counts are not known"
    return UnknownEnergy(
        f"{model.id} has no measurement, and the law needs its parameters: {reason}",
        missing="neither measured nor are its parameters published or estimated",
    )
