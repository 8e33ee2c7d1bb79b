"""Imported first by every stage: this checkout's package, and messages instead of tracebacks.

The package is taken from beside the stages and not from an installation, so that in another
worktree, or in the copy in which `dvc exp run --queue` works, a stage runs that tree's code.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

from tradeoff.core import state  # noqa: E402
from tradeoff.core.exclusive import exclusive  # noqa: E402
from tradeoff.core.failures import in_words  # noqa: E402
from tradeoff.core.fields import BadParams  # noqa: E402
from tradeoff.core.study import Study  # noqa: E402
from tradeoff.core.warm import VARIABLE, ask  # noqa: E402


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _say(message: str) -> None:
    print(f"{_command()}: {message}", flush=True)


def check_params() -> None:
    """Stop here if params.yaml is wrong: the stage's own imports, torch first, take seconds."""
    try:
        Study.load()
    except BadParams as error:
        sys.exit(f"{_command()}: {error}")


def run(main: Callable[..., None], description: str, **arguments: str) -> None:
    """Call `main` with the command line's positional arguments, named and described here.

    An error that the user can mend is printed as a message, without a traceback, and the stage
    fails with status 1.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, text in arguments.items():
        parser.add_argument(name, help=text)
    given = vars(parser.parse_args())
    name = f"{Path(sys.argv[0]).stem}@{'-'.join(given.values())}"
    try:
        with exclusive(name, _say), state.recorded(name), in_words(name):
            main(**given)
    except Exception as error:
        if type(error).__module__.startswith("tradeoff."):
            sys.exit(f"{_command()}: {error}")
        raise
    except KeyboardInterrupt as stop:
        sys.exit(f"{_command()}: {str(stop) or 'interrupted'}")


if Path(sys.argv[0]).resolve().parent == HERE and not {"-h", "--help"} & set(sys.argv):
    check_params()
    if (server := os.environ.get(VARIABLE)) and (status := ask(server)) is not None:
        sys.exit(status)
