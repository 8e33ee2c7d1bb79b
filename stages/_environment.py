"""Imported first by every stage: this checkout's package, and messages instead of tracebacks.

The package is taken from beside the stages and not from an installation, so that in another
worktree, or in the copy in which `dvc exp run --queue` works, a stage runs that tree's code.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def run(main: Callable[..., None], description: str, **arguments: str) -> None:
    """Call `main` with the command line's positional arguments, named and described here.

    An error that the user can mend is printed as a message, without a traceback, and the stage
    fails with status 1.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, text in arguments.items():
        parser.add_argument(name, help=text)
    given = vars(parser.parse_args())
    from tradeoff.core import state  # of this checkout, found only now

    name = f"{Path(sys.argv[0]).stem}@{'-'.join(given.values())}"
    try:
        with state.recorded(name):
            main(**given)
    except Exception as error:
        if type(error).__module__.startswith("tradeoff."):
            sys.exit(f"{Path(sys.argv[0]).name} {' '.join(given.values())}: {error}")
        raise
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: interrupted")
