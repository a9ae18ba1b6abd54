"""Clients and an echo server over UDP, each a process of its own: `udp_load.py echo HOST:PORT`, `udp_load.py ask …`.

Clients ask in a closed loop: each sends a datagram, waits for the same one, and sends the next. With `--new-each` every
question comes from a new socket, as a resolver's does. What is not answered within ANSWER_S is lost.
"""

import json
import select
import socket
import time
from typing import Any

import click

ANSWER_S = 1.0
MOST_BYTES = 65536


def address_of(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@click.group()
def main() -> None:
    """Clients and an echo server over UDP."""


@main.command(help="Answer every datagram with the same.")
@click.argument("at")
def echo(at: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address_of(at))
        while True:
            sock.sendto(*sock.recvfrom(MOST_BYTES))


@main.command(help="Ask for so long, and print what was answered, as JSON.")
@click.argument("to")
@click.option("--seconds", type=float, required=True)
@click.option("--clients", type=int, default=32, show_default=True)
@click.option("--bytes", "size", type=int, default=64, show_default=True)
@click.option("--new-each", is_flag=True, help="A new socket for each question.")
def ask(to: str, seconds: float, clients: int, size: int, new_each: bool) -> None:
    click.echo(json.dumps(Asking(address_of(to), size, new_each).run(seconds, clients)))


class Asking:
    """All clients of one run."""

    def __init__(self, to: tuple[str, int], size: int, new_each: bool) -> None:
        self.to = to
        self.new_each = new_each
        self.answers = self.lost = self.wrong = 0
        self._question = b"x" * size
        self._epoll = select.epoll()
        self._open: dict[int, list[Any]] = {}
        """Socket and time of the question, by descriptor."""

    def run(self, seconds: float, clients: int) -> dict[str, float]:
        """Answers, lost and wrong ones, and the time that it took."""
        began = now = time.monotonic()
        for _ in range(clients):
            self._begin(now)
        looked = began
        while now - began < seconds:
            for descriptor, _ in self._epoll.poll(0.1, 256):
                self._take(self._open[descriptor])
            now = time.monotonic()
            if now - looked > ANSWER_S / 4:
                looked = now
                self._look(now)
        for sock, _ in self._open.values():
            sock.close()
        return {"answers": self.answers, "lost": self.lost, "wrong": self.wrong, "seconds": now - began}

    def _begin(self, now: float) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect(self.to)
        self._open[sock.fileno()] = [sock, now]
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        sock.send(self._question)

    def _take(self, client: list[Any]) -> None:
        sock: socket.socket = client[0]
        try:
            data = sock.recv(MOST_BYTES)
        except OSError:
            self._again(client)
            return
        self.answers += 1
        self.wrong += data != self._question
        self._again(client)

    def _again(self, client: list[Any]) -> None:
        now = time.monotonic()
        if self.new_each:
            del self._open[client[0].fileno()]
            client[0].close()
            self._begin(now)
        else:
            client[1] = now
            client[0].send(self._question)

    def _look(self, now: float) -> None:
        for client in [each for each in self._open.values() if now - each[1] > ANSWER_S]:
            self.lost += 1
            self._again(client)


if __name__ == "__main__":
    main()
