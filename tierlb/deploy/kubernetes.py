"""A topology as Kubernetes objects: the output of `tierlb kubernetes`, to be applied as it is.

A tier is a Deployment, or a DaemonSet where it listens at a port of each machine; a pool with `run` is a Deployment.
The controller is a StatefulSet, because its pods need names of their own: with a store there are two, one active and
one that takes over, and nodes try one after the other. Each of them has a headless Service, so that a name resolves to
every pod: children connect to all of their parents, which need not be ready for reports.

l7 tiers are scaled by the use of their nodes' CPU. The utilisation that they report to their parents is the larger of
their own and of what is below them, and more nodes do not help where the endpoints are full.

Left out: tokens and certificates, which do not belong into a file; a notice at the top says how to make the Secrets.
"""

import hashlib
import ipaddress
import os.path
import shlex
from collections.abc import Iterator
from typing import Any

from tierlb.deploy.container import (
    AGENT_TOKEN_FILE,
    CONTROL_PORT,
    JOIN_TOKEN_FILE,
    MOUNTED_ADMIN_TOKEN,
    MOUNTED_NODE_TOKEN,
    MOUNTED_TOPOLOGY,
    NODE_CONTROL_PORT,
    NODE_DATA_PORT,
    POOL_PORT,
)
from tierlb.deploy.kubernetes_names import CONTROLLER_NAME, PUBLIC, Labels, ManifestPlan, public_names
from tierlb.deploy.kubernetes_network import policies
from tierlb.deploy.kubernetes_pods import (
    PORTS_OF_POOLS,
    TLS_FILES,
    controller_pod,
    endpoint_pod,
    file_keys,
    is_probed,
    node_pod,
    state_claims,
    store_keys,
)
from tierlb.deploy.yaml_text import documents
from tierlb.model.address import Transport
from tierlb.model.topology import Pool, Run, Tier
from tierlb.topology.allot import tiers_joined, transports_to

OLDEST = "1.30"
"""The first version in which a container can sleep before it ends, whatever programs its image has."""
METRIC = "tierlb_busy_ratio"
BUSY = "600m"
"""A node is full at 0.9 (telemetry/utilisation.py). Two thirds of that leave room while new nodes start, and for one of
three to fail."""
ROLLOUT_CALM_S = 300
"""Load that was lower for so long counts as lower: the default of Kubernetes."""
ROLLOUT_STEADY_S = 5
"""After this time a new node is known to its parents, and has its first share; then an old one is asked to end."""

Object = dict[str, Any]


def render(plan: ManifestPlan) -> str:
    """All objects as one text in YAML. `kubernetes_names.problems` has to be empty."""
    return notice(plan) + documents(objects(plan))


def objects(plan: ManifestPlan) -> Iterator[Object]:
    """All objects, in the order of their dependencies."""
    for each in _objects(plan):
        if plan.options.namespace:
            each["metadata"] = {**each["metadata"], "namespace": plan.options.namespace}
        yield each


def notice(plan: ManifestPlan) -> str:
    """The steps before the objects are applied, as comments."""
    lines = [
        f"The cluster {plan.topology.cluster} for Kubernetes {OLDEST} or newer, written by `tierlb kubernetes`: change",
        "the topology file and write it again. Once, before it is applied:",
        "",
        *_secret_advice(plan),
        "",
        f"The API is at http://127.0.0.1:{plan.topology.admin.port} while this runs"
        f"{' (if that controller is the active one)' if plan.controllers > 1 else ''}:",
        f"  kubectl{_namespace(plan)} port-forward pod/{plan.name(CONTROLLER_NAME, '0')} {plan.topology.admin.port}",
        *_agent_advice(plan),
    ]
    return "".join(f"# {line}\n" if line else "#\n" for line in lines)


def certified(plan: ManifestPlan) -> list[str]:
    """What a certificate must include: the names by which nodes and agents connect to their parents, and the tiers, by
    which those of two tiers know each other."""
    host = plan.name(CONTROLLER_NAME)
    parents = [plan.name(name) for name, tier in plan.topology.tiers.items() if plan.reporters(tier)]
    controllers = [f"{host}-{number}.{host}" for number in range(plan.controllers)]
    return list(dict.fromkeys((*controllers, *parents, *tiers_joined(plan.topology))))


def kubernetes_warnings(plan: ManifestPlan) -> list[str]:
    """What is valid and probably not intended."""
    found = []
    for pool in plan.topology.pools.values():
        local = [each for each in pool.endpoints if not each.is_unix and ipaddress.ip_address(each.host).is_loopback]
        if local:
            found.append(f"pools.{pool.name}.endpoints: {local[0]} is each pod itself: name a host that pods can reach")
        if pool.run is not None and "{host}" not in pool.run.command:
            found.append(f"pools.{pool.name}.run.command: must listen on all addresses in a container: use {{host}}")
        if pool.run is not None and pool.run.image is not None and not is_probed(plan, pool):
            found.append(f"pools.{pool.name}.run: no probe is for UDP, so its pods count as ready as soon as they run")
    return found


