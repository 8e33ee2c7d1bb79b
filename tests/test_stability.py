"""The study on stability: its pairs of digits, its arms, its rates and what is not done twice."""

import argparse
import csv
import math
import sys
from pathlib import Path

import pytest
import torch

from tradeoff.datasets import digit_pairs, digits
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


def test_an_arm_trains_as_the_digits_do_but_for_what_it_varies(stability) -> None:
    plan = stability.plan_of(stability.Arm.parse("dtrades-3-16-0.01"), seed=2, epochs=4)
    settings = plan.settings
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (4, 16, 0.01)
    assert plan.knobs.alpha == pytest.approx(3 / math.log(100)) and plan.seed == 2


def test_a_model_that_is_in_the_table_is_not_trained_again(
    stability, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def run(arm, seed, epochs, data):
        trained.append(seed)
        masked = seed == 1
        rows = [{"arm": str(arm), "seed": seed, "epoch": epoch} for epoch in (1, 2)]
        rows[-1]["masked"] = masked
        return rows, masked

    monkeypatch.setattr(stability, "run", run)
    out = tmp_path / "table.csv"
    for seeds in ("2", "3"):
        monkeypatch.setattr(
            sys, "argv", ["", "--seeds", seeds, "--arms", "at-1-16-0.01", "--out", str(out)]
        )
        stability.main()
    assert trained == [0, 1, 2]
    assert len(list(csv.DictReader(out.open()))) == 6
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "at-1-16-0.01: 1 of 3 masked, 95 % interval 0.01 to 0.91"
