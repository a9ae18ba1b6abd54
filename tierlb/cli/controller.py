"""`tierlb controller FILE`: the controller alone, for a cluster whose nodes somebody else starts on any machines."""

import contextlib
import getpass
import os
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import attrs
import click
import trio

from tierlb.channel.admission import Admission, make_secret
from tierlb.channel.durable import StoreError
from tierlb.channel.join_credentials import JoinCredentials, admin_token_posted, posted, usual_directory
from tierlb.channel.pages import ControllerPages
from tierlb.cli.check import warned_or_exit
from tierlb.cli.log import LazyLog
from tierlb.cli.tokens import token_or_exit, warn_if_exposed
from tierlb.controller.changes import AT_START, Busy, Changes, NotPossible, Request
from tierlb.controller.controller import Controller
from tierlb.controller.elsewhere import Elsewhere
from tierlb.controller.engine import Engine
from tierlb.controller.following import Following, read_file
from tierlb.controller.history import Conflict
from tierlb.controller.reception import Reception
from tierlb.controller.returning import RETURN_S
from tierlb.controller.store import FileStore, Store
from tierlb.controller.waiting import log_slow_start
from tierlb.local.ports import PortTaken, listen
from tierlb.model.address import Address, parse_address
from tierlb.model.topology import SharedStore, Topology
from tierlb.net.descriptors import raise_limit
from tierlb.net.keep_going import alone
from tierlb.net.tls import TlsProblem, admin_context, server_context
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.problems import TopologyError
from tierlb.topology.uses import Use
from tierlb.wire.credentials import SCHEME, Principal, Role
from tierlb.wire.frames import is_calling_place

TOKEN_BYTES = 32
LEADER = "leader"
CANNOT_ASK = "etcd cannot be asked: see this controller's log"
STEP_BACK_S = 1.0
READ_S = 5.0
"""As long as an ordinary disk takes at worst; this process holds up no nodes for longer than that."""
"""Perhaps another one can do what this one could not."""


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
    engine = Engine(_run_dns(options.run_dns))
    if lack := engine.lack(topology):
        raise click.UsageError(f"{options.file}: {lack}")
    if topology.store is not None and (options.token_file is None or options.admin_token_file is None):
        raise click.UsageError(
            "controllers that share a store share their tokens: give --token-file and --admin-token-file"
        )
    if topology.store is None and options.name:
        raise click.UsageError(f"--name tells controllers apart that share a store, and {options.file} names no store")
    if topology.store is not None and options.state is not None:
        raise click.UsageError(f"--state: the history is kept in the store that {options.file} names: leave this out")
    at = _address("--listen", options.listen)
    admin_at = _address("--admin-listen", options.admin_listen) if options.admin_listen else topology.admin
    raise_limit()
    try:
        text = options.file.read_text(encoding="utf-8-sig")
        problem = trio.run(_Process(options, topology, engine, at, admin_at, text=text).run)
    except (PortTaken, TlsProblem) as error:
        raise click.ClickException(str(error)) from error
    if problem:
        raise click.ClickException(problem)


