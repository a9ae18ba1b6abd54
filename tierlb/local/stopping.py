"""Stops a cluster that another process runs: found by its state directory, asked by a signal, and waited for.

The lock in the directory identifies the process. The kernel holds it for as long as that process lives, so the pid in
it cannot be that of another one. A descriptor of the process (pidfd_open(2)) makes sure that the signal reaches the
process that was checked. Nothing is killed: a controller that is asked to end stops everything it started.
"""

import os
import select
import signal
from pathlib import Path

from tierlb.controller.store import holder


class NotStopped(Exception):  # noqa: N818 (the text is the message for the user)
    """Nothing was stopped, or not in time; the text says why."""


def stop(directory: Path, wait_s: float) -> int:
    """Ask the cluster of this state directory to end, wait until it has, and return its pid. A second request ends it
    at once. Raises NotStopped, StoreError."""
    pid = holder(directory)
    if pid is None:
        raise NotStopped(f"no cluster runs with its state in {directory}")
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise NotStopped(f"process {pid}, which has {directory}, cannot be opened: {error.strerror}") from error
    try:
        if holder(directory) != pid or not _is_tierlb(pid):
            raise NotStopped(f"process {pid}, which has {directory}, is no tierlb: nothing was stopped")
        _send_term(process, pid)
        if not _ends(process, wait_s):
            raise NotStopped(f"process {pid} got SIGTERM and still runs after {wait_s:g} s: see its log")
    finally:
        os.close(process)
    return pid


def _is_tierlb(pid: int) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(argument.removesuffix(b"/__main__.py").rpartition(b"/")[2] == b"tierlb" for argument in arguments)


def _send_term(process: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise NotStopped(f"process {pid} belongs to another user, who alone can stop it") from error


def _ends(process: int, wait_s: float) -> bool:
    poller = select.poll()
    poller.register(process, select.POLLIN)
    return bool(poller.poll(wait_s * 1000))
