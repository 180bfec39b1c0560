"""Processes of this machine.

Each says over a connection of its own what came of its task: when one is killed, it is known which task it had, and the
others go on. (The standard library's pool would give up all tasks under way, and would import the caller's script again
in every process.)
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from trm_verify.verification.executors import worker as messages
from trm_verify.verification.executors.base import Job, Reply

# The parent's path, since its current directory and environment need not show where the package is.
BOOT = (
    "import pickle, sys; n = int.from_bytes(sys.stdin.buffer.read(8), 'big'); "
    "sys.path[:], modules, sockets = pickle.loads(sys.stdin.buffer.read(n)); "
    "from trm_verify.verification.executors.worker import main; main(modules, sockets)"
)
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # a core each
FORKS = sys.platform == "linux"  # elsewhere, system libraries may not survive it
PATIENCE = 10.0  # seconds for a process that has closed its connection to end


class Processes:
    """Processes of this machine; they start at once, and import what they need while the caller prepares their job.

    On Linux one process imports it, and the workers are forked from that one: a fresh process without threads.

    Args:
        workers: how many; None for as many as there are cores.
        modules: what is to be imported at once. Nothing else is imported before the job asks for it.
    """

    def __init__(self, workers: int | None = None, modules: Sequence[str] = ()) -> None:
        from trm_verify.verification.executors import cores

        self._modules = tuple(modules)
        self._replies: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self._job: Job | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._processes = self._start(cores() if workers is None else workers)

    def _start(self, count: int) -> list[_Process]:
        """So many new processes."""
        return self._fork(count) if FORKS else [self._spawn() for _ in range(count)]

    def _fork(self, count: int) -> list[_Process]:
        pairs = [socket.socketpair() for _ in range(count)]
        theirs = [other.fileno() for _, other in pairs]
        leader = self._boot(theirs, pass_fds=theirs)
        for _, other in pairs:
            other.close()
        return [_Process(self._replies, leader, own.makefile("rb"), own.makefile("wb"), own) for own, _ in pairs]

    def _spawn(self) -> _Process:
        child = self._boot([], stdout=subprocess.PIPE)
        return _Process(self._replies, child, child.stdout, child.stdin)  # type: ignore[arg-type]

    def _boot(self, sockets: Sequence[int], **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", BOOT]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **ONE_THREAD}, **options)
        self._started.append(child)
        with suppress(BrokenPipeError):  # it has ended, which `collect` finds out
            messages.write(child.stdin, (sys.path, self._modules, sockets))  # type: ignore[arg-type]
        return child

    @property
    def pids(self) -> list[int | None]:
        """The process of each worker, None before it has begun its job."""
        return [process.pid for process in self._processes]

    def start(self, job: Job) -> int:
        """Send the job, once to each."""
        self._job = job
        for process in self._processes:
            process.send(job)
        return len(self._processes)

    def submit(self, worker: int, task: Any) -> None:
        """Send a task."""
        self._processes[worker].send(task)

    def collect(self) -> Reply:
        """The next answer; a process that has ended is replaced."""
        while True:
            process, message = self._replies.get()
            if process not in self._processes:
                continue  # the end of one that was replaced
            if isinstance(message, int):
                process.pid = message
                continue
            worker = self._processes.index(process)
            if message is not None:
                value, error = message
                return Reply(worker, value, error)
            if process.pid is None:
                raise RuntimeError(
                    f"expected worker processes to start, found that one ended at once ({process.ending()}); "
                    "see the lines above on stderr, or use workers=1"
                )
            (self._processes[worker],) = self._start(1)
            self._processes[worker].send(self._job)
            process.close()
            return Reply(worker, lost=f"a worker process ended ({process.ending()})")

    def close(self) -> None:
        """End them, whatever they are doing."""
        for child in self._started:
            (child.terminate if FORKS else child.kill)()  # a leader ends its workers, and then itself
        for child in self._started:
            child.wait()
            if child.stdin is not None:
                with suppress(OSError):
                    child.stdin.close()
        for process in self._processes:
            process.close()


class _Process:
    """A worker, and a thread that hands on what it says; None when it has ended.

    Attributes:
        pid: of the worker itself, None before it has begun its job.
    """

    def __init__(
        self,
        replies: queue.SimpleQueue[tuple[_Process, Any]],
        started: subprocess.Popen[bytes],
        reading: IO[bytes],
        writing: IO[bytes],
        connection: socket.socket | None = None,
    ) -> None:
        self.pid: int | None = None
        self._replies, self._started, self._connection = replies, started, connection
        self._reading, self._writing = reading, writing
        self._code: int | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Any) -> None:
        """A message to a process that has ended is lost; its end is told by `collect`."""
        with suppress(OSError):
            messages.write(self._writing, message)

    def _listen(self) -> None:
        with suppress(Exception):  # the end of what it says, or something that is no message
            while self._code is None:
                message = messages.read(self._reading)
                if isinstance(message, messages.Ended):
                    self._code = message.code
                else:
                    self._replies.put((self, message))
        self._replies.put((self, None))

    def ending(self) -> str:
        """How it ended."""
        try:
            code = self._started.wait(PATIENCE) if self._code is None else self._code
        except subprocess.TimeoutExpired:
            return "its connection broke"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """End the connection, and so the worker when it looks for its next task."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()
        for stream in (self._writing, self._reading):
            with suppress(OSError):
                stream.close()
