"""The pods of a cluster in Kubernetes: nodes, controllers and the endpoints of pools with `run`.

Containers of tierlb have no more rights than they need: no root, no capability, no writable file system but the state
directory, no key to Kubernetes' API. An image that the file names runs as the image defines, without ways to more
rights.

Memory is limited to what is requested, so that a machine never promises more than it has. CPU is requested and not
limited: a limit stops a process for the rest of each tenth of a second, in which requests wait, and a node is one
thread, which cannot use more than one core.

Left out: a liveness probe of endpoints. It would kill endpoints that are slow because of load.
"""

import os.path
from typing import Any

import attrs

from tierlb.balance.stop_times import stop_whole_s
from tierlb.deploy.container import (
    CONTROL_PORT,
    JOIN_TOKEN_FILE,
    MOUNTED_ADMIN_TOKEN,
    MOUNTED_NODE_TOKEN,
    MOUNTED_TOPOLOGY,
    NODE_CONTROL_PORT,
    NODE_DATA_PORT,
    POOL_PORT,
    PROBE,
    STATE_DIRECTORY,
    UID,
    VOLUME_STATE,
    ContainerCommand,
    controller_command,
    file_place,
    node_command,
    pool_command,
    pool_probe,
    store_files,
    tls_options,
)
from tierlb.deploy.kubernetes_names import CONTROLLER_NAME, Labels, ManifestPlan, public_names, public_ports
from tierlb.deploy.named_files import below_topology, file_key, files_of_tiers
from tierlb.model.address import Transport
from tierlb.model.topology import Pool, Resources, Run, Tier
from tierlb.topology.allot import transports_to
from tierlb.topology.source import read_source

ENDING_S = 30
"""For a controller, which drains nothing, on a busy machine."""
EDGE_LINGER_S = 15
"""Load balancers before the edge go on sending until their checks fail, two or three times five seconds."""
POOL_LINGER_S = 40
"""A name's readers are not notified when an endpoint leaves: clusters keep DNS answers for up to 30 s, and nodes query
every two."""
START_S = 60
SCRATCH = "64Mi"
CLAIM = "1Gi"
"""A history takes a thousandth of it; few providers have smaller volumes."""
CONTROLLER_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
"""Twice the use at the start. Pods without requests are evicted first where memory is short."""
TLS_DIRECTORY = "/run/secrets/tierlb-tls"
TLS_KEYS = ("certificate", "key", "ca")
TLS_FILES = ("tls.crt", "tls.key", "ca.crt")
"""The names that cert-manager uses."""

Spec = dict[str, Any]

LOCKED: Spec = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Spec = {"seccompProfile": {"type": "RuntimeDefault"}}
UNPRIVILEGED_UID: Spec = {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID, **POD_SECURITY}
PORTS_OF_POOLS = {Transport.TCP: "items", Transport.UDP: "datagrams"}
"""The names of an endpoint's port, which has one number for both."""


@attrs.frozen
class Mount:
    """A volume, its content (nothing here if the pod's owner claims it), and where the container sees it or single
    files of it."""

    name: str
    source: Spec
    paths: tuple[Spec, ...]


def node_pod(plan: ManifestPlan, tier: Tier) -> Spec:
    """The pod template of a tier."""
    topology = plan.topology
    command = node_command(tier.name, plan.join_urls, plan.name(tier.name), state=VOLUME_STATE)
    mounts = [_tokens(plan.token_secret(tier.name), MOUNTED_NODE_TOKEN), _scratch("state", STATE_DIRECTORY)]
    tls_files = [f"{TLS_DIRECTORY}/{name}" for name in TLS_FILES] if topology.tls is not None else []
    if tls_files:
        command += tls_options(TLS_DIRECTORY)
        mounts.append(_mounted_tls_files(plan, {"mountPath": TLS_DIRECTORY, "readOnly": True}))
    if files := files_of_tiers(topology, plan.text).get(tier.name):
        mounts.append(_mounted_files(plan, files))
    container = _pod_container(plan, "node", command, mounts, tier.resources)
    container["ports"] = _node_ports(plan, tier)
    container |= _tierlb_probes(NODE_CONTROL_PORT, "readyz", tls_files)
    linger_s = EDGE_LINGER_S if tier.listen else 0
    ending_s = stop_whole_s(topology, tier.name)
    selector = plan.tier_selector(tier.name)
    return {
        "metadata": {"labels": plan.labels("tier", selector), "annotations": _scraped(plan)},
        "spec": _pod(plan, selector, _lingering(container, linger_s), mounts, ending_s, linger_s) | _low_ports(tier),
    }


