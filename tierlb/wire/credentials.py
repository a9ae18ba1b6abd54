"""Credentials for joining the cluster: derived from one secret, each bound to its purpose.

The secret stays where the controller runs. From it follows a key for each role, from that one for each tier or pool,
then for each name, then for each process: every step is an HMAC of what it binds to (as in Macaroons, Birgisson et al.,
2014). So the holder of a credential can make narrower ones from it without asking the issuer, and never a wider one;
the holder of the secret verifies any of them without a list.

    tierlb1/agent/app/KEY              any agent of the pool app
    tierlb1/node/web/web-2/BOOT/KEY    this one process of the node web-2

A node cannot verify what was derived from a secret that it does not have. So the controller gives each child a *ticket*
for each of its parents: a credential whose root is the parent's *reception key*, which follows from the parent's own
credential. A parent accepts tickets for itself and can make none for others.

Left out: the transport, which hides credentials only with TLS, and expiry: a credential is valid for as long as its
secret.
"""

import base64
import enum
import hashlib
import hmac
import re
from urllib.parse import quote, unquote

import attrs

SCHEME = "tierlb1"
"""A different derivation gets another number."""
CREDENTIAL_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 bytes in base64 without padding (RFC 4648 §5)."""
MAX_CHARACTERS = 2048
"""The longest credential: names are at most a few hundred characters long."""
DATA_KEY_BYTES = 16


class BadCredential(ValueError):  # noqa: N818 (the text is for the user)
    """The text is no credential, or not one for this purpose. The message says why, and never holds a key."""


class Role(enum.Enum):
    """The role of a process that joins. The admin API has a token of its own, which is not derived."""

    NODE = "node"
    AGENT = "agent"


@attrs.frozen
class Principal:
    """All of a role, or all of a tier or pool (`group`), or one name in it, or one process of that name (its boot id).
    An empty field is not bound, nor is any after it."""

    role: Role
    group: str = ""
    name: str = ""
    process: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """The fields that are bound, the widest first."""
        parts = (self.role.value, self.group, self.name, self.process)
        return parts[: parts.index("")] if "" in parts else parts

    def covers(self, other: "Principal") -> bool:
        """Whether the other one is bound to the same or to more."""
        return other.path[: len(self.path)] == self.path

    def __str__(self) -> str:
        what = {"node": ("all nodes", "tier"), "agent": ("all agents", "pool")}[self.role.value]
        if not self.group:
            return what[0]
        if not self.name:
            return f"{self.role.value}s of {what[1]} {self.group}"
        return f"{self.role.value} {self.name} of {what[1]} {self.group}"


@attrs.frozen
class Credential:
    """A principal, and the key that proves it."""

    principal: Principal
    key: bytes = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """The form in files and messages: one line of ASCII."""
        key = base64.urlsafe_b64encode(self.key).decode().rstrip("=")
        return "/".join((SCHEME, *(quote(part, safe="") for part in self.principal.path), key))

    @property
    def reception(self) -> bytes:
        """The root of the tickets for this principal."""
        return _step(self.key, "reception")

    def narrowed(self, principal: Principal) -> "Credential":
        """A credential that is bound to more. Raises BadCredential where it would be bound to something else."""
        if not self.principal.covers(principal):
            raise BadCredential(f"this token is for {self.principal}, not for {principal}")
        return Credential(principal, _follow(self.key, principal.path[len(self.principal.path) :]))


def root_key(secret: str) -> bytes:
    """The root of all credentials of a cluster."""
    return _step(secret.encode(), "join")


def issued(root: bytes, principal: Principal) -> Credential:
    """The credential of the principal under this root."""
    return Credential(principal, _follow(root, principal.path))


def proven(root: bytes, text: str) -> Principal | None:
    """The principal that the text proves to the holder of the root, or None."""
    try:
        given = parse_credential(text)
    except BadCredential:
        return None
    if given is None or not hmac.compare_digest(given.key, issued(root, given.principal).key):
        return None
    return given.principal


def parse_credential(text: str) -> Credential | None:
    """The credential in a token file; None: the text is a secret and not derived from one. Raises BadCredential."""
    scheme, *parts = text.split("/")
    if scheme != SCHEME:
        return None
    if len(text) > MAX_CHARACTERS or not 2 <= len(parts) <= 5 or not CREDENTIAL_KEY.fullmatch(parts[-1]):
        raise BadCredential("this token is damaged: have `tierlb token` print it again")
    role, *bound = (unquote(part) for part in parts[:-1])
    if role not in {each.value for each in Role} or not all(bound):
        raise BadCredential("this token is damaged: have `tierlb token` print it again")
    return Credential(Principal(Role(role), *bound), base64.urlsafe_b64decode(f"{parts[-1]}="))


def data_key(root: bytes) -> bytes:
    """The key that nodes of one cluster show each other on the data path. The controller sends it to nodes, never to
    agents."""
    return _step(root, "data path")[:DATA_KEY_BYTES].hex().encode()


def _follow(key: bytes, path: tuple[str, ...]) -> bytes:
    for part in path:
        key = _step(key, f"to {part}")
    return key


def _step(key: bytes, what: str) -> bytes:
    return hmac.new(key, f"tierlb 1 {what}".encode(), hashlib.sha256).digest()
