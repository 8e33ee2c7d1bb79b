"""What every stage does around its work: params checked first, one process on a cell, messages."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tradeoff.core.schema import BadParams
from tradeoff.core.settings import Arithmetic
from tradeoff.core.study import Study
from tradeoff.networks import arithmetic
from tradeoff.running import state, timings
from tradeoff.running.exclusive import exclusive
from tradeoff.running.failures import explain, in_words


def prepare() -> None:
    """Stop here if params.yaml is wrong or DVC could not keep what the stage writes, and choose
    the arithmetic, before NumPy and torch load."""
    for name in ("data", "models", "ledgers", "metrics", "plots", "reports"):
        if Path(name).is_symlink():
            sys.exit(
                f"{_command()}: {name} is a link, and DVC keeps only what lies in the clone. Put "
                "a folder in its place; for room, DVC's cache on another disk: dvc cache dir FOLDER"
            )
    try:
        arithmetic.switch(_arithmetic(Study.load(), sys.argv[1:]))
    except BadParams as error:
        sys.exit(f"{_command()}: {error}")


def _arithmetic(study: Study, arguments: list[str]) -> Arithmetic:
    """The arithmetic of the stage's data set or cell; portable for a stage of no data set."""
    name = arguments[0] if arguments else ""
    with suppress(BadParams):
        return study.cell(name).dataset.arithmetic
    with suppress(BadParams):
        return study.dataset(name).arithmetic
    return "portable"


def run(main: Callable[..., None], description: str | None, **arguments: str) -> None:
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
        with exclusive(name, _say), state.recorded(name), in_words(name), timings.timed(name):
            main(**given)
    except Exception as error:
        ours = type(error).__module__.startswith("tradeoff.")
        message = str(error) if ours else explain(error, name)
        if message is None:
            raise
        sys.exit(f"{_command()}: {message}")
    except KeyboardInterrupt as stop:
        sys.exit(f"{_command()}: {str(stop) or 'interrupted'}")


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _say(message: str) -> None:
    print(f"{_command()}: {message}", flush=True)
