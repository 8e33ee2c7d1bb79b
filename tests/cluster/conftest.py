"""A toy repository for a test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Toy]:
    """Makes a toy repository: toy({"train": ("", "time.sleep(1)")}, seeds=[0])."""

    def make(stages: dict[str, tuple[str, str]] | None = None, **axes: object) -> Toy:
        folder = tmp_path / "toy"
        folder.mkdir()
        return Toy(folder).build(stages or {}, **axes)

    return make
