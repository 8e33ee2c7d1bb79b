"""A process with the slow imports behind it, which forks to run a stage.

Importing torch takes two seconds, a stage of a small cell hardly more. A stage whose environment
names this server's socket (TRADEOFF_WARM) asks it to run in its place: the server forks, the child
takes over folder, arguments, environment and standard streams and runs the stage's script, and the
stage that asked exits with the child's status. Only libraries are imported beforehand, none of
this package, so that the child runs the code of its own folder as it is now.

Run as a module it serves until it is told to stop: python -m tradeoff.running.warm SOCKET PARENT
"""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tradeoff.core.arithmetic import SWITCHES

VARIABLE = "TRADEOFF_WARM"
PATIENCE = 2.0  # seconds between two looks at who started the server
HEARING = 1.0  # seconds until a signal is heard that came the moment before waiting began
LIBRARIES = (
    "torch",
    "torch.optim.swa_utils",
    "torch._dynamo",  # an optimizer imports it when it is made
    "numpy",
    "pandas",
    "pydantic.main",  # pydantic itself imports what it offers when it is asked for
    "ruamel.yaml",
    "safetensors.torch",
    "tqdm",
)


@contextlib.contextmanager
def warm() -> Iterator[dict[str, str]]:
    """A server for as long as the context lasts; yields what a stage's environment needs."""
    with tempfile.TemporaryDirectory(prefix="tradeoff-") as folder:
        path = str(Path(folder, "warm"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tradeoff.running.warm", path, str(os.getpid())],
            # Read when NumPy is loaded; what torch reads later a child sets as its stage needs it.
            env={**os.environ, **SWITCHES},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it listens
            yield {VARIABLE: path}
        finally:
            process.terminate()
            process.wait()


def serve(path: str, parent: int) -> None:
    """Accept stages on a Unix socket and fork for each; children are not waited for here.

    Args:
        parent: who started this; without it there is nobody to ask.
    """
    for name in LIBRARIES:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
            print("ready", flush=True)
        listening.settimeout(PATIENCE)
        while os.getppid() == parent:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            connection.setblocking(True)
            if os.fork() == 0:
                listening.close()
                _child(connection)
            connection.close()
        Path(path).unlink()
        with contextlib.suppress(OSError):  # others' files may be there
            Path(path).parent.rmdir()


def _child(connection: socket.socket) -> None:
    """Run the stage that is asked for, tell its exit status, and end."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()  # a signal to the server's group is not meant for its stages
        size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
        first, streams, _, _ = socket.recv_fds(connection, size, 3)
        message = first + connection.recv(size - len(first), socket.MSG_WAITALL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        threading.Thread(target=_follow, args=(connection,), daemon=True).start()
        connection.sendall(os.getpid().to_bytes(4, "big"))
        status = _run(json.loads(message))
        connection.sendall(status.to_bytes(4, "big"))
    finally:
        os._exit(status)


def _follow(connection: socket.socket) -> None:
    """End with the stage that asked, should it be killed: then nobody hears the result."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _run(asked: dict[str, Any]) -> int:
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    sys.path[:] = asked["path"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def ask(path: str) -> int | None:
    """Have the server at `path` run this very script; its exit status, or None without a server.

    Signals to this process go on to the child.
    """
    connection = socket.socket(socket.AF_UNIX)
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    message = json.dumps(
        {
            "folder": os.getcwd(),
            "environment": environment,
            "arguments": sys.argv,
            "path": sys.path,
        }
    ).encode()
    try:
        connection.connect(path)
        connection.sendall(len(message).to_bytes(4, "big"))
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        child = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    except OSError:
        return None
    if child == 0:
        return None

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    # Python runs a handler between its own steps: without an end to the waiting, a signal between
    # the last step and the system's call would be forwarded when the stage has ended.
    connection.settimeout(HEARING)
    while True:
        with contextlib.suppress(TimeoutError):
            answer = connection.recv(4)
            return int.from_bytes(answer, "big") if len(answer) == 4 else 1


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
