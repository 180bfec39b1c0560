"""Processes of this machine.

Each is started by itself, and says over a pipe of its own what came of its task: when one is killed, it is known which
task it had, and the others go on. (The standard library's pool would give up all tasks under way, and would import the
caller's script again in every process.)
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from trm_verify.verification.executors import worker as messages
from trm_verify.verification.executors.base import Job, Reply

# The parent's path, since its current directory and environment need not show where the package is.
BOOT = (
    "import pickle, sys; n = int.from_bytes(sys.stdin.buffer.read(8), 'big'); "
    "sys.path[:], modules = pickle.loads(sys.stdin.buffer.read(n)); "
    "from trm_verify.verification.executors.worker import main; main(modules)"
)
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # a core each


class Processes:
    """Processes of this machine; they start at once, and import what they need while the caller prepares their job.

    Args:
        workers: how many; None for as many as there are cores.
        modules: what each is to import at once. Nothing else is imported before the job asks for it.
    """

    def __init__(self, workers: int | None = None, modules: Sequence[str] = ()) -> None:
        from trm_verify.verification.executors import cores

        self._modules = tuple(modules)
        self._replies: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self._job: Job | None = None
        self._processes = [self._process() for _ in range(cores() if workers is None else workers)]

    def _process(self) -> _Process:
        return _Process(self._replies, self._modules)

    @property
    def pids(self) -> list[int]:
        """The process of each worker."""
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
            if message == "ready":
                process.ready = True
                continue
            worker = self._processes.index(process)
            if message is not None:
                value, error = message
                return Reply(worker, value, error)
            if not process.ready:
                raise RuntimeError(
                    f"expected worker processes to start, found that one ended at once ({process.ending()}); "
                    "see the lines above on stderr, or use workers=1"
                )
            self._processes[worker] = replacement = self._process()
            replacement.send(self._job)
            return Reply(worker, lost=f"a worker process ended ({process.ending()})")

    def close(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()


class _Process:
    """A process, and a thread that hands on what it says; None when it has ended."""

    def __init__(self, replies: queue.SimpleQueue[tuple[_Process, Any]], modules: Sequence[str]) -> None:
        self.ready = False
        self._replies = replies
        self._child = subprocess.Popen(
            [sys.executable, "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
        )
        self.send((sys.path, modules))
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, message: Any) -> None:
        """A message to a process that has ended is lost; its end is told by `collect`."""
        with suppress(BrokenPipeError):
            messages.write(self._child.stdin, message)  # type: ignore[arg-type]

    def _listen(self) -> None:
        try:
            while True:
                self._replies.put((self, messages.read(self._child.stdout)))  # type: ignore[arg-type]
        except Exception:  # the end of its output, or something that is no message
            self._child.kill()
            self._child.wait()
            self._replies.put((self, None))

    def ending(self) -> str:
        """How it ended."""
        code = self._child.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it, and give back what it holds."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
