"""List which code each stage runs, with a hash of it: the folder code, on which stages depend.

Not called as its stage: a file code.py here would hide Python's own module of that name.
"""

from pathlib import Path

import _environment

from tradeoff.core import code
from tradeoff.core.study import Study


def main() -> None:
    root = Path()
    changed = code.write(root, code.texts(root, Study.load()))
    what = ", ".join(map(str, changed)) or "nothing"
    print(f"[code] changed: {what}", flush=True)


if __name__ == "__main__":
    _environment.run(main, __doc__)
