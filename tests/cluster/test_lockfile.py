"""dvc.lock as blocks of text: what they say is what DVC has written."""

from pathlib import Path

import pytest
from dvc.utils.serialize import dump_yaml

from tradeoff.cluster import lockfile

CELL = "dtrades_differentiable-resnet18-cifar10-0"
STAGE = f"attack@{CELL}-autoattack"
LEDGER = f"ledgers/cifar10/{CELL}-autoattack.npz"  # so long that DVC folds the line
MODELS = "models/cifar10/a: b #c"  # which DVC quotes, as it does digits without a letter
OUTPUTS = {LEDGER: "0123456789abcdef" * 2, MODELS: "12345678901234567890123456789012"}


def written(folder: Path, *outs: dict[str, object]) -> str:
    """The entry of a stage with these outputs, as DVC writes it."""
    script = f"python stages/attack.py {CELL} autoattack"
    entry = {"cmd": script, "deps": [{"path": "src", "md5": "0", "size": 1}], "outs": list(outs)}
    dump_yaml(str(folder / lockfile.FILE), {"schema": "2.0", "stages": {STAGE: entry}})
    return lockfile.read(folder)[STAGE]


def test_outputs_with_long_and_odd_names_have_their_checksums(tmp_path: Path) -> None:
    outs = [{"path": p, "hash": "md5", "md5": md5, "size": 3} for p, md5 in OUTPUTS.items()]
    block = written(tmp_path, *outs)
    assert f"path: {LEDGER}" not in block, "it is not folded: the test shows nothing"
    assert lockfile.sums(block) == OUTPUTS


def test_an_output_without_a_checksum_is_no_output_less(tmp_path: Path) -> None:
    block = written(tmp_path, {"path": "a", "md5": "0", "size": 1}, {"path": "b", "size": 1})
    with pytest.raises(lockfile.DamagedLock, match=STAGE):
        lockfile.sums(block)
