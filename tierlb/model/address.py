"""Addresses: a host and a TCP port, as `host:port` or `[v6]:port`."""

import ipaddress

import attrs


@attrs.frozen(order=True)
class Address:
    """An IP address (never a name) and a TCP port; port 0 asks the kernel for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def sockaddr(self) -> tuple[str, int]:
        """The pair for `bind` and `connect`."""
        return (self.host, self.port)


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
