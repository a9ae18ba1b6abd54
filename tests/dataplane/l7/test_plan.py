"""Request heads and the heads that are sent to endpoints for them. Pure tables."""

import base64
import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dataplane.conftest import l7
from tierlb.balance.kind_places import OTHER_KINDS
from tierlb.balance.kinds import Kinds
from tierlb.dataplane.l7 import plan as plans
from tierlb.dataplane.l7.plan import NO_KIND, PlanBook, RequestPlan
from tierlb.model.snapshot import Rule
from tierlb.model.topology import ForwardedFields, Limits, Match, Respond
from tierlb.wire import http_fields, http_head
from tierlb.wire.head_values import Block
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head
from tierlb.wire.memo import Memo


def plan(*lines: bytes, trusted: bool = False, **options: object) -> RequestPlan:
    raw = b"\r\n".join([*lines, b"", b""])
    return PlanBook(l7(**options), trusted=trusted).plan(raw)


def told(made: RequestPlan) -> list[bytes]:
    """The lines that the endpoint hears, sorted but for the first; the client is 192.0.2.9."""
    first, *fields = (made.opening + b"192.0.2.9").split(b"\r\n")
    return [first, *sorted(fields)]


GET = (b"GET / HTTP/1.1", b"Host: a")
COMMON = [
    b"Host: a",
    b"Via: 1.1 tierlb",
    b"X-Forwarded-For: 192.0.2.9",
    b"X-Forwarded-Host: a",
    b"X-Forwarded-Proto: http",
]

