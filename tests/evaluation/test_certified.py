"""Certified accuracy by radius, the gap to RA, and an attack that breaks a proof."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluation.test_summary import EPSILON, evaluated
from tradeoff.certificates.ledger import Certificate, save_certificates
from tradeoff.evaluation.certified import BrokenProof, certified_table
from tradeoff.evaluation.metrics import under_both_suites
from tradeoff.evaluation.summary import CellLedgers


def with_certificates(
    folder: Path, shares: list[float], certain: bool, monkeypatch: pytest.MonkeyPatch
) -> CellLedgers:
    """A cell of which images are proved up to shares of epsilon, all with the right class."""
    monkeypatch.chdir(folder)
    ledgers = evaluated()
    labels = torch.from_numpy(ledgers.bounded["labels"].astype(np.int64))
    radius = torch.tensor(shares, dtype=torch.float64) * EPSILON
    path = ledgers.cell.certificates
    path.parent.mkdir(parents=True)
    save_certificates(Certificate(labels, radius), labels, {"certain": certain}, path)
    return ledgers


def robust() -> list[float]:
    """1 where no attack of the made-up suites succeeds, else 0."""
    ledgers = evaluated()
    return under_both_suites(ledgers.bounded, ledgers.autoattack)[1].astype(float).tolist()


def test_the_gap_is_what_attacks_left_and_nothing_proves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = robust()
    shares = [0.6 if number == left.index(1.0) else value for number, value in enumerate(left)]
    table = certified_table([with_certificates(tmp_path, shares, True, monkeypatch)])
    at = table.set_index("epsilon")
    share = sum(left) / len(left)
    assert at.loc[0.5 * EPSILON, "certified_accuracy"] == pytest.approx(share)
    assert at.loc[EPSILON, "certified_accuracy"] == pytest.approx(share - 1 / len(left))
    assert at.loc[EPSILON, "gap"] == pytest.approx(1 / len(left))
    assert at["gap"].drop(EPSILON).isna().all()


def test_an_attack_that_breaks_a_proof_is_an_error_that_names_cell_and_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = robust().index(0.0)
    ledgers = with_certificates(tmp_path, [1.0] * len(robust()), True, monkeypatch)
    with pytest.raises(BrokenProof, match=rf"{ledgers.cell.key}.* proves test images {broken}\b"):
        certified_table([ledgers])


def test_a_proof_of_another_function_than_the_attacked_one_may_exceed_its_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = certified_table(
        [with_certificates(tmp_path, [1.0] * len(robust()), False, monkeypatch)]
    )
    assert table["gap"].dropna().item() < 0
