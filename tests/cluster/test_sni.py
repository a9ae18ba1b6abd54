"""An l4 tier with routes by SNI is changed in every way while TLS clients connect: each gets its server, none fails."""

import ssl
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import attrs
import trio
import trustme

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster

ANSWER_S = 30.0
COMMAND_S = 120.0
CLIENTS = 3
"""Of each name."""
TOPOLOGY = """\
cluster: sni
admin: {{listen: {admin}}}
tiers:
  edge:
    kind: l4
    listen: "{edge}"
    replicas: 2
    drain: 5s
    routes:
      - match: {{sni: a.example.com}}
        to: a
      - match: {{sni: ["*.b.example.com", c.example.com]}}
        to: mid
      - to: other
  mid:
    kind: l4
    replicas: 2
    drain: 5s
    routes:
      - match: {{sni: c.example.com}}
        to: c
      - to: {{b: 1, b-next: 1}}
pools:
  a: {{endpoints: ["{a}"]}}
  b: {{endpoints: ["{b}"]}}
  b-next: {{endpoints: ["{b_next}"]}}
  c: {{endpoints: ["{c}"]}}
  other: {{endpoints: ["{other}"]}}
"""
POOLS = ("a", "b", "b_next", "c", "other")
EXPECTED = {
    "a.example.com": {"a"},
    "x.b.example.com": {"b", "b_next"},
    "c.example.com": {"c"},
    "d.example.com": {"other"},
}
CHANGES = (
    "tier add low --kind l4 --between mid c --replicas 2",
    "scale mid=3",
    "restart edge",
    "drain mid-1",
    "restart mid",
    "ready mid-1",
    "scale mid=1",
    "tier remove low",
    "tier remove mid",
)
"""The last one is refused: its routes decide."""


@attrs.define
class Asked:
    """What clients got: how often which server answered which name, and what failed."""

    address: tuple[str, int]
    context: ssl.SSLContext
    answers: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    failures: list[str] = attrs.field(factory=list)

    async def ask_on(self, name: str, ending: trio.Event) -> None:
        while not ending.is_set():
            try:
                self.answers[name, await self._answer(name)] += 1
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self.failures.append(f"{name}: {error!r}, {error.__cause__!r}")
            await trio.sleep(0.02)

    async def _answer(self, name: str) -> str:
        with trio.fail_after(ANSWER_S):
            async with await trio.open_tcp_stream(*self.address) as stream:
                tls = trio.SSLStream(stream, self.context, server_hostname=name, https_compatible=True)
                await tls.send_all(b"?")
                return bytes(await tls.receive_some(100)).decode()


async def serve_tls(name: str, address: str, context: ssl.SSLContext) -> None:
    """Answers with its name."""

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with trio.move_on_after(ANSWER_S):
            try:
                await stream.receive_some(1)
                await stream.send_all(name.encode())
                await stream.receive_some(1)
            except (trio.BrokenResourceError, OSError):
                pass

    host, _, port = address.rpartition(":")
    await trio.serve_ssl_over_tcp(answer, int(port), context, host=host, https_compatible=True)


async def commands(cluster: Cluster) -> dict[str, int]:
    """What each ends with."""
    codes = {}
    for change in CHANGES:
        argv = [sys.executable, "-m", "tierlb", *change.split(), "--admin", f"http://{cluster.admin}"]
        argv += ["--token-file", str(cluster.state / "admin-token")]
        with trio.fail_after(COMMAND_S):
            done = await trio.run_process(argv, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
        codes[change] = done.returncode
        assert done.returncode == 0 or change == CHANGES[-1], done.stdout.decode()
    return codes


def test_no_client_fails_or_gets_another_server_while_tiers_change(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(*(name.replace("x.b.", "*.b.") for name in EXPECTED)).configure_cert(server)
    authority.configure_trust(client)
    places = {name: free_address() for name in POOLS}
    admin, edge = free_address(), free_address()
    host, _, port = edge.rpartition(":")
    asked = Asked((host, int(port)), client)

    async def main(cluster: Cluster) -> dict[str, int]:
        async with trio.open_nursery() as nursery:
            for name, address in places.items():
                nursery.start_soon(serve_tls, name, address, server)
            async with trio.open_nursery() as clients:
                ending = trio.Event()
                for name in [*EXPECTED] * CLIENTS:
                    clients.start_soon(asked.ask_on, name, ending)
                codes = await commands(cluster)
                ending.set()
            nursery.cancel_scope.cancel()
        return codes

    with running_cluster(TOPOLOGY.format(admin=admin, edge=edge, **places), admin, tmp_path) as cluster:
        codes = trio.run(partial(main, cluster))
    assert asked.failures == []
    got = {name: {by for each, by in asked.answers if each == name} for name in EXPECTED}
    assert got == EXPECTED
    assert min(asked.answers.values()) > 20
    assert [change for change, code in codes.items() if code] == [CHANGES[-1]]
