import pytest

from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError


def problems_of(tiers: str, pools: str = "", admin: str = "") -> list[str]:
    """`PATH: MESSAGE` of each problem of a file with these tiers and pools."""
    text = f"cluster: x\n{admin}\ntiers:\n" + indented(tiers) + (f"pools:\n{indented(pools)}" if pools else "")
    try:
        load_text(text, "f")
    except TopologyError as error:
        return [f"{problem.path}: {problem.message}" for problem in error.problems]
    return []


def indented(block: str) -> str:
    return "".join(f"  {line}\n" for line in block.splitlines())


P = "p: {endpoints: [127.0.0.1:9001]}"


@pytest.mark.parametrize(
    ("tiers", "pools"),
    [
        ("a: {kind: l7, listen: ':80', to: [b, p]}\nb: {kind: l4, to: p}", P),
        ("a: {kind: l7, listen: ['0.0.0.0:80', '[::]:80', '*:81', 'unix:/a', 'unix:/b'], to: p}", P),
        ("a: {kind: l7, listen: 'unix:/a', to: p}", "p: {endpoints: ['unix:/b', '[::1]:80']}"),
        ("a: {kind: l7, listen: ':0', to: p}\nb: {kind: l7, listen: ':0', to: p}", P),
        ("a: {kind: l7, listen: '127.0.0.1:80', to: p}\nb: {kind: l7, listen: '127.0.0.2:80', to: p}", P),
        ("a: {kind: l7, listen: '[::]:80', to: p}\nb: {kind: l7, listen: '127.0.0.1:80', to: p}", P),
        ("a: {kind: l7, listen: ':80', replicas: 5, to: p}", P),
        ("a: {kind: l7, listen: ':80', to: {b: 0, p: 1}}\nb: {kind: l7, to: p}", P),
        ("a: {kind: l7, listen: ':80', to: p}", "p: {endpoints: [10.0.0.7:80]}"),
        (
            "a: {kind: l7, listen: ':80', to: p}\nb: {kind: l7, listen: ':81', to: q}",
            P + "\nq: {endpoints: ['[::1]:80']}",
        ),
        ("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {endpoints: {127.0.0.1:1: 2}}"),
        ("a: {kind: l7, listen: ':80', balance: maglev, to: p}", "p: {endpoints: {127.0.0.1:1: 2}}"),
        ("a: {kind: l7, listen: ':80', to: p}", "p: {endpoints: {127.0.0.1:1: 2}}"),
        ("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {dns: _http._tcp.api.internal}"),
        (
            "a: {kind: l7, listen: ':80', balance: weighted, to: p}",
            "p: {dns: 'api:80', overrides: {10.0.0.1:80: 3}}",
        ),
        ("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {endpoints: [127.0.0.1:1], agent_check: 9}"),
        (
            "a: {kind: l7, listen: ':80', balance: weighted, to: {p: 1, q: 2}}",
            P + "\nq: {endpoints: {127.0.0.1:1: 2}}",
        ),
        ("a: {kind: l7, listen: '127.0.0.1:80', agent_check: '127.0.0.1:81', to: p}", "p: {agents: true}"),
        ("a: {kind: l4, listen: ':53', to: p}\nb: {kind: l4, protocol: udp, listen: ':53', to: p}", P),
        ("a: {kind: l4, protocol: udp, listen: ':53', to: b}\nb: {kind: l4, protocol: udp, to: p}", P),
        ("a: {kind: l4, protocol: udp, listen: ':7900', to: p}", P),
        ("a: {kind: l4, protocol: udp, listen: ':53', agent_check: ':53', to: p}", P),
        ("a: {kind: l4, protocol: udp, listen: ':53', to: p}", "p: {endpoints: [10.0.0.7:53], health: {path: /}}"),
    ],
)
def test_right_clusters_have_no_problem(tiers: str, pools: str) -> None:
    assert problems_of(tiers, pools) == []


