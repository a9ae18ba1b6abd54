from tests.dataplane.conftest import Lab, l7

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

async def test_x(lab: Lab) -> None:
    client, member = await lab.converses()
    await client.says(GET)
    voice = await member.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (await client.hears_message()).body == b"ok"
