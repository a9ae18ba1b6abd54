"""Connections of clients end politely: what a client still sends is thrown away for a while, and does not reset it."""

from tests.dataplane.conftest import Lab, l7
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Respond

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


async def test_an_answer_arrives_although_the_client_is_still_sending(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello\n")),)))
    client = await lab.connects()
    await client.says(REQUEST + bytes(100_000))
    assert (await client.hears_message()).body == b"hello\n"
    await client.says(bytes(100_000))
    await client.hears_end()


async def test_it_is_closed_when_the_client_ends_too(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "hello\n")),)))
    client = await lab.connects()
    await client.says(REQUEST)
    await client.hears_message()
    await client.leaves()
    await lab.until(lambda: not lab.front.clients)
