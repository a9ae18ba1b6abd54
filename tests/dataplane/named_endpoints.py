"""HTTP endpoints that answer with their names, and health checks with a status that the test sets."""

from typing import Any

import attrs
import trio

from tests.dataplane.conftest import FakeEndpoint, Lab


@attrs.define(eq=False)
class NamedEndpoint:
    """Answers checks with `status` and everything else with its name."""

    played: FakeEndpoint
    name: bytes
    status: int = 200
    checks: int = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sock, _ = await self.played.sock.accept()
                nursery.start_soon(self._converse, trio.SocketStream(sock))

    async def _converse(self, stream: trio.SocketStream) -> None:
        async with stream:
            while head := await stream.receive_some(4096):
                checking = head.startswith(b"GET /up ")
                self.checks += checking
                said = (self.status, len(self.name), self.name)
                await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % said)
                if checking:
                    return


async def serving_endpoint(lab: Lab, name: bytes, **says: Any) -> NamedEndpoint:
    made = NamedEndpoint(await lab.endpoint(**says), name)
    lab.background.start_soon(made.run)
    return made
