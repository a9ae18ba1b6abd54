"""Addresses: a host and a port, as `host:port` or `[v6]:port`, or a unix socket, as `unix:/run/app.sock`."""

import enum
import ipaddress
import posixpath
import re

import attrs


class Transport(enum.Enum):
    """What the ports of an l4 tier carry. TCP and UDP each have ports of their own."""

    TCP = "tcp"
    UDP = "udp"


UNIX = "unix:"
MOST_PATH_BYTES = 107
"""Of `sun_path` (unix(7)), without the zero byte at its end."""
UNIX_PATH = re.compile(r"/[A-Za-z0-9._/@+=~-]*[A-Za-z0-9._@+=~-]")
EVERY_HOST = "*"


@attrs.frozen(order=True)
class Address:
    """An IP address (never a name) and a port; port 0 asks the kernel for a free one. Of a unix socket the host is its
    path and the port is 0. Where a tier listens the host may be `*`: all addresses, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.is_unix:
            return f"{UNIX}{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        """Whether it is a unix socket."""
        return self.host.startswith("/")

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same wherever it is opened; else the kernel chooses the port."""
        return self.port != 0 or self.is_unix

    @property
    def sockaddr(self) -> tuple[str, int] | str:
        """What `bind` and `connect` take."""
        return self.host if self.is_unix else (self.host, self.port)

    @property
    def bound(self) -> tuple["Address", ...]:
        """The addresses of the sockets that listen there: two for `*`, one for each family."""
        if self.host != EVERY_HOST:
            return (self,)
        return Address("0.0.0.0", self.port), Address("::", self.port)  # noqa: S104 (asked for)


@attrs.frozen(order=True)
class ListenAddress:
    """Where a tier listens, and for what: `host:port` for TCP, `host:port/udp` for UDP."""

    address: Address
    transport: Transport = Transport.TCP

    def __str__(self) -> str:
        return f"{self.address}{'' if self.transport is Transport.TCP else f'/{self.transport.value}'}"


def parse_listen_address(text: str) -> ListenAddress:
    """Read what `str` makes of one. Raises ValueError."""
    if text.startswith(UNIX):
        return ListenAddress(read_address(text))
    address, _, transport = text.partition("/")
    return ListenAddress(parse_address(address), Transport(transport or Transport.TCP.value))


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `:8080` (every IPv4 address).

    Raises ValueError, with a sentence that says what to write instead.
    """
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ValueError(f"{text!r} is not an address: write HOST:PORT, such as 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not an address: write an IPv6 host in brackets, such as [::1]:8080")
    host = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104 (asked for)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r} is not an address: {host!r} is not an IP address") from None
    return Address(host, int(port_text))


def read_address(text: str) -> Address:
    """Read what `str` makes of any address: `unix:/run/app.sock`, `*:8080`, and what `parse_address` reads. Raises
    ValueError."""
    text = text.strip()
    if text.startswith(UNIX):
        return _unix_address(text.removeprefix(UNIX))
    address = parse_address(text)
    return Address(EVERY_HOST, address.port) if text.startswith(f"{EVERY_HOST}:") else address


def _unix_address(path: str) -> Address:
    if not UNIX_PATH.fullmatch(path) or len(path) > MOST_PATH_BYTES:
        raise ValueError(
            f"{UNIX + path!r} is not a unix socket: write {UNIX} and an absolute path of at most {MOST_PATH_BYTES} of "
            "a-z, A-Z, 0-9 and ._/@+=~-, such as unix:/run/app.sock"
        )
    normal = "/" + posixpath.normpath(path).lstrip("/")
    if path != normal:
        raise ValueError(f"{UNIX + path!r} is not a unix socket in its normal form: write {UNIX}{normal}")
    return Address(path, 0)
