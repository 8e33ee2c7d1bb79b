"""Two versions of a result: the time that it took may differ, nothing else."""

import pytest

from tradeoff.cluster.compare import same_but_for_times

TABLE = "epoch,loss,seconds,selected\n1,0.5,3.1,0\n2,0.25,3.2,1\n"


@pytest.mark.parametrize(
    ("name", "now", "then", "same"),
    [
        ("a.csv", TABLE, TABLE.replace("3.1", "9.9"), True),
        ("a.csv", TABLE, TABLE.replace("0.25", "0.26"), False),
        ("a.csv", TABLE, TABLE + "3,0.1,3.3,0\n", False),
        ("a.csv", TABLE, TABLE.replace("loss", "lost"), False),
        ("a.json", '{"RA": 0.5, "seconds": 1}', '{"RA": 0.5, "seconds": 2}', True),
        ("a.json", '{"RA": 0.5, "seconds": 1}', '{"RA": 0.6, "seconds": 1}', False),
        ("a.txt", "seconds", "minutes", False),
    ],
)
def test_only_seconds_may_differ(name: str, now: str, then: str, same: bool) -> None:
    assert same_but_for_times(name, now, then) is same