def controller_pod(plan: ManifestPlan, digest: str) -> Spec:
    """The pod template of the controllers, which restart when the file's digest changes. On loopback the admin API is
    reached by `kubectl port-forward`, which comes from within the pod, and by nothing else."""
    admin = plan.topology.admin
    state = VOLUME_STATE if plan.topology.store is None else None
    command = controller_command(plan.name("{pool}"), admin_host=admin.host, admin_port=admin.port, state=state)
    tokens = _tokens(plan.name("tokens"), JOIN_TOKEN_FILE, MOUNTED_ADMIN_TOKEN)
    mounts = [tokens, *_topology_files(plan), _controller_state(plan)]
    container = _pod_container(plan, CONTROLLER_NAME, command, mounts, Resources())
    # a text that comes by the API, or from the history, names its files from here
    container["workingDir"] = os.path.dirname(MOUNTED_TOPOLOGY)
    container["resources"] = {"requests": CONTROLLER_REQUESTS}
    container["ports"] = [_port("control", CONTROL_PORT), _port("admin", admin.port)]
    # one that stands by counts as ready: else neither an update nor an eviction would ever go on
    container |= _tierlb_probes(CONTROL_PORT, "readyz" if plan.controllers == 1 else "livez", _tls_paths(plan))
    selector = plan.controller_selector()
    annotations = {"tierlb.io/topology-sha256": digest}
    return {
        "metadata": {"labels": plan.labels(CONTROLLER_NAME, selector), "annotations": annotations},
        "spec": _pod(plan, selector, container, mounts, ENDING_S),
    }


def is_probed(plan: ManifestPlan, pool: Pool) -> bool:
    """Whether it can be seen that an endpoint takes what is sent to it. For datagrams Kubernetes has no probe, and only
    tierlb's own image has a program for that."""
    own = pool.run is not None and pool.run.image is None
    return own or Transport.TCP in transports_to(plan.topology, pool.name)


def endpoint_pod(plan: ManifestPlan, pool: Pool, run: Run) -> Spec:
    """The pod template of a pool's endpoints. They are ready when they accept connections; their health is judged by
    the nodes, which keep some of them in use where all are bad."""
    mounts = [_scratch("tmp", "/tmp")] if run.image is None else []  # noqa: S108 (of the container, which is its own)
    container = _pod_container(plan, "endpoint", pool_command(run), mounts, run.resources)
    transports = transports_to(plan.topology, pool.name)
    container["ports"] = [_port(PORTS_OF_POOLS[each], POOL_PORT, each) for each in Transport if each in transports]
    if is_probed(plan, pool):
        accepts: Spec = {"exec": {"command": [*PROBE, pool_probe(plan.topology, pool.name)]}}
        if Transport.TCP in transports:
            accepts = {"tcpSocket": {"port": "items"}}
        container |= _probes(accepts, accepts)
    selector = plan.pool_selector(pool.name)
    ending_s = stop_whole_s(plan.topology, pool.name)
    spec = _pod(plan, selector, _lingering(container, POOL_LINGER_S), mounts, ending_s, POOL_LINGER_S)
    if run.image is not None:
        container |= {"image": run.image, "securityContext": {"allowPrivilegeEscalation": False}}
        spec["securityContext"] = POD_SECURITY
    return {"metadata": {"labels": plan.labels("pool", selector)}, "spec": spec}


