"""What each stage of dvc.yaml writes, for toys whose stages write something made up."""

from collections.abc import Callable
from pathlib import Path
from textwrap import indent

# Source text: the toys' scripts run in folders of their own, where this package is not.
OUTPUTS = """
def outputs(stage, names):
    name = "".join(names[:1])
    dataset = name.split("-")[2] if "-" in name else name
    key = "-".join(names)
    tables = "cells attacks norms curve confusion detectable differences masking missing provenance"
    return {
        "prepare": [f"data/{dataset}.safetensors"],
        "train": [f"models/{dataset}/{key}/best", f"plots/training/{dataset}/{key}.csv"],
        "attack": [f"ledgers/{dataset}/{key}.npz"],
        "certify": [f"ledgers/{dataset}/{key}-certificates.npz"],
        "transfer": [f"ledgers/transfer/{dataset}.npz", f"plots/transfer/{dataset}.csv"],
        "examples": [f"plots/{name}/{dataset}.{kind}" for kind in ("png", "csv")
                     for name in ("examples", "gradients")]
                    + [f"plots/sizes/{dataset}.csv"],
        "summarize": [f"metrics/means/{dataset}/{name}.json" for name in ("at", "trades")]
                     + [f"plots/summary/{dataset}/{table}.csv" for table in tables.split()],
        "report": [f"reports/{dataset}/report.html"],
        "chapter": [f"reports/{kind}.{name}.tex" for kind in ("chapter", "standalone")]
                   + [f"reports/figures/{name}/figure.pdf"],
        "index": ["reports/index.html"],
    }[stage]
"""


def replace_stages(folder: Path, text: Callable[[str], str]) -> None:
    """Give each script of a folder of stages another text, by its name.

    What the real one imports stays in it, in a function that nobody calls: the stage `code`, which
    is left as it is, finds the same files as of the real ones.
    """
    for script in folder.glob("[!_]*.py"):
        if script.stem != "list_code":
            real = indent(script.read_text(), "    ")
            script.write_text(f"{text(script.stem)}\n\ndef real():\n{real}")
