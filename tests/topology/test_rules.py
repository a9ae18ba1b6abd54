import pytest

from tierlb.topology.problems import path_text
from tierlb.topology.reading import read_typed
from tierlb.topology.rules import local_faults
from tierlb.topology.shapes import FileShape
from tierlb.topology.source import read_source

BACKSLASHES = r"backslashes and escapes of / \ % ; ? # and control characters"


BETWEEN_KEYS = ("needs one of the keys", "cannot stand beside", "has no effect without")
"""What the reader finds by the rules of the shapes."""


def faults_of(tiers: str, pools: str = "") -> list[str]:
    """Those of the rules, be they between keys or between values."""
    reading = read_typed(FileShape, read_source(f"cluster: x\ntiers:\n  web: {tiers}\n{pools}").data)
    assert reading.value is not None
    faults = [fault for fault in reading.faults if fault.message.startswith(BETWEEN_KEYS)]
    faults += local_faults(reading.value, reading)
    return [f"{path_text(fault.path)}: {fault.message}" for fault in faults]


@pytest.mark.parametrize(
    "tier",
    [
        "{kind: l7, to: {a: 0, b: 1}}",
        "{kind: l4, to: [a, b], timeouts: {idle: 1s, connect: 1s}, limits: {connections: 3}}",
        "{kind: l7, to: a, timeouts: {head: 1s}, limits: {body: 1MB}, trusted_peers: [::1]}",
        "{kind: l7, routes: [{match: {path: /a}, respond: {}}, {match: {path: /b}, to: a}, {to: a}]}",
        "{kind: l7, routes: [{respond: {status: 204}}]}",
        "{kind: l7, paths: normalised, routes: [{match: {path: '/caf%c3%a9/%61,b/.well-known/x..y'}, to: a}]}",
        "{kind: l7, paths: as-sent, routes: [{match: {path: '//a;b/../c%2Fd%'}, to: a}]}",
        "{kind: l4, to: a, balance: maglev, hash_on: source, agent_check: ':9', replicas: 1}",
        "{kind: l7, to: a, balance: maglev, hash_on: {header: x-a}, agent_check: ':9', orca: json}",
        "{kind: l7, to: a, balance: leastconn, hash_on: source}",
        "{kind: l4, to: a, listen: ':1', proxy_protocol: {accept_from: [::1]}, timeouts: {head: 3s}}",
        "{kind: l4, protocol: tcp, to: a, timeouts: {connect: 1s}}",
        "{kind: l4, timeouts: {head: 1s}, routes: [{match: {sni: a, source: 10.0.0.0/8}, to: a}, {to: {a: 1, b: 2}}]}",
        "{kind: l4, protocol: udp, to: a, responses: 1, timeouts: {idle: 5s}, limits: {connections: 9}, drain: 5s}",
        "{kind: l4, protocol: udp, to: a, balance: maglev, hash_on: source, agent_check: ':9'}",
    ],
)
def test_what_is_right_has_no_fault(tier: str) -> None:
    assert faults_of(tier) == []


