"""Writes lines to a terminal, a pipe or a file that may block for a while, or for ever.

The thread that serves traffic only appends to a bounded buffer. A second thread writes, and only that one waits for the
reader or the disk. Lines that find no room in the buffer, or that the disk refuses, are dropped and counted; the next
line that is written says how many.

A non-blocking descriptor would need no thread, but the mode belongs to the open file, which the shell and other
processes share; and files on a stalled disk block in any mode.
"""

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from tierlb.telemetry.log_quota import LogLosses

MAX_BUFFER_BYTES = 256 * 1024
"""Some two thousand lines. A pipe holds another 64 KiB."""
LONGEST_LINE_BYTES = 32 * 1024
BATCH_BYTES = 64 * 1024
FLUSH_S = 0.5
"""How long the end of the process waits for lines to be written."""


class LineWriter:
    """Writes to the descriptor `fd`, which belongs to the caller; without one everything is dropped. `notice` makes the
    line about dropped lines."""

    def __init__(self, fd: int | None, losses: LogLosses, notice: Callable[[int], str]) -> None:
        self._fd = fd
        self._losses = losses
        self._notice = notice
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._unsaid = 0
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Append one line, without its end. Never blocks and never raises."""
        data = text.encode(errors="backslashreplace")
        if len(data) > LONGEST_LINE_BYTES:
            data = data[:LONGEST_LINE_BYTES] + b"..."
        with self._changed:
            if self._fd is None or self._bytes + len(data) >= MAX_BUFFER_BYTES or not self._has_thread():
                self._drop(1)
                return
            self._lines.append(data + b"\n")
            self._bytes += len(data) + 1
            self._changed.notify_all()

    def flush(self, within_s: float = FLUSH_S) -> bool:
        """Wait until everything was written, for so long at most; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._busy, within_s)

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads for now: the next line tries again
                return False
            self._thread = thread
            atexit.register(self.flush)
        return True

    def _drop(self, lines: int) -> None:
        self._losses.dropped += lines
        self._unsaid += lines

    def _run(self) -> None:
        while True:
            lines, unsaid = self._take()
            data = b"".join(lines)
            if unsaid:
                data += self._notice(unsaid).encode(errors="backslashreplace") + b"\n"
            written = self._write_all(data)
            with self._changed:
                self._busy = False
                if not written:
                    self._drop(len(lines))
                elif unsaid:
                    self._unsaid -= unsaid
                self._changed.notify_all()

    def _take(self) -> tuple[list[bytes], int]:
        """The next lines, and how many are missing after them once the buffer is empty."""
        with self._changed:
            while not self._lines:
                self._changed.wait()
            lines, size = [], 0
            while self._lines and size < BATCH_BYTES:
                line = self._lines.popleft()
                size += len(line)
                lines.append(line)
            self._bytes -= size
            self._busy = True
            return lines, 0 if self._lines else self._unsaid

    def _write_all(self, data: bytes) -> bool:
        assert self._fd is not None
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # another process that shares the open file made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True
