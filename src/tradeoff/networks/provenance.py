"""With what a result was computed; kept beside it, because the last bits depend on it."""

import torch

from tradeoff.networks.device import arithmetic_is_portable, describe


def provenance(device: torch.device, **more: str) -> dict[str, str]:
    """Version, device, and whether the same computation gives the same bytes there.

    What differs between machines whose results are the same, such as the processor's name, is not
    among it: the file would differ too.
    """
    return {
        "torch": torch.__version__.partition("+")[0],
        "device": describe(device),
        "arithmetic": "portable" if arithmetic_is_portable() else "native",
        # Convolutions on a GPU add in an order that varies from run to run.
        "deterministic": "yes" if device.type == "cpu" else "no",
        **more,
    }
