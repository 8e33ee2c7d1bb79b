"""With what a result was computed; kept beside it, because the last bits depend on it."""

import platform

import torch

from tradeoff.networks.device import describe


def provenance(device: torch.device, **more: str) -> dict[str, str]:
    """Versions, device, and whether the same computation gives the same bytes there."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": describe(device),
        # Convolutions on a GPU add in an order that varies from run to run.
        "deterministic": "yes" if device.type == "cpu" else "no",
        **more,
    }
