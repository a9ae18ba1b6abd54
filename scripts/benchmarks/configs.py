"""The configuration each peer gets: text in, text out.

All do the same work: one worker, round robin unless another policy is named (in the product's own words), kept-alive
upstream connections, X-Forwarded-For and -Proto and Via added, no access log, PROXY protocol between the two
levels of a stack. Otherwise each keeps its own defaults, except caps that the load would run into, such as Envoy's
15 s for a whole answer.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

NGINX_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
ENVOY_ROUND_ROBIN = {"lb_policy": "ROUND_ROBIN"}
ENVOY_HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}
"""Of a cluster whose endpoints speak it without TLS."""
ANSWER = "ok " * 33 + "\\n"
COUNTS = "/-/counts"
"""Where a backend says how many requests it has answered."""
HTTP2_STREAMS = 128
"""At once in the measure of HTTP/2: so many connections to endpoints may be kept."""
CALL = "/bench.Echo/Say"
"""The method of gRPC that backends know."""
CALLED = b"\0\0\0\0\x10" + b"sixteen bytes ok"
"""What they are asked with and answer: a message of gRPC, not compressed, behind its length."""
CONNECTIONS = 8192
"""Above the 2 × 1000 connections that the idle measure holds open."""


@attrs.frozen
class Speaks:
    """What an L7 proxy speaks: TLS with clients, HTTP/2 with endpoints. `grpc`: calls of gRPC, `grpc_pass` in nginx."""

    tls: bool = False
    h2c: bool = False
    grpc: bool = False


PLAIN = Speaks()


@attrs.frozen
class Hop:
    """One proxy process: where it listens, what it sends to (all `127.0.0.1:port`)."""

    listen: str
    upstreams: tuple[str, ...]
    after_proxy: bool = False
    """Connections open with a PROXY protocol header."""
    before_proxy: bool = False
    """Upstream connections are to open with one."""
    streams: bool = False
    """Bodies flow both ways at once, so that none may be collected before it is passed on."""
    http2: str = ""
    """Where it listens for HTTP/2, if its port for HTTP/1.1 does not speak that too."""
    speaks: Speaks = PLAIN
    certificate: Path | None = None
    """Its PEM file with the key in it, where it speaks TLS."""


def backend(listen: str, directory: Path, http2: str = "") -> str:
    """An nginx that answers everything with a small 200 and never ends a connection by itself. At `http2` it speaks
    HTTP/2 without TLS. There it answers calls of gRPC with a file, which POST may get by a detour only, and reads them
    whole before, as a server of gRPC does: that is what `mirror` does here."""
    calls = f"""
        location {Path(CALL).parent}/ {{ mirror /nowhere; root {directory}; error_page 405 =200 /answers$uri; }}
        location = /nowhere {{ internal; return 204; }}
        location /answers/ {{
            internal;
            alias {directory}/;
            default_type application/grpc;
            add_trailer grpc-status 0;
        }}"""
    server = f"""
    server {{
        listen {listen} backlog=4096;
        {f"listen {http2} http2 backlog=4096;" if http2 else ""}
        default_type text/plain;
        location / {{ return 200 "{ANSWER}"; }}
        location = {COUNTS} {{ stub_status; }}{calls if http2 else ""}
    }}"""
    if http2:
        answer = directory / CALL.lstrip("/")
        answer.parent.mkdir(exist_ok=True)
        answer.write_bytes(CALLED)
    return _nginx(directory, "http", _nginx_http_common(directory) + server)


def nginx_http(hop: Hop, directory: Path, balance: str = "", kept: int = 64) -> str:
    """nginx as an L7 proxy. `balance`: a directive such as `least_conn;`. `kept`: idle upstream connections."""
    from_edge = "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;" if hop.after_proxy else ""
    tls = hop.certificate
    body = f"""
    upstream out {{
        {balance}
        {_lines("server {};", hop.upstreams)}
        keepalive {max(kept, HTTP2_STREAMS) if hop.http2 or hop.certificate else kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {hop.listen}{" proxy_protocol" if hop.after_proxy else ""}{" ssl http2" if tls else ""} backlog=4096;
        {f"listen {hop.http2} http2 backlog=4096;" if hop.http2 else ""}
        {f"ssl_certificate {tls}; ssl_certificate_key {tls}; ssl_protocols TLSv1.2 TLSv1.3;" if tls else ""}
        {from_edge}
        location / {{
            {"grpc_pass grpc" if hop.speaks.grpc else "proxy_pass http"}://out;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Via "1.1 nginx";
            {"proxy_request_buffering off; proxy_buffering off;" if hop.streams else ""}
        }}
    }}"""
    return _nginx(directory, "http", _nginx_http_common(directory) + body)


def nginx_stream(hop: Hop, directory: Path, balance: str = "") -> str:
    """nginx as an L4 proxy."""
    body = f"""
    access_log off;
    upstream out {{
        {balance}
        {_lines("server {};", hop.upstreams)}
    }}
    server {{
        listen {hop.listen} backlog=4096;
        proxy_pass out;
        {"proxy_protocol on;" if hop.before_proxy else ""}
    }}"""
    return f"load_module {NGINX_STREAM_MODULE};\n" + _nginx(directory, "stream", body)


def nginx_datagrams(listen: str, endpoints: Sequence[str], directory: Path, *, one_answer: bool) -> str:
    """nginx as an L4 proxy over UDP."""
    body = f"""
    access_log off;
    upstream out {{
        {_lines("server {};", endpoints)}
    }}
    server {{
        listen {listen} udp;
        proxy_pass out;
        proxy_timeout 30s;
        {"proxy_responses 1;" if one_answer else ""}
    }}"""
    return f"load_module {NGINX_STREAM_MODULE};\n" + _nginx(directory, "stream", body)


def tierlb_datagrams(listen: str, admin: str, endpoints: Sequence[str], *, one_answer: bool) -> str:
    """tierlb as an L4 proxy over UDP."""
    responses = "\n    responses: 1" if one_answer else ""
    return f"""cluster: bench
admin: {{listen: "{admin}"}}
tiers:
  edge:
    kind: l4
    protocol: udp
    listen: "{listen}"{responses}
    balance: round-robin
    to: app
pools:
  app: {{endpoints: [{", ".join(f'"{each}"' for each in endpoints)}]}}
"""


def _nginx(directory: Path, section: str, body: str) -> str:
    user = "user root;\n" if os.geteuid() == 0 else ""  # else the worker could not write into its directory
    return f"""{user}daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {CONNECTIONS}; }}
{section} {{{body}
}}
"""


def _nginx_http_common(directory: Path) -> str:
    spools = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""
    access_log off;
    keepalive_requests 1000000000;
    {_lines("{0}_temp_path " + str(directory) + "/{0};", spools)}"""


