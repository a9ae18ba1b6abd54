"""The other end of a handoff, in the hands of the test: a child that an edge hands to, or a parent of a node."""

import socket
from typing import Any

import trio

from tests.dataplane.conftest import CLIENT, DATA_KEY, DEADLINE_S, FakeEndpoint, Lab, Voice, l4
from tierlb.model.address import Address
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import Forwarding, Timeouts
from tierlb.net.meeting_place import MeetingPlace
from tierlb.net.packets import Packet, receive_packet, send_packet
from tierlb.wire.handoff import (
    ENDED,
    WELCOME,
    WELCOME_APART,
    Entry,
    back_message,
    decode_entries,
    encode_entry,
    ended_messages,
    read_numbers,
)
from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    NETWORK,
    PARENT,
    PROCESS,
    ProxyHeader,
    encode_local,
    encode_tlv,
    parse_v2,
)

HOLDS_OUT = Timeouts(connect=60.0)
GIVES_UP = Timeouts(connect=1.0)


async def packet_from(sock: socket.socket) -> Packet:
    """The next message."""
    with trio.fail_after(DEADLINE_S):
        while True:
            try:
                return receive_packet(sock, 16)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)


async def no_packet_from(sock: socket.socket) -> None:
    """Nothing comes for a moment."""
    with trio.move_on_after(0.05):
        await trio.lowlevel.wait_readable(sock)
        raise AssertionError(f"heard {receive_packet(sock, 16).data!r}")


def voice_of(descriptor: int) -> Voice:
    return Voice(trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))))


class FakeChild(FakeEndpoint):
    """A node, seen from its parents. Nothing listens at `address`, so that no connection can be relayed there."""

    def __init__(self, place: MeetingPlace, name: str, port: int) -> None:
        self.place = place
        self.address = Address("127.0.0.1", port)
        self.spec = HostSpec(name, "below", self.address, child=True, reports=True)
        self.listening = place.listen(f"{name}:{port}")
        self.control: Any = None
        self.queue: Any = None
        self.voices: list[Voice] = []

    async def meets(self, answer: bytes = WELCOME) -> ProxyHeader:
        """A parent comes, says who it is, and is answered. This end forgets one that it met before."""
        self.parts()
        with trio.fail_after(DEADLINE_S):
            await trio.lowlevel.wait_readable(self.listening)
            self.control, _ = self.listening.accept()
        self.control.setblocking(False)
        packet = await packet_from(self.control)
        header = parse_v2(packet.data)
        assert header is not None
        (descriptor,) = packet.descriptors
        self.queue = socket.socket(fileno=descriptor)
        if answer:
            self.says(answer)
        return header

    def says(self, message: bytes, *descriptors: int) -> None:
        send_packet(self.control, message, descriptors)

    async def reads(self) -> list[tuple[Entry, Voice]]:
        """Take the next message of connections."""
        packet = await packet_from(self.queue)
        taken = [
            (entry, voice_of(each)) for entry, each in zip(decode_entries(packet.data), packet.descriptors, strict=True)
        ]
        self.voices += [voice for _, voice in taken]
        return taken

    async def takes(self) -> tuple[Entry, Voice]:
        """Take one connection."""
        (taken,) = await self.reads()
        return taken

    def ends(self, *numbers: int) -> None:
        for message, _ in ended_messages(list(numbers)):
            self.says(message)

    def parts(self) -> None:
        for sock in (self.control, self.queue):
            if sock is not None:
                sock.close()

    def dies(self) -> None:
        self.listening.close()
        self.parts()

    def close(self) -> None:
        self.dies()
        self.place.close()
        for voice in self.voices:
            voice.stream.socket.close()


def child_of(lab: Lab, name: str = "web-1", port: int = 1) -> FakeChild:
    assert lab.meets_in is not None
    place = MeetingPlace(lab.meets_in)
    child = FakeChild(place, name, port)
    lab.others.append(child)
    return child


async def edge(lab: Lab, *hosts: FakeEndpoint, forward: Forwarding = Forwarding.HANDOFF, **options: Any) -> None:
    options.setdefault("timeouts", HOLDS_OUT)
    await lab.serves(l4(*hosts, forward=forward, **options))


