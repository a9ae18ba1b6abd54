"""The topology file's shape: one attrs class per mapping in it, in the file's own words.

The reader makes these, and the JSON Schema is made from them. `build` and `diff` take keys and values of the model from
them too, so a key exists in all or in none. They hold what is in the file and nothing else: a key that is not given is
None, and defaults are the model's. `MODEL` is the class of the model that a mapping becomes, `field` the name of its
attribute where that is not the key. `RULES` and the marks `l7_only` and `l4_only` hold what involves more than one key.
"""

from collections.abc import Iterator
from typing import ClassVar

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import AcceptProxy, ProxyVersion, TierListener
from tierlb.model.tls import AdminTls, Tls
from tierlb.model.topology import (
    Admin,
    ClientAbort,
    ForwardedFields,
    Forwarding,
    HealthCheck,
    Kind,
    Limits,
    Orca,
    OutlierDetection,
    Paths,
    Policy,
    PoolProtocol,
    Resources,
    Run,
    SharedStore,
    Tier,
    Timeouts,
)
from tierlb.topology import forms
from tierlb.topology import http_forms as http
from tierlb.topology import net_forms as net
from tierlb.topology.problems import Path
from tierlb.topology.route_shapes import RouteShape, To
from tierlb.topology.tls_shapes import ListenerTlsShape, NoTlsWord, PoolTlsShape
from tierlb.topology.typed import Schema, at_most_one, exactly_one, needs, optional, required, schema_only

TLS_ONLY = ("ca", "certificate", "key")
"""Keys of `store` that have no effect where its URL is without TLS."""
TIER_DEMANDS: dict[str, Schema] = {
    "hash_on": {"properties": {"balance": {"const": Policy.MAGLEV.value}}, "required": ["balance"]},
    "agent_check": {"properties": {"replicas": {"type": "integer", "maximum": 1}}},
    "protocol": {"properties": {"kind": {"const": Kind.L4.value}}},
    "responses": {"properties": {"protocol": {"const": Transport.UDP.value}}, "required": ["protocol"]},
}
ABOUT_RESOURCES = (
    "what each container may use, in compose and Kubernetes; under `tierlb up` processes share the machine"
)


@attrs.frozen(kw_only=True)
class AdminTlsShape:
    MODEL: ClassVar = AdminTls
    certificate: forms.FileName = required("PEM file of the certificate that the admin API shows")
    key: forms.FileName = required("PEM file of its private key, without a passphrase")


@attrs.frozen(kw_only=True)
class AdminShape:
    listen: net.Listen = required("HOST:PORT of the controller's API (default 127.0.0.1:7900)")
    hosts: tuple[net.ApiHost, ...] | None = optional(
        "names and addresses by which other machines call it, such as lb.internal, without ports"
    )
    tls: AdminTlsShape | None = optional("serve it by https; files beside this one")


@attrs.frozen(kw_only=True)
class TimeoutsShape:
    MODEL: ClassVar = Timeouts
    head: forms.Seconds | None = optional(
        "from the first byte of a request head to its last; at l4, how long a connection waits for the ClientHello "
        "that its route depends on (default 10s)"
    )
    idle: forms.Seconds | None = optional(
        "a kept-alive connection between requests; at l4, no byte either way (default 75s, at l4 5m, with udp 30s)"
    )
    connect: forms.Seconds | None = optional("connecting to a child or endpoint; not with protocol: udp")
    response: forms.Seconds | None = optional("from the request sent to the response head", l7_only=True)
    stream: forms.Seconds | None = optional("no byte of a body either way", l7_only=True)


@attrs.frozen(kw_only=True)
class LimitsShape:
    MODEL: ClassVar = Limits
    connections: forms.ConnectionCount | None = optional("open connections per node; with protocol: udp sessions")
    head: forms.HeadSize | None = optional("bytes of a request head, such as 32KiB", l7_only=True)
    headers: forms.HeaderCount | None = optional("fields in a request head", l7_only=True)
    body: forms.Size | None = optional("bytes of a request body, such as 10MB; any length if left out", l7_only=True)
    body_rate: forms.LeastBodyRate | None = optional(
        "bytes a second that a request body must bring over 10 s of reading (default 240), else 408; off: any rate",
        l7_only=True,
    )


@attrs.frozen(kw_only=True)
class HashOnShape:
    header: http.HashHeader = required("the header field whose value is hashed", l7_only=True)


@attrs.frozen(kw_only=True)
class ResourcesShape:
    MODEL: ClassVar = Resources
    cpus: forms.Cpus | None = optional("cores, such as 0.5")
    memory: forms.Memory | None = optional("such as 256MiB", field="memory_bytes")


