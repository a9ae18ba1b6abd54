"""A connection whose route depends on its ClientHello: it waits until that has arrived.

The bytes are peeked at and stay in the socket, so that the next node or host reads all of them. The node is woken
by new bytes only (edge-triggered), and over TCP not before as many have arrived as the part that is there shows to be
missing (SO_RCVLOWAT).

After `timeouts.head`, counted from when the connection came, it goes on without a ClientHello. So does one that begins
with anything else. Clients of protocols in which the server speaks first wait that long. A connection that ends before
is closed. At the node's cap those that wait give way to new ones.
"""

from collections.abc import Callable
from typing import Final

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Owing
from tierlb.net.asked import recv_peek, wake_at
from tierlb.net.reactor import ERROR, HANGUP, ON_CHANGE, PEER_ENDED, READ
from tierlb.wire.client_hello import MAX_HELLO_BYTES, NO_HELLO, ClientHello, HelloReader, Verdict

IS_OVER: Final = -1
HAS_LEFT: Final = PEER_ENDED | HANGUP | ERROR


class HelloWait(Owing):
    """Waits for the ClientHello of one connection, and calls `again` with `caller.hello` set. It owes more of it since
    bytes of it came last."""

    __slots__ = ("again", "reader", "seen_bytes")

    again: Callable[[], None]
    reader: HelloReader
    seen_bytes: int

    @classmethod
    def begin(
        cls,
        context: L4Context,
        fd: int,
        caller: Caller,
        again: Callable[[], None],
        reader: HelloReader,
        seen_bytes: int,
        left_s: float,
    ) -> None:
        """Wait for `left_s` at most. The `reader` has looked at the first `seen_bytes`. Raises OSError."""
        wait = cls(context.reactor, fd)
        wait.context, wait.caller, wait.again = context, caller, again
        wait.reader, wait.seen_bytes, wait.came = reader, seen_bytes, context.reactor.now
        wait.watch(READ | PEER_ENDED | ON_CHANGE)
        wait.arm(left_s)
        context.connections.pending.add(wait)

    def on_ready(self, mask: int) -> None:
        try:
            seen = recv_peek(self.fd, MAX_HELLO_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.on_broken(error)
            return
        if len(seen) > self.seen_bytes:
            self.seen_bytes, self.came = len(seen), self.context.reactor.now
            hello = self.reader.read(seen)
            if hello.verdict is not Verdict.PARTIAL:
                self._go_on(hello)
                return
            wake_at(self.fd, hello.least_bytes)
        if mask & HAS_LEFT:
            self.abandon()

    def _go_on(self, hello: ClientHello) -> None:
        if self.seen_bytes:
            wake_at(self.fd, 1)
        self.caller.hello = hello
        self.context.connections.pending.discard(self)
        self.detach()
        self.again()

    def on_deadline(self) -> None:
        self._go_on(NO_HELLO)


class CarriedHelloWait(Owing):
    """The same for a connection that comes through the TLS of a node above: what comes is read, and kept as
    `Caller.ahead`."""

    __slots__ = ("again", "reader")

    again: Callable[[], None]
    reader: HelloReader

    @classmethod
    def begin(
        cls, context: L4Context, fd: int, caller: Caller, again: Callable[[], None], reader: HelloReader, left_s: float
    ) -> None:
        """Wait for `left_s` at most. The `reader` has looked at `caller.ahead`. Raises OSError."""
        wait = cls(context.reactor, fd)
        wait.context, wait.caller, wait.again, wait.reader = context, caller, again, reader
        wait.came = context.reactor.now
        wait.watch()
        wait.arm(left_s)
        context.connections.pending.add(wait)
        try:
            caller.give_layer(wait)
            if wait.layer is not None:
                wait.layer.moved()
        except Exception as error:  # it has the socket by now, and closes it once
            context.reactor.crashed(wait, error)

    def on_data(self, data: bytes) -> None:
        caller = self.caller
        caller.ahead += data
        self.came = self.context.reactor.now
        hello = self.reader.read(caller.ahead)
        if hello.verdict is not Verdict.PARTIAL:
            self._go_on(hello)

    def _go_on(self, hello: ClientHello) -> None:
        self.caller.hello = hello
        self.caller.keep_layer(self)
        self.context.connections.pending.discard(self)
        self.detach()
        self.again()

    def on_eof(self) -> None:
        self.abandon()

    def on_deadline(self) -> None:
        self._go_on(NO_HELLO)


def hello_known(context: L4Context, client: int, caller: Caller, again: Callable[[], None]) -> bool:
    """Look at what has come of the ClientHello; whether `caller.hello` is set now. Else `again` is called when it is,
    or the connection is over. Raises OSError if the node lacks a resource."""
    try:
        seen = caller.ahead if caller.layer is not None else recv_peek(client, MAX_HELLO_BYTES)
        size = len(seen) or (IS_OVER if caller.layer is None else 0)
    except BlockingIOError:
        seen, size = b"", 0
    except OSError:
        size = IS_OVER
    if size == IS_OVER:
        context.drop(client, caller)
        return False
    reader = HelloReader()
    hello = reader.read(seen)
    left_s = caller.began + context.config.head_s - context.reactor.now
    if hello.verdict is Verdict.PARTIAL and left_s > 0 and caller.layer is not None:
        CarriedHelloWait.begin(context, client, caller, again, reader, left_s)
        return False
    if hello.verdict is Verdict.PARTIAL and left_s > 0:
        if size:
            wake_at(client, hello.least_bytes)
        HelloWait.begin(context, client, caller, again, reader, size, left_s)
        return False
    caller.hello = NO_HELLO if hello.verdict is Verdict.PARTIAL else hello
    return True