TOLD = [
    ((), []),
    ((b"Accept: */*", b"Accept: x"), [b"Accept: */*", b"Accept: x"]),
    ((b"accept:spaced  ",), [b"accept: spaced"]),
    ((b"Connection: close",), []),
    ((b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"x-hop: 2"), []),
    ((b"Keep-Alive: 1", b"Proxy-Connection: x", b"TE: gzip"), []),
    ((b"TE: gzip, trailers", b"Connection: TE"), [b"Connection: TE", b"TE: trailers"]),
    (
        (b"TE: trailers", b"Connection: TE, upgrade", b"Upgrade: websocket"),
        [b"Connection: upgrade, TE", b"TE: trailers", b"Upgrade: websocket"],
    ),
    ((b"X-Forwarded-For: 6.6.6.6", b"x-forwarded-proto: https", b"Forwarded: for=x", b"X-Request-Id: 1"), []),
    ((b"X-Real-IP: 6.6.6.6", b"X-Client-IP: 6.6.6.6", b"X-Forwarded-Port: 1", b"X-Forwarded-Prefix: /x"), []),
    ((b"X-Forwarded-Ssl: on", b"X-Forwarded-Server: s", b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin"), []),
    ((b"Content-Length: 5",), [b"Content-Length: 5"]),
    ((b"Transfer-Encoding: Chunked",), [b"Transfer-Encoding: chunked"]),
    ((b"Connection: upgrade", b"Upgrade: websocket"), [b"Connection: upgrade", b"Upgrade: websocket"]),
    ((b"Upgrade: websocket",), []),
    ((b"Connection: upgrade", b"Upgrade: h2c"), []),
    ((b"Expect: 100-continue",), [b"Expect: 100-continue"]),
]


@pytest.mark.parametrize(("fields", "passed"), TOLD)
def test_what_a_member_is_told(fields: tuple[bytes, ...], passed: list[bytes]) -> None:
    assert told(plan(*GET, *fields)) == [b"GET / HTTP/1.1", *sorted(COMMON + passed)]


TRUSTED = [
    ((b"X-Forwarded-For: 1.1.1.1",), {b"X-Forwarded-For: 1.1.1.1, 192.0.2.9"}),
    ((b"X-Forwarded-For: 1.1.1.1", b"x-forwarded-for: 2.2.2.2"), {b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.9"}),
    ((b"X-Forwarded-For:",), {b"X-Forwarded-For: 192.0.2.9"}),
    ((b"X-Forwarded-Proto: https",), {b"X-Forwarded-Proto: https"}),
    ((b"X-Forwarded-Host: b",), {b"X-Forwarded-Host: b"}),
    ((b"Forwarded: for=x",), {b"Forwarded: for=x"}),
    ((b"X-Request-Id: 1",), {b"X-Request-Id: 1"}),
]


@pytest.mark.parametrize(("fields", "expected"), TRUSTED)
def test_a_trusted_peers_word_is_kept_and_completed(fields: tuple[bytes, ...], expected: set[bytes]) -> None:
    lines = told(plan(*GET, *fields, trusted=True))
    assert expected <= set(lines)
    names = [line.partition(b":")[0].lower() for line in lines]
    assert len(names) == len(set(names))


FAMILY = (b"X-Real-IP: 1.1.1.1", b"X-Client-IP: 1.1.1.1", b"X-Forwarded-Port: 443", b"X-Original-URL: /x")


def test_the_family_is_kept_from_a_trusted_peer() -> None:
    assert set(FAMILY) <= set(told(plan(*GET, *FAMILY, trusted=True)))


@pytest.mark.parametrize("trusted", [False, True])
def test_via_is_appended_to_those_of_earlier_proxies(trusted: bool) -> None:
    made = plan(*GET, b"Via: 1.0 first", b"X: 1", b"via: 1.1 second", trusted=trusted).opening.split(b"\r\n")
    assert [line for line in made if line.lower().startswith(b"via")] == [
        b"Via: 1.0 first",
        b"via: 1.1 second",
        b"Via: 1.1 tierlb",
    ]


def test_an_expectation_of_http_1_0_is_ignored() -> None:
    assert b"Expect: 100-continue" not in told(plan(b"GET / HTTP/1.0", b"Host: a", b"Expect: 100-continue"))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("host", [(), (b"Host:",)])
def test_a_request_without_a_host_goes_on_as_one(host: tuple[bytes, ...], trusted: bool) -> None:
    first, *lines = told(plan(b"OPTIONS / HTTP/1.0", *host, b"Connection: keep-alive", trusted=trusted))
    assert first == b"OPTIONS / HTTP/1.0"
    assert lines == [
        b"Connection: close",
        b"Via: 1.0 tierlb",
        b"X-Forwarded-For: 192.0.2.9",
        b"X-Forwarded-Proto: http",
    ]


def test_an_empty_host_of_http_1_1_stays_empty() -> None:
    first, *lines = told(plan(b"GET / HTTP/1.1", b"Host:"))
    assert first == b"GET / HTTP/1.1"
    assert lines == [b"Host: ", b"Via: 1.1 tierlb", b"X-Forwarded-For: 192.0.2.9", b"X-Forwarded-Proto: http"]


def test_an_id_counts_only_from_a_trusted_peer() -> None:
    assert plan(*GET, b"X-Request-Id: 1", trusted=True).has_id
    assert not plan(*GET, b"X-Request-Id: 1").has_id
    assert not plan(*GET, trusted=True).has_id


def test_http_1_0_is_passed_on_as_1_1_and_says_so_in_via() -> None:
    lines = told(plan(b"GET / HTTP/1.0", b"Host: a"))
    assert lines[0] == b"GET / HTTP/1.1"
    assert b"Via: 1.0 tierlb" in lines


BODIES = [((), 0), ((b"Content-Length: 0",), 0), ((b"Content-Length: 5",), 5), ((b"Transfer-Encoding: chunked",), None)]


@pytest.mark.parametrize(("fields", "body_bytes"), BODIES)
def test_how_long_the_body_is(fields: tuple[bytes, ...], body_bytes: int | None) -> None:
    assert plan(b"POST / HTTP/1.1", b"Host: a", *fields).body_bytes == body_bytes


REPEATABLE = [
    (b"GET", (), True),
    (b"HEAD", (), True),
    (b"PUT", (), True),
    (b"DELETE", (), True),
    (b"POST", (), False),
    (b"PATCH", (), False),
    (b"PUT", (b"Content-Length: 1",), False),
    (b"GET", (b"Transfer-Encoding: chunked",), False),
    (b"GET", (b"Connection: upgrade", b"Upgrade: websocket"), False),
]


@pytest.mark.parametrize(("method", "fields", "repeatable"), REPEATABLE)
def test_what_may_be_repeated(method: bytes, fields: tuple[bytes, ...], repeatable: bool) -> None:
    assert plan(method + b" / HTTP/1.1", b"Host: a", *fields).repeatable is repeatable


def test_a_body_over_the_cap_is_413() -> None:
    assert plan(*GET, b"Content-Length: 5", limits=Limits(body=5)).body_bytes == 5
    with pytest.raises(BadHead) as refused:
        plan(*GET, b"Content-Length: 6", limits=Limits(body=5))
    assert refused.value.status == 413


def test_a_plan_knows_its_rule() -> None:
    rules = (Rule(Match(path="/x"), Respond()), Rule(Match(path="/y"), Respond()))
    assert plan(b"GET /y HTTP/1.1", b"Host: a", rules=rules).rule == 1
    assert plan(*GET, rules=rules).rule is None


def test_who_asks_to_have_the_choice_explained_asks_the_tier_below_too() -> None:
    made = plan(*GET, b"X-Tierlb-Explain: n1")
    assert made.nonce == b"n1"
    assert b"X-Tierlb-Explain: n1" in told(made)
    assert plan(*GET).nonce is None


def test_the_book_keeps_the_plan_of_a_head_that_comes_again() -> None:
    book = PlanBook(l7(), trusted=False)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    book.plan(raw)
    kept = book.plan(bytes(bytearray(raw)))
    assert book.plan(bytes(bytearray(raw))) is kept
    assert book.known == {raw: kept}


def test_the_book_does_not_remember_refused_heads() -> None:
    book = PlanBook(l7(), trusted=False)
    for _ in range(3):
        with pytest.raises(BadHead):
            book.plan(b"GET / HTTP/1.1\r\n\r\n")
    assert not book.known


def test_what_the_book_forgets_it_plans_anew() -> None:
    book = PlanBook(l7(), trusted=False)
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    book.plan(raw)
    kept = book.plan(raw)
    known = book.known
    book.forget()
    assert not known
    assert book.plan(raw) is not kept
    assert book.known is known


def test_requests_that_the_node_answers_itself_take_no_place_of_a_kind() -> None:
    kinds = Kinds()
    rules = (Rule(Match(path="/here"), Respond()), *l7().rules)
    book = PlanBook(l7(rules=rules), kinds, trusted=False)
    assert book.plan(b"GET /here HTTP/1.1\r\nHost: a\r\n\r\n").kind is NO_KIND
    assert book.plan(b"GET /there HTTP/1.1\r\nHost: a\r\n\r\n").kind.number != OTHER_KINDS


def name(number: int) -> bytes:
    return b"q" + base64.b32encode(number.to_bytes(5, "big"))


UNIQUE: dict[str, Callable[[int], bytes]] = {
    "targets": lambda n: b"GET /%d%b HTTP/1.1\r\nHost: a\r\n" % (n, b"x" * 1500),
    "hosts": lambda n: b"GET / HTTP/1.1\r\nHost: %d%b\r\n" % (n, b"a" * 500),
    "short fields": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"%x:\r\n" % (n * 90 + i) for i in range(90)),
    "long fields": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nX: %d%b\r\n" % (n, b"x" * 1800),
    "lines": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X: %d%b\r\n" % (n, b"x" * 200) for _ in range(9)),
    "options": lambda n: (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\n" % b",".join(name(n * 32 + i) * 3 for i in range(32))
    ),
    "absolute targets": lambda n: b"GET http://%d%b/%b HTTP/1.1\r\nHost: a\r\n" % (n, b"a" * 500, b"x" * 1000),
}


PLANS_BUDGET_BYTES = 128 * 1024


@pytest.mark.parametrize("kind", UNIQUE)
@pytest.mark.parametrize("times", [1, 3])
def test_heads_that_are_all_different_take_no_more_memory_than_the_budgets(
    kind: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each comes several times, so that it is kept for a while."""
    monkeypatch.setattr(plans, "PLANS_BUDGET_BYTES", PLANS_BUDGET_BYTES)
    blocks: tuple[Memo[Block], Memo[Block]] = (Memo(PLANS_BUDGET_BYTES), Memo(PLANS_BUDGET_BYTES))
    monkeypatch.setattr(http_head, "_blocks", blocks)
    monkeypatch.setattr(http_fields, "known_lines", Memo(PLANS_BUDGET_BYTES, http_fields.known_lines.kept))
    monkeypatch.setattr(http_head, "_options", Memo(PLANS_BUDGET_BYTES))
    http_fields.known_lines.kept.clear()
    UNIQUE[kind](0)  # what it needs itself
    book = PlanBook(l7(), trusted=False)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(20 if kind == "short fields" else 200):
            for _ in range(times):
                book.plan(UNIQUE[kind](number) + b"\r\n")
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bool(book.known) is (times > 1)
    memos = sum(len(memo) > 1 for memo in (book.known, blocks[1].kept, http_fields.known_lines.kept))
    assert grown < (1 + memos) * PLANS_BUDGET_BYTES if times > 1 else grown < PLANS_BUDGET_BYTES // 4


def test_the_fields_sent_on_are_worked_out_once_for_a_block() -> None:
    book = PlanBook(l7(), trusted=False)
    plans = [book.plan(b"GET /%d HTTP/1.1\r\nHost: once\r\n\r\n" % number) for number in range(4)]
    assert plans[2].head.block is plans[3].head.block
    plain, *others = plans[3].head.block.passing
    assert plain is not None
    assert plans[3].opening.endswith(plain)
    assert others == [None] * 3
    over_tls = PlanBook(l7(), trusted=False, secured=True).plan(b"GET /4 HTTP/1.1\r\nHost: once\r\n\r\n")
    assert over_tls.opening == plans[3].opening.replace(b"/3", b"/4").replace(b"Proto: http", b"Proto: https")
    over_http2 = PlanBook(l7(), trusted=False, http2=True).plan(b"GET /3 HTTP/1.1\r\nHost: once\r\n\r\n")
    assert over_http2.opening == plans[3].opening.replace(b"Via: 1.1", b"Via: 2")


def test_a_head_that_differs_from_its_block_is_not_sent_on_as_the_block_was() -> None:
    """The host that was routed by and the one that is forwarded are the same, however often the fields came before."""
    book = PlanBook(l7(), trusted=False)
    block = b"Host: a\r\nMax-Forwards: 5\r\n\r\n"
    for number in range(3):
        book.plan(b"GET /%d HTTP/1.1\r\n" % number + block)
    absolute = book.plan(b"GET http://other/ HTTP/1.1\r\n" + block)
    assert absolute.head.host_name == b"other"
    assert b"\r\nHost: other\r\n" in absolute.opening
    assert b"Host: a" not in absolute.opening
    assert b"\r\nMax-Forwards: 4\r\n" in book.plan(b"OPTIONS / HTTP/1.1\r\n" + block).opening


NAMES = st.text("abcxyzXYZ-", min_size=1, max_size=12).filter(
    lambda name: not name.lower().startswith(("x-", "te", "via"))
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.booleans())
def test_what_is_passed_on_reads_the_same_as_what_came(fields: list[tuple[str, str]], trusted: bool) -> None:
    lines = [f"{name}: {value}".encode() for name, value in fields]
    passed = parse_request_head(plan(*GET, *lines, trusted=trusted).opening + b"1.2.3.4\r\n\r\n")
    ours = (b"host", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
    assert [(n.decode(), v.decode()) for n, v in passed.headers if n.lower() not in ours] == fields


HEAD = b"\r\n".join([*GET, b"", b""])
NOT_ONE_HEAD = [b"", HEAD[:-1], HEAD + b"x", HEAD + HEAD, b"\r\n" + HEAD, HEAD.replace(b"Host", b"Ho st")]


@pytest.mark.parametrize("data", NOT_ONE_HEAD)
def test_only_what_is_exactly_one_good_head_is_planned_as_it_came(data: bytes) -> None:
    book = PlanBook(l7(limits=Limits(head=len(HEAD) + 20)), trusted=False)
    made = book.plan_whole(HEAD)
    assert made is not None
    assert made.opening == book.plan(HEAD).opening
    assert book.plan_whole(data) is None
    assert book.plan_whole(HEAD[:-2] + b"X-Long: ".ljust(40, b"x") + b"\r\n\r\n") is None


OWN = b"proto=http;host=a;for=192.0.2.9"
XFF = [b"X-Forwarded-For: 192.0.2.9", b"X-Forwarded-Host: a", b"X-Forwarded-Proto: http"]
SENT = (
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-Proto: https",
    b"Forwarded: for=192.0.2.3",
    b'forwarded: for="[::1]"',
)
ALONE = SENT[2:]


def told_forwarded(made: RequestPlan, passed: bytes = b"192.0.2.9") -> list[bytes]:
    """The lines about the client that the endpoint gets."""
    lines = made.with_node(passed, b"192.0.2.9", b"192.0.2.9").split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    return sorted(line for line in lines if line.lower().startswith((b"forwarded", b"x-")))


@pytest.mark.parametrize(
    ("fields", "trusted", "sent", "expected"),
    [
        (ForwardedFields.RFC_7239, False, SENT, [b"Forwarded: " + OWN]),
        (ForwardedFields.BOTH, False, SENT, [b"Forwarded: " + OWN, *XFF]),
        (ForwardedFields.RFC_7239, True, ALONE, [b'Forwarded: for=192.0.2.3, for="[::1]", ' + OWN]),
        (ForwardedFields.RFC_7239, True, SENT, [b"Forwarded: for=192.0.2.1;proto=https, " + OWN]),
        (ForwardedFields.RFC_7239, True, SENT[:2], [b"Forwarded: for=192.0.2.1;proto=https, " + OWN]),
        (ForwardedFields.RFC_7239, True, (), [b"Forwarded: " + OWN]),
        (
            ForwardedFields.BOTH,
            True,
            SENT,
            [
                b"Forwarded: for=192.0.2.1;proto=https, " + OWN,
                b"X-Forwarded-For: 192.0.2.1, 192.0.2.9",
                b"X-Forwarded-Host: a",
                b"X-Forwarded-Proto: https",
            ],
        ),
    ],
)
def test_endpoints_get_forwarded_where_the_tier_says_so(
    fields: ForwardedFields, trusted: bool, sent: tuple[bytes, ...], expected: list[bytes]
) -> None:
    assert told_forwarded(plan(*GET, *sent, trusted=trusted, forwarded=fields)) == expected


FORGED = [
    b"Forwarded: for=10.0.0.1;proto=https;host=admin",
    b"Forwarded: for=203.0.113.7;proto=https;host=admin",
    b"Forwarded: for=10.0.0.1, for=203.0.113.7;proto=https",
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("fields", [ForwardedFields.RFC_7239, ForwardedFields.BOTH])
def test_a_client_behind_a_trusted_peer_that_knows_x_forwarded_for_alone_forges_nothing(
    forged: bytes, fields: ForwardedFields
) -> None:
    peer = (b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Proto: http")
    first, *_ = told_forwarded(plan(*GET, forged, *peer, trusted=True, forwarded=fields))
    assert first == b"Forwarded: for=203.0.113.7;proto=http, " + OWN


@pytest.mark.parametrize(
    "value", [b'for="', b'for=192.0.2.1, for="a', b"for", b"for=[::1]", b"for=a", b"for=1.1.1.1 x"]
)
@pytest.mark.parametrize("fields", [ForwardedFields.RFC_7239, ForwardedFields.BOTH])
def test_forwarded_of_a_trusted_peer_that_breaks_the_grammar_is_dropped(value: bytes, fields: ForwardedFields) -> None:
    first, *others = told_forwarded(plan(*GET, b"Forwarded: " + value, trusted=True, forwarded=fields))
    assert (first, others) == (b"Forwarded: " + OWN, XFF if fields is ForwardedFields.BOTH else [])


def test_elements_of_a_trusted_peer_become_x_forwarded_fields_so_that_the_next_tier_reads_the_same() -> None:
    sent = (b'Forwarded: for="[2001:db8::1]";proto=https;host=shop, for=192.0.2.3', b"X-Forwarded-Proto: forged")
    lines = told_forwarded(plan(*GET, *sent, b"X-Forwarded-Host: forged", trusted=True, forwarded=ForwardedFields.BOTH))
    before = b'for="[2001:db8::1]";proto=https;host=shop, for=192.0.2.3'
    assert lines == [
        b"Forwarded: " + before + b", " + OWN,
        b"X-Forwarded-For: 2001:db8::1, 192.0.2.3, 192.0.2.9",
        b"X-Forwarded-Host: shop",
        b"X-Forwarded-Proto: https",
    ]
    below = told_forwarded(plan(*GET, *lines, trusted=True, forwarded=ForwardedFields.RFC_7239))
    assert below == [b"Forwarded: " + before + b", for=192.0.2.9, " + OWN]


def test_forwarded_is_the_trusted_peers_where_the_tier_says_nothing() -> None:
    made = plan(*GET, *SENT, trusted=True)
    assert made.behind_node is None
    assert b"Forwarded: for=192.0.2.3" in made.opening


@pytest.mark.parametrize("fields", [ForwardedFields.RFC_7239, ForwardedFields.BOTH])
def test_what_follows_the_address_stays_behind_it(fields: ForwardedFields) -> None:
    made = plan(*GET, forwarded=fields)
    assert b"X-Request-Id: 7" in told_forwarded(made, b"192.0.2.9\r\nX-Request-Id: 7")


def test_a_port_in_the_host_is_quoted_and_a_request_without_one_names_none() -> None:
    made = plan(b"GET / HTTP/1.1", b"Host: a:8080", forwarded=ForwardedFields.RFC_7239)
    assert told_forwarded(made) == [b'Forwarded: proto=http;host="a:8080";for=192.0.2.9']
    made = plan(b"GET / HTTP/1.0", forwarded=ForwardedFields.RFC_7239)
    assert told_forwarded(made) == [b"Forwarded: proto=http;for=192.0.2.9"]
