"""Addresses: a host and a port, as `host:port` or `[v6]:port`."""

import enum
import ipaddress

import attrs


class Transport(enum.Enum):
    """What the ports of an l4 tier carry. TCP and UDP each have ports of their own."""

    TCP = "tcp"
    UDP = "udp"


@attrs.frozen(order=True)
class Address:
    """An IP address (never a name) and a port; port 0 asks the kernel for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def sockaddr(self) -> tuple[str, int]:
        """The pair for `bind` and `connect`."""
        return (self.host, self.port)


@attrs.frozen(order=True)
class ListenAddress:
    """Where a tier listens, and for what: `host:port` for TCP, `host:port/udp` for UDP."""

    address: Address
    transport: Transport = Transport.TCP

    def __str__(self) -> str:
        return f"{self.address}{'' if self.transport is Transport.TCP else f'/{self.transport.value}'}"


def parse_listen_address(text: str) -> ListenAddress:
    """Read what `str` makes of one. Raises ValueError."""
    address, _, transport = text.partition("/")
    return ListenAddress(parse_address(address), Transport(transport or Transport.TCP.value))


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `:8080` (every interface).

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