def haproxy(hop: Hop, mode: str, balance: str = "roundrobin") -> str:
    """HAProxy in mode `http` or `tcp`."""
    http = """
    option forwardfor
    http-reuse always
    http-request set-header X-Forwarded-Proto http
    http-request set-header Via "1.1 haproxy"
"""
    servers = [f"s{number} {upstream}" for number, upstream in enumerate(hop.upstreams)]
    options = (" send-proxy-v2" if hop.before_proxy else "") + (" proto h2" if hop.speaks.h2c else "")
    tls = f" ssl crt {hop.certificate} alpn h2,http/1.1" if hop.certificate else ""
    return f"""global
    nbthread 1
    maxconn 4000

defaults
    mode {mode}
    maxconn 4000
    timeout connect 5s
    timeout client 75s
    timeout server 75s

listen in
    bind {hop.listen}{" accept-proxy" if hop.after_proxy else ""}{tls}
    balance {balance}{http if mode == "http" else ""}
    {_lines("server {}" + options, servers)}
"""


def envoy_http(hop: Hop, balance: Mapping[str, object] = ENVOY_ROUND_ROBIN) -> str:
    """Envoy as an L7 proxy. `balance`: the fields of a cluster that say how."""
    return _envoy(
        hop,
        balance,
        "http_connection_manager.v3.HttpConnectionManager",
        {
            "use_remote_address": True,
            "via": "envoy",
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": envoy_type("filters.http.router.v3.Router")},
                }
            ],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "out", "timeout": "0s"}}],
                    }
                ]
            },
        },
    )


