"""What is expected of a configuration before it is measured: the front that the energy law puts it on.

The law (data/energy_law.yaml) gives joules per token for the model's parameters, precision, batch and lengths on this
kind of device; time goes with them. Together with the published quality, where every model has one, that ranks the
candidates. A search tries the first fronts first; no result is made of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark import plan
from benchmark.objectives import Score
from benchmark.pareto import Front
from benchmark.trial import TrialConfig
from ecoroute_mcp.catalogue import ANY_DEVICE, Catalogue, Device, EnergyLaw
from ecoroute_mcp.energy import Deployment, predict


def fronts(
    configs: Sequence[TrialConfig], device_name: str, catalogue: Catalogue, scores: Mapping[str, Score]
) -> list[int] | None:
    """The front of each configuration, from 0; None where the law knows nothing of the device, or of the size of
    what one of them loads."""
    device = next((each for each in catalogue.devices if device_name in each.nvml_names), None)
    if device is None or device.bf16_dense_tflops is None:
        return None
    laws = {law.device: law for law in catalogue.energy_laws}
    law = laws.get(device.id) or laws.get(ANY_DEVICE)
    if law is None:
        return None
    joules = [_joules(config, device, law) for config in configs]
    rated = all(config.model in scores for config in configs)
    front = Front(2)
    for config, each in zip(configs, joules, strict=True):
        if each is None:
            return None
        front.add((each, -scores[config.model].score if rated else 0.0), (0.0, 0.0))
    return [int(rank) for rank in front.ranks]


def _joules(config: TrialConfig, device: Device, law: EnergyLaw) -> float | None:
    shape = plan.shape_of(config.model)
    bytes_per_param = plan.BYTES_PER_PARAMETER.get(config.precision)
    if shape is None or bytes_per_param is None:
        return None
    return predict(
        law,
        Deployment(
            device=device,
            params_total_b=shape.parameters / 1e9,
            params_active_b=shape.active / 1e9,
            bytes_per_param=bytes_per_param,
            batch=config.batch,
            context_tokens=config.prompt_tokens + config.generated_tokens / 2,
            prompt_per_output=config.prompt_tokens / config.generated_tokens,
            host_bound=config.eager,
        ),
    )
