"""`tradeoff` and `dvc status` in the test's own process, which has loaded what they need."""

import contextlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from dvc.repo import Repo

from tradeoff import cli
from tradeoff.cluster import status


def tradeoff(
    folder: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> tuple[bool, str]:
    """Whether the command succeeds, and what it says."""
    said, terminated = io.StringIO(), signal.getsignal(signal.SIGTERM)
    code: Any = None
    status.digest.cache_clear()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["tradeoff", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        finally:
            signal.signal(signal.SIGTERM, terminated)
    return code in (0, None), said.getvalue() + (code if isinstance(code, str) else "")


def up_to_date(folder: Path, *targets: str) -> bool:
    """As `dvc status` says it."""
    with contextlib.chdir(folder), Repo() as repo:
        return not repo.status(list(targets) or None)
