"""Which host a connection goes to, and what becomes of it when there is none or the host does not take it.

Until a host has taken it, nothing is read from the client, so a try that fails costs nothing: another host gets the
connection, CONNECTS at most. Where one of them was full, it gets the connection once more, to say so to the client.
A connection that comes back goes on with the hosts that were tried before, so it ends after CONNECTS and that last try.
"""

import errno
from functools import partial
from typing import Final

from tierlb.dataplane.explanation import explain_choice
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.hello import hello_known
from tierlb.dataplane.l4.routes import NEEDS_HELLO, NO_ROUTE
from tierlb.dataplane.upstream.host import Host
from tierlb.net.asked import local_name
from tierlb.net.shortage import is_own

NOT_READ_HERE: Final = (
    "it came from a tier above over TLS, and its socket cannot be handed on: write forward: auto for this tier"
)
CONNECTS: Final = 3
"""Hosts that are tried for one connection."""


def place(
    context: L4Context,
    client: int,
    caller: Caller,
    tried: tuple[Host, ...] = (),
    *,
    short: bool = False,
) -> None:
    """Give the client's connection to a host of its route that was not `tried` yet; holds or closes it when there is
    none, and closes it where that fails. Where the route depends on the ClientHello, that happens once it has arrived.
    `short`: the last try failed because descriptors, ports or memory ran out here."""
    try:
        _place(context, client, caller, tried, short=short)
    except Exception:
        context.drop(client, caller)
        raise


def _place(context: L4Context, client: int, caller: Caller, tried: tuple[Host, ...], *, short: bool) -> None:
    config, hold, route = context.config, context.connections.hold, 0
    split = config.routes.only
    if split is None:
        route = _route_of(context, client, caller, tried, short=short)
        if route < 0:
            return
        split = config.routes.splits[route]
    reason, unreached = "no host accepted it", ""
    while len(tried) < CONNECTS:
        host_set = (split.other(tried) if tried else None) or split.pick()
        host = host_set.choose(tried, config.key_of(caller.source[0]))
        if host is None and not tried and hold.applies(host_set.destination, caller.began):
            hold.add(host_set.destination, caller.began, partial(place, context, client, caller), client)
            return
        forwarder = None if host is None else context.forwarder_to(host, stays=caller.stays)
        if context.explaining.active(context.reactor.now):
            way = "" if forwarder is None else forwarder.way
            names = context.name, config.balance
            caller.explained += explain_choice(*names, host_set.hosts, host, way, config.routes.told(route)) + b"\n"
        if host is None:
            reason = host_set.why_none()
            break
        if forwarder is None:
            unreached, tried = context.forwarders[0].why_not(host), (*tried, host)
            continue
        if caller.layer is not None and forwarder.passes_sockets:
            unreached, tried = NOT_READ_HERE, (*tried, host)
            continue
        try:
            code = forwarder.begin(client, caller, host, tried)
        except OSError as error:
            host.reach.dial_failed(error.errno or errno.EIO)
            short = True
            break
        if not code:
            return
        if code != errno.EBUSY:
            host.reach.dial_failed(code)
        short = is_own(code)
        tried = (*tried, host)
    may_try = caller.full is not None and not caller.had_last_try
    if not (may_try and any(each.turn_away(client, caller, tried) for each in context.forwarders)):
        context.give_up(client, caller, tried, "" if short else unreached or reason)


def _route_of(context: L4Context, client: int, caller: Caller, tried: tuple[Host, ...], *, short: bool) -> int:
    """The position of its route; less than 0 if it waits for its ClientHello, or is over."""
    routes = context.config.routes
    port = (caller.destination or local_name(client))[1] if routes.reads_ports else 0
    route = routes.find(caller.source[0], port, caller.hello)
    if route == NEEDS_HELLO:
        if not hello_known(context, client, caller, partial(place, context, client, caller, tried, short=short)):
            return NEEDS_HELLO
        route = routes.find(caller.source[0], port, caller.hello)
    if route == NO_ROUTE:
        context.unrouted.note(context.reactor.now, caller.source[0], port, caller.hello)
        context.drop(client, caller)
    return route
