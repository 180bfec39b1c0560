"""A worker process: reads a job, then tasks, and writes what comes of them.

It imports neither the caller's script nor anything that the caller has not sent by name, so that a script needs no
`if __name__ == "__main__":`. Messages are pickles after their length, between a process and those that it started.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any, NoReturn

LENGTH = 8  # bytes of a message's length


@dataclass(frozen=True)
class Ended:
    """The last message about a worker: its exit code, or minus the signal that killed it."""

    code: int


def write(stream: IO[bytes], message: Any) -> None:
    """Send one message."""
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(len(data).to_bytes(LENGTH, "big"))
    stream.write(data)
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """Receive one message.

    Raises:
        EOFError: the other side has ended, in the middle of a message perhaps.
    """
    return pickle.loads(_exactly(stream, int.from_bytes(_exactly(stream, LENGTH), "big")))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main(modules: Sequence[str], sockets: Sequence[int]) -> None:
    """Import these modules, then answer tasks until the caller ends.

    Args:
        sockets: descriptors, each a connection to the caller; a process is forked for each when all is imported, so
            that the modules are read once and their memory is shared. None of them: standard input and output, in this
            process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    gc.disable()
    for name in modules:
        import_module(name)
    gc.freeze()  # modules stay: no collection need walk through them, nor copy the pages they share
    gc.enable()
    tasks, replies = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed here is no message
    if sockets:
        _lead(sockets)
    else:
        _serve(tasks, replies)


def _lead(sockets: Sequence[int]) -> None:
    """Fork a worker for each, say how it ended, and end with the last of them; on SIGTERM, end them all."""
    workers: dict[int, int] = {}
    try:
        for socket in sockets:
            pid = os.fork()
            if not pid:
                _forked(socket, sockets)
            workers[pid] = socket
        while workers:
            pid, status = os.wait()
            with os.fdopen(workers.pop(pid), "wb") as stream, suppress(OSError):  # the caller has ended as well
                write(stream, Ended(os.waitstatus_to_exitcode(status)))
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        for pid in workers:
            os.waitpid(pid, 0)


def _forked(socket: int, sockets: Sequence[int]) -> NoReturn:
    """The life of a worker. It never returns to what its leader was doing."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for other in sockets:
            if other != socket:
                with suppress(OSError):  # of a worker that has ended already
                    os.close(other)
        _serve(os.fdopen(os.dup(socket), "rb"), os.fdopen(socket, "wb"))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _serve(tasks: IO[bytes], replies: IO[bytes]) -> None:
    """Answer tasks until there are no more; the first reply is this process, when its job has begun."""
    try:
        answer = read(tasks).start()
        write(replies, os.getpid())
        while True:
            try:
                value, error = answer(read(tasks)), None
            except EOFError:
                raise
            except Exception as raised:
                value, error = None, raised
            write(replies, (value, error))
    except EOFError:  # the caller has ended
        pass
