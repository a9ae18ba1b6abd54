"""The supervisor's listening sockets, and what nodes are told when they ask for them."""

import contextlib
import errno
import os
import random
import socket
import stat

import pytest
import trio

from tierlb.local.ports import FreePorts, PortTaken
from tierlb.local.sockets import Sockets, pair
from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.net.broker import Broker
from tierlb.net.peer_liveness import LOOK_S

USUAL_S = 7200
DEADLINE_S = 30.0


@pytest.fixture
def addresses():
    ports = FreePorts(random.Random(os.getpid()))
    return [ListenAddress(Address("127.0.0.1", ports.take())) for _ in range(3)]


@pytest.fixture
def sockets():
    sockets = Sockets()
    yield sockets
    sockets.close()


@pytest.fixture
async def node(sockets, nursery):
    """Asks as a node does, which waits: from a thread."""
    ours, theirs = pair()
    nursery.start_soon(sockets.serve, ours, "edge")
    broker = Broker(theirs)

    async def listen(address):
        with trio.fail_after(DEADLINE_S):
            return await trio.to_thread.run_sync(broker.listen, address)

    yield listen
    theirs.close()


def is_open(address):
    try:
        socket.create_connection(address.address.sockaddr).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_an_address_is_open_from_its_first_node_until_nobody_wants_it_any_more(sockets, addresses, node):
    """Where no node is yet, a client is refused instead of left waiting; the port is taken all the same."""
    kept, other, _ = addresses
    for address in (kept, other, kept):
        sockets.open(address, "edge")
    assert [is_open(address) for address in addresses] == [False, False, False]
    for address in (kept, other):
        with pytest.raises(OSError, match="Address already in use"), socket.socket() as sock:
            sock.bind(address.address.sockaddr)
        (await node(address)).close()
    assert [is_open(address) for address in addresses] == [True, True, False]
    sockets.keep({kept: "edge", addresses[2]: "web"})
    assert [is_open(address) for address in addresses] == [True, False, False]
    sockets.close()
    assert not is_open(kept)


async def test_a_kept_socket_is_as_good_as_one_that_a_node_opens(sockets, addresses, node):
    """Its queue is long, what is accepted there sends at once, and `::` leaves IPv4 to others. Whether clients on other
    hosts are still there, the kernel asks."""
    port = addresses[1].address.port
    both = [addresses[0], *(ListenAddress(Address(host, port)) for host in ("0.0.0.0", "::"))]
    with contextlib.ExitStack() as ends:
        kept = []
        for address in both:
            sockets.open(address, "edge")
            kept.append(ends.enter_context(await node(address)))
        for _ in range(300):
            ends.enter_context(socket.create_connection(addresses[0].address.sockaddr, timeout=5))
        accepted, _ = kept[0].accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for sock, address, asks in zip(kept, both, (0, 1, 1), strict=True):
            assert keepalive(sock, address) == (asks, asks * LOOK_S or USUAL_S)


def keepalive(kept, address):
    """Of what is accepted there: whether the kernel asks, and after how many seconds."""
    with socket.create_connection(address.address.sockaddr, timeout=5) as client:
        while True:
            accepted, peer = kept.accept()
            with accepted:
                if peer[:2] == client.getsockname()[:2]:
                    return (
                        accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                        accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    )


async def test_an_address_that_is_taken_is_refused_with_what_it_is_for(sockets, addresses, node):
    with (
        socket.create_server(addresses[0].address.sockaddr),
        pytest.raises(PortTaken, match=r"tiers\.edge\.listen: cannot"),
    ):
        sockets.open(addresses[0], "edge")
    sockets.open(addresses[0], "edge")
    (await node(addresses[0])).close()
    assert is_open(addresses[0])


async def test_a_node_is_told_who_took_an_address_before_it_was_lent(sockets, addresses, node):
    """Two processes may bind an address while neither listens."""
    sockets.open(addresses[0], "edge")
    taken = pytest.raises(OSError, match=r"tiers\.edge\.listen: cannot listen")
    with socket.create_server(addresses[0].address.sockaddr), taken:
        await node(addresses[0])
    (await node(addresses[0])).close()


async def test_the_mode_of_a_unix_socket_is_set_when_it_is_new_and_not_with_each_node(sockets, node, tmp_path):
    address = ListenAddress(Address(str(tmp_path / "a.sock"), 0))
    sockets.open(address, "edge", 0o600)
    (await node(address)).close()
    os.chmod(address.address.host, 0o640)
    sockets.open(address, "edge", 0o600)
    assert stat.S_IMODE(os.stat(address.address.host).st_mode) == 0o640
    sockets.open(address, "edge", 0o660)
    assert stat.S_IMODE(os.stat(address.address.host).st_mode) == 0o660


