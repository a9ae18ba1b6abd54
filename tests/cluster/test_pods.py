"""What is rendered for Kubernetes, run: each pod's command as a process on a host of its own, with the names that the
Services give it, watched by its probes, and reached only as the policies say. What they leave open must be enough.

Kubernetes itself is not here: what a Service, a probe and a policy mean is acted out in a few lines. Files that pods
have mounted are elsewhere, for all hosts share one file system.
"""

import contextlib
import http.client
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from tests.cluster.traffic import Traffic
from tests.deploy.manifests import container, of_kind, plan_of, pods, rendered
from tests.deploy.test_kubernetes_network import PORTS, Peer, passes
from tests.hosts import NFT, Host, Network, running_network
from tests.processes import Process
from tierlb.deploy.kubernetes_names import TIER_LABEL
from tierlb.wire.credentials import Principal, Role, issued, root_key

DEADLINE_S = 240.0
READY_S = 90.0
POLL_S = 0.1
PUBLIC = 8080
TOPOLOGY = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, routes: [{match: {path: /work}, to: app}]}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}", replicas: 2}}
"""


@attrs.define(eq=False)
class Pod:
    """One pod of an owner (Deployment, StatefulSet), on its host."""

    name: str
    owner: str
    template: dict
    host: Host
    process: "Process[bytes]"

    async def passes(self, probe, kubelet):
        """Whether the probe finds what it wants."""
        only = container(self.template)
        asked = only[probe].get("httpGet") or only[probe]["tcpSocket"]
        port = next(each["containerPort"] for each in only["ports"] if each["name"] == asked["port"])
        try:
            if "path" not in asked:
                await (await kubelet.dial(self.host.address, port)).aclose()
                return True
            return (await kubelet.get(f"{self.host.address}:{port}", asked["path"]))[0] == 200
        except (OSError, http.client.HTTPException):
            return False


@attrs.define
class Machine:
    """All pods of a cluster; `kubelet` is the host that probes come from, `client` somebody outside."""

    network: Network
    directory: Path
    objects: list
    running: list[Pod] = attrs.field(factory=list)
    made: int = 0
    kubelet: Host = attrs.field(init=False)
    client: Host = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.kubelet, self.client = self.network.make("kubelet", 2), self.network.make("client", 3)
        (self.directory / "topology.yaml").write_text(
            next(each["data"]["topology.yaml"] for each in self.objects if "data" in each)
        )
        self.make_secrets()

    def make_secrets(self):
        """Each in a directory of its own, with the keys that pods have mounted."""
        root = root_key("the join-token")
        for name, template in pods(self.objects).items():
            for volume in template["spec"].get("volumes", []):
                for item in volume.get("secret", {}).get("items", []):
                    tier = template["metadata"]["labels"].get(TIER_LABEL)
                    token = issued(root, Principal(Role.NODE, tier)).text if tier else f"the {item['key']}"
                    folder = self.directory / f"secrets-{name}"
                    folder.mkdir(exist_ok=True)
                    (folder / item["path"]).write_text(f"{token}\n")

    @property
    def log(self):
        return self.directory / "log"

    def start(self, owner, name):
        """A pod more, known to all others at once."""
        self.made += 1
        template = pods(self.objects)[owner]
        host = self.network.make(f"pod{self.made}", 10 + self.made)
        pod = Pod(name, owner, template, host, None)
        self.running.append(pod)
        self.tell()
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name)
        pod.process = host.run([*named, *self.command(pod)], self.log)
        return pod

    def command(self, pod):
        """What the container runs, with the files that it has mounted where they are here."""
        program, *words = (word.replace("$$", "$") for word in container(pod.template)["command"])
        assert program == "tierlb"
        mounted = {
            "/run/secrets/tierlb": str(self.directory / f"secrets-{pod.owner}"),
            "/etc/tierlb": str(self.directory),
            "/var/lib/tierlb": str(self.directory / f"state-{pod.name}"),
        }
        for path, here in mounted.items():
            words = [word.replace(path, here) for word in words]
        return [sys.executable, "-m", "tierlb", *words]

    def forget(self, pod):
        """It is in no Service any more."""
        self.running.remove(pod)
        self.tell()

    def tell(self):
        """Names, and who may speak to whom."""
        names: dict[str, list[str]] = {}
        for pod in self.running:
            names.setdefault(pod.owner, []).append(pod.host.address)
            names[f"{pod.name}.{pod.owner}"] = [pod.host.address]
        for pod in self.running:
            pod.host.knows(**names)
            self.close(pod)

    def close(self, pod):
        """Only what all policies together let through arrives at the pod."""
        policies = list(of_kind(self.objects, "NetworkPolicy").values())
        peers = {each.host.address: Peer(each.name, each.template["metadata"]["labels"]) for each in self.running}
        peers[self.client.address] = Peer("client")
        rules = ["iif lo accept", "ct state established,related accept", f"ip saddr {self.kubelet.address} accept"]
        for address, peer in peers.items():
            open_to = [port for port in PORTS if passes(policies, peer, peers[pod.host.address], port)]
            if address != pod.host.address and open_to:
                rules.append(f"ip saddr {address} tcp dport {{ {', '.join(map(str, open_to))} }} accept")
        chain = "\n".join(("type filter hook input priority 0; policy drop;", *rules))
        script = f"flush ruleset\ntable inet policies {{\nchain in {{\n{chain}\n}}\n}}\n"
        subprocess.run(pod.host.argv([NFT, "-f", "-"]), input=script.encode(), check=True, timeout=10)

    async def until_ready(self, *pods):
        """Wait until these are, or all of them."""
        waiting = list(pods or self.running)
        with trio.move_on_after(READY_S):
            while waiting:
                waiting = [pod for pod in waiting if not await pod.passes("readinessProbe", self.kubelet)]
                await trio.sleep(POLL_S if waiting else 0)
        assert not waiting, f"{[pod.name for pod in waiting]} never became ready\n{self.log.read_text()[-2000:]}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[Machine]:
    with running_network() as network:
        machine = Machine(network, tmp_path_factory.mktemp("pods"), rendered(plan_of(TOPOLOGY)))
        machine.start("shop-edge", "shop-edge-5d-a")
        for number in range(2):
            machine.start("shop-web", f"shop-web-7c-{number}")
            machine.start("shop-app", f"shop-app-6f-{number}")
        machine.start("shop-controller", "shop-controller-0")
        yield machine


@pytest.fixture
async def machine(whole) -> AsyncIterator[Machine]:
    with trio.fail_after(DEADLINE_S):
        await whole.until_ready()
        yield whole


def traffic(machine):
    edge = next(pod for pod in machine.running if pod.owner == "shop-edge")
    return Traffic((edge.host.address, PUBLIC), dial=machine.client.dial)


async def test_all_pods_become_ready_and_serve_through_the_whole_tree(machine):
    assert all([await pod.passes("startupProbe", machine.kubelet) for pod in machine.running])
    clients = traffic(machine)
    reached = [await clients.visit() for _ in range(20)]
    assert clients.failures == []
    assert set(reached) == {"web-shop-web-7c-0", "web-shop-web-7c-1"}


async def test_nodes_hear_the_reports_of_those_below(machine):
    edge = next(pod for pod in machine.running if pod.owner == "shop-edge")

    async def hears():
        page = (await machine.kubelet.get(f"{edge.host.address}:7946", "/metrics"))[1].decode()
        return re.search(r"^tierlb_subtree_ready_leaves{.*} ([1-9].*)$", page, re.MULTILINE) is not None

    await until(hears)


async def test_nobody_from_outside_reaches_more_than_the_edge(machine):
    answering = []

    async def knock(pod, port):
        with trio.move_on_after(0.5) as gave_up, contextlib.suppress(OSError):
            await (await machine.client.dial(pod.host.address, port)).aclose()
        if not gave_up.cancelled_caught:
            answering.append((pod.owner, port))

    async with trio.open_nursery() as nursery:
        for pod in machine.running:
            for port in (PUBLIC, 7900, 7901, 7945, 7946, 9000):
                nursery.start_soon(knock, pod, port)
    assert answering == [("shop-edge", PUBLIC)]


async def test_the_api_is_reached_from_within_the_controllers_pod_and_from_nowhere_else(machine):
    controller = next(pod for pod in machine.running if pod.owner == "shop-controller")
    assert (await controller.host.get("127.0.0.1:7900", "/v1/status"))[0] == 200
    with pytest.raises(ConnectionRefusedError):
        await machine.kubelet.get(f"{controller.host.address}:7900", "/v1/status")


async def test_a_new_image_in_all_nodes_of_a_tier_and_a_new_controller_lose_no_request(machine):
    async with traffic(machine).flowing() as clients:
        for old in [pod for pod in machine.running if pod.owner == "shop-web"]:
            new = machine.start("shop-web", old.name.replace("7c", "9f"))
            await machine.until_ready(new)
            await clients.until_used(f"web-{new.name}")
            await ended(machine, old)
        controller = next(pod for pod in machine.running if pod.owner == "shop-controller")
        await ended(machine, controller)
        await machine.until_ready(machine.start("shop-controller", "shop-controller-0"))
    assert clients.failures == []
    assert len(clients.requests) > 100


async def until(holds):
    """Wait for what nobody tells."""
    with trio.fail_after(READY_S):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(POLL_S)


async def ended(machine, pod):
    """As Kubernetes ends a pod: it leaves the Services, and is asked to end."""
    grace_s = pod.template["spec"]["terminationGracePeriodSeconds"]
    machine.forget(pod)
    pod.process.terminate()
    assert await trio.to_thread.run_sync(pod.process.wait, grace_s) == 0
