"""Faults of the machine become messages that say what to do."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tradeoff.core.files import write_json
from tradeoff.running.failures import StageFailed, explain, in_words
from tradeoff.running.stage import prepare

ATTACK = "attack@trades-resnet18-digits-0-minimal"
TRAIN = "train@trades-resnet18-digits-0"


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        (TRAIN, "train.micro_batch"),
        (ATTACK, "suites.minimal.batch_size"),
        ("transfer@digits", "transfer.batch_size"),
        ("x@y", "TRADEOFF_"),
    ],
)
def test_a_full_gpu_names_the_setting_to_change(stage: str, setting: str) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(StageFailed, match=setting), in_words(stage):
        raise error


@pytest.mark.parametrize(
    "text",
    ["CUDA error: unspecified launch failure\nCompile with ...", "cuDNN error: EXECUTION_FAILED"],
)
def test_a_lost_gpu_is_told_with_the_way_on(text: str) -> None:
    message = explain(RuntimeError(text), TRAIN)
    assert message is not None
    assert text.splitlines()[0] in message
    assert "Compile with" not in message
    assert "last checkpoint" in message


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/x"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed"),
    ],
)
def test_a_full_disk_is_told_however_a_library_puts_it(error: Exception) -> None:
    message = explain(error, TRAIN)
    assert message is not None and "the disk is full" in message


def test_who_reads_only_the_first_line_of_a_command_sees_no_traceback() -> None:
    command = [sys.executable, "-m", "tradeoff", "doctor"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("ok  Python")
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_folder_that_is_closed_to_writing_is_named() -> None:
    message = explain(OSError(errno.EROFS, os.strerror(errno.EROFS), "checkpoints/state"), TRAIN)
    assert message is not None
    assert message.startswith("checkpoints/state: Read-only file system; run it in a folder that")


def test_a_link_in_the_place_of_results_is_told_before_the_stages_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC would say it after the work, and keep nothing."""
    (tmp_path / "models").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "cell"])
    with pytest.raises(SystemExit, match=r"train\.py cell: models is a link, .* cache dir FOLDER"):
        prepare()


def test_a_file_that_may_not_be_read_is_no_matter_of_where_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """root may read everything: what the system says of others is told to `explain`."""
    path = tmp_path / "images.npz"
    path.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    message = explain(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)), "")
    assert message == (
        f"{path}: Permission denied; it cannot be read: give yourself the right to read it"
    )


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("x"), KeyError("y")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), in_words(TRAIN):
        raise error


def test_a_file_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json({"NA": 0.5}, path)
    before = path.read_bytes()
    code = (
        "import sys; from pathlib import Path; from tradeoff.core.files import write_json\n"
        "write_json({'NA': 'x' * 100000}, Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "File too large" in done.stderr
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
