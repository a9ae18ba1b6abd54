"""`tierlb up --detach` and `tierlb down`: a cluster in the background.

The cluster is another `tierlb up` in a session of its own, with its log in the state directory. Once it serves it
writes the URL of its admin API into a pipe; if it ends before, the pipe ends with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from tierlb.balance.stop_times import longest_drain_s, stop_all_s, stop_s
from tierlb.channel.durable import StoreError, make_directory, store_error
from tierlb.channel.join_credentials import usual_directory
from tierlb.channel.private import STATES, open_private
from tierlb.cli.check import load_or_exit, warned_or_exit
from tierlb.cli.client import Client
from tierlb.cli.up import how_to_call, ready_block, source_or_exit
from tierlb.controller.store import holder, peek
from tierlb.local.stopping import NotStopped, stop
from tierlb.model.topology import DRAIN_S
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.units import duration_text
from tierlb.topology.uses import Use

LOG_FILE = "log"
TAIL_BYTES = 8192
TAIL_LINES = 15
DETACH_MARGIN_S = 10.0
"""Time for the supervisor itself on a busy machine, before `down` gives up waiting."""


def run_detached(file: Path, state: Path | None, watch: bool) -> None:
    """Start the cluster and return once it serves; exits as the cluster does if it ends before."""
    directory = state or usual_directory(warned_or_exit(file, Use.UP).topology.cluster)
    try:
        make_directory(directory)
    except StoreError as error:
        raise click.ClickException(f"{error} (option --state)") from error
    log = directory / LOG_FILE
    before = log.stat().st_size if log.exists() else 0
    admin_url, process = _start_detached(file, directory, watch, log)
    if not admin_url:
        click.echo(_tail(log, before), err=True)
        click.echo(f"{file}: the cluster ended before it served; all of its log is in {log}", err=True)
        sys.exit(process.wait() or 1)
    which = file if state is None else f"--state {state}"
    end = f"`{how_to_call()} down {which}` stops everything. The log is {log}"
    source = source_or_exit(file, directory)
    if admin_url.startswith("https:"):  # this command does not know which CA signed its certificate
        topology = load_or_exit(source.file)
    else:
        topology = load_text(Client(admin_url).get("/v1/topology")["text"], str(source.file))
    click.echo(ready_block(topology, admin_url, end, state, source))


def run_down(file: Path | None, state: Path | None) -> None:
    """End a cluster that runs in the background, or in another terminal, and wait until it has ended."""
    if file is not None and state is not None:
        raise click.UsageError("give FILE or --state DIR, not both: either names the cluster")
    directory = state or (usual_directory(load_or_exit(file, "nothing was stopped").cluster) if file else _only_one())
    drain_s, stop_all = _times_s(directory)
    click.echo(
        f"SIGTERM sent: requests and connections under way have up to {duration_text(drain_s)}; "
        "`tierlb down` again ends them now"
    )
    try:
        pid = stop(directory, stop_all + DETACH_MARGIN_S)
    except (NotStopped, StoreError) as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(f"{directory.name} is down (process {pid} has ended)")


def _times_s(directory: Path) -> tuple[float, float]:
    """The drain time of the cluster whose state is there, and how long its stop may take."""
    stored = peek(directory)
    current = stored.history.current if stored is not None else None
    if current is not None:
        with contextlib.suppress(TopologyError):
            topology = load_text(current.text, str(directory))
            return longest_drain_s(topology), stop_all_s(topology)
    return DRAIN_S, 2 * stop_s(DRAIN_S)


def _start_detached(file: Path, directory: Path, watch: bool, log: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    """The URL of the cluster's admin API once it serves, or nothing, and its process."""
    ours, theirs = os.pipe()
    command = [
        sys.executable,
        "-P",
        "-m",
        "tierlb",
        "up",
        str(file),
        "--state",
        str(directory),
        "--ready-fd",
        str(theirs),
    ]
    try:
        descriptor = open_private(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise click.ClickException(str(store_error(log, "opened", error))) from error
    with open(descriptor, "wb") as output:
        process = subprocess.Popen(
            [*command, "--watch"] if watch else command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    os.close(theirs)
    with open(ours, "rb") as pipe:
        try:
            return pipe.read().decode(errors="replace"), process
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise


def _tail(log: Path, before: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(before, log.stat().st_size - TAIL_BYTES))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-TAIL_LINES:])


def _only_one() -> Path:
    """The only state directory here whose cluster runs."""
    try:
        running = [path for path in sorted(Path(STATES).glob("*")) if holder(path) is not None]
    except StoreError as problem:
        raise click.ClickException(str(problem)) from problem
    if len(running) == 1:
        return running[0]
    found = f"several run here: {', '.join(path.name for path in running)}" if running else "none runs here"
    raise click.UsageError(f"name the cluster, by its FILE or with --state DIR: {found}")
