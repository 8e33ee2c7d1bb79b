"""`tradeoff reproduce --ray ADDRESS` on a cluster of two nodes, both of them on this machine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import Toy

ray = pytest.importorskip("ray")
if not os.environ.get("TRADEOFF_SLOW"):
    pytest.skip("takes minutes; TRADEOFF_SLOW=1 runs it", allow_module_level=True)

# Says that it has begun and which GPU it was given, and waits until so many have.
MEETING = """
    if names[0] != "digits":
        log, end = Path(os.environ["WITNESS"]), time.time() + 60
        (log / names[0]).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        while len(list(log.iterdir())) < int(os.environ["MEET"]):
            assert time.time() < end, "waited in vain"
            time.sleep(0.1)
        time.sleep(1)
"""


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "witness"
    folder.mkdir()
    monkeypatch.setenv("WITNESS", str(folder))
    return folder


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    nodes = Cluster(shutdown_at_exit=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def test_a_lost_node_costs_no_cell(
    cluster: Any,
    witness: Path,
    toy: Callable[..., Toy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is taken away while both nodes train a cell."""
    study = toy({"train": ("", MEETING)}, defenses=["at", "trades"], seeds=[0])
    alone = study.copy(tmp_path / "alone")
    alone.run("dvc", "repro", MEET="0")
    for path in witness.iterdir():
        path.unlink()
    monkeypatch.setenv("MEET", "3")  # the third is the one who takes the node away
    cluster.add_node(num_cpus=1)
    second = cluster.add_node(num_cpus=1)

    def lose() -> None:
        while len(list(witness.iterdir())) < 2:
            time.sleep(0.1)
        cluster.remove_node(second, allow_graceful=False)
        (witness / "lost").write_text("")

    threading.Thread(target=lose, daemon=True).start()
    said = study.tradeoff("reproduce", "--ray", cluster.address)
    assert "its worker died" in said
    assert study.results() == alone.results()


def test_cells_share_the_gpus_of_their_node(
    cluster: Any, witness: Path, toy: Callable[..., Toy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray takes our word for the GPUs; all four cells meet, two on each."""
    monkeypatch.setenv("MEET", "4")
    cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.add_node(num_cpus=1, num_gpus=1)
    study = toy({"train": ("", MEETING)}, defenses=["at", "trades"], seeds=[0, 1])
    study.tradeoff("reproduce", "--ray", cluster.address, "--per-gpu", "2")
    assert [path.read_text() for path in witness.iterdir()] == ["0"] * 4
