"""Tiers over UDP across machines, each a network namespace: answers come from the address that was asked, nodes below
learn their clients, and a machine that loses power takes no session with it for long."""

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from tests.cluster.across import ADMIN_TOKEN, INNER, PUBLIC, REPORTS, TOKEN, Site
from tests.hosts import IP, running_network
from tests.processes import tierlb

DEADLINE_S = 240.0
ANSWER_S = 2.0
LOST_S = 60.0
APP = 9000
SECOND = "10.77.0.200"
"""Another address of the edge's machine."""
TOPOLOGY = f"""\
cluster: hosts
admin: {{listen: 127.0.0.1:7900}}
tiers:
  edge: {{kind: l4, protocol: udp, listen: 127.0.0.1:{PUBLIC}, drain: 1s, to: web}}
  web: {{kind: l4, protocol: udp, replicas: 2, balance: maglev, drain: 1s, to: app}}
pools:
  app: {{endpoints: ["10.77.0.21:{APP}", "10.77.0.22:{APP}"]}}
"""
ECHO = Path(__file__).with_name("echo_server.py")


@attrs.define
class Talk:
    """A client that has a session with the cluster."""

    sock: trio.socket.SocketType
    said: int = 0

    async def says(self) -> str | None:
        """The address of the endpoint that answers; None if none does in time."""
        self.said += 1
        question = b"%d" % self.said
        with contextlib.suppress(OSError):
            await self.sock.send(question)
        with trio.move_on_after(ANSWER_S):
            while True:
                host, _, heard = (await self.sock.recv(65536)).split(b" ", 2)
                if heard == question:
                    return host.decode()
        return None


@contextlib.asynccontextmanager
async def running_site(directory: Path, topology: str = TOPOLOGY) -> AsyncIterator[Site]:
    with running_network() as network, trio.fail_after(DEADLINE_S):
        site = Site(network, directory)
        site.topology.write_text(topology)
        (directory / "token").write_text(f"{TOKEN}\n")
        (directory / "admin-token").write_text(f"{ADMIN_TOKEN}\n")
        for name in ("client", "app1", "app2"):
            site.host(name)
        for name in ("app1", "app2"):
            site.host(name).run([sys.executable, str(ECHO), str(APP), site.host(name).address], site.log)
        site.control("control")
        edge = site.host("edge")
        add_second_address(site)
        join = {"join": f"ws://{site.at('control', 7901)}", "token_file": directory / "token"}
        edge.run(
            tierlb(
                "node",
                tier="edge",
                name="edge-1",
                host="0.0.0.0",
                data_port=INNER,
                **join,
                control_listen=f"0.0.0.0:{REPORTS}",
            ),
            site.log,
        )
        for name in ("web1", "web2"):
            site.serve(name)
        await site.until_whole("edge-1", "web-1", "web-2")
        yield site


def add_second_address(site: Site) -> None:
    """To the interface of the edge's machine."""
    edge = site.host("edge")
    show = edge.argv([IP, "-o", "-4", "address", "show", "to", f"{edge.address}/32"])
    shown = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    subprocess.run(edge.argv([IP, "address", "add", f"{SECOND}/24", "dev", shown.split()[1]]), check=True)


@contextlib.asynccontextmanager
async def talking(site: Site, *to: str) -> AsyncIterator[list[Talk]]:
    """Talks of one client machine."""
    with contextlib.ExitStack() as stack:
        talks = []
        for host in to:
            with site.host("client").inside():
                sock = stack.enter_context(trio.socket.socket(type=trio.socket.SOCK_DGRAM))
            await sock.connect((host, PUBLIC))  # takes nothing from any other address
            talks.append(Talk(sock))
        yield talks


async def answers_of(talks: list[Talk]) -> list[str | None]:
    """What they hear when all of them ask at once."""
    answers: list[str | None] = [None] * len(talks)

    async def ask(index: int) -> None:
        answers[index] = await talks[index].says()

    async with trio.open_nursery() as nursery:
        for index in range(len(talks)):
            nursery.start_soon(ask, index)
    return answers


async def all_answered(talks: list[Talk]) -> list[str]:
    while True:
        answers = await answers_of(talks)
        if None not in answers:
            return [answer for answer in answers if answer is not None]


async def test_answers_come_from_the_address_that_was_asked_and_nodes_below_know_the_client(tmp_path: Path) -> None:
    one_shot = TOPOLOGY.replace("protocol: udp,", "protocol: udp, responses: 1,")  # no session under way takes a place
    async with running_site(tmp_path, one_shot) as site:
        async with talking(site, *[site.host("edge").address] * 4, *[SECOND] * 4) as talks:
            answers = {(await all_answered([each]))[0] for each in talks}
        assert len(answers) == 1, "by the client's address, which is one, whatever node it came by"


@pytest.mark.parametrize("lost", ["app", "web"])
async def test_a_machine_that_loses_power_takes_no_session_with_it_for_long(tmp_path: Path, lost: str) -> None:
    async with running_site(tmp_path) as site, talking(site, *[SECOND] * 12) as talks:
        answers = await all_answered(talks)
        name = "web1" if lost == "web" else next(n for n in ("app1", "app2") if site.host(n).address == answers[0])
        site.host(name).unplug()
        with trio.fail_after(LOST_S):
            after = await all_answered(talks)
        if lost == "app":
            assert answers[0] not in after