@attrs.frozen(kw_only=True)
class AcceptProxyShape:
    MODEL: ClassVar = AcceptProxy
    accept_from: tuple[net.CidrNetwork, ...] = required(
        "networks of balancers above, such as 10.0.0.0/8: what they connect begins with a PROXY header (v1 or v2)"
    )


@attrs.frozen(kw_only=True)
class ListenerShape:
    MODEL: ClassVar = TierListener
    address: net.PublicListen = required("HOST:PORT, *:PORT or unix:/PATH")
    mode: net.SocketMode | None = optional('the permissions of a unix socket, such as "0660" (default by the umask)')
    redirect_https: net.HttpsPort | None = optional(
        "answer each request with 308 to the same URL by https, as at port 80: true, or the port of https if it is not "
        "443",
        l7_only=True,
    )
    proxy_protocol: AcceptProxyShape | None = optional("of this listener alone, in the place of the tier's")
    tls: NoTlsWord | ListenerTlsShape | None = optional(
        "what clients speak at this listener, in the place of the tier's: a mapping as there, or off"
    )


@attrs.frozen(kw_only=True)
class TierShape:
    MODEL: ClassVar = Tier
    RULES: ClassVar = (exactly_one("to", "routes"), schema_only(TIER_DEMANDS))
    kind: Kind = required("what the tier balances: connections (l4) or requests (l7)")
    listen: net.PublicListen | ListenerShape | tuple[net.PublicListen | ListenerShape, ...] | None = optional(
        "where clients connect, inner tiers need none: HOST:PORT, *:PORT for all addresses of IPv4 and IPv6, "
        "unix:/PATH, a mapping of one of these and its settings, or a list of these"
    )
    proxy_protocol: AcceptProxyShape | None = optional(
        "balancers above that announce their clients with the PROXY protocol, at all listeners of the tier"
    )
    protocol: Transport | None = optional("what an l4 tier takes: tcp (the default) or udp, as sessions by client")
    replicas: forms.NodeCount | None = optional(
        "number of nodes (default 1); auto: one per core that the machine or the cgroup of `tierlb up` gives"
    )
    cpus: forms.CpuSet | tuple[forms.CpuRange, ...] | None = optional(
        "CPUs that nodes are pinned to, such as [0, 1] or 0-3: each node to one of them, in turn; auto: of all that "
        "`tierlb up` may use. In containers all nodes of the tier share them"
    )
    balance: Policy | None = optional("how a node chooses among hosts (default load-aware)")
    hash_on: forms.HashSource | HashOnShape | None = optional(
        "with balance maglev: what keeps a client at its host, source (its address, the default) or {header: NAME}",
        field="hash_header",
    )
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    routes: tuple[RouteShape, ...] | None = optional(
        "the first that matches a request or, at l4, a connection decides; where none does, l7 answers 404 and l4 "
        "closes the connection"
    )
    orca: Orca | None = optional("add the node's load to each response, as text, json or bin", l7_only=True)
    agent_check: net.FixedListen | None = optional("HOST:PORT where the node answers HAProxy's agent-check")
    trusted_peers: tuple[net.CidrNetwork, ...] | None = optional(
        "networks whose X-Forwarded-* and Forwarded fields are kept", l7_only=True
    )
    forwarded: ForwardedFields | None = optional(
        "the fields in which endpoints get the client's address, protocol and host: x-forwarded (X-Forwarded-For, "
        "-Proto and -Host, the default), rfc7239 (Forwarded) or both; those of trusted peers are continued: "
        "Forwarded only where they write no X-Forwarded-For",
        l7_only=True,
    )
    paths: Paths | None = optional(
        "normalised (the default: the normal form of a path is matched and forwarded) or as-sent", l7_only=True
    )
    client_abort: ClientAbort | None = optional(
        "what becomes of a request whose client left while it waited: cancel (the default) or finish", l7_only=True
    )
    forward: Forwarding | None = optional(
        "how connections get to a host: auto (the default: handoff where possible, else relay), handoff (the socket "
        "itself goes to a node on this machine, and counts to its limits.connections only), relay (bytes are copied "
        "both ways) or nftables (the kernel forwards; needs CAP_NET_ADMIN, and hosts whose answers come back through "
        "this machine)",
        l4_only=True,
    )
    timeouts: TimeoutsShape | None = optional("how long each phase may last, such as 250ms, 2s or 1m30s")
    limits: LimitsShape | None = optional("caps per node")
    responses: forms.ResponseCount | None = optional(
        "with protocol udp: how many datagrams answer one of the client's, so that a session ends when all have come "
        "(1 for DNS); left out: it ends when it is idle"
    )
    drain: forms.Seconds | None = optional(
        "how long requests and connections under way may go on at a node that is drained or stopped (default 30s)",
        field="drain_s",
    )
    tls: ListenerTlsShape | None = optional(
        "clients speak TLS, at all listeners without tls of their own, and on connections that l4 tiers above pass on. "
        "Files beside this one"
    )
    resources: ResourcesShape | None = optional(ABOUT_RESOURCES)


