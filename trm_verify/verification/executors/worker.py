"""A worker process: reads a job, then tasks, from its standard input, and writes what comes of them to its output.

It imports neither the caller's script nor anything that the caller has not sent by name, so that a script needs no
`if __name__ == "__main__":`. Messages are pickles after their length, between a parent and its own child.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import IO, Any

LENGTH = 8  # bytes of a message's length


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


def main(modules: Sequence[str]) -> None:
    """Import these modules, then answer tasks until the standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which ends its workers
    gc.disable()
    for name in modules:
        import_module(name)
    gc.freeze()  # modules stay: no collection need walk through them
    gc.enable()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed here is no message
    tasks = sys.stdin.buffer
    try:
        answer = read(tasks).start()
        write(replies, "ready")
        while True:
            try:
                value, error = answer(read(tasks)), None
            except EOFError:
                raise
            except Exception as raised:
                value, error = None, raised
            write(replies, (value, error))
    except EOFError:  # the parent has ended
        pass
