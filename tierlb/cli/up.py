"""`tierlb up FILE`: the cluster in the foreground, and what to say when it serves."""

import getpass
import random
import secrets
import shutil
import sys
from pathlib import Path

import click
import trio

from tierlb.cli.check import load_or_exit
from tierlb.cli.log import LazyLog
from tierlb.cluster.ports import PortTaken, check_free, listen
from tierlb.cluster.supervisor import Supervisor
from tierlb.controlplane.changes import Changes
from tierlb.controlplane.controller import Controller
from tierlb.controlplane.invitation import admin_token_posted, usual_directory
from tierlb.controlplane.store import FileStore, StoreError
from tierlb.model.topology import Kind, Topology
from tierlb.topology.tree import draw

TOKEN_BYTES = 32


def run_up(file: Path, state: Path | None = None) -> None:
    """Run until Ctrl-C; exits with 2 for a bad file and 1 when the cluster cannot serve. `state`: where the controller
    keeps what must outlive it."""
    topology = load_or_exit(file)
    text = file.read_text(encoding="utf-8-sig")
    trio.run(_up, topology, file, text, state or usual_directory(topology.cluster))


async def _up(topology: Topology, file: Path, text: str, state: Path) -> None:
    log = LazyLog()
    controller = Controller(topology, log)
    store = FileStore(state)
    changes = Changes(controller, store, log, file)
    try:
        check_free(topology)
        admin = listen(topology.admin, "admin.listen")
        changes.start(text, getpass.getuser())
    except PortTaken as error:
        raise click.ClickException(str(error)) from error
    except StoreError as error:
        raise click.ClickException(f"{error}. Another directory can be given with --state") from error
    token = secrets.token_urlsafe(TOKEN_BYTES)
    supervisor = Supervisor(topology, controller, log, random.Random(), invite=state)

    async def on_serving(background: trio.Nursery) -> None:
        from tierlb.dashboard.app import serve_admin

        changes.machines = supervisor.fleet
        await background.start(changes.run)
        admin_at = f"http://{topology.admin.host}:{admin.getsockname()[1]}"
        await background.start(serve_admin, admin, controller, changes, token)
        click.echo(ready_block(topology, admin_at))

    try:
        with admin_token_posted(state, token):
            problem = await supervisor.run(on_serving)
    finally:
        admin.close()
        store.close()
    if problem:
        raise click.ClickException(problem)
    log.info("stopped")


def ready_block(topology: Topology, admin_url: str) -> str:
    """What a person needs once the cluster serves."""
    public = [tier for tier in topology.tiers.values() if tier.listen is not None]
    lines = ["", f"{topology.cluster} is ready", ""]
    lines += [f"  {tier.name:<12} {tier.listen}" for tier in public]
    lines += [f"  {'admin':<12} {admin_url}", "", *(f"  {line}" for line in draw(topology).splitlines()), ""]
    lines += ["  Try:", *(f"    {command}" for command in _to_try(topology, admin_url))]
    return "\n".join((*lines, "", "  Ctrl-C stops everything.", ""))


def _to_try(topology: Topology, admin_url: str) -> list[str]:
    commands = [
        f"curl http://{tier.listen}/"
        for tier in topology.tiers.values()
        if tier.listen is not None and _speaks_http(topology, tier.name)
    ]
    joins = [
        f"{_command()} agent --join-file {usual_directory(topology.cluster)} --pool {pool.name} --name {pool.name}-1 "
        "--address HOST:PORT"
        for pool in topology.pools.values()
        if pool.agents
    ]
    return [*commands[:1], f"{_command()} status --admin {admin_url}", *joins[:1]]


def _command() -> str:
    """How to call tierlb from here: by name where the shell finds it, else by its path."""
    if shutil.which("tierlb"):
        return "tierlb"
    path = Path(sys.argv[0]).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _speaks_http(topology: Topology, name: str) -> bool:
    """An l7 tier stands somewhere below, so what arrives here is HTTP."""
    tier = topology.tiers.get(name)
    return tier is not None and (tier.kind is Kind.L7 or any(_speaks_http(topology, target) for target in tier.targets))
