"""What to say of a fault that no code of the study can mend: a full disk, a full or lost GPU."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file is larger than the system allows"}  # fmt: skip

CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}  # to writing, or a file to reading

# What to change where a GPU's memory does not do. Of suites and transfer no result depends on it.
MEMORY = {
    "train": "set train.micro_batch, or that of the data set, to fewer images at once",
    "attack": "lower suites.{suite}.batch_size, or that of the data set",
    "transfer": "lower transfer.batch_size",
}

GPU = re.compile(r"CUDA|cuDNN|CUBLAS|NCCL|HIP error", re.IGNORECASE)


class StageFailed(Exception):
    """A stage cannot go on; says what happened and what to do."""


@contextmanager
def in_words(stage: str) -> Iterator[None]:
    """Turn faults of the machine into messages.

    Args:
        stage: as DVC names it, such as attack@trades-resnet18-digits-0-bounded.

    Raises:
        StageFailed: in place of an error that `explain` knows.
    """
    try:
        yield
    except Exception as error:
        message = explain(error, stage)
        if message is None:
            raise
        raise StageFailed(message) from error


def explain(error: Exception, stage: str) -> str | None:
    """What happened and what to do; None if that is unknown.

    Libraries differ in how they tell a full disk: some raise an OSError, others put the system's
    number or its words into an error of their own. torch's errors are known by name, because most
    stages do without torch.
    """
    text = str(error).strip() or type(error).__name__
    number = error.errno if isinstance(error, OSError) else _number(text)
    if number in FULL:
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return (
            f"{FULL[number]}{where}. Nothing half-written is left. Make room, then run the same "
            "command again: it goes on from the last checkpoint"
        )
    if isinstance(error, OSError) and number in CLOSED and error.filename:
        return f"{error.filename}: {os.strerror(number)}; {_way_around(error.filename)}"
    if isinstance(error, MemoryError):
        return "the machine has too little memory free. Close other programs, then run it again"
    if type(error).__name__ == "OutOfMemoryError":
        return f"the GPU's memory is full: {memory_hint(stage)}. ({text.splitlines()[0]})"
    if isinstance(error, RuntimeError) and GPU.search(text):
        return (
            f"the GPU failed or was lost ({text.splitlines()[0]}). Run the same command again: it "
            "goes on from the last checkpoint. TRADEOFF_DEVICE names another device, such as cuda:1"
        )
    return None


def _way_around(path: str) -> str:
    """What to do about a path that is closed to reading, or if it is not, to writing."""
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return "it cannot be read: give yourself the right to read it"
    return "run it in a folder that you may write to"


def memory_hint(stage: str) -> str:
    """The setting that makes a stage take less of a GPU's memory."""
    name, _, rest = stage.partition("@")
    hint = MEMORY.get(name, "let no other program use the GPU, or set TRADEOFF_DEVICE=cpu")
    return hint.format(suite=rest.rpartition("-")[2])


def _number(text: str) -> int | None:
    match = re.search(r"os error (\d+)", text)  # as Rust's libraries, safetensors one, put it
    if match:
        return int(match[1])
    if "No space left on device" in text or "PytorchStreamWriter failed" in text:
        return errno.ENOSPC
    return None
