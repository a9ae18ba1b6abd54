"""The forms a single value can have: how each is read, and how the JSON Schema describes it, side by side.

A form is a type of its own (`Seconds` rather than float), so that the shapes of the file can be written as
plain attrs classes and both the converter and the schema look the form up by the type. Every reader takes the
scalar as written and raises ValueError with a sentence that says what to write.
"""

import enum
import ipaddress
import math
import re
import shlex
from collections.abc import Callable
from typing import Any, NewType

import attrs

from tierlb.model.address import Address, parse_address
from tierlb.model.topology import Admin, ClientAbort, Kind, Orca, Paths, Policy
from tierlb.topology.problems import suggestion
from tierlb.topology.source import Scalar
from tierlb.topology.units import parse_duration_s, parse_size_bytes, shown

Name = NewType("Name", str)
Listen = NewType("Listen", Address)
FixedListen = NewType("FixedListen", Address)
"""Where somebody else is configured to call, so port 0 will not do."""
Endpoint = NewType("Endpoint", Address)
Network = NewType("Network", str)
Seconds = NewType("Seconds", float)
Size = NewType("Size", int)
HeadSize = NewType("HeadSize", int)
BodyRate = NewType("BodyRate", int)
Replicas = NewType("Replicas", int)
ConnectionCount = NewType("ConnectionCount", int)
HeaderCount = NewType("HeaderCount", int)
Port = NewType("Port", int)
ResultCount = NewType("ResultCount", int)
Weight = NewType("Weight", float)
ErrorCount = NewType("ErrorCount", int)
EjectedShare = NewType("EjectedShare", float)
"""In the file a percentage."""
Switch = NewType("Switch", bool)
Off = NewType("Off", str)
Command = NewType("Command", str)
UrlPath = NewType("UrlPath", str)
UrlPrefix = NewType("UrlPrefix", str)
Target = NewType("Target", str)
"""A path with or without a query."""
Host = NewType("Host", str)
HostField = NewType("HostField", str)
"""The value of a Host field: one name or IP address, with or without a port."""
ApiHost = NewType("ApiHost", str)
"""A name or IP address as it stands in a Host field, without the port and without brackets."""
Method = NewType("Method", str)
HeaderName = NewType("HeaderName", str)
HashHeader = NewType("HashHeader", str)
HashSource = NewType("HashSource", str)
QueryName = NewType("QueryName", str)
Wanted = NewType("Wanted", object)
"""The value a header or query field must have, or None where presence is enough."""
Status = NewType("Status", int)
StatusRange = NewType("StatusRange", tuple[int, int])
"""The first and the last of the statuses meant."""
RedirectStatus = NewType("RedirectStatus", int)
Body = NewType("Body", str)
ContentType = NewType("ContentType", str)
Location = NewType("Location", str)
JoinByThemselves = NewType("JoinByThemselves", bool)
TcpCheck = NewType("TcpCheck", str)
FileName = NewType("FileName", str)
DnsName = NewType("DnsName", str)
"""HOST:PORT, or the name of SRV records."""
StoreUrl = NewType("StoreUrl", str)
UserName = NewType("UserName", str)
Image = NewType("Image", str)
Cpus = NewType("Cpus", float)
Memory = NewType("Memory", int)