@pytest.mark.parametrize(
    ("tiers", "pools", "problem"),
    [
        (
            "a: {kind: l4, protocol: udp, listen: ':53', to: b}\nb: {kind: l7, to: p}",
            P,
            "tiers.a.to: 'b' is an l7 tier, which takes HTTP over TCP, and 'a' sends datagrams: send to a pool or",
        ),
        (
            "a: {kind: l4, protocol: udp, listen: ':53', to: [b, p]}\nb: {kind: l4, to: p}",
            P,
            "tiers.a.to[0]: 'b' takes TCP connections, and 'a' sends datagrams: give 'b' protocol: udp too",
        ),
        (
            "a: {kind: l4, listen: ':53', to: {b: 1}}\nb: {kind: l4, protocol: udp, to: p}",
            P,
            "tiers.a.to.b: 'b' takes datagrams (protocol: udp), and 'a' sends over TCP: give both one protocol",
        ),
        (
            "a: {kind: l7, listen: ':80', to: b}\nb: {kind: l4, protocol: udp, to: p}",
            P,
            "tiers.a.to: 'b' takes datagrams (protocol: udp), and 'a' sends over TCP: send to another tier, or to a",
        ),
        (
            "a: {kind: l4, protocol: udp, listen: ':53', to: b}\nb: {kind: l4, protocol: udp, responses: 1, to: p}",
            P,
            "tiers.b.responses: sessions end here while those of 'a' above go on, and then lose datagrams: "
            "give 'a' responses: 1 too, or leave this out",
        ),
        (
            "a: {kind: l4, protocol: udp, listen: ':53', to: p}\nb: {kind: l4, protocol: udp, listen: ':53', to: p}",
            P,
            "tiers.b.listen: port 53 is already used by tiers.a.listen",
        ),
        (
            "a: {kind: l4, protocol: udp, listen: '127.0.0.1:53', to: p}\nb: {kind: l4, listen: ':54', to: p}",
            "p: {endpoints: [127.0.0.1:53]}",
            "pools.p.endpoints[0]: tier 'a' listens here and sends to this pool: a loop",
        ),
        ("a: {kind: l7, listen: ':80', to: [p, ap]}", P, "tiers.a.to[1]: no tier or pool named 'ap'"),
        ("apple: {kind: l7, listen: ':80', to: {p: 1, aple: 1}}", P, "named 'aple' (did you mean 'apple'?)"),
        (
            "a: {kind: l7, listen: ':80', routes: [{to: x}]}",
            "",
            "tiers.a.routes[0].to: no tier or pool named 'x'",
        ),
        ("p: {kind: l7, listen: ':80', to: q}", P, "pools.p: a tier has this name too"),
        (
            "a: {kind: l4, listen: ':80', routes: [{match: {port: [80, 443]}, to: b}]}\nb: {kind: l4, to: p}",
            P,
            "tiers.a.routes[0].match.port: no client connects to port 443: the tier gets those of 80",
        ),
        (
            "a: {kind: l4, listen: ':80', to: b}\nb: {kind: l4, routes: [{match: {port: 81}, to: p}, {to: p}]}",
            P,
            "tiers.b.routes[0].match.port: no client connects to port 81: the tier gets those of 80",
        ),
        (
            "a: {kind: l4, forward: nftables, listen: ':80', to: b}\n"
            "b: {kind: l4, routes: [{match: {port: 80}, to: p}, {to: p}]}",
            P,
            "tiers.b.routes[0].match.port: the kernel changes the port on the way from tier 'a'",
        ),
        (
            "a: {kind: l4, listen: ':443', to: b, tls: {certificates: [{certificate: a, key: b}]}}\n"
            "b: {kind: l4, routes: [{match: {sni: x.y}, to: p}, {to: p}]}",
            P,
            "tiers.b.routes[0].match.sni: no ClientHello comes here, as tier 'a' above ends TLS: match it in routes",
        ),
        (
            "a: {kind: l7, listen: ':80', to: b}\nb: {kind: l4, to: c}\n"
            "c: {kind: l4, routes: [{match: {port: 80}, to: p}, {to: p}]}",
            P,
            "tiers.c.routes[0].match.port: is that of the l7 node above",
        ),
        (
            "a: {kind: l7, listen: ':80', to: b}\n"
            "b: {kind: l4, routes: [{match: {source: 10.0.0.0/8}, to: p}, {to: p}]}",
            P,
            "tiers.b.routes[0].match.source: is that of the l7 node above",
        ),
        ("a: {kind: l7, listen: ':80', to: a}", "", "tiers.a.to: a cycle: a → a"),
        (
            "a: {kind: l7, listen: ':80', to: b}\nb: {kind: l7, to: c}\nc: {kind: l7, to: [p, b]}",
            P,
            "tiers.c.to[1]: a cycle: b → c → b",
        ),
        (
            "a: {kind: l7, listen: ':80', to: p}\nb: {kind: l7, to: p}",
            P,
            "tiers.b: nothing reaches this tier: give",
        ),
        (
            "a: {kind: l7, listen: ':80', to: p}\nb: {kind: l7, to: c}\nc: {kind: l7, to: p}",
            P,
            "tiers.c: nothing reaches this tier: only tiers such as 'b'",
        ),
        (
            "a: {kind: l7, listen: ':80', to: p}",
            P + "\nq: {endpoints: [127.0.0.1:1]}",
            "pools.q: no tier sends",
        ),
        (
            "a: {kind: l7, listen: ':80', to: p}\nb: {kind: l7, listen: ':80', to: p}",
            P,
            "already used by tiers.a.listen",
        ),
        (
            "a: {kind: l7, listen: '127.0.0.1:80', to: p}\nb: {kind: l7, listen: ':80', to: p}",
            P,
            "tiers.b.listen: port 80 is already used by tiers.a.listen",
        ),
        (
            "a: {kind: l7, listen: '*:80', to: p}\nb: {kind: l7, listen: '10.0.0.1:80', to: p}",
            P,
            "tiers.b.listen: port 80 is already used by tiers.a.listen",
        ),
        (
            "a: {kind: l7, listen: ':80', to: p}\nb: {kind: l7, listen: ':81', agent_check: '127.0.0.1:80', to: p}",
            P,
            "tiers.b.agent_check: port 80 is already used by tiers.a.listen",
        ),
        (
            "a: {kind: l7, listen: ':80', agent_check: ':80', to: p}",
            P,
            "tiers.a.agent_check: port 80 is already used by tiers.a.listen",
        ),
        (
            "a: {kind: l7, listen: ':80', balance: weighted, to: p}",
            P,
            "tiers.a.balance: nothing that it sends to ('p') has weights: write pools: {p: {endpoints: {HOST:PORT",
        ),
        (
            "a: {kind: l4, listen: ':80', forward: handoff, to: [b, p]}\nb: {kind: l7, to: p}",
            P,
            "tiers.a.forward: only nodes take sockets that are handed over, and 'p' is a pool: write auto",
        ),
        (
            "a: {kind: l4, listen: ':80', balance: weighted, to: [b, c]}\nb: {kind: l7, to: p}\nc: {kind: l7, to: p}",
            "p: {endpoints: {127.0.0.1:1: 2}}",
            "tiers.a.balance: nothing that it sends to ('b', 'c') has weights: weights belong",
        ),
        ("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {dns: 'api:80'}", "tiers.a.balance: nothing"),
        ("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {agents: true}", "tiers.a.balance: nothing"),
        (
            "a: {kind: l7, listen: ':80', balance: weighted, to: b}\nb: {kind: l7, to: p}",
            "p: {endpoints: {127.0.0.1:81: 2, 127.0.0.1:80: 1}}",
            "pools.p.endpoints.'127.0.0.1:80': tier 'a' listens here",
        ),
        (
            "a: {kind: l4, listen: ':80', to: p}",
            "p: {agents: true, health: {interval: 2s, outlier: off}}",
            "pools.p.health.outlier: has no effect: it uses the answers, which the l4 tier 'a' does not parse",
        ),
        ("a: {kind: l7, listen: ':7900', to: p}", P, "port 7900 is already used by admin.listen"),
        (
            "a: {kind: l7, listen: ':80', to: b}\nb: {kind: l7, to: p}",
            "p: {endpoints: [127.0.0.1:9001, 127.0.0.1:80]}",
            "pools.p.endpoints[1]: tier 'a' listens here and sends to this pool: a loop",
        ),
    ],
)
def test_each_cross_check_says_what_is_wrong_and_where(tiers: str, pools: str, problem: str) -> None:
    assert any(problem in found for found in problems_of(tiers, pools)), problems_of(tiers, pools)


