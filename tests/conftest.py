"""One thread per test process: faster for tiny networks, and the same bytes everywhere.

The longest tests, those of whole studies, begin first: at the end short ones fill both workers.
"""

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name != "cluster")
