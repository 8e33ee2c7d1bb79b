"""Whether two versions of a result are the same, apart from the time that it took."""

import csv
import json

TIMES = "seconds"  # a column of tables, a key of metrics: never the same twice


def same_but_for_times(name: str, now: str, then: str) -> bool:
    """Compare the contents of a CSV or JSON file; of other files nothing may differ."""
    if name.endswith(".json"):
        return _without_key(now) == _without_key(then)
    if name.endswith(".csv"):
        return _without_column(now) == _without_column(then)
    return now == then


def _without_key(text: str) -> dict[str, object]:
    return {key: value for key, value in json.loads(text).items() if key != TIMES}


def _without_column(text: str) -> list[dict[str, str]]:
    rows = csv.DictReader(text.splitlines())
    return [{key: value for key, value in row.items() if key != TIMES} for row in rows]