def test_the_admin_port_can_be_moved_out_of_the_way() -> None:
    tier = "a: {kind: l7, listen: '127.0.0.1:7900', to: p}"
    assert problems_of(tier, P, "admin: {listen: 127.0.0.1:7901}") == []
    assert len(problems_of(tier, P)) == 1


def test_a_problem_elsewhere_does_not_hide_an_unreached_tier() -> None:
    tiers = "a: {kind: l7, listen: ':80', replicas: 0, to: p}\nb: {kind: l7, to: p}"
    assert [found.split(":")[0] for found in problems_of(tiers, P)] == ["tiers.a.replicas", "tiers.b"]


def test_a_link_that_was_cut_out_makes_no_false_alarm() -> None:
    tiers = "a: {kind: l7, listen: ':80', to: [b, -], balance: random}\nb: {kind: l7, to: p}"
    assert [found.split(":")[0] for found in problems_of(tiers, P)] == ["tiers.a.to[1]"]


def test_chains_longer_than_the_recursion_limit_are_walked() -> None:
    chain = "a0: {kind: l7, listen: ':80', to: a1}\n"
    chain += "".join(f"a{n}: {{kind: l7, to: a{n + 1}}}\n" for n in range(1, 1500))
    assert problems_of(chain + "a1500: {kind: l7, to: p}", P) == []
    (found,) = problems_of(chain + "a1500: {kind: l7, to: [p, a0]}", P)
    assert "a cycle: a0 → a1 → a2 → a3 → a4 → a5 → … →" in found