def listed_listeners(tier: TierShape) -> tuple[Address | ListenerShape, ...]:
    """Where the tier listens, as a list however it is written."""
    return tier.listen if isinstance(tier.listen, tuple) else () if tier.listen is None else (tier.listen,)


def listener_address(given: Address | ListenerShape) -> Address:
    """The address of an entry of the list."""
    return given if isinstance(given, Address) else given.address


def places_of_listeners(tier: TierShape, path: Path) -> Iterator[tuple[Path, Address | ListenerShape]]:
    """The tier's listeners, each with its path in the file, where that of the tier is `path`."""
    for index, given in enumerate(listed_listeners(tier)):
        yield (*path, "listen", index) if isinstance(tier.listen, tuple) else (*path, "listen"), given


def places_of_tls(tier: TierShape, path: Path) -> Iterator[tuple[Path, ListenerTlsShape]]:
    """The `tls` of the tier and those of its listeners, each with its path in the file."""
    if tier.tls is not None:
        yield (*path, "tls"), tier.tls
    for place, given in places_of_listeners(tier, path):
        if isinstance(given, ListenerShape) and isinstance(given.tls, ListenerTlsShape):
            yield (*place, "tls"), given.tls


def tls_at(tier: TierShape, given: Address | ListenerShape) -> ListenerTlsShape | None:
    """What clients speak at this listener of the tier."""
    own = given.tls if isinstance(given, ListenerShape) else None
    return tier.tls if own is None else own if isinstance(own, ListenerTlsShape) else None


@attrs.frozen(kw_only=True)
class RunShape:
    MODEL: ClassVar = Run
    command: forms.RunCommand = required(
        "started once per replica; {port} is the port, {host} the host it is to listen on"
    )
    replicas: forms.Replicas | None = optional("number of processes (default 1)")
    image: net.Image | None = optional("container image that has the command (default tierlb's own)")
    resources: ResourcesShape | None = optional(ABOUT_RESOURCES)


@attrs.frozen(kw_only=True)
class OutlierShape:
    MODEL: ClassVar = OutlierDetection
    consecutive_errors: forms.ErrorCount | None = optional(
        "5xx answers, resets, cut or late answers in a row that eject; more while others fail too (default 5)"
    )
    consecutive_gateway_errors: forms.ErrorCount | None = optional(
        "the same without 5xx answers; fewer than consecutive_errors (default no threshold of their own)"
    )
    success_rate: forms.Switch | None = optional(
        "false: do not eject endpoints whose success rate is far below the mean of five or more (default true)"
    )
    interval: forms.Seconds | None = optional(
        "how often success rates are compared, and how far back the others' errors count (default 10s)",
        field="interval_s",
    )
    base_ejection: forms.Seconds | None = optional(
        "how long the first ejection lasts; each doubles it up to 5m (default 5s)", field="base_ejection_s"
    )
    max_ejected: forms.EjectedShare | None = optional("the part of the pool that may be out at once (default 50%)")


@attrs.frozen(kw_only=True)
class HealthShape:
    MODEL: ClassVar = HealthCheck
    RULES: ClassVar = (at_most_one("path", "grpc"), needs({"host": "path", "status": "path"}))
    path: http.Target | None = optional("GET this, with a query if need be; left out: a TCP connect is enough")
    grpc: forms.GrpcService | None = optional(
        "true, or the name of a service: the health service of gRPC (grpc.health.v1.Health) must say SERVING; for "
        "protocols of HTTP/2"
    )
    host: net.HostField | None = optional("the request's Host field (default the endpoint's address)")
    interval: forms.Seconds | None = optional("from one check to the next (default 2s)", field="interval_s")
    timeout: forms.Seconds | None = optional(
        "how long a check may take (default 1s, or the interval if that is shorter)", field="timeout_s"
    )
    healthy: forms.ResultCount | None = optional(
        "good results in a row that make an endpoint healthy again (default 2)"
    )
    unhealthy: forms.ResultCount | None = optional("bad results in a row that make an endpoint unhealthy (default 3)")
    status: http.StatusRange | tuple[http.StatusRange, ...] | None = optional(
        "the statuses that are good: one, a range such as 200-299, or a list of these (default 200-399)",
        field="statuses",
    )
    outlier: forms.Off | OutlierShape | None = optional(
        "when endpoints whose answers fail are left out for a while, or off; alone in health it starts no checks"
    )


