"""Runs stages/train.py, unchanged, until its first step is done, and prints when that was."""

import runpy
import sys
import time
from pathlib import Path
from typing import Any

STAGES = Path(__file__).resolve().parents[1] / "stages"


def main() -> None:
    sys.path.insert(0, str(STAGES))
    sys.argv[0] = str(STAGES / "train.py")
    import _environment  # noqa: F401 (chooses the arithmetic that the stage named by argv needs)

    from tradeoff.running.progress import Progress

    def stop(*_: Any) -> None:
        print(f"first step at {time.time()}", flush=True)
        sys.exit()

    Progress.training = stop  # type: ignore[method-assign]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