def envoy_tcp(hop: Hop, balance: Mapping[str, object] = ENVOY_ROUND_ROBIN) -> str:
    """Envoy as an L4 proxy."""
    return _envoy(hop, balance, "tcp_proxy.v3.TcpProxy", {"cluster": "out"})


def _envoy(hop: Hop, balance: Mapping[str, object], filter_type: str, settings: dict[str, object]) -> str:
    network_filter = {
        "name": "in",
        "typed_config": {
            "@type": envoy_type(f"filters.network.{filter_type}"),
            "stat_prefix": "in",
            **settings,
        },
    }
    caps = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100_000)
    cluster = {
        "name": "out",
        "type": "STATIC",
        "connect_timeout": "5s",
        **balance,
        **(ENVOY_HTTP2 if hop.speaks.h2c else {}),
        "circuit_breakers": {"thresholds": [caps]},
        "load_assignment": {
            "cluster_name": "out",
            "endpoints": [{"lb_endpoints": [{"endpoint": _envoy_address(to)} for to in hop.upstreams]}],
        },
    }
    chain = {"filters": [network_filter], **(_envoy_tls(hop.certificate) if hop.certificate else {})}
    listener = {"name": "in", **_envoy_address(hop.listen), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1)


def envoy_type(name: str) -> str:
    """The type URL of an extension's configuration."""
    return f"type.googleapis.com/envoy.extensions.{name}"


def _envoy_tls(certificate: Path) -> dict[str, object]:
    """The part of a filter chain that makes it speak TLS."""
    both = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(certificate)}}
    context = {"tls_certificates": [both], "alpn_protocols": ["h2", "http/1.1"]}
    typed = {"@type": envoy_type("transport_sockets.tls.v3.DownstreamTlsContext"), "common_tls_context": context}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed}}


def _envoy_address(text: str) -> dict[str, object]:
    host, _, port = text.rpartition(":")
    return {"address": {"socket_address": {"address": host, "port_value": int(port)}}}


def tierlb(
    shape: str,
    listen: str,
    admin: str,
    endpoints: Sequence[str],
    balance: str = "round-robin",
    forward: str = "auto",
    h2c: bool = False,
    certificate: Path | None = None,
) -> str:
    """A topology file: `l7` or `l4` alone, or an l4 edge over two l7 nodes (`stacked`), to which connections get by
    `forward`. With `certificate` it speaks TLS, with `h2c` its endpoints speak HTTP/2. JSON is YAML."""
    front: dict[str, object] = {"listen": listen, "balance": balance}
    if certificate is not None:
        files = {"certificate": str(certificate), "key": str(certificate)}
        front["tls"] = {"certificates": [files], "alpn": ["h2", "http/1.1"]}
    tiers = {
        "l7": {"web": {"kind": "l7", **front, "to": "app"}},
        "l4": {"edge": {"kind": "l4", **front, "to": "app"}},
        "stacked": {
            "edge": {"kind": "l4", **front, "forward": forward, "to": "web"},
            "web": {"kind": "l7", "replicas": 2, "balance": balance, "to": "app"},
        },
    }[shape]
    pools = {"app": {"endpoints": list(endpoints), **({"protocol": "h2c"} if h2c else {})}}
    whole = {"cluster": "bench", "admin": {"listen": admin}, "tiers": tiers, "pools": pools}
    return json.dumps(whole, indent=1)


def _lines(template: str, values: Sequence[str]) -> str:
    return "\n        ".join(template.format(value) for value in values)
