"""Ctrl-C and a scheduler's SIGTERM, heard at the end of a step instead of in its middle."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Yields a question: was the process asked to stop? The second time it is asked, it stops.

    Elsewhere than in the main thread signals cannot be caught, and the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        for each in SIGNALS:
            signal.signal(each, signal.default_int_handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
