"""The study on stability: its pairs of digits, its arms, its rates and what is not done twice."""

import argparse
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tradeoff.datasets import digit_pairs, digits
from tradeoff.datasets.published import PublishedData
from tradeoff.networks import arithmetic

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def stability():
    """The script, with torch's arithmetic as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "switch", lambda kind: None)
        patch.syspath_prepend(ROOT / "studies")
        import stability

        yield stability


def test_pairs_are_two_scans_of_the_digits_that_the_class_names(tmp_path: Path) -> None:
    pairs, scans = digit_pairs.read(tmp_path), digits.read(tmp_path)
    assert pairs.images.shape == (6000, 1, 8, 16) and len(pairs.classes) == 100
    assert torch.bincount(pairs.labels).tolist() == [60] * 100
    known = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(scans.images, scans.labels, strict=True)
    }
    for image, label in zip(pairs.images[::97], pairs.labels[::97], strict=True):
        halves = [known[half.contiguous().numpy().tobytes()] for half in image.split(8, dim=2)]
        assert pairs.classes[label] == "".join(map(str, halves))
    assert torch.equal(pairs.images, digit_pairs.read(tmp_path).images)


def test_what_is_no_arm_is_told(stability) -> None:
    assert str(stability.Arm.parse("dtrades-3-16-0.01")) == "dtrades-3-16-0.01"
    for text in ("trades-3-16", "trades-x-16-0.01", "mart-3-16-0.01"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no arm; one is NAME-"):
            stability.Arm.parse(text)


def test_an_arm_trains_as_its_images_do_but_for_what_it_varies(stability) -> None:
    arm = stability.Arm.parse("dtrades-3-16-0.01")
    for name, classes in (("pairs", 100), ("mnist_5k", 10)):
        setting = stability.SETTINGS[name]
        plan = stability.plan_of(setting, arm, seed=2, epochs=4, classes=classes)
        settings = plan.settings
        assert (settings.epochs, settings.batch_size, settings.learning_rate) == (4, 16, 0.01)
        assert plan.knobs.alpha == pytest.approx(3 / math.log(classes)) and plan.seed == 2
        assert plan.threat.epsilon == setting.epsilon
        assert all(stability.Arm.parse(text) for text in setting.arms)


def test_a_network_of_an_arm_is_judged_and_its_epochs_are_told(
    stability, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = stability.SETTINGS["pairs"]
    small = replace(setting, read=lambda _: some_of(setting.read(Path())))
    monkeypatch.setitem(stability.SETTINGS, "pairs", small)
    monkeypatch.setattr(stability, "HELD_OUT", (100, 100))
    monkeypatch.setattr(stability.torch, "set_num_threads", lambda _: None)
    one, two = stability.run("pairs", stability.Arm.parse("shuffled-3-64-0.01"), 0, epochs=2)
    assert (one["epoch"], two["epoch"]) == (1, 2) and one["lambda_q50"] > 0
    gap = two["last_pgd"] - two["last_strongest"]
    assert two["masked"] == (gap > stability.MASKED) and 0 <= gap <= two["last_natural"]


def some_of(pairs: PublishedData) -> PublishedData:
    """Three of each class."""
    kept = torch.arange(len(pairs.labels)) % digit_pairs.PER_CLASS < 3
    return replace(pairs, images=pairs.images[kept], labels=pairs.labels[kept])


def test_rates_have_their_interval_and_their_test_against_the_first_arm(stability) -> None:
    masked = {"trades-6-64-0.002": [False] * 5, "dtrades-6-64-0.002": [True] * 4 + [False]}
    networks = pd.DataFrame(
        [(arm, value) for arm, values in masked.items() for value in values],
        columns=["arm", "masked"],
    )
    assert stability.rates(networks, list(masked)) == [
        "trades-6-64-0.002: 0 of 5 masked, 95 % interval 0.00 to 0.52",
        "dtrades-6-64-0.002: 4 of 5 masked, 95 % interval 0.28 to 0.99; "
        "against trades-6-64-0.002 p = 0.05",
    ]


def test_the_docs_tell_the_rates_of_the_committed_networks(stability) -> None:
    networks = stability.networks_of(ROOT / "reports" / "stability" / "mnist_5k.csv")
    told = (ROOT / "docs" / "training.md").read_text("utf-8")
    for arm in networks.arm.unique():
        (sentence,) = stability.rates(networks, [arm])
        assert sentence in told


def test_a_network_that_is_in_the_table_is_not_trained_again(
    stability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def run(images, arm, seed, epochs):
        trained.append(seed)
        rows = [{"arm": str(arm), "seed": seed, "epoch": epoch} for epoch in (1, 2)]
        rows[-1]["masked"] = seed == 1
        return rows

    monkeypatch.setattr(stability, "run", run)
    monkeypatch.setattr(stability, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    out = tmp_path / "table.csv"
    for seeds in ("2", "3"):
        monkeypatch.setattr(
            sys,
            "argv",
            ["", "pairs", "--seeds", seeds, "--arms", "at-1-16-0.01", "--out", str(out)],
        )
        stability.main()
    assert trained == [0, 1, 2]
    assert list(pd.read_csv(out)["epoch"]) == [1, 2] * 3
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "at-1-16-0.01: 1 of 3 masked, 95 % interval 0.01 to 0.91"
