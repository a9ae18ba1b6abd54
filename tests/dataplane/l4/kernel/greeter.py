"""A host in a namespace of its own: it greets each client with its name and the client's address, and echoes.

python -m tests.dataplane.l4.kernel.greeter NAME HOST:PORT[/udp] …        ends with its input
"""

import sys
from functools import partial

import trio

from tierlb.model.address import parse_address


async def greet(name: str, stream: trio.SocketStream) -> None:
    async with stream:
        try:
            host = stream.socket.getpeername()[0]
            await stream.send_all(f"{name} {host}\n".encode())
            while data := await stream.receive_some(65536):
                await stream.send_all(data)
        except (OSError, trio.BrokenResourceError):
            return


async def answer(name: str, sock: trio.socket.SocketType) -> None:
    while True:
        _, peer = await sock.recvfrom(2048)
        await sock.sendto(f"{name} {peer[0]}\n".encode(), peer)


async def main(name: str, *addresses: str) -> None:
    async with trio.open_nursery() as nursery:
        for text in addresses:
            where, _, transport = text.partition("/")
            address = parse_address(where)
            family = trio.socket.AF_INET6 if ":" in address.host else trio.socket.AF_INET
            kind = trio.socket.SOCK_DGRAM if transport else trio.socket.SOCK_STREAM
            sock = trio.socket.socket(family, kind)
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
            await sock.bind(address.sockaddr)
            if transport:
                nursery.start_soon(answer, name, sock)
            else:
                sock.listen(1000)
                serve = partial(trio.serve_listeners, partial(greet, name), [trio.SocketListener(sock)])
                nursery.start_soon(serve)
        print('"ready"', flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


trio.run(main, *sys.argv[1:])
