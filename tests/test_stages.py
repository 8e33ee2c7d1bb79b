"""A cell of each large data set through all stages: few images, tiny width, one epoch.

The files are generated in the published formats, so that the test needs no download; where the
real ones are at hand, `tests/datasets` reads those.
"""

import gzip
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
IMAGES = {"train": 260, "test": 60}

# Each stage in a fork of a process that has imported torch once; the files of code that it has
# loaded are written to the folder `loaded`. Only the checksums are replaced: the generated files
# are read by the real code.
STAGES = """
import contextlib, json, os, runpy, sys, traceback
from pathlib import Path
import torchvision.datasets.cifar
import torchvision.datasets.utils
import tradeoff.core.study

for module in (torchvision.datasets.utils, torchvision.datasets.cifar):
    module.check_integrity = lambda path, md5=None: os.path.exists(path)
sys.path.insert(0, "stages")

def run():
    pretended = contextlib.nullcontext()
    if os.environ["TRADEOFF_DEVICE"] == "cuda":
        from tests.pretended_gpu import any_gpu
        pretended = any_gpu()
    with pretended:
        runpy.run_path(sys.argv[0], run_name="__main__")
    files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
    Path("loaded").mkdir(exist_ok=True)
    name = "-".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    Path("loaded", name).write_text(chr(10).join([sys.argv[0], *files]))

for sys.argv in json.loads(sys.argv[1]):
    process = os.fork()
    if not process:
        status = 1
        try:
            run()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    if os.waitpid(process, 0)[1]:
        sys.exit(f"failed: {sys.argv}")
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
    settings["models"] = {architecture: {"width": 0.0625, "pretrained": None}}
    settings.update(threads=1, arithmetic="native")  # torch is loaded before the stages
    small = {"steps": 2, "relative_step_size": 0.5}
    auto = {"apgd_steps": 2, "fab_steps": 2, "targets": 2, "square_queries": 3}
    for other in params["datasets"].values():
        other["suites"] = {"bounded": {}, "autoattack": {}, "minimal": {}}
    settings["suites"] = {
        "bounded": {
            "images": 20,
            "gradient_checks": small,
            "attacks": {
                **{name: {"steps": 2} for name in ("bim", "mifgsm")},
                **{name: {"steps": 2, "restarts": 1} for name in ("pgd", "cw")},
            },
        },
        "autoattack": {"images": 20, "attacks": {"autoattack": auto}},
        "minimal": {"images": 10},
    }
    minimal = params["suites"]["minimal"]["attacks"]
    params["suites"]["minimal"]["attacks"] = {"fmn_linf": minimal["fmn_linf"] | {"steps": 5}}
    params["transfer"].update(images=20, steps=2)
    params["transfer"]["extraction"].update(images=10, augmentations=1, epochs=1)
    settings["train"].update(epochs=2, batch_size=40, attack=small, selection=small)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def run(
    folder: Path, commands: list[list[str]], data: Path, device: str, package: Path = ROOT / "src"
) -> str:
    """What the stages print."""
    path = f"{package}:{ROOT}"
    names = {"TRADEOFF_DATA": str(data), "TRADEOFF_DEVICE": device, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", STAGES, json.dumps(commands)],
        cwd=folder,
        env=os.environ | names,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("dataset", "write", "defense", "architecture", "device"),
    [
        ("mnist", write_mnist, "dtrades", "vgg16", "cpu"),
        ("cifar10", write_cifar10, "faal", "resnet18", "cuda"),
    ],
)
def test_a_cell_goes_through_all_stages(
    tmp_path: Path,
    dataset: str,
    write: Callable[[Path], None],
    defense: str,
    architecture: str,
    device: str,
) -> None:
    """On a GPU as well; where there is none, on a pretended one."""
    data, folder = tmp_path / "files", tmp_path / "study"
    folder.mkdir()
    write(data)
    toy(folder, dataset, defense, architecture)
    cell = f"{defense}-{architecture}-{dataset}-0"
    commands = [["stages/prepare.py", dataset]]
    if defense == "faal":
        commands += [["stages/train.py", f"at-{architecture}-{dataset}-0"]]  # it goes on from there
    commands += [["stages/train.py", cell]]
    commands += [["stages/attack.py", cell, s] for s in ("bounded", "autoattack", "minimal")]
    last = ("transfer", "examples", "summarize", "report")
    commands += [[f"stages/{script}.py", dataset] for script in last]

    said = run(folder, commands, data, device)

    assert "160 images for training, 40 for validation, 60 for the test" in said
    assert "training will take" in said and "left at this rate" in said
    row = pd.read_csv(folder / "plots" / "summary" / dataset / "cells.csv").iloc[0]
    assert row["images"] == 20
    assert 0 <= row["RA"] <= row["NA"] <= 1
    assert row["RD"] == pytest.approx(row["NA"] - row["RA"], abs=1e-6)
    report = (folder / "reports" / dataset / "report.en.html").read_text()
    assert f"{100 * row['NA']:.1f}" in report
    assert not list(folder.rglob("*.partial")), "something half-written was left behind"