NAME = r"[a-z0-9][a-z0-9-]{0,39}"
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 §5.6.2 # noqa: S105
HOST_LABELS = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
HOST = rf"(\*\.)?{HOST_LABELS}|\[[0-9a-f:.]+\]"
HOST_FIELD = rf"({HOST_LABELS}|\[[0-9a-f:.]+\])(:[0-9]{{1,5}})?"
DNS_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
DNS_HOST = rf"[a-z0-9]([a-z0-9_-]{{0,61}}[a-z0-9_])?(\.{DNS_LABEL})*\.?"
DNS_HOST_PORT = rf"{DNS_HOST}:[0-9]{{1,5}}"
SRV_NAME = rf"_[a-z0-9-]{{1,62}}\._[a-z0-9-]{{1,62}}(\.{DNS_LABEL})+\.?"
STORE_LABEL = DNS_LABEL.replace("a-z", "A-Za-z")
STORE_MEMBER = rf"({STORE_LABEL}(\.{STORE_LABEL})*|\[[0-9a-fA-F:.]+\]):[0-9]{{1,5}}"
STORE_URL = rf"etcds?://{STORE_MEMBER}(,{STORE_MEMBER})*(/[A-Za-z0-9._-]+)*/?"
LIKE_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")
IMAGE_PATH = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
IMAGE = (
    rf"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{{1,5}})?/)?{IMAGE_PATH}(/{IMAGE_PATH})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
PATH = r"/[!-\"$->@-~]*"
TARGET = r"/[!-\"$-~]*"
VISIBLE = r"[ -~]*"
STATUS = r"[2-5][0-9]{2}"
STATUS_RANGE = re.compile(rf"({STATUS})(?:-({STATUS}))?")
WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
PERCENTAGE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?%")
DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PLACEHOLDERS = ("scheme", "host", "hostname", "path", "query")
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
KNOWN_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
MAX_TEXT_CHARS = 4096
MAX_BODY_CHARS = 64 * 1024
"""A fixed answer is kept in memory at every node; files belong behind an endpoint."""
MAX_WEIGHT = 1_000_000.0
MOST_EJECTED_PERCENT = 50
"""The panic rule (balance.availability) uses every endpoint again where less than half is left."""
MAX_DNS_CHARS = 253
"""RFC 1035 §2.3.4: 255 octets with the lengths of the labels."""
MAX_IMAGE_CHARS = 512
CPUS = (0.01, 1024.0)
LEAST_MEMORY_BYTES = 16 * 2**20
"""No program serves with less; it is rather a unit that was forgotten."""

Schema = dict[str, Any]


@attrs.frozen
class Form:
    """How one kind of value is read, and what JSON Schema says of it."""

    read: Callable[[Scalar], Any]
    schema: Schema
    accepts_null: bool = False


def _name(scalar: Scalar) -> str:
    if not re.fullmatch(NAME, scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a name: write at most 40 of a-z, 0-9 and - (not first)")
    return scalar.text


def _fixed_listen(scalar: Scalar) -> Address:
    address = parse_address(scalar.text)
    if address.port == 0:
        raise ValueError("needs a port from 1 to 65535, since who asks must know it")
    return address


def _endpoint(scalar: Scalar) -> Address:
    name, _, port = scalar.text.lower().rpartition(":")
    if re.fullmatch(DNS_HOST_PORT, scalar.text.lower()) and name != "localhost" and not _is_ip(name):
        raise ValueError(
            f"{shown(name)} is a name, and endpoints are listed by address: write dns: {shown(f'{name}:{port}')} in "
            "the place of endpoints, and nodes ask for its addresses again and again"
        )
    address = parse_address(scalar.text)
    if address.port == 0:
        raise ValueError("an endpoint needs a port from 1 to 65535")
    if ipaddress.ip_address(address.host).is_unspecified:
        raise ValueError("an endpoint needs the host to connect to, such as 127.0.0.1:9001")
    return address


def _network(scalar: Scalar) -> str:
    try:
        return str(ipaddress.ip_network(scalar.text))
    except ValueError as error:
        hint = f": {error}" if "host bits" in str(error) else ""
        raise ValueError(f"write a network such as 10.0.0.0/8 or an address such as ::1{hint}") from None


def _duration_s(scalar: Scalar) -> float:
    return parse_duration_s(scalar.text)


def _size(smallest: int, largest: int) -> Callable[[Scalar], int]:
    def read(scalar: Scalar) -> int:
        size = parse_size_bytes(scalar.text)
        if not smallest <= size <= largest:
            raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest} to {largest} bytes")
        return size

    return read


def _body_rate(scalar: Scalar) -> int:
    return 0 if scalar.text == "off" else _size(1, 2**20)(scalar)


def _whole(smallest: int, largest: int) -> Callable[[Scalar], int]:
    def read(scalar: Scalar) -> int:
        if scalar.quoted or not WHOLE_NUMBER.fullmatch(scalar.text):
            raise ValueError(f"{shown(scalar.text)} is not a whole number: write {smallest} to {largest}")
        if not smallest <= int(scalar.text) <= largest:
            raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest} to {largest}")
        return int(scalar.text)

    return read


