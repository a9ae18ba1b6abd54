"""What a snapshot makes of requests: shares of a split, and the same key to the same endpoint."""

import collections

from tests.dataplane.conftest import INNER, FakeEndpoint, Lab, l4_parent, l7, l7_parent
from tierlb.model.snapshot import Destination, Rule, Send
from tierlb.model.topology import Match, Policy

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_split_keeps_its_shares_request_by_request(lab: Lab) -> None:
    old, new = await lab.endpoint(), await lab.endpoint(target="new")
    split = Send((Destination(90, ("app",), (old.spec,)), Destination(10, ("new",), (new.spec,))))
    await lab.serves(l7(rules=(Rule(Match(), split),)))
    lab.background.start_soon(old.answers_all, OK.replace(b"ok", b"old").replace(b": 2", b": 3"))
    lab.background.start_soon(new.answers_all, OK.replace(b"ok", b"new").replace(b": 2", b": 3"))
    client = await lab.connects()
    bodies = collections.Counter([(await client.asks(GET)).body for _ in range(500)])
    assert bodies[b"old"] + bodies[b"new"] == 500
    assert 25 <= bodies[b"new"] <= 80  # the mean is 50, its standard deviation 6.7


async def named(lab: Lab, count: int) -> list[FakeEndpoint]:
    """Endpoints that answer with their own names."""
    endpoints = [await lab.endpoint() for _ in range(count)]
    for endpoint in endpoints:
        name = endpoint.spec.name.encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name)
        lab.background.start_soon(endpoint.answers_all, answer)
    return endpoints


async def chosen_for(lab: Lab, first: bytes, field: bytes = b"") -> bytes:
    """Whom a new connection that begins so meets with its request."""
    client = await lab.connects()
    answer = await client.asks(first + GET.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n"))
    await client.leaves()
    return answer.body


async def test_maglev_sends_a_client_always_to_the_same_member(lab: Lab) -> None:
    await lab.serves(l7(*await named(lab, 4), balance=Policy.MAGLEV, listener=INNER))
    sources = [(f"192.0.2.{number}", 1000) for number in range(1, 17)]
    chosen = {source: await chosen_for(lab, l4_parent(source)) for source in sources}
    assert len(set(chosen.values())) > 1
    for host, port in sources:
        assert await chosen_for(lab, l4_parent((host, port + 1))) == chosen[host, port]


async def test_maglev_goes_by_the_field_that_is_named(lab: Lab) -> None:
    await lab.serves(l7(*await named(lab, 4), balance=Policy.MAGLEV, hash_header="x-user", listener=INNER))
    users = [b"X-User: %d\r\n" % number for number in range(16)]
    chosen = {user: await chosen_for(lab, l4_parent(("192.0.2.1", 1)), user) for user in users}
    assert len(set(chosen.values())) > 1
    for user in users:
        assert await chosen_for(lab, l4_parent(("192.0.2.99", 1)), user) == chosen[user]


async def test_maglev_goes_by_the_client_where_the_field_is_missing(lab: Lab) -> None:
    await lab.serves(l7(*await named(lab, 4), balance=Policy.MAGLEV, hash_header="x-user", listener=INNER))
    sources = [(f"192.0.2.{number}", 1000) for number in range(1, 17)]
    chosen = {source: await chosen_for(lab, l4_parent(source)) for source in sources}
    assert len(set(chosen.values())) > 1
    assert {source: await chosen_for(lab, l4_parent(source)) for source in sources} == chosen


async def test_maglev_below_an_l7_tier_goes_by_the_client_and_not_by_the_parent(lab: Lab) -> None:
    await lab.serves(l7(*await named(lab, 4), balance=Policy.MAGLEV, listener=INNER))
    for number in range(1, 17):
        host = f"192.0.2.{number}"
        said = b"X-Forwarded-For: %b, 10.0.0.1\r\n" % host.encode()
        assert await chosen_for(lab, l7_parent(), said) == await chosen_for(lab, l4_parent((host, 1)))


async def test_maglev_believes_no_stranger_about_the_client(lab: Lab) -> None:
    await lab.serves(l7(*await named(lab, 4), balance=Policy.MAGLEV))
    said = [b"X-Forwarded-For: 192.0.2.%d\r\n" % number for number in range(16)]
    assert len({await chosen_for(lab, b"", field) for field in said}) == 1


async def test_maglev_moves_the_keys_of_a_member_that_is_out_and_no_others(lab: Lab) -> None:
    endpoints = await named(lab, 4)
    await lab.serves(l7(*endpoints, balance=Policy.MAGLEV, listener=INNER))
    sources = [(f"192.0.2.{number}", 1000) for number in range(1, 17)]
    before = {source: await chosen_for(lab, l4_parent(source)) for source in sources}
    out = lab.host(endpoints[0])
    out.checked(False)
    name = endpoints[0].spec.name.encode()
    after = {source: await chosen_for(lab, l4_parent(source)) for source in sources}
    assert name not in after.values()
    assert {s: to for s, to in after.items() if before[s] != name} == {s: to for s, to in before.items() if to != name}
    out.checked(True)
    assert {source: await chosen_for(lab, l4_parent(source)) for source in sources} == before
