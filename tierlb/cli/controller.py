"""`tierlb controller FILE`: the controller alone, for a cluster whose nodes are started elsewhere on any machines."""

import getpass
import os
import secrets
from pathlib import Path

import attrs
import click
import trio

from tierlb.admin.port import AdminPort
from tierlb.channel.admission import Admission, make_secret
from tierlb.channel.join_credentials import usual_directory
from tierlb.cli.check import warned_or_exit
from tierlb.cli.log import LazyLog
from tierlb.cli.tokens import token_or_exit, warn_if_exposed
from tierlb.controller.active import ControllerParts
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.process import ControllerProcess, ControllerSettings
from tierlb.local.ports import PortTaken, listen
from tierlb.model.address import Address, ListenAddress, parse_address
from tierlb.model.topology import Topology
from tierlb.net.descriptors import raise_limit
from tierlb.net.tls import TlsProblem, admin_context, admin_expiry
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.uses import Use
from tierlb.wire.credentials import SCHEME
from tierlb.wire.frame_fields import is_calling_place

ADMIN_TOKEN_BYTES = 32


@attrs.frozen
class ControllerOptions:
    """The command's options as they were given."""

    file: Path
    listen: str = "127.0.0.1:7901"
    admin_listen: str = ""
    token_file: Path | None = None
    admin_token_file: Path | None = None
    state: Path | None = None
    name: str = ""
    run_dns: str = ""


def run_controller(options: ControllerOptions) -> None:
    """Run until SIGTERM; exits with 2 for a bad file or wrong usage, and 1 where it cannot run."""
    topology = warned_or_exit(options.file, Use.CONTROLLER).topology
    engine = ProcessEngine(_run_dns(options.run_dns))
    if lack := engine.lack(topology):
        raise click.UsageError(f"{options.file}: {lack}")
    _demand_fit(options, topology)
    at = _address_of("--listen", options.listen)
    admin_at = _address_of("--admin-listen", options.admin_listen) if options.admin_listen else topology.admin
    raise_limit()
    try:
        text = options.file.read_text(encoding="utf-8-sig")
        problem = _run_process(options, topology, engine, text, at, admin_at)
    except (PortTaken, TlsProblem) as error:
        raise click.ClickException(str(error)) from error
    if problem:
        raise click.ClickException(problem)


def _run_process(
    options: ControllerOptions, topology: Topology, engine: ProcessEngine, text: str, at: Address, admin_at: Address
) -> str:
    """Why it ended, "" after a signal. Raises PortTaken and TlsProblem."""
    log = LazyLog()
    admission = Admission(_secret(options.token_file))
    warn_if_exposed(log, options.token_file, options.admin_token_file)
    given = options.admin_token_file
    admin_token = token_or_exit(given) if given else secrets.token_urlsafe(ADMIN_TOKEN_BYTES)
    settings = ControllerSettings(
        at,
        options.state or usual_directory(topology.cluster),
        options.name,
        posts_join_credentials=options.token_file is None,
        admin_token=admin_token if given is None else "",
    )
    admin_tls = admin_context(topology.admin_tls) if topology.admin_tls is not None else None
    errors = InternalErrors(log)
    with listen(ListenAddress(admin_at), "the admin API") as listening:
        log.warm()
        admin = AdminPort(listening, admin_token, errors, topology.admin_hosts, admin_tls)
        parts = ControllerParts(topology, options.file, text, engine, _user(), log, errors, admission, admin)
        at_start = admin_expiry(topology.admin_tls)
        parts.shown.append(lambda: at_start)
        return trio.run(ControllerProcess(settings, parts, log.losses).run)


def _demand_fit(options: ControllerOptions, topology: Topology) -> None:
    """Raises UsageError for options that do not go together with the file."""
    if topology.store is not None and (options.token_file is None or options.admin_token_file is None):
        raise click.UsageError(
            "controllers that share a store share their tokens: give --token-file and --admin-token-file"
        )
    if topology.store is None and options.name:
        raise click.UsageError(f"--name is for controllers that share a store, and {options.file} names no store")
    if topology.store is not None and options.state is not None:
        raise click.UsageError(f"--state: the history is kept in the store that {options.file} names: leave this out")


def _secret(file: Path | None) -> str:
    """From which the credentials of all nodes and agents follow; exits with 1 or 2."""
    if file is None:
        return make_secret()
    secret = token_or_exit(file)
    if secret.startswith(f"{SCHEME}/"):
        raise click.UsageError(
            f"{file} holds what `tierlb token` printed: a controller needs the secret it was made from"
        )
    return secret


def _user() -> str:
    """The user in whose name the controller acts; in a container there may be no user of that number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _address_of(option: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _run_dns(pattern: str) -> str:
    if pattern and not is_calling_place(pattern.replace("{pool}", "pool")):
        raise click.UsageError(f"--run-dns: {pattern!r} is no name and port: write one such as '{{pool}}:9000'")
    return pattern