def _weight(scalar: Scalar) -> float:
    if scalar.quoted or not DECIMAL.fullmatch(scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a weight: write a number, 0 or more")
    weight = float(scalar.text)
    if not math.isfinite(weight) or not 0 <= weight <= MAX_WEIGHT:
        raise ValueError(f"{shown(scalar.text)} is out of range: write a weight of 0 to {MAX_WEIGHT:.0f}")
    return weight


def _ejected_share(scalar: Scalar) -> float:
    if not PERCENTAGE.fullmatch(scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a percentage: write one such as 25%")
    percent = float(scalar.text[:-1])
    if not 1 <= percent <= MOST_EJECTED_PERCENT:
        raise ValueError(
            f"{shown(scalar.text)} is out of range: write 1% to {MOST_EJECTED_PERCENT}%; with less than half of a pool "
            "left, all of it is used"
        )
    return percent / 100


def _switch(scalar: Scalar) -> bool:
    if scalar.quoted or scalar.text not in ("true", "false"):
        raise ValueError(f"{shown(scalar.text)} is neither true nor false")
    return scalar.text == "true"


def _command(scalar: Scalar) -> str:
    if any(ord(c) < 32 and c not in "\n\t" for c in scalar.text):
        raise ValueError("a command cannot hold control characters")
    try:
        words = shlex.split(scalar.text)
    except ValueError as error:
        raise ValueError(f"{shown(scalar.text)} is not a command line: {error}") from None
    if not any("{port}" in word for word in words):
        raise ValueError("write {port} where the command takes the port to listen on")
    return scalar.text.strip()


def _path(scalar: Scalar) -> str:
    if not re.fullmatch(PATH, scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a path: begin with /, percent-encode, leave out ? and #")
    return scalar.text


def _target(scalar: Scalar) -> str:
    if not re.fullmatch(TARGET, scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a path: begin with /, percent-encode, leave out #")
    return scalar.text


def _prefix(scalar: Scalar) -> str:
    if DOT_SEGMENT.search(_path(scalar)):
        raise ValueError(f"{shown(scalar.text)} can never match: paths with . or .. segments match no prefix")
    return scalar.text


def _host(scalar: Scalar) -> str:
    name = scalar.text.lower()
    if not re.fullmatch(HOST, name):
        raise ValueError(f"{shown(scalar.text)} is not a host: write one such as example.com or *.example.com, no port")
    if name.startswith("["):
        if not _is_ip(name[1:-1], ipaddress.IPv6Address):
            raise ValueError(f"{shown(name)} is not an IPv6 address")
        return f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
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


def _method(scalar: Scalar) -> str:
    if not re.fullmatch(TOKEN, scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a method: write one such as GET")
    if scalar.text not in KNOWN_METHODS and scalar.text.upper() in KNOWN_METHODS:
        raise ValueError(f"methods are told apart by case: write {scalar.text.upper()}")
    return scalar.text


def _hash_header(scalar: Scalar) -> str:
    if not re.fullmatch(TOKEN, scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a header name")
    return scalar.text.lower()


def _header_name(scalar: Scalar) -> str:
    name = _hash_header(scalar)
    if name == "host":
        raise ValueError("write the key host of the match instead of the header")
    return name


def _query_name(scalar: Scalar) -> str:
    return _printable(scalar, smallest=1)


def _wanted(scalar: Scalar) -> str:
    return _printable(scalar, smallest=0)


def _printable(scalar: Scalar, smallest: int) -> str:
    if not scalar.text.isprintable():
        raise ValueError("cannot hold control characters or line breaks")
    if not smallest <= len(scalar.text) <= MAX_TEXT_CHARS:
        raise ValueError(f"write {smallest} to {MAX_TEXT_CHARS} characters")
    return scalar.text


def _body(scalar: Scalar) -> str:
    if len(scalar.text) > MAX_BODY_CHARS:
        raise ValueError(f"a fixed answer holds at most {MAX_BODY_CHARS} characters")
    return scalar.text


def _content_type(scalar: Scalar) -> str:
    if not re.fullmatch(rf"{TOKEN}/{TOKEN}( *;{VISIBLE})?", scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a media type: write one such as text/html; charset=utf-8")
    return scalar.text


def _location(scalar: Scalar) -> str:
    if not re.fullmatch(r"[!-~]+", scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a URL: write visible ASCII characters, no spaces")
    for found in PLACEHOLDER.findall(scalar.text):
        if found not in PLACEHOLDERS:
            choice = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"{{{found[:60]}}} has no meaning: write {choice}{suggestion(found, PLACEHOLDERS)}")
    if "{" in PLACEHOLDER.sub("", scalar.text) or "}" in PLACEHOLDER.sub("", scalar.text):
        raise ValueError("a { or } stands alone: percent-encode it as %7B or %7D")
    return scalar.text


def _status_range(scalar: Scalar) -> tuple[int, int]:
    found = STATUS_RANGE.fullmatch(scalar.text)
    if found is None:
        raise ValueError(
            f"{shown(scalar.text)} is no status: write one such as 200, a range such as 200-299, or a list"
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise ValueError(f"{shown(scalar.text)} holds no status: write {last}-{first}")
    return first, last


def _join_by_themselves(scalar: Scalar) -> bool:
    if scalar.quoted or scalar.text != "true":
        raise ValueError(f"{shown(scalar.text)} has no meaning here: write true, or leave the key out")
    return True


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
        raise ValueError(f"{shown(name)} is no name of SRV records: write one such as _http._tcp.api.internal")
    return name


def _is_ip(text: str, read: Callable[[str], object] = ipaddress.ip_address) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _store_url(scalar: Scalar) -> str:
    scheme, found, rest = scalar.text.partition("://")
    if found and scheme not in ("etcd", "etcds"):
        raise ValueError(f"{shown(scheme)} is not offered: write etcd://HOST:PORT, or with TLS etcds://HOST:PORT")
    if not re.fullmatch(STORE_URL, scalar.text):
        raise ValueError(
            f"{shown(scalar.text)} is no store: write etcd://HOST:PORT or etcd://HOST:PORT,HOST:PORT/PREFIX, "
            "or leave the key out for a directory of this machine"
        )
    for member in rest.partition("/")[0].split(","):
        host, _, port = member.rpartition(":")
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"{shown(member)} needs a port from 1 to 65535")
        if host.startswith("[") and not _is_ip(host[1:-1], ipaddress.IPv6Address):
            raise ValueError(f"{shown(host)} is not an IPv6 address")
        if LIKE_IPV4.fullmatch(host) and not _is_ip(host, ipaddress.IPv4Address):
            raise ValueError(f"{shown(host)} is not an IPv4 address")
        if len(host) > MAX_DNS_CHARS:
            raise ValueError(f"{shown(host)} is no host: a name has at most {MAX_DNS_CHARS} characters")
    return scalar.text.removesuffix("/")


def _image(scalar: Scalar) -> str:
    if len(scalar.text) > MAX_IMAGE_CHARS or not re.fullmatch(IMAGE, scalar.text):
        raise ValueError(
            f"{shown(scalar.text)} is not a container image: write one such as api:1.2 or registry.example.com/team/api"
        )
    return scalar.text


def _cpus(scalar: Scalar) -> float:
    smallest, largest = CPUS
    if scalar.quoted or not DECIMAL.fullmatch(scalar.text):
        raise ValueError(f"{shown(scalar.text)} is not a number of cores: write one such as 0.5 or 2")
    if not smallest <= float(scalar.text) <= largest:
        raise ValueError(f"{shown(scalar.text)} is out of range: write {smallest:g} to {largest:g} cores")
    return float(scalar.text)


def _memory(scalar: Scalar) -> int:
    size = parse_size_bytes(scalar.text)
    if size < LEAST_MEMORY_BYTES:
        raise ValueError(f"{shown(scalar.text)} is too little: write at least {LEAST_MEMORY_BYTES // 2**20}MiB")
    return size


def _only(word: str, advice: str) -> Form:
    def read(scalar: Scalar) -> str:
        if scalar.text != word:
            raise ValueError(f"{shown(scalar.text)} is not known: write {word} or {advice}")
        return word

    return Form(read, {"const": word})


def _file_name(scalar: Scalar) -> str:
    return _printable(scalar, smallest=1)


def _user_name(scalar: Scalar) -> str:
    return _printable(scalar, smallest=1)


def _redirect_status(scalar: Scalar) -> int:
    status = _whole(300, 399)(scalar)
    if status not in REDIRECT_STATUSES:
        raise ValueError(f"{status} does not redirect: write {', '.join(map(str, REDIRECT_STATUSES))}")
    return status


def _one_of(choices: type[enum.Enum]) -> Form:
    words = [str(choice.value) for choice in choices]

    def read(scalar: Scalar) -> enum.Enum:
        if scalar.text not in words:
            listed = f"{', '.join(words[:-1])} or {words[-1]}"
            raise ValueError(f"{shown(scalar.text)} is not known: write {listed}{suggestion(scalar.text, words)}")
        return choices(scalar.text)

    return Form(read, {"enum": words})


def _text_schema(pattern: str, **more: Any) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern})$", **more}


def _any_case_schema(pattern: str) -> Schema:
    return _text_schema(pattern.replace("a-z", "a-zA-Z").replace("a-f", "a-fA-F"))


def _range_schema(smallest: int, largest: int) -> Schema:
    return {"type": "integer", "minimum": smallest, "maximum": largest}


SIZE_SCHEMA: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]?$"},
    ]
}
ADDRESS_SCHEMA: Schema = {"type": "string", "pattern": ":[0-9]{1,5}$"}
STATUS_RANGE_SCHEMA: Schema = {"anyOf": [_range_schema(200, 599), _text_schema(f"{STATUS}(-{STATUS})?")]}
PLAIN_VALUE: Schema = {"type": ["string", "number", "boolean"]}
MOST_BODY_BYTES = 2**40

FORMS: dict[Any, Form] = {
    Kind: _one_of(Kind),
    Policy: _one_of(Policy),
    Orca: _one_of(Orca),
    Admin: _one_of(Admin),
    Paths: _one_of(Paths),
    ClientAbort: _one_of(ClientAbort),
    Name: Form(_name, _text_schema(NAME)),
    Listen: Form(lambda scalar: parse_address(scalar.text), ADDRESS_SCHEMA),
    FixedListen: Form(_fixed_listen, ADDRESS_SCHEMA),
    Endpoint: Form(_endpoint, ADDRESS_SCHEMA),
    Network: Form(_network, {"type": "string", "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"}),
    Seconds: Form(_duration_s, _text_schema(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")),
    Size: Form(_size(1, MOST_BODY_BYTES), SIZE_SCHEMA),
    HeadSize: Form(_size(1024, 2**20), SIZE_SCHEMA),
    BodyRate: Form(_body_rate, {"anyOf": [*SIZE_SCHEMA["anyOf"], {"const": "off"}]}),
    Replicas: Form(_whole(1, 1000), _range_schema(1, 1000)),
    ConnectionCount: Form(_whole(1, 1_000_000), _range_schema(1, 1_000_000)),
    HeaderCount: Form(_whole(1, 10_000), _range_schema(1, 10_000)),
    Port: Form(_whole(1, 65_535), _range_schema(1, 65_535)),
    ResultCount: Form(_whole(1, 100), _range_schema(1, 100)),
    Weight: Form(_weight, {"type": "number", "minimum": 0, "maximum": MAX_WEIGHT}),
    ErrorCount: Form(_whole(1, 10_000), _range_schema(1, 10_000)),
    EjectedShare: Form(_ejected_share, _text_schema(PERCENTAGE.pattern)),
    Switch: Form(_switch, {"type": "boolean"}),
    Off: _only("off", "a mapping"),
    Command: Form(_command, {"type": "string", "pattern": r"\{port\}"}),
    UrlPath: Form(_path, _text_schema(PATH)),
    UrlPrefix: Form(_prefix, _text_schema(PATH)),
    Target: Form(_target, _text_schema(TARGET)),
    Host: Form(_host, _any_case_schema(HOST)),
    HostField: Form(_host_field, _any_case_schema(HOST_FIELD)),
    ApiHost: Form(_api_host, _any_case_schema(rf"{HOST_LABELS}|[0-9a-f:.]+")),
    Method: Form(_method, _text_schema(TOKEN)),
    HeaderName: Form(_header_name, _text_schema(TOKEN)),
    HashHeader: Form(_hash_header, _text_schema(TOKEN)),
    HashSource: _only("source", "{header: NAME}"),
    QueryName: Form(_query_name, {"type": "string", "minLength": 1}),
    Wanted: Form(_wanted, {"type": [*PLAIN_VALUE["type"], "null"]}, accepts_null=True),
    Status: Form(_whole(200, 599), _range_schema(200, 599)),
    StatusRange: Form(_status_range, STATUS_RANGE_SCHEMA),
    RedirectStatus: Form(_redirect_status, {"enum": list(REDIRECT_STATUSES)}),
    Body: Form(_body, PLAIN_VALUE),
    ContentType: Form(_content_type, _text_schema(rf"{TOKEN}/{TOKEN}( *;{VISIBLE})?")),
    Location: Form(_location, _text_schema(r"[!-~]+")),
    JoinByThemselves: Form(_join_by_themselves, {"const": True}),
    TcpCheck: _only("tcp", "{path: PATH}"),
    FileName: Form(_file_name, {"type": "string", "minLength": 1}),
    DnsName: Form(_dns_name, _any_case_schema(f"{DNS_HOST_PORT}|{SRV_NAME}")),
    StoreUrl: Form(_store_url, _text_schema(STORE_URL)),
    UserName: Form(_user_name, {"type": ["string", "number"], "minLength": 1}),
    Image: Form(_image, _text_schema(IMAGE, maxLength=MAX_IMAGE_CHARS)),
    Cpus: Form(_cpus, {"type": "number", "minimum": CPUS[0], "maximum": CPUS[1]}),
    Memory: Form(_memory, SIZE_SCHEMA),
}
