"""One thread per test process: faster for tiny networks, and the same bytes everywhere.

The longest tests, those of whole studies, begin first: at the end short ones fill both workers.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tradeoff.running.warm import warm

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name != "cluster")


@pytest.fixture(scope="session")
def warm_server() -> Iterator[dict[str, str]]:
    """The environment of stages that are forks of one process with torch imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "src"))
        with warm() as environment:
            patch.undo()  # it was for the server alone
            yield environment
