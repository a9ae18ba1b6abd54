"""What the connections of one front share."""

from tests.dataplane.conftest import Lab

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_every_request_has_an_id_of_its_own(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    voice = None
    ids = set()
    for _ in range(20):
        await client.says(GET)
        voice = voice or await endpoint.accepts()
        ids.add((await voice.hears_head())["x-request-id"])
        await voice.says(OK)
        await client.hears_message()
    assert len(ids) == 20