async def test_nodes_are_lent_the_socket_that_is_kept(sockets, addresses, node):
    sockets.open(addresses[0], "edge")
    (await node(addresses[0])).close()
    with socket.create_connection(addresses[0].address.sockaddr), await node(addresses[0]) as one:
        one.accept()[0].close()
    with socket.create_connection(addresses[0].address.sockaddr), await node(addresses[0]) as another:
        another.accept()[0].close()
    assert is_open(addresses[0]), "whoever borrowed it has closed it, and it is still there"


@pytest.mark.parametrize("other", [0, 1, 2])
async def test_a_node_is_lent_no_address_but_those_of_its_tier(sockets, addresses, node, other):
    """Neither one of another tier nor one that the topology does not name, and nothing is opened for it."""
    sockets.open(addresses[0], "web")
    sockets.keep({addresses[0]: "web", addresses[1]: "edge"})
    sockets.open(addresses[1], "edge")
    asked = addresses[other]
    if other == 1:
        (await node(asked)).close()
        return
    with pytest.raises(OSError, match=f"the topology names no address {asked} for tier edge"):
        await node(asked)
    assert not is_open(asked)
    (await node(addresses[1])).close()


async def test_both_tiers_of_a_change_that_moves_an_address_are_lent_it_until_the_change_is_done(
    sockets, addresses, node
):
    sockets.open(addresses[0], "edge")
    sockets.open(addresses[0], "front")
    (await node(addresses[0])).close()
    sockets.keep({addresses[0]: "front"})
    with pytest.raises(OSError, match="names no address"):
        await node(addresses[0])


async def test_any_port_is_none_to_be_lent(sockets, node):
    sockets.open(ListenAddress(Address("127.0.0.1", 0)), "edge")
    with pytest.raises(OSError, match="a public address needs a port"):
        await node(ListenAddress(Address("127.0.0.1", 0)))


async def test_nonsense_is_answered_too(sockets, nursery):
    ours, theirs = pair()
    nursery.start_soon(sockets.serve, ours, "edge")
    with trio.fail_after(DEADLINE_S), theirs:
        for nonsense in (b"nonsense", b"\xff\xfe", b"x" * 512):
            theirs.send(nonsense)
            answer = await trio.to_thread.run_sync(theirs.recv, 1000)
            assert answer.startswith(nonsense)


class Lacking:
    """The supervisor's end of a pair, over which the kernel sends no descriptor at first."""

    def __init__(self, sock):
        self.sock = sock
        self.recv = sock.recv
        self.errors = [OSError(errno.ETOOMANYREFS, "Too many references")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    async def sendmsg(self, *message):
        if self.errors:
            raise self.errors.pop()
        return await self.sock.sendmsg(*message)


async def test_what_the_kernel_lacks_for_an_answer_costs_that_one_only(sockets, addresses, nursery):
    """The node asks again."""
    ours, theirs = pair()
    sockets.open(addresses[0], "edge")
    lacking = Lacking(ours)
    nursery.start_soon(sockets.serve, lacking, "edge")
    with trio.fail_after(DEADLINE_S), theirs:
        theirs.send(str(addresses[0]).encode())
        while lacking.errors:
            await trio.lowlevel.checkpoint()
        broker = Broker(theirs)
        (await trio.to_thread.run_sync(broker.listen, addresses[0])).close()


@pytest.mark.parametrize("asks", [0, 1, 1000])
async def test_a_node_that_ends_whenever_it_likes_harms_nobody(sockets, addresses, asks):
    """With answers unread its end resets the pair; with thousands of requests the answers find no room."""
    ours, theirs = pair()
    theirs.setblocking(False)
    with trio.fail_after(DEADLINE_S):
        sockets.open(addresses[0], "edge")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sockets.serve, ours, "edge")
            for _ in range(asks):
                try:
                    theirs.send(str(addresses[0]).encode())
                except BlockingIOError:
                    await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            theirs.close()
    assert is_open(addresses[0]) is (asks > 0)


@contextlib.asynccontextmanager
async def process(sockets, number, pid=0, tier="edge"):
    """A node's process; ends with the block. Without a pid it never runs."""
    ours, theirs = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sockets.serve, ours, tier, number, pid)
        yield Broker(theirs)
        theirs.close()


async def lent(broker, address):
    sock = await trio.to_thread.run_sync(broker.listen, address)
    sock.setblocking(False)
    return sock


async def offered(broker):
    """Waits for the first offer."""
    await trio.lowlevel.wait_readable(broker.fileno())
    offer, *later = broker.offers()
    for each in later:
        each.sock.close()
    return offer


def connect(stack, address, count=32):
    for _ in range(count):
        stack.enter_context(socket.create_connection(address.address.sockaddr, timeout=DEADLINE_S))


