"""One cell of every kind through all stages: what stands on a base, mixtures, smoothing, proofs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from tests.test_stages import ROOT, run, toy
from tradeoff.core import code
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.networks.models import ModelMismatch, load_classifier

ROWS = ["at", "faal", "distillation", "mixing", "smoothing"]
BASES = ("standard", "at", "tempered", "gaussian")
KEYS = {name: f"{name}-resnet18-digits-0" for name in (*BASES, *ROWS)}


def small_study(folder: Path) -> None:
    toy(folder, "digits", "at", "resnet18")
    yaml = YAML()
    params: Any = yaml.load((folder / "params.yaml").read_text())
    params["study"].update(
        defenses=ROWS, proposal="faal", baseline=None, certified=["smoothing", "at"]
    )
    params["study"]["trained"].update(
        alone=["standard", "at", "tempered", "gaussian"],
        on_robust=["faal"],
        on_teacher=["distillation"],
        on_noisy=["smoothing"],
        on_natural_and_robust=["mixing"],
    )
    params["smoothing"]["classifier"].update(copies=4)
    digits = params["datasets"]["digits"]
    digits["split"].update(validation=40, test=60)
    digits["certificates"] = {
        "smoothing": {"images": 20, "samples": 300},
        "interval": {"images": 20, "fractions": [0.001, 1.0]},
    }
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    small_study(folder)
    commands = [["stages/prepare.py", "digits"]]
    commands += [["stages/train.py", key] for key in KEYS.values()]
    suites = ("bounded", "autoattack", "minimal")
    commands += [["stages/attack.py", KEYS[row], suite] for row in ROWS for suite in suites]
    commands += [["stages/certify.py", KEYS[row]] for row in ("smoothing", "at")]
    last = ("transfer", "examples", "summarize", "report")
    commands += [[f"stages/{script}.py", "digits"] for script in last]
    commands += [["stages/chapter.py", "en"], ["stages/index.py"]]
    run(folder, commands, folder, "cpu")
    return folder


def test_every_row_is_in_the_tables_and_the_report(study: Path) -> None:
    cells = pd.read_csv(study / "plots" / "summary" / "digits" / "cells.csv")
    assert set(cells["defense"]) == set(ROWS)
    page = (study / "reports" / "digits" / "report.en.html").read_text()
    assert "What is proved" in page and "Mixing" in page and "tempered-resnet18" not in page


def test_all_code_that_a_stage_loads_is_listed_for_it(study: Path) -> None:
    """But for what is never listed, and classifiers, of which models have a hash."""
    files = code.texts(study, Study.load(study / "params.yaml"))
    listed = {
        path.relative_to("code").as_posix(): {line.split()[0] for line in text.splitlines()}
        for path, text in files.items()
    }
    elsewhere = ("src/tradeoff/core/", "src/tradeoff/running/", "src/tradeoff/classifiers/")
    seen = set()
    for report in (study / "loaded").iterdir():
        stage, _, name = report.name.partition("-")
        parts = name.split("-")
        use = {"prepare": parts[0], "train": parts[0], "certify": parts[0], "attack": parts[-1]}
        own = listed[f"{stage}/{use[stage]}" if stage in use else stage]
        own = own | (listed["archs/resnet18"] if len(parts) > 2 else set())
        opened = {Path(line).resolve() for line in report.read_text().splitlines()}
        loaded = {
            file.relative_to(ROOT).as_posix()
            for file in opened
            if {ROOT / "src", ROOT / "stages"} & {*file.parents} and file.stat().st_size
        }
        missing = {path for path in loaded - own if not path.startswith(elsewhere)}
        assert missing <= {"stages/_environment.py"}, report.name
        assert len(loaded) > 5
        seen.add(stage)
    assert seen == {path.stem for path in ROOT.glob("stages/[!_]*.py")} - {"list_code"}


def test_a_model_file_is_enough_to_load_its_classifier(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bases' files are not needed, and the mixture is that of its bases' networks."""
    monkeypatch.chdir(study)
    loaded = Study.load()
    data = load_prepared(Path("data", "digits.safetensors"), "digits")
    device, images = torch.device("cpu"), data.test.first(8).images
    models = {
        name: load_classifier(loaded.cell(KEYS[name]), "best", data, device)(images).softmax(1)
        for name in ("standard", "at", "mixing")
    }
    expected = (models["standard"] + models["at"]) / 2
    torch.testing.assert_close(models["mixing"], expected)
    started = load_classifier(loaded.cell(KEYS["faal"]), "last", data, device).state_dict()
    base = load_classifier(loaded.cell(KEYS["at"]), "best", data, device).state_dict()
    moved = max(float((started[k].float() - base[k].float()).abs().max()) for k in base)
    assert moved > 0, "FAAL goes on from the weights of AT"


def test_a_model_of_another_number_of_networks_is_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    loaded = Study.load()
    data = load_prepared(Path("data", "digits.safetensors"), "digits")
    at, mixing = loaded.cell(KEYS["at"]), loaded.cell(KEYS["mixing"])
    swapped = {at.key: mixing.model("best"), mixing.key: at.model("best")}
    monkeypatch.setattr(type(at), "model", lambda cell, version: swapped[cell.key])
    with pytest.raises(ModelMismatch, match="holds 2 networks, params want 1"):
        load_classifier(at, "best", data, torch.device("cpu"))
    with pytest.raises(ModelMismatch, match="holds 1 networks, params want 2"):
        load_classifier(mixing, "best", data, torch.device("cpu"))


def test_no_more_is_proved_than_attacks_left(study: Path) -> None:
    """By image, under the same threat, for the images that both looked at."""
    folder = study / "ledgers" / "digits"
    with np.load(folder / f"{KEYS['smoothing']}-certificates.npz") as ledger:
        epsilon = json.loads(str(ledger["about"]))["threat"]["epsilon"]
        proved = (ledger["prediction"] == ledger["labels"]) & (ledger["radius"] >= epsilon)
    left = np.ones(len(proved), dtype=bool)
    for suite in ("bounded", "autoattack"):
        with np.load(folder / f"{KEYS['smoothing']}-{suite}.npz") as ledger:
            fooled = ledger["fooled"][0].any(0) | (
                ledger["clean_prediction"][0] != ledger["labels"]
            )
            left &= ~fooled[: len(proved)]
    assert not (proved & ~left).any()
    both = pd.read_csv(study / "plots" / "summary" / "digits" / "certified.csv")
    table = both[both["defense"] == "smoothing"]
    assert table["certified_accuracy"].is_monotonic_decreasing
    assert table["certified_accuracy"].iloc[-1] == pytest.approx(proved.mean(), abs=1e-6)


def test_what_trains_nothing_has_a_history_without_epochs(study: Path) -> None:
    folder = study / "plots" / "training" / "digits"
    assert not (folder / f"{KEYS['mixing']}.csv").read_text().strip()
    assert len(pd.read_csv(folder / f"{KEYS['faal']}.csv")) == 2
    assert (
        len(pd.read_csv(folder / f"{KEYS['gaussian']}.csv").filter(like="certified").columns) == 1
    )
