"""Every architecture trains, is attacked and reported, on random images of each data set's shape.

Each architecture on one data set; TRADEOFF_SLOW=1 takes all of them on all.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.test_stages import ROOT, run, toy
from tradeoff.core.plugins import constant, module_names

ARCHITECTURES = module_names("archs", "build")
ELSEWHERE = {"har": ["mlp"], "tiny_imagenet": ["resnet18"]}
SAMPLE = ELSEWHERE | {"mnist": [name for name in ARCHITECTURES if [name] not in ELSEWHERE.values()]}
SHAPES = ("har", "mnist", "cifar100", "tiny_imagenet")  # those that there are
TRIED = dict.fromkeys(SHAPES, ARCHITECTURES) if os.environ.get("TRADEOFF_SLOW") else SAMPLE
TRAIN, VALIDATION, TEST = 20, 10, 4


def write_images(folder: Path, dataset: str) -> None:
    """data/own/DATASET.npz: noise of the data set's shape, the classes in turn."""
    size = constant("datasets", dataset, "SIZE")
    channels, height, width = size["image"]
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {"classes": [f"class {number}" for number in range(size["classes"])]}
    for part, count in (("", TRAIN + VALIDATION), ("test_", TEST)):
        shape = (count, height, width, channels)
        arrays[f"{part}images"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}labels"] = np.arange(count) % size["classes"]
    (folder / "data" / "own").mkdir(parents=True)
    np.savez(folder / "data" / "own" / f"{dataset}.npz", **arrays)


@pytest.mark.parametrize(("dataset", "architectures"), TRIED.items())
def test_architectures_go_through_all_stages(
    dataset: str, architectures: list[str], tmp_path: Path
) -> None:
    toy(tmp_path, dataset, "standard", architectures[0])
    write_images(tmp_path, dataset)
    yaml = YAML()
    params: Any = yaml.load((tmp_path / "params.yaml").read_text())
    params["study"].update(architectures=architectures, proposal=None)
    params["report"]["languages"] = ["en"]
    params["transfer"]["images"] = params["examples"]["images"] = 1
    own = params["datasets"][dataset]
    own["source"] = {"kind": "npz"}
    own["split"] = {"validation": VALIDATION, "test": None, "limit": None}
    own["models"] = {name: {"width": 0.0625, "pretrained": None} for name in architectures}
    own["train"].update(epochs=1, batch_size=10)
    for suite in own["suites"].values():
        suite["images"] = TEST
    params["datasets"] = {dataset: own}
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    commands = [["stages/prepare.py", dataset]]
    for name in architectures:
        cell = f"standard-{name}-{dataset}-0"
        commands += [["stages/train.py", cell]]
        commands += [["stages/attack.py", cell, s] for s in ("bounded", "autoattack", "minimal")]
    last = ("transfer", "examples", "summarize", "report")
    commands += [[f"stages/{script}.py", dataset] for script in last]

    run(tmp_path, commands, ROOT / "nowhere", "cpu")

    cells = pd.read_csv(tmp_path / "plots" / "summary" / dataset / "cells.csv")
    assert sorted(cells["architecture"]) == sorted(architectures)
    assert cells["RA"].between(0, 1).all() and (cells["RA"] <= cells["NA"]).all()
    assert (tmp_path / "reports" / dataset / "report.en.html").exists()
