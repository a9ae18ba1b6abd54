"""Whether one host can be connected to: connects that fail eject it, and it is checked before clients' traffic returns.

`balance.ejection` has the rule, `recovery` asks. Where this machine lacks a port or a descriptor, nothing is concluded
about the host, and it is asked again a little later.
"""

import errno
from collections.abc import Callable, Mapping
from typing import Final

from tierlb.balance.ejection import Ejection
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.recovery import ConnectQuestion, HealthQuestion, Recovery
from tierlb.model.snapshot import HostSpec
from tierlb.net.client_tls import ClientTls
from tierlb.net.dial import NO_ASKER, Dial, dial
from tierlb.net.reactor import Reactor
from tierlb.net.self_connect import local_ports
from tierlb.net.shortage import Shortages, is_own
from tierlb.net.sockaddr import pack_sockaddr
from tierlb.net.wheel import NEVER, Timed

ASK_AGAIN_S: Final = 1.0
"""After a question that could not be asked. A shortage ends when connections end, which takes seconds rather than
milliseconds."""


class ConnectContext:
    """What all hosts of a node share for their connects. `local_ports`: from which of them the kernel takes those of
    connections, so that one to such a port on this machine may reach itself. `tls`: what endpoints speak, by pools."""

    __slots__ = ("dial", "local_ports", "reactor", "recovery", "shortages", "tls")

    def __init__(self, reactor: Reactor, shortages: Shortages, recovery: Recovery) -> None:
        self.reactor = reactor
        self.shortages = shortages
        self.recovery = recovery
        self.dial: Dial = dial
        self.local_ports = local_ports()
        self.tls: Mapping[str, ClientTls] = {}


class Reachability(Timed):
    """`name`: the host's `struct sockaddr`. `port_at_risk`: its port if a connect may be answered by itself there, else
    0. `failures` counts connects that failed. `on_change` is called when the host is ejected or restored."""

    __slots__ = (
        "_context",
        "_on_change",
        "_spec",
        "closed",
        "ejection",
        "failures",
        "name",
        "port_at_risk",
        "question",
    )

    def __init__(self, context: ConnectContext, spec: HostSpec, on_change: Callable[[HostEvent], None]) -> None:
        self._context = context
        self._spec = spec
        first, last = context.local_ports
        self.name: Final = pack_sockaddr(spec.address.sockaddr)
        self.port_at_risk: Final = spec.address.port if first <= spec.address.port <= last else 0
        self._on_change = on_change
        self.closed = False
        self.deadline = self.filed = NEVER
        self.ejection = Ejection()
        self.failures = 0
        self.question: ConnectQuestion | HealthQuestion | None = None

    def dial(self, *, speaks_first: bool = True, asker: int = NO_ASKER) -> tuple[int, int]:
        """Begin a connection to the host, as `net.dial.dial` does. Raises OSError."""
        name, at_risk = self.name, self.port_at_risk
        return self._context.dial(
            self._spec.address, name=name, port_at_risk=at_risk, speaks_first=speaks_first, asker=asker
        )

    def connected(self) -> None:
        """A connect succeeded, or the host's answer was good."""
        was_ejected = self.ejection.ejected
        self.ejection.succeeded()
        if was_ejected:
            self._on_change(HostEvent.RESTORED)

    def connect_failed(self, *, refused: bool) -> None:
        """A connect failed, for which the host is to blame; ejects it when that is due."""
        self.failures += 1
        reactor = self._context.reactor
        if self.ejection.failed(reactor.now, refused=refused) and not self.closed:
            self.deadline = self.ejection.until
            reactor.wheel.file(self)
            self._on_change(HostEvent.EJECTED)

    def dial_failed(self, code: int) -> None:
        """A connect failed with this errno. The host is not to blame where this machine lacks a resource."""
        if is_own(code):
            self._context.shortages.note(code, self._context.reactor.now, self._spec.address)
        else:
            self.connect_failed(refused=code == errno.ECONNREFUSED)

    def on_deadline(self) -> None:
        """The ejection is over, or a question that could not be asked is due again."""
        if self.ejection.ejected and self.question is None:
            self._ask()

    def ask(self) -> None:
        """Look whether it can be connected to, unless that is being asked or it is ejected, when it is asked anyway."""
        if not (self.closed or self.ejection.ejected or self.question is not None):
            self._ask()

    def _ask(self) -> None:
        spec = self._spec
        if self._context.recovery.by_traffic(spec.target):
            self.ejection.tried_again()
            self._on_change(HostEvent.TRIED_AGAIN)
            return
        asked = self._context.recovery.ask(spec.target, spec.address, self.port_at_risk, self._answered)
        if isinstance(asked, (ConnectQuestion, HealthQuestion)):
            self.question = asked
        else:
            self._answered(asked)

    def abort(self) -> None:
        """Asking it failed by an error of ours. Without another question it would be left out for good."""
        self._ask_later()

    def _answered(self, code: int | None) -> None:
        self.question = None
        if self.closed:
            return
        if code == 0:
            self.connected()
            return
        if code is not None:
            self.dial_failed(code)
        if code is None or is_own(code):
            self._ask_later()

    def _ask_later(self) -> None:
        if not self.closed:
            self.deadline = self._context.reactor.now + ASK_AGAIN_S
            self._context.reactor.wheel.file(self)

    def close(self) -> None:
        """The host is gone: it is asked no more."""
        self.closed = True
        self._context.reactor.wheel.forget(self)
        if self.question is not None:
            self.question.close()
            self.question = None
