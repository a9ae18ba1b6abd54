"""Names to endpoints, by a real name server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from tests.name_server import ZONE, NameServer, name_server
from tierlb.model.address import Address
from tierlb.model.snapshot import FoundEndpoint
from tierlb.net.lookup import look_up

DEADLINE_S = 30.0
ASK = """
import json, sys
import attrs, trio
from tierlb.net.lookup import look_up

print(json.dumps([[attrs.astuple(each) for each in trio.run(look_up, name)] for name in sys.argv[1:]]))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NameServer]:
    with name_server(tmp_path) as server:
        yield server


def asked(server: NameServer, *names: str) -> list[tuple[FoundEndpoint, ...]]:
    """What a process that has this name server finds."""
    argv = server.asking(sys.executable, "-c", ASK, *names)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return [
        tuple(FoundEndpoint(Address(*address), *rest) for address, *rest in found) for found in json.loads(done.stdout)
    ]


def at(port: int, *hosts: str) -> tuple[FoundEndpoint, ...]:
    return tuple(FoundEndpoint(Address(host, port)) for host in hosts)


def test_every_address_of_a_name_is_an_endpoint(server: NameServer) -> None:
    server.leads(app=["10.0.0.2", "10.0.0.1"], other=["10.0.0.3"])
    assert asked(server, f"app.{ZONE}:8000", f"APP.{ZONE}.:8001") == [
        at(8000, "10.0.0.1", "10.0.0.2"),
        at(8001, "10.0.0.1", "10.0.0.2"),
    ]


def test_an_endpoint_with_addresses_of_both_families_is_one(server: NameServer) -> None:
    server.leads(both=["10.0.0.1", "fd00::1"], six=["fd00::2", "fd00::1"])
    assert asked(server, f"both.{ZONE}:80", f"six.{ZONE}:80") == [at(80, "10.0.0.1"), at(80, "fd00::1", "fd00::2")]


def test_a_name_that_does_not_exist_leads_nowhere(server: NameServer) -> None:
    assert asked(server, f"nobody.{ZONE}:80", f"_nobody._tcp.{ZONE}", "x" * 300 + ":80") == [(), (), ()]


def test_nobody_answers_and_nobody_hangs(server: NameServer) -> None:
    server.stop()
    assert asked(server, f"app.{ZONE}:80", f"_http._tcp.{ZONE}") == [(), ()]


def test_services_bring_their_ports_and_weights(server: NameServer) -> None:
    server.leads(a=["10.0.0.1"], b=["10.0.0.3", "10.0.0.2"], spare=["10.0.0.9"])
    service = f"_http._tcp.{ZONE}"
    server.start(
        f"{service},a.{ZONE},8001,1,30",
        f"{service},b.{ZONE},8002,1,0",
        f"{service},gone.{ZONE},8003,1,5",
        f"{service},spare.{ZONE},8009,2,100",
    )
    (found,) = asked(server, service)
    assert found == (
        FoundEndpoint(Address("10.0.0.1", 8001), 30.0),
        FoundEndpoint(Address("10.0.0.2", 8002), 0.01),
        FoundEndpoint(Address("10.0.0.3", 8002), 0.01),
        FoundEndpoint(Address("10.0.0.9", 8009), 100.0, 1),
    )


def test_names_are_looked_for_in_the_search_domains(server: NameServer) -> None:
    server.leads(app=["10.0.0.1"])
    server.start(f"_http._tcp.app.{ZONE},app.{ZONE},8001,1,1")
    with (server.directory / "resolv.conf").open("a") as settings:
        settings.write(f"search {ZONE}\noptions ndots:5\n")
    assert asked(server, "app:80", "_http._tcp.app") == [at(80, "10.0.0.1"), at(8001, "10.0.0.1")]


async def test_the_hosts_file_counts_as_for_every_program() -> None:
    with trio.fail_after(DEADLINE_S):
        assert await look_up("localhost:80") == at(80, "127.0.0.1")


def test_what_is_found_is_in_order_whatever_the_order_of_the_answer(server: NameServer) -> None:
    hosts = [f"10.0.{n % 7}.{n}" for n in range(1, 60)]
    server.leads(many=hosts)
    first, again = asked(server, f"many.{ZONE}:80", f"many.{ZONE}:80")
    assert first == again == tuple(sorted(first))
    assert {each.address.host for each in first} == set(hosts)
    assert attrs.astuple(first[0]) == (("10.0.0.14", 80), 1.0, 0)
