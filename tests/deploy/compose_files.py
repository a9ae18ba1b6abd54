"""Topologies to render as compose files: every example, and one that has each kind of tier and pool."""

from pathlib import Path

import attrs
import pytest

from tierlb.deploy.compose import Rendering, compose_document, faults
from tierlb.topology.load import load_file, load_text

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "topology").glob("*.yaml"))
IMAGE = "tierlb:test"

EVERYTHING = """\
cluster: shop
admin: {listen: 127.0.0.1:7911}
store: etcd://10.0.0.5:2379/shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:443", to: web, resources: {cpus: 0.5, memory: 128MiB}}
  direct: {kind: l7, listen: ["[::1]:8081", "127.0.0.1:8443"], agent_check: "127.0.0.1:9777", to: joining}
  web:
    kind: l7
    replicas: 3
    routes:
      - {match: {path_prefix: /api}, to: [api, joining]}
      - {match: {path_prefix: /far}, to: far}
      - {to: app}
  far: {kind: l7, replicas: 2, to: remote}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}", replicas: 4}}
  api:
    run:
      command: serve --at {host}:{port} --price '5$'
      image: registry.example.com/team/api:1.2
      resources: {cpus: 2, memory: 1GiB}
  joining: {agents: true}
  remote: {dns: "api.internal:8000"}
"""


def alone(topology):
    """One container of each tier that publishes a port: with more of them the example cannot be had."""
    tiers = {
        name: attrs.evolve(tier, replicas=1) if tier.listen or tier.agent_check else tier
        for name, tier in topology.tiers.items()
    }
    return attrs.evolve(topology, tiers=tiers)


def everything():
    return load_text(EVERYTHING, "shop.yaml")


TOPOLOGIES = [pytest.param(alone(load_file(path)), id=path.stem) for path in EXAMPLES]
TOPOLOGIES.append(pytest.param(everything(), id="everything"))


def rendered(topology, **more):
    assert faults(topology) == ()
    return compose_document(Rendering(topology, IMAGE, **more))


def option(service, name):
    command = service["command"]
    return command[command.index(name) + 1]
