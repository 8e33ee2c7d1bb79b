"""Every architecture on every data set: trained, attacked and reported, on noise of its shape.

The stages run in this process, which has torch imported, on as few images, channels, steps and
passes as there can be. How a data set's own files are read, `tests/datasets` tests.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from tests.test_stages import ROOT
from tradeoff.core.plugins import constant, module_names
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import save_prepared, split
from tradeoff.datasets.published import PublishedData
from tradeoff.networks.device import arithmetic_is_portable, set_arithmetic
from tradeoff.running.estimate import Estimate

ARCHITECTURES = module_names("archs", "build")
# Those whose modules do not say it.
SIZES = {
    "digits": {"image": (1, 8, 8), "classes": 10},
    "digit_pairs": {"image": (1, 8, 16), "classes": 100},
    "eights": {"image": (1, 8, 8), "classes": 2},
}
OWN = ("folder", "npz")  # of any size


def size_of(dataset: str) -> Any:
    return SIZES.get(dataset) or constant("datasets", dataset, "SIZE")


def alike() -> list[list[str]]:
    """All data sets; those of one shape and number of classes, so of the same noise, together."""
    found: dict[Any, list[str]] = {}
    for name in module_names("datasets", "read"):
        if name not in OWN:
            size = size_of(name)
            found.setdefault((size["image"], size["classes"]), []).append(name)
    return list(found.values())


STEP = {"steps": 1, "relative_step_size": 0.5}


def noise(dataset: str) -> PublishedData:
    """Six images of at most four of the data set's classes, and two to test."""
    size = size_of(dataset)
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (8, *size["image"]), dtype=np.uint8))
    labels = torch.arange(8) % min(4, size["classes"])
    names = tuple(map(str, range(size["classes"])))
    return PublishedData(images[2:], labels[2:], images[:2], labels[:2], 255, names)


def write_params(folder: Path, dataset: str) -> None:
    """One cell of each architecture, and the least of all that is asked."""
    yaml = YAML(typ="safe")
    params: Any = yaml.load((ROOT / "params.yaml").read_text())
    params["study"].update(
        defenses=["standard"], architectures=ARCHITECTURES, datasets=[dataset], seeds=[0],
        proposal=None, controls_of_proposal=[],
    )  # fmt: skip
    for names in params["study"]["trained"].values():
        names[:] = [name for name in names if name == "standard"]
    pgd = {"attack": "pgd", "loss": "cross_entropy", "restarts": 1} | STEP
    fewest = {"apgd_steps": 1, "fab_steps": 1, "targets": 1, "square_queries": 1}
    attacks = {
        "bounded": {"fgsm": {}, "pgd": pgd},
        "autoattack": {"autoattack": params["suites"]["autoattack"]["attacks"]["autoattack"]},
        "minimal": {"fmn_linf": params["suites"]["minimal"]["attacks"]["fmn_linf"] | {"steps": 1}},
    }
    attacks["autoattack"]["autoattack"] |= fewest
    for suite, named in attacks.items():
        params["suites"][suite].update(attacks=named, gradient_checks=None, versions=["best"])
    params["suites"]["bounded"]["versions"] = ["best", "last"]
    params["examples"].update(images=1, measured=1, steps=1)
    params["report"]["languages"] = ["en"]
    params["datasets"] = {
        dataset: {
            "source": dataset,
            "split": {"validation": 2, "test": None, "limit": None},
            "models": {name: {"width": 1 / 64, "pretrained": None} for name in ARCHITECTURES},
            "threat": {"norm": "linf", "epsilon": 0.1},
            "threads": 1,
            "train": {"epochs": 1, "batch_size": 4, "attack": STEP, "selection": STEP},
            "suites": {suite: {} for suite in attacks},
            "certificates": {},
        }
    }
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


@pytest.mark.parametrize("dataset", [names[0] for names in alike()], ids=map("+".join, alike()))
def test_every_architecture_trains_is_attacked_and_reported(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "stages"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("TRADEOFF_DEVICE", "cpu")
    monkeypatch.setenv("TRADEOFF_CHECKPOINTS", "checkpoints")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report_templates").symlink_to(ROOT / "report_templates")
    write_params(tmp_path, dataset)
    study = Study.load()
    monkeypatch.setattr(Study, "load", lambda: study)  # each stage would read it anew
    chosen = study.dataset(dataset)
    chosen.prepared.parent.mkdir()
    save_prepared(split(dataset, noise(dataset), 2, None, None), chosen.prepared)
    names = ("train", "attack", "examples", "summarize", "report")
    stages = {name: importlib.import_module(name) for name in names}
    no_estimate = Estimate(0.0, 0.0)  # it takes several times as long as one step
    monkeypatch.setattr(stages["train"], "estimate", lambda *_: no_estimate)
    before = arithmetic_is_portable()
    try:
        failed = []
        for cell in study.cells():
            try:
                stages["train"].main(cell.key)
                for suite in chosen.suites:
                    stages["attack"].main(cell.key, suite)
            except Exception as error:
                failed.append(f"{cell.key}: {type(error).__name__}: {error}")
        assert not failed, "\n".join(failed)
        for name in ("examples", "summarize", "report"):
            stages[name].main(dataset)
    finally:
        set_arithmetic("portable" if before else "native")

    cells = pd.read_csv(chosen.table("cells"))
    assert sorted(cells["architecture"]) == sorted(ARCHITECTURES)
    assert cells["RA"].between(0, 1).all() and (cells["RA"] <= cells["NA"]).all()
    page = (tmp_path / "reports" / dataset / "report.en.html").read_text()
    assert all(name in page for name in ARCHITECTURES)