@attrs.frozen(kw_only=True)
class AgentsShape:
    networks: tuple[net.CidrNetwork, ...] = required(
        "where applications may be, besides the address that their agent joins from, such as 10.0.0.0/8"
    )


@attrs.frozen(kw_only=True)
class EndpointShape:
    weight: forms.Weight | None = optional("its share beside the others (default 1); 0: nothing is sent there")
    admin: Admin | None = optional(
        "drain: nothing new is sent there; maintenance: it is not checked either, and what is left is cut after the "
        "drain time (default ready)"
    )


@attrs.frozen(kw_only=True)
class PoolShape:
    RULES: ClassVar = (
        exactly_one("endpoints", "run", "agents", "dns"),
        at_most_one("agents", "agent_check"),
        needs({"overrides": "dns"}),
    )
    endpoints: tuple[net.Endpoint, ...] | dict[net.Endpoint, forms.Weight | EndpointShape] | None = optional(
        "HOST:PORT of each endpoint: a list, or a mapping to weights (0: nothing is sent there) or to weight and admin"
    )
    run: RunShape | None = optional("start and supervise the endpoints on this machine")
    agents: forms.JoinByThemselves | AgentsShape | None = optional(
        "true: endpoints join by themselves with `tierlb agent`; or a mapping with the networks where they may be"
    )
    dns: net.DnsName | None = optional(
        "NAME:PORT, each of whose addresses is an endpoint, or a name of SRV records such as _http._tcp.api.internal"
    )
    overrides: dict[net.Endpoint, forms.Weight | EndpointShape] | None = optional(
        "weights and admin states of endpoints that are found in DNS, by HOST:PORT: a weight, or weight and admin"
    )
    health: forms.TcpCheck | HealthShape | None = optional("check each endpoint: tcp, or how; and outlier detection")
    tls: PoolTlsShape | None = optional("tiers speak TLS to the endpoints; {}: as the machine trusts them")
    proxy_protocol: ProxyVersion | None = optional(
        "v1 or v2: connections to the endpoints begin with a PROXY header that names the client"
    )
    agent_check: net.Port | None = optional("port where each endpoint's host answers HAProxy's agent-check")
    protocol: PoolProtocol | None = optional(
        "what the endpoints speak with l7 tiers: http/1.1 (the default), h2c (HTTP/2 without TLS, as many gRPC servers "
        "do), or, with tls, h2 (HTTP/2) or auto (HTTP/2 or HTTP/1.1, as each endpoint chooses by ALPN)"
    )


@attrs.frozen(kw_only=True)
class TlsShape:
    MODEL: ClassVar = Tls
    certificate: forms.FileName = required("PEM file of the certificate that nodes and controller show each other")
    key: forms.FileName = required("PEM file of its private key, without a passphrase")
    ca: forms.FileName = required(
        "PEM file of the authorities one of which must have signed the other end's certificate"
    )


@attrs.frozen(kw_only=True)
class SecurityShape:
    tls: TlsShape = required(
        "TLS with certificates of both ends, for the control channel and between tiers; files beside this one"
    )


@attrs.frozen(kw_only=True)
class StoreShape:
    MODEL: ClassVar = SharedStore
    RULES: ClassVar = (
        needs({"certificate": "key", "key": "certificate", "user": "password_file", "password_file": "user"}),
        schema_only({key: {"properties": {"etcd": {"pattern": "^etcds://"}}} for key in TLS_ONLY}),
    )
    etcd: net.StoreUrlText = required("etcd://HOST:PORT,HOST:PORT/PREFIX, or etcds://... with TLS", field="url")
    ca: forms.FileName | None = optional(
        "PEM file of the authority that signed etcd's certificate (default those that the machine trusts)"
    )
    certificate: forms.FileName | None = optional("PEM file of the certificate that etcd is shown")
    key: forms.FileName | None = optional("PEM file of its private key, without a passphrase")
    user: forms.UserName | None = optional(
        "the user to log in as; needs to read and write what is below PREFIX/CLUSTER/"
    )
    password_file: forms.FileName | None = optional("file with the user's password, in one line")


@attrs.frozen(kw_only=True)
class FileShape:
    cluster: forms.Name = required("the cluster's name")
    admin: AdminShape | None = optional("where the controller listens")
    store: net.StoreUrlText | StoreShape | None = optional(
        "where controllers of several machines keep all this: etcd://HOST:PORT,HOST:PORT/PREFIX, or a mapping for TLS "
        "and users (default a directory)"
    )
    security: SecurityShape | None = optional("how the cluster's own connections are protected")
    tiers: dict[forms.Name, TierShape] = required("the tiers of balancers, by name")
    pools: dict[forms.Name, PoolShape] | None = optional("the pools of endpoints, by name")
