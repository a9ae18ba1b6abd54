"""`tierlb up FILE`: the cluster in the foreground, and what it prints once it serves."""

import getpass
import ipaddress
import os
import random
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import attrs
import click
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.join_credentials import admin_token_posted, usual_directory
from tierlb.cli.check import load_or_exit, warned_or_exit
from tierlb.cli.example import Source, source_of
from tierlb.cli.log import LazyLog, say
from tierlb.controller.changes import Changes
from tierlb.controller.controller import Controller
from tierlb.controller.following import Following
from tierlb.controller.startup import start_anew
from tierlb.controller.store import FileStore
from tierlb.local.ports import PortTaken, check_free, listen
from tierlb.local.supervisor import Supervisor
from tierlb.model.address import EVERY_HOST, Address, ListenAddress
from tierlb.model.places import listed_addresses, secured_listeners
from tierlb.model.topology import Kind, Topology
from tierlb.net.descriptors import limit, raise_limit
from tierlb.net.tls import TlsProblem, admin_context, admin_expiry
from tierlb.topology.tree import draw
from tierlb.topology.uses import Use

UP_TOKEN_BYTES = 32
IPV4 = 4


@attrs.frozen
class UpOptions:
    """`state`: the directory of the controller, if not in the usual place. `watch`: edits of the file are applied.
    `ready_fd`: a pipe to the process that started this one in the background and waits for the admin API's URL."""

    state: Path | None = None
    watch: bool = False
    ready_fd: int | None = None


def run_up(file: Path, options: UpOptions) -> None:
    """Run until Ctrl-C; exits with 2 for a bad file and 1 when the cluster cannot serve."""
    source = source_or_exit(file, options.state)
    topology = warned_or_exit(source.file, Use.UP).topology
    text = source.file.read_text(encoding="utf-8-sig")
    trio.run(_up, topology, source, text, options)


def source_or_exit(file: Path, state: Path | None) -> Source:
    """The file to run for FILE; exits with 2 for a bad file and 1 where a copy of an example cannot be made."""
    try:
        return source_of(file, state or usual_directory(load_or_exit(file).cluster))
    except StoreError as error:
        raise click.ClickException(f"{error} (option --state)") from error


async def _up(topology: Topology, source: Source, text: str, options: UpOptions) -> None:
    file = source.file
    log = LazyLog()
    controller = Controller(topology, log)
    state = options.state or usual_directory(topology.cluster)
    store = FileStore(state)
    changes = Changes(controller, store, log, file)
    try:
        check_free(topology)
        admin_tls = admin_context(topology.admin_tls) if topology.admin_tls is not None else None
        at_start = admin_expiry(topology.admin_tls)
        controller.overview.shown.append(lambda: at_start)
        admin = listen(ListenAddress(topology.admin), "admin.listen")
        if await start_anew(changes, text, getpass.getuser()) != text:
            topology = controller.topology
            check_free(topology)
    except (PortTaken, TlsProblem) as error:
        raise click.ClickException(str(error)) from error
    except StoreError as error:
        raise click.ClickException(f"{error} (option --state)") from error
    token = secrets.token_urlsafe(UP_TOKEN_BYTES)
    descriptors = limit()  # of the processes that are started here; each node raises its own
    raise_limit()
    supervisor = Supervisor(topology, controller, log, random.Random(), invite=state, descriptors=descriptors)
    following = Following(file, changes, log, getpass.getuser(), controller.errors)
    supervisor.on_hangup = following.ask
    supervisor.losses = log.losses

    admin_at = admin_url(topology, admin.getsockname()[1])

    async def on_starting(background: trio.Nursery) -> None:
        from tierlb.admin.app import serve_admin

        await background.start(serve_admin, admin, controller.observer, changes, token, admin_tls)

    async def on_serving(background: trio.Nursery) -> None:
        changes.machines = supervisor.manager
        await background.start(changes.run)
        background.start_soon(following.run if options.watch else following.run_on_request)
        if options.ready_fd is None:
            say(ready_block(topology, admin_at, "Ctrl-C stops everything.", options.state, source))
        else:
            with suppress(OSError):
                os.write(options.ready_fd, admin_at.encode())
            os.close(options.ready_fd)

    try:
        with admin_token_posted(state, token):
            problem = await supervisor.run(on_serving, on_starting)
    finally:
        admin.close()
        await store.close()
    if problem:
        raise click.ClickException(problem)
    log.info("cluster_stopped")


def admin_url(topology: Topology, port: int) -> str:
    """The URL under which commands on this machine reach the admin API: by loopback where it listens on every address,
    and with TLS by the first of `admin.hosts`, which its certificate should name."""
    listed = ipaddress.ip_address(topology.admin.host)
    host = str(listed)
    if topology.admin_tls is not None and topology.admin_hosts:
        host = topology.admin_hosts[0]
    elif listed.is_unspecified:
        host = "127.0.0.1" if listed.version == IPV4 else "::1"
    return f"{'http' if topology.admin_tls is None else 'https'}://{Address(host, port)}"


def ready_block(
    topology: Topology, admin_url: str, end: str, state: Path | None = None, source: Source | None = None
) -> str:
    """The message once the cluster serves. `end`: how to end it; `state`: if not the usual one; `source`: the file,
    which is named if it is not the one that was given."""
    public = [tier for tier in topology.tiers.values() if tier.listen]
    lines = ["", f"{topology.cluster} is ready", ""]
    lines += [f"  {tier.name:<12} {listed_addresses(tier)}" for tier in public]
    lines += [f"  {'admin':<12} {admin_url}"]
    if source is not None and source.example is not None:
        lines += [f"  {'file':<12} {source}"]
    lines += ["", *(f"  {line}" for line in draw(topology).splitlines()), ""]
    lines += ["  Try:", *(f"    {command}" for command in _to_try(topology, admin_url, state))]
    return "\n".join((*lines, "", f"  {end}", ""))


def _to_try(topology: Topology, admin_url: str, state: Path | None) -> list[str]:
    commands = [
        _curl(tier.listen[0].address, secured=tier.listen[0] in secured_listeners(topology, tier))
        for tier in topology.tiers.values()
        if tier.listen and _speaks_http(topology, tier.name)
    ]
    joins = [
        f"{how_to_call()} agent --join-file {state or usual_directory(topology.cluster)} --pool {pool.name} "
        f"--name {pool.name}-1 --address HOST:PORT"
        for pool in topology.pools.values()
        if pool.agents
    ]
    return [*commands[:1], f"{how_to_call()} status --admin {admin_url}", *joins[:1]]


def _curl(address: Address, *, secured: bool) -> str:
    """Whose authority signed the certificate is not known here."""
    call = "curl --insecure https:" if secured else "curl http:"
    if address.is_unix:
        return f"{call}//localhost/ --unix-socket {address.host}"
    return f"{call}//{Address('127.0.0.1', address.port) if address.host == EVERY_HOST else address}/"


def how_to_call() -> str:
    """How to call tierlb from here: by name where the shell finds it, else by its path."""
    if shutil.which("tierlb"):
        return "tierlb"
    path = Path(sys.argv[0]).absolute()
    if path.name == "__main__.py":
        return f"{sys.executable} -m tierlb"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _speaks_http(topology: Topology, name: str) -> bool:
    """Whether an l7 tier is at or below this one, so that the traffic is HTTP."""
    tier = topology.tiers.get(name)
    return tier is not None and (tier.kind is Kind.L7 or any(_speaks_http(topology, target) for target in tier.targets))