@pytest.mark.parametrize(
    ("tier", "fault"),
    [
        ("{kind: l7}", "tiers.web: needs one of the keys to, routes"),
        ("{kind: l7, to: a, routes: [{to: a}]}", "tiers.web.routes: cannot stand beside 'to'"),
        (
            "{kind: l7, routes: [{match: {path: /}}]}",
            "routes[0]: needs one of the keys to, respond, redirect",
        ),
        ("{kind: l7, routes: [{to: a, respond: {}}]}", "routes[0].respond: cannot stand beside 'to'"),
        (
            "{kind: l7, routes: [{match: {path: /a, path_prefix: /a}, to: a}]}",
            "match.path_prefix: cannot stand beside 'path'",
        ),
        ("{kind: l4, routes: [{respond: {}}]}", "tiers.web.routes[0].respond: is for l7 tiers"),
        ("{kind: l4, routes: [{redirect: {location: /}}]}", "tiers.web.routes[0].redirect: is for l7 tiers"),
        ("{kind: l4, routes: [{match: {path: /a}, to: a}]}", "tiers.web.routes[0].match.path: is for l7 tiers"),
        ("{kind: l4, routes: [{match: {host: a}, to: a}]}", "tiers.web.routes[0].match.host: is for l7 tiers"),
        ("{kind: l7, routes: [{match: {sni: a}, to: a}]}", "tiers.web.routes[0].match.sni: is for l4 tiers"),
        ("{kind: l7, routes: [{match: {source: ::1}, to: a}]}", "tiers.web.routes[0].match.source: is for l4 tiers"),
        ("{kind: l4, to: a, trusted_peers: [::1]}", "tiers.web.trusted_peers: is for l7 tiers"),
        (
            "{kind: l4, to: a, listen: {address: ':1', mode: \"0600\"}}",
            "listen.mode: only unix sockets have",
        ),
        ("{kind: l4, to: a, listen: [{address: ':1', mode: \"0600\"}]}", "listen[0].mode: only unix sockets have"),
        ("{kind: l4, to: a, listen: {address: ':1', redirect_https: true}}", "listen.redirect_https: is for l7 tiers"),
        (
            "{kind: l7, to: a, proxy_protocol: {accept_from: [::1]}}",
            "tiers.web.proxy_protocol: has no effect: this tier",
        ),
        (
            "{kind: l4, protocol: udp, to: a, listen: ':1', proxy_protocol: {accept_from: [::1]}}",
            "tiers.web.proxy_protocol: is for connections, and this tier takes datagrams",
        ),
        (
            "{kind: l4, forward: nftables, to: a, listen: {address: ':1', proxy_protocol: {accept_from: [::1]}}}",
            "tiers.web.listen.proxy_protocol: the kernel does not read PROXY headers",
        ),
        ("{kind: l4, protocol: udp, to: a, listen: 'unix:/a'}", "listen: datagrams come to HOST:PORT only"),
        (
            "{kind: l4, forward: nftables, to: a, listen: 'unix:/a'}",
            "forward: the kernel forwards what",
        ),
        ("{kind: l7, protocol: udp, to: a}", "tiers.web.protocol: is for l4 tiers; an l7 tier takes HTTP over TCP"),
        ("{kind: l7, protocol: tcp, to: a}", "tiers.web.protocol: is for l4 tiers"),
        ("{kind: l4, to: a, responses: 1}", "tiers.web.responses: only sessions of an l4 tier with protocol: udp end"),
        ("{kind: l4, protocol: tcp, to: a, responses: 1}", "tiers.web.responses: only sessions of an l4 tier with"),
        ("{kind: l7, to: a, responses: 1}", "tiers.web.responses: only sessions of an l4 tier with protocol: udp"),
        (
            "{kind: l4, protocol: udp, to: a, timeouts: {connect: 1s}}",
            "tiers.web.timeouts.connect: has no effect with protocol: udp, which makes no connections",
        ),
        ("{kind: l4, to: a, timeouts: {head: 1s}}", "tiers.web.timeouts.head: has no effect: no route of this l4 tier"),
        ("{kind: l4, to: a, timeouts: {response: 1s}}", "tiers.web.timeouts.response: is for l7 tiers"),
        ("{kind: l4, to: a, timeouts: {stream: 1s}}", "tiers.web.timeouts.stream: is for l7 tiers"),
        ("{kind: l4, to: a, limits: {headers: 9}}", "tiers.web.limits.headers: is for l7 tiers"),
        ("{kind: l4, to: a, limits: {head: 9KiB}}", "tiers.web.limits.head: is for l7 tiers"),
        ("{kind: l4, to: a, limits: {body: 9KiB}}", "tiers.web.limits.body: is for l7 tiers"),
        ("{kind: l4, to: a, limits: {body_rate: off}}", "tiers.web.limits.body_rate: is for l7 tiers"),
        ("{kind: l4, to: a, client_abort: finish}", "tiers.web.client_abort: is for l7 tiers"),
        ("{kind: l4, to: a, paths: as-sent}", "tiers.web.paths: is for l7 tiers"),
        ("{kind: l7, to: a, forward: relay}", "tiers.web.forward: is for l4 tiers"),
        *(
            (
                f"{{kind: l7, routes: [{{match: {{{key}: '{path}'}}, to: a}}]}}",
                f"tiers.web.routes[0].match.{key}: can never match, because paths are matched without {what}: leave",
            )
            for key, path, what in [
                ("path", "/a//b", "duplicate slashes"),
                ("path", "/a/../b", "segments . and .."),
                ("path", "/a/%2e", "segments . and .."),
                ("path", "/a;b", "parameters (;a=b)"),
                ("path_prefix", "/a;b", "parameters (;a=b)"),
                ("path_prefix", "/100%", "% that begins no escape"),
                ("path_prefix", "/a%2fb", BACKSLASHES),
                ("path_prefix", "/a%00", BACKSLASHES),
                ("path", "/a%25", BACKSLASHES),
                ("path", "/a%3B", BACKSLASHES),
                ("path", "/a%3F", BACKSLASHES),
                ("path", "/a%23", BACKSLASHES),
                ("path", "/a%5c", BACKSLASHES),
                ("path", "/a%7F", BACKSLASHES),
                ("path", r"/a\b", BACKSLASHES),
            ]
        ),
        ("{kind: l4, to: a, orca: text}", "tiers.web.orca: is for l7 tiers"),
        (
            "{kind: l4, to: a, balance: maglev, hash_on: {header: x-a}}",
            "tiers.web.hash_on.header: is for l7 tiers",
        ),
        (
            "{kind: l7, to: a, hash_on: source}",
            "tiers.web.hash_on: only balance: maglev hashes, and the balance here is load-aware: write balance: maglev",
        ),
        (
            "{kind: l7, to: a, balance: weighted, hash_on: {header: x-a}}",
            "tiers.web.hash_on: only balance: maglev hashes, and the balance here is weighted",
        ),
        (
            "{kind: l7, to: a, replicas: 2, agent_check: ':9'}",
            "tiers.web.agent_check: any of the 2 replicas would answer here for another one: write tiers of one",
        ),
        (
            "{kind: l7, to: a, replicas: auto, agent_check: ':9'}",
            "tiers.web.agent_check: any of the one per core replicas would",
        ),
        ("{kind: l7, to: [a, b, a]}", "tiers.web.to[2]: a is listed twice, first as to[0]"),
        ("{kind: l7, to: {a: 0, b: 0.0}}", "tiers.web.to: every share is 0"),
        ("{kind: l7, routes: [{to: {a: 0}}]}", "routes[0].to: every share is 0"),
        (
            "{kind: l7, routes: [{to: a}, {to: b}]}",
            "routes[1]: is never reached: routes[0] before it takes every",
        ),
        (
            "{kind: l7, routes: [{match: {path_prefix: /}, to: a}, {match: {path: /x}, to: b}]}",
            "routes[1]: is never reached: routes[0] before it takes every",
        ),
        (
            "{kind: l7, routes: [{match: {host: A.b}, to: a}, {match: {host: [a.b]}, to: b}]}",
            "routes[1]: is never reached: routes[0] before it has the same match",
        ),
        (
            "{kind: l7, routes: [{respond: {status: 304, body: x}}]}",
            "respond.body: an answer with status 304",
        ),
    ],
)
def test_each_rule_yields_its_one_fault(tier: str, fault: str) -> None:
    (found,) = faults_of(tier)
    assert fault in found


