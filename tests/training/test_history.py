"""A row of the history: means over steps and images, by hand."""

import csv
import math
from pathlib import Path

import pytest
import torch

from tradeoff.training.contract import Loss
from tradeoff.training.history import EpochRecord, write_history


def record(losses: list[Loss], labels: list[list[int]]) -> EpochRecord:
    kept = EpochRecord(3, torch.device("cpu"))
    for loss, target in zip(losses, labels, strict=True):
        kept.add(loss, torch.tensor(target))
    return kept


def test_parts_and_class_values_are_means_over_steps() -> None:
    row = record(
        [
            Loss(torch.tensor(1.0), {"ce": torch.tensor(0.5)}, classes={"w": torch.arange(3.0)}),
            Loss(torch.tensor(2.0), {"ce": torch.tensor(1.5)}, classes={"w": torch.ones(3)}),
        ],
        [[0, 1], [2]],
    ).row()
    assert row == {
        "loss": 1.5,
        "loss_ce": 1.0,
        "class_w_0": 0.5,
        "class_w_1": 1.0,
        "class_w_2": 1.5,
    }


def test_numbers_per_image_give_mean_deviation_and_class_means_over_images() -> None:
    row = record(
        [
            Loss(torch.tensor(0.0), samples={"lambda": torch.tensor([1.0, 2.0, 6.0])}),
            Loss(torch.tensor(0.0), samples={"lambda": torch.tensor([3.0])}),
        ],
        [[0, 0, 1], [1]],
    ).row()
    assert row["lambda_mean"] == pytest.approx(3.0)
    assert row["lambda_std"] == pytest.approx(math.sqrt((4 + 1 + 9 + 0) / 4))
    assert [row[f"lambda_{label}"] for label in range(3)] == pytest.approx([1.5, 4.5, 0.0])
    assert [row[f"lambda_q{percent}"] for percent in (10, 50, 90)] == [1.0, 3.0, 6.0]


def test_a_step_in_parts_counts_once() -> None:
    kept = EpochRecord(3, torch.device("cpu"))
    for value, share, last in ((1.0, 0.25, False), (5.0, 0.75, True), (2.0, 1.0, True)):
        kept.add(Loss(torch.tensor(value)), torch.tensor([0]), share, last)
    assert kept.row()["loss"] == pytest.approx((0.25 * 1 + 0.75 * 5 + 2) / 2)


def test_sums_of_bfloat16_are_in_float32() -> None:
    """In bfloat16, 256 + 1 is 256."""
    step = Loss(
        torch.tensor(1.0).bfloat16(),
        {"ce": torch.tensor(1.0).bfloat16()},
        classes={"w": torch.ones(3).bfloat16()},
    )
    row = record([step] * 300, [[0]] * 300).row()
    assert set(row.values()) == {1.0}


def test_the_first_bad_step_is_remembered() -> None:
    def losses(*values: float) -> list[Loss]:
        return [Loss(torch.tensor(value)) for value in values]

    labels = [[0]] * 4
    assert record(losses(1, 2, 3, 4), labels).first_bad_step() is None
    assert record(losses(1, 2, math.nan, 4), labels).first_bad_step() == 2
    assert record(losses(math.inf, 2, math.nan, 4), labels).first_bad_step() == 0


def test_a_row_does_not_keep_the_graph() -> None:
    weight = torch.ones(1, requires_grad=True)
    kept = record([Loss((weight * 2).sum())], [[0]])
    assert not any(value.requires_grad for value in kept._sums.values())


def test_the_file_has_all_columns_and_empty_cells_where_an_epoch_lacks_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "folder" / "history.csv"
    write_history([{"epoch": 1.0, "loss": 0.123456789}, {"epoch": 2.0, "class_w_0": 1 / 3}], file)
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"epoch": "1", "loss": "0.123457", "class_w_0": ""},
        {"epoch": "2", "loss": "", "class_w_0": "0.333333"},
    ]


def test_what_is_never_the_same_twice_is_not_in_the_file(tmp_path: Path) -> None:
    files = []
    for seconds in (1.0, 2.0):
        files.append(tmp_path / f"{seconds}.csv")
        write_history([{"epoch": 1.0, "seconds": seconds, "peak_memory_mib": seconds}], files[-1])
    assert files[0].read_bytes() == files[1].read_bytes() == b"epoch\n1\n"
