"""Words for people."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Columns side by side; a row may end before the last, with a sentence of any length."""
    texts = [[str(value) for value in row] for row in (head, *rows)]
    complete = [row for row in texts if len(row) == len(head)]
    widths = [max(map(len, column)) for column in zip(*complete, strict=True)]
    lines = (map(str.ljust, row, widths) for row in texts)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def duration(seconds: float) -> str:
    """A duration as a person would say it: 40 s, 12 min, 5.5 h, 3.1 days."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            amount = seconds / unit
            return f"{amount:.0f} {name}" if unit <= 60 else f"{amount:.1f} {name}"
    return f"{seconds / 86400:.1f} days"


def memory_size(count: int) -> str:
    """A number of bytes as a person would say it: 300 kB, 45 MB, 1.3 GB."""
    for limit, unit, name in ((10**6, 10**3, "kB"), (10**9, 10**6, "MB")):
        if count < limit:
            return f"{count / unit:.0f} {name}"
    return f"{count / 10**9:.1f} GB"
