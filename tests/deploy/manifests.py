"""Topologies rendered for Kubernetes, read again by a reader of YAML 1.1, as Kubernetes is one."""

from pathlib import Path

import yaml

from tierlb.deploy.kubernetes import render
from tierlb.deploy.kubernetes_names import ManifestPlan, Options, problems
from tierlb.topology.load import load_text

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "topology").glob("*.yaml"))

EVERYTHING = """\
cluster: shop
store: etcd://10.0.0.5:2379,10.0.0.6:2380/shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:443", replicas: 2, to: web, resources: {cpus: 0.5, memory: 128MiB}}
  direct: {kind: l7, listen: "127.0.0.1:8081", agent_check: "127.0.0.1:9777", to: joining}
  web:
    kind: l7
    replicas: 3
    routes:
      - {match: {path_prefix: /api}, to: [api, joining]}
      - {match: {path_prefix: /old}, to: listed}
      - {match: {path_prefix: /far}, to: far}
      - {to: app}
  far: {kind: l7, replicas: 2, to: remote}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}", replicas: 4}, agent_check: 9778}
  api:
    run:
      command: serve --at {host}:{port} --price '5$' --home '$(HOME)'
      image: registry.example.com/team/api:1.2
      resources: {cpus: 2, memory: 1GiB}
  joining: {agents: true}
  listed: {endpoints: ["10.0.0.7:9001", "10.0.0.7:9002", "[2001:db8::1]:9001"], agent_check: 9779}
  remote: {dns: "_http._tcp.remote.internal"}
"""


ON_EACH_MACHINE = EVERYTHING.replace("replicas: 2, to: web", "to: web")
"""For `--edge daemonset`, where tiers that listen have no number."""


def plan_of(text=EVERYTHING, file="shop.yaml", **options):
    """As the command makes it."""
    return ManifestPlan(load_text(text, str(file)), text, Options(**options))


def rendered(plan):
    """All objects, as whoever applies the text reads them."""
    assert problems(plan) == []
    return list(yaml.load_all(render(plan), LOADER))


def of_kind(objects, *kinds):
    """By their names."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


def pods(objects):
    """One pod, as a template, of each that makes pods, by its name."""
    makers = of_kind(objects, "Deployment", "DaemonSet", "StatefulSet")
    return {name: maker["spec"]["template"] for name, maker in makers.items()}


def container(pod):
    """The only one."""
    (only,) = pod["spec"]["containers"]
    return only


def with_tls(folder):
    """The text of a topology whose certificates are in the folder `pki` beside it, under names of their own."""
    return """\
cluster: safe
security: {tls: {certificate: pki/node.pem, key: /etc/safe/node.key, ca: ../ca.pem}}
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: app}
pools:
  app: {run: {command: "tierlb demo-backend --host {host} --port {port}"}}
""".replace("/etc/safe", str(folder / "etc"))


def matches(selector, labels):
    """Whether a selector (matchLabels, matchExpressions with Exists) selects what has these labels."""
    wanted = selector.get("matchLabels", {}).items()
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "Exists" for each in expressions)
    return wanted <= labels.items() and all(each["key"] in labels for each in expressions)
