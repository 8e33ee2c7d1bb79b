"""Imported first by every stage: it finds this checkout's package and checks params.yaml.

The package is taken from beside the stages and not from an installation, so that in another
worktree, or in the copy in which `dvc exp run --queue` works, a stage runs that tree's code.
This file and src/tradeoff/running decide no result, so they are no dependencies of the stages.
"""

import sys
from pathlib import Path

__all__ = ["run"]

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

from tradeoff.running.stage import prepare, run  # noqa: E402

if Path(sys.argv[0]).resolve().parent == HERE and not {"-h", "--help"} & set(sys.argv):
    prepare()