@pytest.mark.parametrize(
    ("pool", "fault"),
    [
        ("{}", "pools.p: needs one of the keys endpoints, run, agents, dns"),
        ("{dns: 'a:1', endpoints: ['[::1]:1']}", "pools.p.dns: cannot stand beside 'endpoints'"),
        ("{dns: 'a:1', agents: true}", "pools.p.dns: cannot stand beside 'agents'"),
        ("{agents: true, endpoints: ['[::1]:1']}", "pools.p.agents: cannot stand beside 'endpoints'"),
        ("{agents: true, agent_check: 9}", "pools.p.agent_check: cannot stand beside 'agents'"),
        ("{endpoints: {localhost:1: 0, localhost:2: 0.0}}", "pools.p.endpoints: every weight is 0"),
        ("{agents: true, health: {host: a}}", "pools.p.health.host: has no effect without 'path'"),
        ("{agents: true, health: {status: 204}}", "pools.p.health.status: has no effect without 'path'"),
        (
            "{agents: true, health: {interval: 500ms, timeout: 1s}}",
            "pools.p.health.timeout: is longer than the interval, 0.5s: write at most that, or a longer interval",
        ),
        ("{agents: true, health: {timeout: 3s}}", "pools.p.health.timeout: is longer than the interval, 2s"),
        (
            "{agents: true, health: {outlier: {consecutive_gateway_errors: 5}}}",
            "pools.p.health.outlier.consecutive_gateway_errors: has no effect: consecutive_errors (5) counts these too",
        ),
        (
            "{agents: true, health: {outlier: {consecutive_errors: 3, consecutive_gateway_errors: 4}}}",
            "pools.p.health.outlier.consecutive_gateway_errors: has no effect: consecutive_errors (3) counts these too",
        ),
        (
            "{endpoints: ['[::1]:1'], run: {command: 'x {port}'}}",
            "pools.p.run: cannot stand beside 'endpoints'",
        ),
        ("{endpoints: [127.0.0.1:1, localhost:1]}", "pools.p.endpoints[1]: 127.0.0.1:1 is listed twice"),
    ],
)
def test_each_pool_rule_yields_its_one_fault(pool: str, fault: str) -> None:
    (found,) = faults_of("{kind: l7, to: p}", f"pools:\n  p: {pool}\n")
    assert fault in found