@attrs.define
class _Process:
    """One controller's process: active when it is its turn, else on standby."""

    options: ControllerOptions
    topology: Topology
    engine: Engine
    at: Address
    admin_at: Address
    log: LazyLog = attrs.field(factory=LazyLog)
    admission: Admission = attrs.field(factory=Admission, init=False)
    admin_tls: ssl.SSLContext | None = attrs.field(default=None, init=False)
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    reception: Reception = attrs.field(
        default=attrs.Factory(lambda self: Reception(self.log, self.errors), takes_self=True), init=False
    )
    following: Following | None = None
    text: str = ""
    """Of the file, as it was read last."""

    async def run(self) -> str:
        """Until a signal comes; else why it cannot go on."""
        problem, options = "", self.options
        state = options.state or usual_directory(self.topology.cluster)
        admission = self.admission = Admission(_secret(options.token_file))
        warn_if_exposed(self.log, options.token_file, options.admin_token_file)
        given = options.admin_token_file
        admin_token = token_or_exit(given) if given else secrets.token_urlsafe(TOKEN_BYTES)
        tls = server_context(self.topology.tls) if self.topology.tls is not None else None
        api = self.topology.admin_tls
        self.admin_tls = admin_context(api) if api is not None else None
        admin = listen(self.admin_at, "the admin API")
        self.log.warm()
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*handled) as signals, admin, ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                pages = ControllerPages(self.errors, self.log.losses, self.reception.unready)
                bound = await nursery.start(self.reception.serve, self.at, admission.admit, tls, pages.find)
                url = f"{'ws' if tls is None else 'wss'}://{_reachable(bound)}"
                if options.token_file is None:
                    agent, node = (admission.credential(Principal(role)) for role in (Role.AGENT, Role.NODE))
                    stack.enter_context(posted(state, JoinCredentials(url, agent), node))
                if given is None:
                    stack.enter_context(admin_token_posted(state, admin_token))
                self.log.info("control_port_opened", url=url, admin=str(Address(*admin.getsockname()[:2])))
                try:
                    await self._take_turns(state, url, admin, admin_token)
                except (StoreError, TopologyError) as error:
                    problem = str(error)
                nursery.cancel_scope.cancel()
        return problem

    async def _obey(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """SIGHUP has the file read again, any other signal ends the process."""
        async for number in signals:
            if number != signal.SIGHUP:
                everything.cancel()
                return
            if self.following is not None:
                self.following.ask()
            else:
                self.log.warning(
                    "hangup_ignored", reason="this controller is not active: send SIGHUP to the active one"
                )

    async def _take_turns(self, state: Path, url: str, admin: socket.socket, admin_token: str) -> None:
        if self.topology.store is not None:
            await self._compete(self.topology.store, url, admin, admin_token)
            return
        store = FileStore(state)
        try:
            await self._lead(store, trio.Event(), admin, admin_token)
        finally:
            await store.close()

    async def _compete(self, shared: SharedStore, url: str, admin: socket.socket, admin_token: str) -> None:
        """Be active whenever elected, and on standby meanwhile; for ever. Raises StoreError where etcd cannot be had
        that way."""
        from tierlb.controller.election import Election
        from tierlb.controller.etcd import open_etcd
        from tierlb.controller.etcd_access import Denied, parse_store_url
        from tierlb.controller.etcd_store import EtcdStore

        directory = parse_store_url(shared.url).directory(self.topology.cluster)
        name, etcd = self.options.name or socket.gethostname(), open_etcd(shared)
        election = Election(etcd, f"{directory}/{LEADER}", name, url, self.log)

        def standby() -> str:
            # anybody may read it, and the problem names users, files and addresses
            why = f" ({CANNOT_ASK})" if election.problem() else ""
            return f"this controller is on standby: {election.current() or 'none'} is the active one{why}"

        denied = None
        try:
            while denied is None:
                self.reception.close(standby)
                failed = True
                with self.errors.barrier("election"):
                    async with trio.open_nursery() as nursery:
                        waiting = await nursery.start(self._stand_by, admin, standby)
                        try:
                            async with election.lead() as leadership:
                                waiting.cancel()
                                await self._try_to_lead(
                                    EtcdStore(etcd, directory, leadership.fence()), leadership.lost, admin, admin_token
                                )
                        except Denied as problem:
                            denied = problem  # raised below, where no group is made of it
                            waiting.cancel()
                    failed = False
                if failed:
                    await trio.sleep(STEP_BACK_S)
            raise denied
        finally:
            await etcd.close()

    async def _stand_by(
        self, admin: socket.socket, reason: Callable[[], str], *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        from tierlb.admin.standby import serve_standby

        hosts = self.topology.admin_hosts
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_standby, admin.dup(), reason, self.errors, hosts, self.admin_tls)
                self.log.info("standby_started")
                task_status.started(scope)

    async def _try_to_lead(self, store: Store, lost: trio.Event, admin: socket.socket, admin_token: str) -> None:
        try:
            await self._lead(store, lost, admin, admin_token)
        except (StoreError, TopologyError) as problem:
            self.log.error("activation_failed", reason=str(problem))
            await trio.sleep(STEP_BACK_S)
        except Exception as error:
            self.errors.note("active controller", error)
            await trio.sleep(STEP_BACK_S)

    async def _lead(self, store: Store, lost: trio.Event, admin: socket.socket, admin_token: str) -> None:
        """Be the active controller until the turn is over."""
        from tierlb.admin.app import serve_admin

        controller = Controller(
            self.topology, self.log, engine=self.engine, admission=self.admission, errors=self.errors
        )
        changes = Changes(controller, store, self.log, name=str(self.options.file), machines=Elsewhere(controller))
        text = await self._read_file()
        controller.registry.adopt(await changes.take_over(text, _user()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(controller.run)
            await nursery.start(changes.run)
            self.reception.open(controller)
            await nursery.start(serve_admin, admin.dup(), controller.observer, changes, admin_token, self.admin_tls)
            self.log.info("controller_activated", revision=changes.history.active)
            slow_start = partial(log_slow_start, controller.readiness, self.log)
            nursery.start_soon(alone, self.errors, "slow start", slow_start)
            if changes.is_news(text):
                nursery.start_soon(alone, self.errors, "topology file", partial(self._apply, changes, text))
            self.following = Following(self.options.file, changes, self.log, _user(), controller.errors)
            nursery.start_soon(self.following.run_on_request)
            try:
                await lost.wait()
            finally:
                self.following = None
            self.log.warning("controller_deactivated")
            self.reception.close(lambda: "this controller was active until now")
            nursery.cancel_scope.cancel()

    async def _read_file(self) -> str:
        """The text as it is now, or if it cannot be had, as it was: what is served is in the store."""
        file = self.options.file
        try:
            with trio.fail_after(READ_S):
                content = await read_file(file)
            self.text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except (OSError, UnicodeDecodeError, trio.TooSlowError) as error:
            self.log.warning("topology_file_read_failed", file=str(file), reason=str(error) or f"not in {READ_S:g} s")
        return self.text

    async def _apply(self, changes: Changes, text: str) -> None:
        """The file was edited since; the nodes that serve what is stored are led over to it, after what another
        controller began and operators do meanwhile."""
        await trio.sleep(RETURN_S)
        try:
            while True:
                with contextlib.suppress(Busy):
                    await changes.apply(text, Request(_user(), AT_START), AT_START)
                    return
                await trio.sleep(STEP_BACK_S)
        except (Conflict, NotPossible, StoreError, TopologyError) as problem:
            self.log.error("topology_file_apply_failed", file=str(self.options.file), reason=str(problem))


def _secret(file: Path | None) -> str:
    """From which the credentials of all who join follow; exits with 1 or 2."""
    if file is None:
        return make_secret()
    secret = token_or_exit(file)
    if secret.startswith(f"{SCHEME}/"):
        raise click.UsageError(
            f"{file} holds what `tierlb token` printed: a controller needs the secret it was made from"
        )
    return secret


def _user() -> str:
    """In whose name it acts; in a container there may be no user of that number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _reachable(bound: Address) -> str:
    """The address as others may know it."""
    return f"{socket.gethostname()}:{bound.port}" if ip_address(bound.host).is_unspecified else str(bound)


def _address(option: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _run_dns(pattern: str) -> str:
    if pattern and not is_calling_place(pattern.replace("{pool}", "pool")):
        raise click.UsageError(f"--run-dns: {pattern!r} is no name and port: write one such as '{{pool}}:9000'")
    return pattern