def _objects(plan: ManifestPlan) -> Iterator[Object]:
    account = _object(plan, "v1", "ServiceAccount", plan.name(), plan.labels("account", {}))
    yield {**account, "automountServiceAccountToken": False}
    topology = _object(plan, "v1", "ConfigMap", plan.name("topology"), plan.labels(CONTROLLER_NAME, {}))
    yield {**topology, "data": {MOUNTED_TOPOLOGY.rpartition("/")[2]: plan.text}}
    yield from policies(plan)
    yield from _controller_manifests(plan)
    for pool in plan.topology.pools.values():
        if pool.run is not None:
            yield from _endpoints(plan, pool, pool.run)
    for tier in plan.topology.tiers.values():
        yield from _tier_manifests(plan, tier)


def _controller_manifests(plan: ManifestPlan) -> Iterator[Object]:
    name, selector = plan.name(CONTROLLER_NAME), plan.controller_selector()
    labels = plan.labels(CONTROLLER_NAME, {})
    yield _discovery(plan, name, labels, selector, [_service_port("control", CONTROL_PORT)], ready_only=False)
    digest = hashlib.sha256(plan.text.encode()).hexdigest()
    spec = {
        "serviceName": name,
        "replicas": plan.controllers,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector},
        "template": controller_pod(plan, digest),
    }
    if claims := state_claims(plan):
        spec["volumeClaimTemplates"] = claims
    yield _object(plan, "apps/v1", "StatefulSet", name, labels, spec)
    yield _disruption(plan, name, labels, selector)


def _endpoints(plan: ManifestPlan, pool: Pool, run: Run) -> Iterator[Object]:
    name, selector = plan.name(pool.name), plan.pool_selector(pool.name)
    labels = plan.labels("pool", selector)
    ports = [_service_port(PORTS_OF_POOLS[each], POOL_PORT, each) for each in _sorted_transports(plan, pool)]
    yield _discovery(plan, name, labels, selector, ports, ready_only=True)
    yield _object(
        plan,
        "apps/v1",
        "Deployment",
        name,
        labels,
        {**_rolled(selector), "replicas": run.replicas, "template": endpoint_pod(plan, pool, run)},
    )
    yield _disruption(plan, name, labels, selector)


def _tier_manifests(plan: ManifestPlan, tier: Tier) -> Iterator[Object]:
    name, selector = plan.name(tier.name), plan.tier_selector(tier.name)
    labels = plan.labels("tier", selector)
    ports = [_service_port("control", NODE_CONTROL_PORT)]
    if plan.topology.parents(tier.name):
        ports.append(_service_port("data", NODE_DATA_PORT, tier.protocol))
    yield _discovery(plan, name, labels, selector, ports, ready_only=False)
    template = node_pod(plan, tier)
    if plan.on_each_machine(tier):
        spec = {"selector": {"matchLabels": selector}, "minReadySeconds": ROLLOUT_STEADY_S, "template": template}
        yield _object(plan, "apps/v1", "DaemonSet", name, labels, spec)
        return
    if tier.listen:
        yield _public_service(plan, tier, labels, selector)
    # only the autoscaler may set the replicas: each `kubectl apply` would reset them
    is_scaled = plan.most(tier) > tier.replicas
    replicas = {} if is_scaled else {"replicas": tier.replicas}
    spec = {**_rolled(selector), **replicas, "template": template}
    yield _object(plan, "apps/v1", "Deployment", name, labels, spec)
    yield _disruption(plan, name, labels, selector)
    if is_scaled:
        yield _scaler(plan, tier, labels)


def _rolled(selector: Labels) -> Object:
    """Start a new pod before an old one ends."""
    return {
        "selector": {"matchLabels": selector},
        "revisionHistoryLimit": 3,
        "minReadySeconds": ROLLOUT_STEADY_S,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
    }


def _discovery(
    plan: ManifestPlan, name: str, labels: Labels, selector: Labels, ports: list[Object], *, ready_only: bool
) -> Object:
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": not ready_only,
        "selector": selector,
        "ports": ports,
    }
    return _object(plan, "v1", "Service", name, labels, spec)


def _sorted_transports(plan: ManifestPlan, pool: Pool) -> list[Transport]:
    return sorted(transports_to(plan.topology, pool.name), key=lambda each: each.value)