def state_claims(plan: ManifestPlan) -> list[Spec]:
    """The volume for the history of a single controller; two have a store for it."""
    if plan.controllers > 1:
        return []
    storage = {"requests": {"storage": CLAIM}}
    return [{"metadata": {"name": "state"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": storage}}]


def bytes_quantity(count: int) -> str:
    """The number in the largest unit that is exact."""
    for exponent, unit in ((30, "Gi"), (20, "Mi"), (10, "Ki")):
        if count % (1 << exponent) == 0:
            return f"{count >> exponent}{unit}"
    return str(count)


def cpu_quantity(cores: float) -> str:
    """Kubernetes counts thousandths of a core."""
    thousandths = max(1, round(cores * 1000))
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _pod(
    plan: ManifestPlan, selector: Labels, container: Spec, mounts: list[Mount], ending_s: int, linger_s: int = 0
) -> Spec:
    spec: Spec = {
        "serviceAccountName": plan.prefix,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": linger_s + ending_s,
        "securityContext": UNPRIVILEGED_UID,
        "topologySpreadConstraints": [
            _spread(where, selector) for where in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [container],
    }
    volumes = [{"name": mount.name, **mount.source} for mount in mounts if mount.source]
    return spec | ({"volumes": volumes} if volumes else {})


def _spread(where: str, selector: Labels) -> Spec:
    return {
        "maxSkew": 1,
        "topologyKey": where,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }


def _pod_container(
    plan: ManifestPlan, name: str, command: ContainerCommand, mounts: list[Mount], resources: Resources
) -> Spec:
    container: Spec = {
        "name": name,
        "image": plan.options.image,
        "imagePullPolicy": "IfNotPresent",
        # Kubernetes would put variables in the place of $(NAME), and takes $$ for a $
        "command": [word.replace("$", "$$") for word in command],
        "securityContext": LOCKED,
    }
    paths = [{"name": mount.name, **path} for mount in mounts for path in mount.paths]
    if paths:
        container["volumeMounts"] = paths
    if quantities := _quantities(resources):
        container["resources"] = quantities
    return container


def _quantities(resources: Resources) -> Spec:
    requests, limits = {}, {}
    if resources.cpus is not None:
        requests["cpu"] = cpu_quantity(resources.cpus)
    if resources.memory_bytes is not None:
        requests["memory"] = limits["memory"] = bytes_quantity(resources.memory_bytes)
    return {name: part for name, part in (("requests", requests), ("limits", limits)) if part}


def _lingering(container: Spec, linger_s: int) -> Spec:
    """Serve for a while before the signal to end, where senders are not notified."""
    if linger_s:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": linger_s}}}
    return container


def _node_ports(plan: ManifestPlan, tier: Tier) -> list[Spec]:
    ports = [_port("control", NODE_CONTROL_PORT)]
    if plan.topology.parents(tier.name):
        ports.append(_port("data", NODE_DATA_PORT, tier.protocol))
    public = [_port(name, port, tier.protocol) for name, port in public_names(tier).items()]
    if tier.agent_check is not None:
        public.append(_port("agent-check", tier.agent_check.port))
    if plan.on_each_machine(tier):
        public = [{**port, "hostPort": port["containerPort"]} for port in public]
    return ports + public


def _low_ports(tier: Tier) -> Spec:
    """Only root may listen below 1024, unless the pod's kernel is configured otherwise."""
    ports = [*public_ports(tier), *(() if tier.agent_check is None else (tier.agent_check.port,))]
    if not any(port < 1024 for port in ports):
        return {}
    sysctl = {"name": "net.ipv4.ip_unprivileged_port_start", "value": str(min(ports))}
    return {"securityContext": {**UNPRIVILEGED_UID, "sysctls": [sysctl]}}


def _tierlb_probes(port: int, ready: str, tls_files: list[str]) -> Spec:
    """With TLS a client certificate is required before any answer. Kubernetes has none, so a program in the container
    makes the check."""

    def asks(page: str) -> Spec:
        if tls_files:
            return {"exec": {"command": [*PROBE, f"{port}/{page}", *tls_files]}}
        return {"httpGet": {"path": f"/{page}", "port": "control"}}

    return _probes(asks("livez"), asks(ready), asks("livez"))


def _probes(starts: Spec, is_ready: Spec, lives: Spec | None = None) -> Spec:
    """Patient where a failure kills the process: a thread that is busy for a second is no reason."""
    probes: Spec = {
        "startupProbe": {**starts, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": START_S},
        "readinessProbe": {**is_ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
    }
    if lives is not None:
        probes["livenessProbe"] = {**lives, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}
    return probes


def _port(name: str, number: int, transport: Transport = Transport.TCP) -> Spec:
    return {"name": name, "containerPort": number, "protocol": transport.value.upper()}


def _scraped(plan: ManifestPlan) -> Labels:
    scheme = "http" if plan.topology.tls is None else "https"
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": scheme,
        "prometheus.io/port": str(NODE_CONTROL_PORT),
        "prometheus.io/path": "/metrics",
    }


def _tokens(name: str, *files: str) -> Mount:
    items = [{"key": os.path.basename(file), "path": os.path.basename(file)} for file in files]
    secret = {"secretName": name, "items": items}
    return Mount("tokens", {"secret": secret}, ({"mountPath": os.path.dirname(files[0]), "readOnly": True},))


def _scratch(name: str, path: str) -> Mount:
    return Mount(name, {"emptyDir": {"sizeLimit": SCRATCH}}, ({"mountPath": path},))


def _controller_state(plan: ManifestPlan) -> Mount:
    claimed = Mount("state", {}, ({"mountPath": STATE_DIRECTORY},))
    return claimed if plan.controllers == 1 else _scratch("state", STATE_DIRECTORY)


def _topology_files(plan: ManifestPlan) -> list[Mount]:
    """The file and those that it names, at the paths by which it names them."""
    file = {"mountPath": MOUNTED_TOPOLOGY, "subPath": os.path.basename(MOUNTED_TOPOLOGY), "readOnly": True}
    mounts = [Mount("topology", {"configMap": {"name": plan.name("topology")}}, (file,))]
    tls = dict(zip(_tls_paths(plan), TLS_FILES, strict=False))
    if tls:
        mounts.append(_mounted_tls_files(plan, *map(_mounted_file, tls, tls.values())))
    store = {file_place(name): key for key, name in store_files(plan.text).items()}
    if paths := [_mounted_file(path, key) for path, key in store.items() if path not in tls]:
        mounts.append(Mount("store", {"secret": {"secretName": plan.name("store")}}, tuple(paths)))
    named = {file_place(name): key for name, key in file_keys(plan).items()}
    if paths := [_mounted_file(path, key) for path, key in named.items() if path not in (tls | store)]:
        mounts.append(Mount("files", {"secret": {"secretName": plan.name("files")}}, tuple(paths)))
    return mounts


def file_keys(plan: ManifestPlan) -> dict[str, str]:
    """The keys of the Secret of the files that nodes read, by the names in the topology file, each place once."""
    names = (name for each in files_of_tiers(plan.topology, plan.text).values() for name in each)
    return {name: file_key(name) for name in {file_place(name): name for name in names}.values()}


def _mounted_files(plan: ManifestPlan, names: tuple[str, ...]) -> Mount:
    """As a directory: kubelet renews what is in it, and never a single file (`subPath`)."""
    items = [{"key": file_key(name), "path": below_topology(name)} for name in names]
    secret = {"secretName": plan.name("files"), "items": items}
    return Mount("files", {"secret": secret}, ({"mountPath": os.path.dirname(MOUNTED_TOPOLOGY), "readOnly": True},))


def store_keys(plan: ManifestPlan) -> list[str]:
    """The keys of the Secret of the store."""
    return [path["subPath"] for mount in _topology_files(plan) if mount.name == "store" for path in mount.paths]


def _mounted_file(path: str, key: str) -> Spec:
    return {"mountPath": path, "subPath": key, "readOnly": True}


def _tls_paths(plan: ManifestPlan) -> list[str]:
    """The paths at which a controller that reads the file in a container looks for certificate, key and authority, if
    any."""
    if plan.topology.tls is None:
        return []
    tls: Any = read_source(plan.text).data
    for key in ("security", "tls"):
        tls = tls[key]
    return [file_place(tls[key].text) for key in TLS_KEYS]


def _mounted_tls_files(plan: ManifestPlan, *paths: Spec) -> Mount:
    return Mount("tls", {"secret": {"secretName": plan.name("tls")}}, paths)
