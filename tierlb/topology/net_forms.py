"""The forms of values that say where something is: addresses, hosts, networks, DNS names, stores, images.

Left out: what is at these places. Names are resolved by the processes that connect to them.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated

from tierlb.model.address import EVERY_HOST, UNIX, Address, parse_address, read_address
from tierlb.model.listener import HTTPS_PORT
from tierlb.topology.forms import matching, range_schema, text_schema, whole
from tierlb.topology.typed import Form, Scalar, Schema
from tierlb.topology.units import shown

HOST_LABELS = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
HOST_PATTERN = rf"(\*\.)?{HOST_LABELS}|\[[0-9a-f:.]+\]"
SERVER_NAME_PATTERN = rf"(\*\.)?{HOST_LABELS}"
HOST_FIELD = rf"({HOST_LABELS}|\[[0-9a-f:.]+\])(:[0-9]{{1,5}})?"
DNS_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
DNS_HOST = rf"[a-z0-9]([a-z0-9_-]{{0,61}}[a-z0-9_])?(\.{DNS_LABEL})*\.?"
DNS_HOST_PORT = rf"{DNS_HOST}:[0-9]{{1,5}}"
SRV_NAME = rf"_[a-z0-9-]{{1,62}}\._[a-z0-9-]{{1,62}}(\.{DNS_LABEL})+\.?"
STORE_LABEL = DNS_LABEL.replace("a-z", "A-Za-z")
STORE_HOST_PORT = rf"({STORE_LABEL}(\.{STORE_LABEL})*|\[[0-9a-fA-F:.]+\]):[0-9]{{1,5}}"
STORE_URL = rf"etcds?://{STORE_HOST_PORT}(,{STORE_HOST_PORT})*(/[A-Za-z0-9._-]+)*/?"
SOCKET_MODE = re.compile(r"0[0-7]{3}")
LIKE_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")
IMAGE_PATH = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
IMAGE_PATTERN = (
    rf"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{{1,5}})?/)?{IMAGE_PATH}(/{IMAGE_PATH})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
MAX_DNS_CHARS = 253
"""RFC 1035 §2.3.4: 255 octets with the lengths of the labels."""
MAX_IMAGE_CHARS = 512
ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ":[0-9]{1,5}$"}
ANY_ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ":[0-9]{1,5}$|^unix:/"}


def _is_ip(text: str, read: Callable[[str], object] = ipaddress.ip_address) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _fixed_listen(scalar: Scalar) -> Address:
    address = parse_address(scalar.text)
    if address.port == 0:
        raise ValueError("needs a port from 1 to 65535: clients are configured to call it")
    return address


def _public_listen(scalar: Scalar) -> Address:
    address = read_address(scalar.text)
    if address.host == EVERY_HOST and not address.port:
        raise ValueError("needs a port from 1 to 65535, so that it is the same for IPv4 and IPv6")
    return address


def _socket_mode(scalar: Scalar) -> int:
    if not SOCKET_MODE.fullmatch(scalar.text):
        raise ValueError(f'{shown(scalar.text)} is not a mode: write the permissions in octal, such as "0660"')
    return int(scalar.text, 8)


def _endpoint_address(scalar: Scalar) -> Address:
    if scalar.text.startswith(UNIX):
        return read_address(scalar.text)
    name, _, port = scalar.text.lower().rpartition(":")
    if re.fullmatch(DNS_HOST_PORT, scalar.text.lower()) and name != "localhost" and not _is_ip(name):
        raise ValueError(
            f"{shown(name)} is a name, and endpoints are listed by address: write dns: {shown(f'{name}:{port}')} in "
            "the place of endpoints, and nodes look its addresses up again and again"
        )
    address = parse_address(scalar.text)
    if address.port == 0:
        raise ValueError("an endpoint needs a port from 1 to 65535")
    if ipaddress.ip_address(address.host).is_unspecified:
        raise ValueError("an endpoint needs the host to connect to, such as 127.0.0.1:9001")
    return address


def _ip_network(scalar: Scalar) -> str:
    try:
        return str(ipaddress.ip_network(scalar.text))
    except ValueError as error:
        hint = f": {error}" if "host bits" in str(error) else ""
        raise ValueError(f"write a network such as 10.0.0.0/8 or an address such as ::1{hint}") from None


def _host_name(scalar: Scalar) -> str:
    name = scalar.text.lower()
    if not re.fullmatch(HOST_PATTERN, name):
        raise ValueError(f"{shown(scalar.text)} is not a host: write one such as example.com or *.example.com, no port")
    if name.startswith("["):
        if not _is_ip(name[1:-1], ipaddress.IPv6Address):
            raise ValueError(f"{shown(name)} is not an IPv6 address")
        return f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
    return name


def _server_name(scalar: Scalar) -> str:
    name = scalar.text.lower()
    if not re.fullmatch(SERVER_NAME_PATTERN, name):
        raise ValueError(f"{shown(scalar.text)} is not a server name: write one such as example.com or *.example.com")
    if _is_ip(name):
        raise ValueError(f"{shown(name)} is an address, for which clients send no server name: write one, or source")
    return name


def _host_field(scalar: Scalar) -> str:
    value = scalar.text.lower()
    if not re.fullmatch(HOST_FIELD, value):
        raise ValueError(f"{shown(scalar.text)} is not a host: write one such as example.com or example.com:8080")
    return value


def _api_host(scalar: Scalar) -> str:
    name = scalar.text.lower()
    if _is_ip(name):
        return str(ipaddress.ip_address(name))
    if not re.fullmatch(HOST_LABELS, name):
        raise ValueError(f"{shown(scalar.text)} is not a host: write one such as lb.internal or 10.0.0.5, no port")
    return name


def _dns_name(scalar: Scalar) -> str:
    name = scalar.text.lower()
    if name.startswith("_"):
        return _srv_name(name)
    host, colon, port = name.rpartition(":")
    if not colon:
        raise ValueError(f"{shown(name)} needs a port: write NAME:PORT, or the name of SRV records, _http._tcp.NAME")
    if _is_ip(host.strip("[]")):
        raise ValueError(f"{shown(name)} needs no DNS: write endpoints: [{name[:60]}]")
    if not re.fullmatch(DNS_HOST_PORT, name) or len(host) > MAX_DNS_CHARS or not 1 <= int(port) <= 65535:
        raise ValueError(f"{shown(name)} is not NAME:PORT: write one such as api.internal:8000")
    return name


def _srv_name(name: str) -> str:
    if ":" in name:
        raise ValueError("SRV records hold the port: write the name without one")
    if not re.fullmatch(SRV_NAME, name) or len(name) > MAX_DNS_CHARS:
        raise ValueError(f"{shown(name)} is not a name of SRV records: write one such as _http._tcp.api.internal")
    return name


def read_store_url(scalar: Scalar) -> str:
    """`etcd://HOST:PORT[,HOST:PORT…][/PREFIX]` or `etcds://`, without a slash at its end."""
    scheme, found, rest = scalar.text.partition("://")
    if found and scheme not in ("etcd", "etcds"):
        raise ValueError(f"{shown(scheme)} is not offered: write etcd://HOST:PORT, or with TLS etcds://HOST:PORT")
    if not re.fullmatch(STORE_URL, scalar.text):
        raise ValueError(
            f"{shown(scalar.text)} is not a store: write etcd://HOST:PORT or etcd://HOST:PORT,HOST:PORT/PREFIX, "
            "or leave the key out for a directory of this machine"
        )
    for place in rest.partition("/")[0].split(","):
        host, _, port = place.rpartition(":")
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"{shown(place)} needs a port from 1 to 65535")
        if host.startswith("[") and not _is_ip(host[1:-1], ipaddress.IPv6Address):
            raise ValueError(f"{shown(host)} is not an IPv6 address")
        if LIKE_IPV4.fullmatch(host) and not _is_ip(host, ipaddress.IPv4Address):
            raise ValueError(f"{shown(host)} is not an IPv4 address")
        if len(host) > MAX_DNS_CHARS:
            raise ValueError(f"{shown(host)} is not a host: a name has at most {MAX_DNS_CHARS} characters")
    return scalar.text.removesuffix("/")


def _https_port(scalar: Scalar) -> int:
    if not scalar.quoted and scalar.text in ("true", "false"):
        return HTTPS_PORT if scalar.text == "true" else 0
    if scalar.quoted or not scalar.text.isascii() or not scalar.text.isdigit() or not 1 <= int(scalar.text) <= 65_535:
        raise ValueError(
            f"{shown(scalar.text)} is no port: write true for port {HTTPS_PORT}, or the port where clients speak TLS"
        )
    return int(scalar.text)


IMAGE_ADVICE = "a container image: write one such as api:1.2 or registry.example.com/team/api"


def _any_case_schema(pattern: str) -> Schema:
    return text_schema(pattern.replace("a-z", "a-zA-Z").replace("a-f", "a-fA-F"))


Listen = Annotated[Address, Form(lambda scalar: parse_address(scalar.text), ADDRESS_SCHEMA)]
PublicListen = Annotated[Address, Form(_public_listen, ANY_ADDRESS_SCHEMA)]
SocketMode = Annotated[int, Form(_socket_mode, text_schema(SOCKET_MODE.pattern), write="{:04o}".format)]
FixedListen = Annotated[Address, Form(_fixed_listen, ADDRESS_SCHEMA)]
"""Clients are configured to call it, so port 0 is refused."""
Endpoint = Annotated[Address, Form(_endpoint_address, ANY_ADDRESS_SCHEMA)]
CidrNetwork = Annotated[str, Form(_ip_network, {"type": "string", "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"})]
Port = Annotated[int, whole(1, 65_535)]
HttpsPort = Annotated[
    int,
    Form(
        _https_port,
        {"anyOf": [{"type": "boolean"}, range_schema(1, 65_535)]},
        write=lambda port: {0: "false", HTTPS_PORT: "true"}.get(port, str(port)),
    ),
]
"""true is the usual port; false, for which 0 stands, none."""
HostName = Annotated[str, Form(_host_name, _any_case_schema(HOST_PATTERN))]
ServerName = Annotated[str, Form(_server_name, _any_case_schema(SERVER_NAME_PATTERN))]
"""A name in a TLS ClientHello, which RFC 6066 §3 allows no address to be."""
AlpnName = Annotated[
    str,
    Form(matching(r"[!-~]{1,255}", "a protocol: write one such as h2 or http/1.1"), text_schema(r"[!-~]{1,255}")),
]
"""A protocol name of ALPN (RFC 7301 §3.1), those with other bytes left out."""
HostField = Annotated[str, Form(_host_field, _any_case_schema(HOST_FIELD))]
"""The value of a Host field: one name or IP address, with or without a port."""
ApiHost = Annotated[str, Form(_api_host, _any_case_schema(rf"{HOST_LABELS}|[0-9a-f:.]+"))]
"""A name or IP address as it stands in a Host field, without the port and without brackets."""
DnsName = Annotated[str, Form(_dns_name, _any_case_schema(f"{DNS_HOST_PORT}|{SRV_NAME}"))]
"""HOST:PORT, or the name of SRV records."""
StoreUrlText = Annotated[str, Form(read_store_url, text_schema(STORE_URL))]
Image = Annotated[
    str,
    Form(
        matching(rf"(?=.{{1,{MAX_IMAGE_CHARS}}}\Z)(?:{IMAGE_PATTERN})", IMAGE_ADVICE),
        text_schema(IMAGE_PATTERN, maxLength=MAX_IMAGE_CHARS),
    ),
]