def accepted(*socks):
    count = 0
    for sock in socks:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.accept()[0].close()
                count += 1
    return count


@pytest.mark.parametrize("how", ["gives its socket back", "ends"])
async def test_what_waits_at_a_node_that_leaves_is_offered_to_another(sockets, addresses, how):
    address = addresses[0]
    sockets.open(address, "edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one:
            own = stack.enter_context(await lent(one, address))
            async with process(sockets, 2) as two:
                stack.enter_context(await lent(two, address))
                connect(stack, address)
                if how == "gives its socket back":
                    two.give_back(address)
                    where, queue, most = await offered(one)
            if how == "ends":
                where, queue, most = await offered(one)
            stack.enter_context(queue)
            assert where == address
            assert accepted(queue) == most
            assert accepted(own) == 32 - most
            connect(stack, address)
            assert accepted(own) == 32, "what is new comes to the node that is left"


async def test_what_waits_at_a_node_that_stands_still_is_offered_to_another(sockets, addresses, nursery):
    address = addresses[0]
    sockets.open(address, "edge")
    nursery.start_soon(sockets.run)
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one, process(sockets, 2) as two:
            own = stack.enter_context(await lent(one, address))
            stack.enter_context(await lent(two, address))
            connect(stack, address)
            taken = accepted(own)
            _, queue, most = await offered(one)
            stack.enter_context(queue)
            assert accepted(queue) == most == 32 - taken


async def test_a_process_that_runs_takes_what_waits_at_it_itself(sockets, addresses):
    address = addresses[0]
    sockets.open(address, "edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one, process(sockets, 2, os.getpid()) as two:
            own = stack.enter_context(await lent(one, address))
            stack.enter_context(await lent(two, address))
            connect(stack, address)
            accepted(own)
            for _ in range(3):
                sum(range(1_000_000))
                sockets.look()
            assert one.offers() == []


async def test_a_node_that_reads_no_offers_holds_nobody_up(sockets, addresses):
    address = addresses[0]
    sockets.open(address, "edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one:
            stack.enter_context(await lent(one, address))
            async with process(sockets, 2) as two:
                stack.enter_context(await lent(two, address))
                connect(stack, address)
            for _ in range(10_000):
                sockets.look()
            await trio.testing.wait_all_tasks_blocked()
            for _, queue, _ in one.offers():
                queue.close()


async def test_a_port_for_datagrams_is_kept_beside_the_one_for_connections(sockets, addresses, node):
    """Each has its own sockets, and what waits in one for datagrams is read by the process that borrows it next."""
    udp = ListenAddress(addresses[0].address, Transport.UDP)
    sockets.open(addresses[0], "edge")
    sockets.open(udp, "edge")
    (await node(udp)).close()
    (await node(addresses[0])).close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"waits", udp.address.sockaddr)
        with await node(udp) as borrowed:
            assert borrowed.recv(100) == b"waits"
    assert is_open(addresses[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((udp.address.host, 0))
        other = ListenAddress(Address(*taken.getsockname()), Transport.UDP)
        with pytest.raises(PortTaken, match=rf"cannot listen on {other}: Address already in use.*ss -lunp"):
            sockets.open(other, "edge")


async def test_datagrams_that_wait_at_a_node_that_ends_are_offered_to_another(sockets, addresses):
    address = ListenAddress(addresses[0].address, Transport.UDP)
    sockets.open(address, "edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one:
            own = stack.enter_context(await lent(one, address))
            async with process(sockets, 2) as two:
                stack.enter_context(await lent(two, address))
                for number in range(32):
                    client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    client.sendto(b"%d" % number, address.address.sockaddr)
            where, queue, _ = await offered(one)
            stack.enter_context(queue)
            assert where == address
            read = [waiting(own), waiting(queue)]
            assert all(read)
            assert sorted(read[0] + read[1]) == list(range(32))
            client.sendto(b"33", address.address.sockaddr)
            assert waiting(own) == [33], "what is new comes to the node that is left"


def waiting(sock):
    """The numbers in the datagrams that wait in a socket."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(int(sock.recv(100)))
    return found


async def test_a_process_of_a_tier_that_has_no_part_in_an_address_any_more_gets_nothing_new_there(sockets, addresses):
    address = addresses[0]
    sockets.open(address, "edge")
    sockets.open(address, "front")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        async with process(sockets, 1) as one, process(sockets, 2, tier="front") as two:
            left = stack.enter_context(await lent(one, address))
            heir = stack.enter_context(await lent(two, address))
            sockets.keep({address: "front"})
            connect(stack, address)
            assert (accepted(left), accepted(heir)) == (0, 32)
