"""Which processes may join, and as what; takeover.py decides between two processes of one name.

The controller verifies credentials with the cluster's secret (`Admission`), a node those of its children with its own
reception key (`by_ticket`); wire/credentials.py derives them. The hello of a connection has to fit its credential
(`mismatch`).

Traffic goes to the address that an agent announces, so the agent has to be there (`address_problem`). It reports of
itself alone (`agent_rows`).
"""

import ipaddress
import secrets
from collections.abc import Sequence

import attrs

from tierlb.model.address import parse_address
from tierlb.model.load import NodeRow
from tierlb.net.websocket_upgrade import Admit
from tierlb.wire.credentials import Principal, Role, data_key, issued, proven, root_key
from tierlb.wire.frames import Hello

SECRET_BYTES = 32
PROCESS_BYTES = 8


def make_secret() -> str:
    """A new secret for a cluster."""
    return secrets.token_urlsafe(SECRET_BYTES)


@attrs.define
class Admission:
    """The controller's part. `only_started`: only processes that were enlisted and not dismissed may join as nodes."""

    secret: str = attrs.field(repr=False, factory=make_secret)
    only_started: bool = False
    _root: bytes = attrs.field(init=False, repr=False)
    _processes: set[str] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._root = root_key(self.secret)

    @property
    def data_key(self) -> str:
        """The key by which nodes prove themselves to each other on the data path."""
        return data_key(self._root).decode()

    def admit(self, text: str) -> Principal | None:
        """The principal that the text proves, or None. Nodes and agents narrow their token to their name before they
        send it, so that what travels is good for one name. Wider tokens are not accepted."""
        principal = proven(self._root, text)
        if principal is None or not principal.name:
            return None
        if principal.role is not Role.NODE or not self.only_started:
            return principal
        return principal if principal.process in self._processes else None

    def credential(self, principal: Principal) -> str:
        """The credential with which to join as that principal."""
        return issued(self._root, principal).text

    def reception(self, tier: str, name: str = "") -> bytes:
        """The reception key of a node; without a name, that of all nodes of the tier."""
        return issued(self._root, Principal(Role.NODE, tier, name)).reception

    def ticket(self, tier: str, name: str, child: Principal) -> str:
        """The child's credential for that parent, or without a name for any parent of that tier."""
        return issued(self.reception(tier, name), child).text

    def enlist(self, tier: str, name: str) -> Principal:
        """A process of the node is about to be started here."""
        principal = Principal(Role.NODE, tier, name, secrets.token_hex(PROCESS_BYTES))
        self._processes.add(principal.process)
        return principal

    def dismiss(self, principal: Principal) -> None:
        """Its process has ended."""
        self._processes.discard(principal.process)


@attrs.define
class Enlistment:
    """The credentials of the processes of a supervised node, one process after the other."""

    admission: Admission
    tier: str
    name: str
    _current: Principal | None = attrs.field(default=None, init=False)

    def begin(self) -> bytes:
        """The credentials of the process that is about to be started (`net.broker.Broker.introduction` reads them)."""
        self.end()
        self._current = self.admission.enlist(self.tier, self.name)
        credential = self.admission.credential(self._current)
        return f"{credential}\n{self.admission.reception(self.tier, self.name).hex()}".encode()

    def end(self) -> None:
        """The process has ended."""
        if self._current is not None:
            self.admission.dismiss(self._current)


def by_ticket(receptions: Sequence[bytes]) -> Admit:
    """How a parent with these reception keys verifies credentials."""

    def admit(text: str) -> Principal | None:
        return next((found for reception in receptions if (found := proven(reception, text)) is not None), None)

    return admit


def mismatch(principal: Principal, hello: Hello, role: Role) -> str:
    """Why a connection with the principal's credential cannot join with this hello; "" if it can."""
    claimed = Principal(role, hello.tier, hello.node, hello.boot_id)
    if principal.covers(claimed):
        return ""
    if claimed.path[:-1] == principal.path[:-1]:
        return f"this token is for another process of {hello.node}"
    return f"this token is for {principal}, not for {claimed}"


def bound(principal: Principal, hello: Hello) -> Principal:
    """The principal, bound to the name that it joins under. It is not bound to its process. The holder of a credential
    for a name can narrow it to any process, so that would prove nothing to a parent."""
    return Principal(principal.role, hello.tier, hello.node)


def address_problem(data: str, host: str, networks: Sequence[str], pool: str) -> str:
    """Why an agent that connects from the IP address `host` cannot announce that address; "" if it can."""
    there, here = ipaddress.ip_address(parse_address(data).host), ipaddress.ip_address(host)
    if there == here or (there.is_loopback and here.is_loopback):
        return ""
    if any(there in ipaddress.ip_network(network) for network in networks):
        return ""
    return f"it is at {host}, --address is {data}: allow that in pools.{pool}.agents.networks"


def agent_rows(rows: Sequence[NodeRow], name: str) -> tuple[NodeRow, ...]:
    """The rows of an agent that count: the one of itself, without hosts. It sends to none, so figures of hosts would be
    claims about other endpoints."""
    return tuple(attrs.evolve(row, own=attrs.evolve(row.own, hosts=())) for row in rows if row.node == name)
