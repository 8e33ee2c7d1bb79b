"""A cell of each large data set through all stages: few images, tiny width, one epoch.

The files are generated in the published formats, so that the test needs no download; where the
real ones are at hand, `tests/datasets` reads those.
"""

import gzip
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {"train": 260, "test": 60}

# Only the checksums are replaced: the generated files are read by the real code.
WITHOUT_CHECKSUMS = """
import os, runpy, sys
import torchvision.datasets.cifar
import torchvision.datasets.utils
for module in (torchvision.datasets.utils, torchvision.datasets.cifar):
    module.check_integrity = lambda path, md5=None: os.path.exists(path)
sys.argv = sys.argv[1:]
sys.path.insert(0, "stages")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def striped(count: int, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class shows in the position of a bright stripe, and their labels."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 10
    images = random.integers(0, 60, (count, size, size, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 3] += 150
    return images, labels


def write_mnist(folder: Path) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, name in (("train", "train"), ("test", "t10k")):
        images, labels = striped(IMAGES[part], 28, 1)
        header = struct.pack(">IIII", 0x0803, len(images), 28, 28)
        (raw / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = struct.pack(">II", 0x0801, len(labels))
        content = header + labels.astype(np.uint8).tobytes()
        (raw / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))


def write_cifar10(folder: Path) -> None:
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)
    images, labels = striped(IMAGES["train"], 32, 3)
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for number, rows in enumerate(np.array_split(np.arange(len(images)), 5), 1):
        batch = {"data": flat[rows], "labels": labels[rows].tolist()}
        (base / f"data_batch_{number}").write_bytes(pickle.dumps(batch))
    images, labels = striped(IMAGES["test"], 32, 3)
    flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    (base / "test_batch").write_bytes(pickle.dumps({"data": flat, "labels": labels.tolist()}))
    names = [f"class{number}" for number in range(10)]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


def toy(folder: Path, dataset: str, defense: str, architecture: str) -> None:
    """A working folder whose params.yaml holds one small cell."""
    for name in ("stages", "src", "report_templates"):
        (folder / name).symlink_to(ROOT / name)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["study"].update(
        defenses=[defense], architectures=[architecture], datasets=[dataset], seeds=[0]
    )
    settings = params["datasets"][dataset]
    settings["split"].update(validation=40, limit=200)
    settings["models"][architecture]["width"] = 0.0625
    settings["threads"] = 1
    small = {"steps": 2, "relative_step_size": 0.5}
    auto = {"apgd_steps": 2, "fab_steps": 2, "targets": 2, "square_queries": 3}
    for other in params["datasets"].values():
        other["suites"] = {"bounded": {}, "autoattack": {}, "minimal": {}}
    settings["suites"] = {
        "bounded": {
            "images": 20,
            "gradient_checks": small,
            "attacks": {
                **{name: {"steps": 2} for name in ("bim", "mifgsm", "cw", "cw50")},
                "pgd": {"steps": 2, "restarts": 1},
            },
        },
        "autoattack": {"images": 20, "attacks": {"autoattack": auto}},
        "minimal": {"images": 10},
    }
    minimal = params["suites"]["minimal"]["attacks"]
    params["suites"]["minimal"]["attacks"] = {"fmn_linf": minimal["fmn_linf"] | {"steps": 5}}
    params["transfer"].update(images=20, steps=2)
    settings["train"].update(epochs=1, batch_size=40, attack=small, selection=small)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def run(folder: Path, *command: str, data: Path) -> str:
    environment = {**os.environ, "TRADEOFF_DATA": str(data), "TRADEOFF_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CHECKSUMS, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("dataset", "write", "defense", "architecture"),
    [
        ("mnist", write_mnist, "dtrades", "vgg16"),
        ("cifar10", write_cifar10, "faal", "resnet18"),
    ],
)
def test_a_cell_goes_through_all_stages(tmp_path, dataset, write, defense, architecture) -> None:
    data, folder = tmp_path / "files", tmp_path / "study"
    folder.mkdir()
    write(data)
    toy(folder, dataset, defense, architecture)
    cell = f"{defense}-{architecture}-{dataset}-0"

    assert "160 images for training, 40 for validation, 60 for the test" in run(
        folder, "stages/prepare.py", dataset, data=data
    )
    assert "training will take about" in run(folder, "stages/train.py", cell, data=data)
    for suite in ("bounded", "autoattack", "minimal"):
        run(folder, "stages/attack.py", cell, suite, data=data)
    run(folder, "stages/transfer.py", dataset, data=data)
    run(folder, "stages/summarize.py", dataset, data=data)
    run(folder, "stages/report.py", dataset, data=data)

    row = pd.read_csv(folder / "plots" / "cells" / f"{dataset}.csv").iloc[0]
    assert row["images"] == 20
    assert 0 <= row["RA"] <= row["NA"] <= 1
    assert row["RD"] == pytest.approx(row["NA"] - row["RA"], abs=1e-6)
    report = (folder / "reports" / dataset / "report.en.html").read_text()
    assert f"{100 * row['NA']:.1f}" in report
    assert not list(folder.rglob("*.partial")), "something half-written was left behind"