def test_a_mistyped_name_is_not_told_again_as_an_unreached_tier() -> None:
    (found,) = problems_of("edge: {kind: l4, listen: ':80', to: wep}\nweb: {kind: l7, to: p}", P)
    assert found == "tiers.edge.to: no tier or pool named 'wep' (did you mean 'web'?)"


def test_weights_are_not_blamed_for_a_balance_that_was_mistyped() -> None:
    tiers = "a: {kind: l7, listen: ':80', balance: weigthed, to: p}"
    (found,) = problems_of(tiers, "p: {endpoints: {127.0.0.1:1: 2}}")
    assert found.startswith("tiers.a.balance")


def test_weights_that_could_not_be_read_are_not_missed() -> None:
    found = problems_of("a: {kind: l7, listen: ':80', balance: weighted, to: p}", "p: {endpoints: {127.0.0.1:1: much}}")
    assert len(found) == 1
    assert "'much' is not a weight" in found[0]


def test_outlier_detection_has_an_effect_where_one_of_the_senders_sees_answers() -> None:
    tiers = "a: {kind: l4, listen: ':80', to: p}\nb: {kind: l7, listen: ':81', to: p}"
    assert problems_of(tiers, "p: {agents: true, health: {outlier: {consecutive_errors: 3}}}") == []


KERNEL = "a: {kind: l4, listen: ':80', forward: nftables, to: p}"


@pytest.mark.parametrize(
    ("tiers", "problems"),
    [
        (KERNEL, []),
        (KERNEL.replace("to: p", "to: b") + "\nb: {kind: l7, to: p}", []),
        (KERNEL.replace("listen: ':80', ", ""), ["tiers.a.forward: nftables forwards what clients send to 'listen'"]),
        (
            "b: {kind: l4, listen: ':81', to: a}\n" + KERNEL,
            ["tiers.a.forward: nftables is for tiers without parents: connections from tier 'b'"],
        ),
    ],
)
def test_the_kernel_forwards_only_what_clients_send(tiers: str, problems: list[str]) -> None:
    found = [problem for problem in problems_of(tiers, P) if ".forward:" in problem]
    assert [problem[: len(expected)] for problem, expected in zip(found, problems, strict=True)] == problems


@pytest.mark.parametrize(
    ("tier", "pool", "problem"),
    [
        ("{kind: l7, listen: [':80', '127.0.0.1:80'], to: p}", "", "tiers.a.listen[1]: port 80 is already used by"),
        ("{kind: l7, listen: ['*:80', {address: '[::1]:80'}], to: p}", "", "tiers.a.listen[1].address: port 80 is"),
        ("{kind: l7, listen: ['unix:/a', 'unix:/a'], to: p}", "", "tiers.a.listen[1]: unix:/a is already used by"),
        ("{kind: l7, listen: 'unix:/a', to: p}", "{endpoints: ['unix:/a']}", "tier 'a' listens here and sends to"),
        ("{kind: l7, listen: '*:80', to: p}", "{endpoints: ['[::1]:80']}", "tier 'a' listens here and sends to"),
    ],
)
def test_listeners_and_unix_sockets_that_cannot_be(tier: str, pool: str, problem: str) -> None:
    (found,) = problems_of(f"a: {tier}", f"p: {pool}" if pool else P)
    assert problem in found
