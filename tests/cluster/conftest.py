"""Toy repositories for tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from real import Done, do_once
from toys import SMALL, Toy


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Toy]:
    """Makes a toy repository: toy({"train": ("", "time.sleep(1)")}, seeds=[0])."""

    def make(stages: dict[str, tuple[str, str]] | None = None, **axes: object) -> Toy:
        folder = tmp_path / "toy"
        folder.mkdir()
        return Toy(folder).build(stages or {}, **axes)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A toy with everything done, and committed; tests work on copies."""
    study = Toy(tmp_path_factory.mktemp("finished")).build({}, **SMALL)
    study.run("dvc", "repro")
    study.commit()
    return study


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small study of real stages, done once; tests work on copies."""
    return do_once(tmp_path_factory.mktemp("done"))