def _public_service(plan: ManifestPlan, tier: Tier, labels: Labels, selector: Labels) -> Object:
    """Traffic stays on the machine where it arrives, so that the nodes see their clients' addresses."""
    ports = [_service_port(name, port, tier.protocol) for name, port in public_names(tier).items()]
    if tier.agent_check is not None:
        ports.append(_service_port("agent-check", tier.agent_check.port))
    spec = {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "selector": selector,
        "ports": ports,
    }
    if any(":" in host for each in tier.listen for host in (at.host for at in each.address.bound)):
        spec["ipFamilyPolicy"] = "PreferDualStack"  # clients of IPv6 too, where the cluster has it
    return _object(plan, "v1", "Service", plan.name(tier.name, PUBLIC), labels, spec)


def _service_port(name: str, number: int, transport: Transport = Transport.TCP) -> Object:
    return {"name": name, "port": number, "targetPort": name, "protocol": transport.value.upper()}


def _disruption(plan: ManifestPlan, name: str, labels: Labels, selector: Labels) -> Object:
    """One at a time. A pod that is not ready does not count, so that it cannot keep a machine from being drained."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector},
    }
    return _object(plan, "policy/v1", "PodDisruptionBudget", name, labels, spec)


def _scaler(plan: ManifestPlan, tier: Tier, labels: Labels) -> Object:
    """At most twice as many in a minute where load grows, and a tenth less where it has been low for long: each change
    costs slow starts, and drains."""
    name = plan.name(tier.name)
    busy = {"metric": {"name": METRIC}, "target": {"type": "AverageValue", "averageValue": BUSY}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": tier.replicas,
        "maxReplicas": plan.most(tier),
        "metrics": [{"type": "Pods", "pods": busy}],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0, **_order_steps(percent=100, pods=2)},
            "scaleDown": {"stabilizationWindowSeconds": ROLLOUT_CALM_S, **_order_steps(percent=10, pods=1)},
        },
    }
    return _object(plan, "autoscaling/v2", "HorizontalPodAutoscaler", name, labels, spec)


def _order_steps(percent: int, pods: int) -> Object:
    """The steps within a minute, whichever is larger."""
    policies = [
        {"type": kind, "value": value, "periodSeconds": 60} for kind, value in (("Percent", percent), ("Pods", pods))
    ]
    return {"selectPolicy": "Max", "policies": policies}


def _object(
    plan: ManifestPlan, version: str, kind: str, name: str, labels: Labels, spec: Object | None = None
) -> Object:
    head: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}}
    return head if spec is None else {**head, "spec": spec}


def _secret_advice(plan: ManifestPlan) -> list[str]:
    make = f"  kubectl{_namespace(plan)} create secret generic"
    join, admin, node, agent = map(
        os.path.basename, (JOIN_TOKEN_FILE, MOUNTED_ADMIN_TOKEN, MOUNTED_NODE_TOKEN, AGENT_TOKEN_FILE)
    )
    advice = [
        f"  (umask 077; openssl rand -hex 32 >{join})   # the cluster's secret: for the controllers alone",
        f"{make} {plan.name('tokens')} \\",
        f'    --from-file={join} --from-literal={admin}="$(openssl rand -hex 32)"',
    ]
    nodes = [(f"--role node --tier {name}", name, node) for name in plan.topology.tiers]
    pools = [pool.name for pool in plan.topology.pools.values() if pool.agents]
    for whose, name, key in (*nodes, *((f"--role agent --pool {name}", name, agent) for name in pools)):
        advice.append(f"  tierlb token {whose} --token-file {join} |")
        advice.append(f"  {make} {plan.token_secret(name)} --from-file={key}=/dev/stdin")
    if plan.topology.tls is not None:
        files = " ".join(f"--from-file={name}=FILE" for name in TLS_FILES)
        advice += [f"{make} {plan.name('tls')} {files}", f"The certificate is for {', '.join(certified(plan))}."]
    if keyed := file_keys(plan):
        files = " ".join(f"--from-file={key}={shlex.quote(name)}" for name, key in keyed.items())
        advice += [f"{make} {plan.name('files')} {files}"]
    if keys := store_keys(plan):
        advice += [f"{make} {plan.name('store')} {' '.join(f'--from-file={key}=FILE' for key in keys)}"]
    return advice


def _agent_advice(plan: ManifestPlan) -> list[str]:
    pools = [pool.name for pool in plan.topology.pools.values() if pool.agents]
    if not pools:
        return []
    labels = ", ".join(f"{key}: {value}" for key, value in plan.pool_selector("POOL").items())
    return [
        "",
        f"Applications of {', '.join(pools)}: label their pods {labels}, and run beside each",
        f"  tierlb agent --join {plan.join_urls} --pool POOL \\",
        f"    --token-file {AGENT_TOKEN_FILE} --name $(POD_NAME) --address $(POD_IP):PORT",
        f"with the Secret {plan.token_secret('POOL')} mounted at {os.path.dirname(AGENT_TOKEN_FILE)}",
    ]


def _namespace(plan: ManifestPlan) -> str:
    return f" -n {plan.options.namespace}" if plan.options.namespace else ""