@pytest.mark.parametrize(
    "pool",
    [
        "{endpoints: {localhost:1: 0, localhost:2: 1}, agent_check: 9}",
        "{agents: true, health: {path: /, host: a, status: 204, interval: 2s, timeout: 2s}}",
        "{agents: true, health: {interval: 500ms}}",
        "{agents: true, health: {outlier: off}}",
        "{agents: true, health: {outlier: {consecutive_gateway_errors: 4}}}",
        "{agents: true, health: {outlier: {consecutive_errors: 9, consecutive_gateway_errors: 8, interval: 1s}}}",
        "{dns: 'a:1', health: tcp, agent_check: 9}",
        "{run: {command: 'x {port}', image: x, resources: {}}}",
        "{agents: true, health: {interval: soon, timeout: 3s}}",
        "{endpoints: {localhost:1: 0, localhost:2: much}}",
    ],
)
def test_a_right_pool_has_no_fault(pool: str) -> None:
    assert faults_of("{kind: l7, to: p}", f"pools:\n  p: {pool}\n") == []


def test_a_mapping_is_not_blamed_for_a_part_that_was_cut_out() -> None:
    assert faults_of("{kind: l7, to: [Wrong]}") == []
    assert faults_of("{kind: l7, routes: [{match: {path: wrong}, to: a}, {to: b}]}") == []


def store_faults_of(store: str) -> list[str]:
    return faults_of("{kind: l7, to: a}", f"store: {store}\n")


@pytest.mark.parametrize(
    "store",
    [
        "etcds://a:1",
        "{etcd: 'etcd://a:1'}",
        "{etcd: 'etcd://a:1', user: ann, password_file: b}",
        "{etcd: 'etcds://a:1'}",
        "{etcd: 'etcds://a:1', ca: a}",
        "{etcd: 'etcds://a:1', ca: a, certificate: b, key: c, user: ann, password_file: d}",
    ],
)
def test_a_right_store_has_no_fault(store: str) -> None:
    assert store_faults_of(store) == []


@pytest.mark.parametrize(
    ("store", "keys", "fault"),
    [
        ("{etcd: 'etcds://a:1', certificate: b}", ["certificate"], "has no effect without 'key': write both or none"),
        ("{etcd: 'etcds://a:1', key: b}", ["key"], "has no effect without 'certificate': write both or none"),
        ("{etcd: 'etcds://a:1', user: b}", ["user"], "has no effect without 'password_file': write both or none"),
        (
            "{etcd: 'etcd://a:1', password_file: b}",
            ["password_file"],
            "has no effect without 'user': write both or none",
        ),
        (
            "{etcd: 'etcd://a:1', ca: a, certificate: b, key: c}",
            ["ca", "certificate", "key"],
            "is for TLS: write etcds:// instead of etcd://, or leave this out",
        ),
    ],
)
def test_each_store_rule_yields_its_faults(store: str, keys: list[str], fault: str) -> None:
    assert store_faults_of(store) == [f"store.{key}: {fault}" for key in keys]