async def met(lab: Lab, *hosts: FakeEndpoint, answer: bytes = WELCOME, **options: Any) -> FakeChild:
    """An edge that has met the first of its hosts, a child; other children answer by themselves."""
    child = child_of(lab)
    await edge(lab, child, *hosts, forward=Forwarding.AUTO if hosts else Forwarding.HANDOFF, **options)
    await child.meets(answer)
    await lab.until(lambda: lab.log.count("handoff_began") == 1)
    return child


def handoff_of(lab: Lab) -> Any:
    """The forwarder of the edge."""
    (handoff,) = (each for each in lab.front.forwarders if hasattr(each, "givers"))
    return handoff


def giver_to(lab: Lab, child: FakeChild) -> Any:
    """The edge's end towards this child."""
    return handoff_of(lab).givers[lab.host(child)]


def host_load(lab: Lab, number: int = 0) -> tuple[int, int, int]:
    """In flight, done and failed at one of the edge's hosts."""
    load = lab.plane.load().hosts[number]
    return load.in_flight, load.done, load.failed


async def given_back(child: FakeChild) -> tuple[Any, Voice]:
    """The child has no room for the next connection."""
    entry, voice = await child.takes()
    child.says(back_message([entry.raw]), voice.stream.socket.fileno())
    voice.stream.socket.close()
    return entry, voice


class FakeParent:
    """A node above, as its child meets it. `given` are the clients' ends of what was handed over."""

    def __init__(self, lab: Lab, control: socket.socket) -> None:
        self.lab = lab
        self.control = control
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self.out, self.copy = socket.socketpair(socket.AF_UNIX, kind)
        self.given: dict[int, Voice] = {}
        self.listening = socket.create_server(("127.0.0.1", 0))

    @classmethod
    def of(cls, lab: Lab) -> "FakeParent":
        """Connected to the node that the laboratory serves last."""
        assert lab.meets_in is not None
        place = MeetingPlace(lab.meets_in)
        parent = cls(lab, place.connect(f"{lab.plane.name}:{lab.at.port}"))
        place.close()
        lab.others.append(parent)
        return parent

    def introduces_itself(
        self, *, name: str = "edge-1", key: bytes = DATA_KEY, boot_id: str = "boot", network: bytes = b""
    ) -> None:
        tlvs = encode_tlv(NETWORK, network) if network else b""
        tlvs += (
            encode_tlv(PARENT, name.encode()) + encode_tlv(DATA_KEY_TLV, key) + encode_tlv(PROCESS, boot_id.encode())
        )
        self.says(encode_local(tlvs), self.copy.fileno())

    async def is_welcome(self, network: bytes = b"") -> "FakeParent":
        self.introduces_itself(network=network)
        assert (await self.hears()).data == (WELCOME_APART if network else WELCOME)
        return self

    def says(self, message: bytes, *descriptors: int) -> None:
        send_packet(self.control, message, descriptors)

    async def hears(self) -> Packet:
        return await packet_from(self.control)

    async def hears_ends(self) -> tuple[int, ...]:
        message = (await self.hears()).data
        assert message[:1] == ENDED
        return read_numbers(message)

    def gives(self, *numbers: int, source: tuple[str, int] = CLIENT, tlvs: bytes = b"", is_last: bool = False) -> None:
        """Hand over a connection for each number, all in one message."""
        entries, sockets = [], []
        for number in numbers:
            client = socket.create_connection(self.listening.getsockname())
            client.setblocking(False)
            sock, _ = self.listening.accept()
            sock.setblocking(False)
            self.given[number] = Voice(trio.SocketStream(trio.socket.from_stdlib_socket(client)))
            arrived = self.lab.plane.reactor.now
            entries.append(encode_entry(number, source, arrived, tlvs, is_last=is_last))
            sockets.append(sock)
        send_packet(self.out, b"".join(entries), [sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()

    def dies(self) -> None:
        for sock in (self.control, self.out, self.copy):
            sock.close()

    def close(self) -> None:
        self.dies()
        self.listening.close()
        for voice in self.given.values():
            voice.stream.socket.close()
