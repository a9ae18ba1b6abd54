"""Names of the Kubernetes objects of a cluster: options, names, labels, selectors.

Every name is PREFIX-SOMETHING, where the prefix is the cluster's name unless another is given. Names become DNS names,
so invalid ones are refused, with what to do. A name that was changed silently would not be found, and the controller
finds the pools that Kubernetes starts by their exact names.

Selectors hold two labels and nothing else, because they cannot be changed after an object was created. Other labels
(`app.kubernetes.io/…`) are for operators and their tools.
"""

import enum
import ipaddress
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import attrs

from tierlb.deploy.container import ADMIN_PORT, CONTROL_PORT, DEFAULT_IMAGE, port_problems
from tierlb.deploy.named_files import below_topology, files_of_tiers
from tierlb.model.topology import Kind, Tier, Topology
from tierlb.topology.net_forms import IMAGE_PATTERN as IMAGE_FORM
from tierlb.topology.problems import suggestion
from tierlb.topology.units import shown

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
"""RFC 1035 §2.3.1, which applies to names of Services: they may not begin with a digit."""
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_NAME_CHARS = 63
MAX_STATEFUL_SET_CHARS = 52
"""Its pods are labelled with its name and ten characters of a hash."""
KUBERNETES_CLUSTER_LABEL = "tierlb.io/cluster"
TIER_LABEL = "tierlb.io/tier"
POOL_LABEL = "tierlb.io/pool"
COMPONENT_LABEL = "app.kubernetes.io/component"
CONTROLLER_NAME = "controller"
PUBLIC = "public"
GROWTH = 4
"""An l7 tier may grow to so many times its replicas in the file: noticeable room, but bounded."""

Labels = dict[str, str]


class NetworkEdge(enum.Enum):
    """How clients reach tiers that listen: through a load balancer of the platform, or at a port of each machine."""

    LOAD_BALANCER = "load-balancer"
    DAEMON_SET = "daemonset"


@attrs.frozen
class Options:
    """Options that the file does not have. `most`: the largest number of nodes by tier. `scraper`: the namespace whose
    pods may read the nodes' metrics."""

    image: str = DEFAULT_IMAGE
    namespace: str = ""
    prefix: str = ""
    edge: NetworkEdge = NetworkEdge.LOAD_BALANCER
    most: Mapping[str, int] = MappingProxyType({})
    scraper: str = "monitoring"


@attrs.frozen
class ManifestPlan:
    """A topology, the text of its file, and the options of its rendering."""

    topology: Topology
    text: str
    options: Options = Options()

    @property
    def prefix(self) -> str:
        """The start of every name."""
        return self.options.prefix or self.topology.cluster

    @property
    def controllers(self) -> int:
        """One, or two with a store that several can share."""
        return 1 if self.topology.store is None else 2

    @property
    def join_urls(self) -> str:
        """The URLs of the controllers, each by a name of its own, because only one of them is active."""
        scheme = "ws" if self.topology.tls is None else "wss"
        host = self.name(CONTROLLER_NAME)
        return ",".join(f"{scheme}://{host}-{number}.{host}:{CONTROL_PORT}" for number in range(self.controllers))

    def name(self, *parts: str) -> str:
        """The name of an object."""
        return "-".join((self.prefix, *parts))

    def token_secret(self, name: str) -> str:
        """The Secret with the token of a tier's nodes or a pool's agents; the cluster's secret is in another."""
        return self.name(name, "token")

    def labels(self, component: str, selector: Labels) -> Labels:
        """All labels of an object; `component` is the part of the system, `selector` identifies its pods."""
        return {
            "app.kubernetes.io/name": "tierlb",
            "app.kubernetes.io/instance": self.prefix,
            COMPONENT_LABEL: component,
            KUBERNETES_CLUSTER_LABEL: self.prefix,
            **selector,
        }

    def tier_selector(self, name: str) -> Labels:
        """Selector of all nodes of a tier."""
        return {KUBERNETES_CLUSTER_LABEL: self.prefix, TIER_LABEL: name}

    def pool_selector(self, name: str) -> Labels:
        """Selector of the endpoints that run here, or of the pods whose agents join by themselves."""
        return {KUBERNETES_CLUSTER_LABEL: self.prefix, POOL_LABEL: name}

    def controller_selector(self) -> Labels:
        """Selector of the controllers."""
        return {KUBERNETES_CLUSTER_LABEL: self.prefix, COMPONENT_LABEL: CONTROLLER_NAME}

    def reporters(self, tier: Tier) -> list[Labels]:
        """Selectors of the pods that report to the tier: nodes, and applications with an agent."""
        pools = [self.topology.pools[name] for name in tier.targets if name in self.topology.pools]
        tiers = [self.tier_selector(name) for name in tier.targets if name in self.topology.tiers]
        return tiers + [self.pool_selector(pool.name) for pool in pools if pool.agents]

    def on_each_machine(self, tier: Tier) -> bool:
        """Whether it is a DaemonSet."""
        return bool(tier.listen) and self.options.edge is NetworkEdge.DAEMON_SET

    def most(self, tier: Tier) -> int:
        """The largest number of nodes of the tier; the number in the file where nothing scales it. L4 nodes hold long
        connections, which a smaller number would cut, and a node that answers an agent-check is alone."""
        if tier.kind is Kind.L4 or tier.agent_check is not None or self.on_each_machine(tier):
            return tier.replicas
        return self.options.most.get(tier.name, GROWTH * tier.replicas)


def public_ports(tier: Tier) -> tuple[int, ...]:
    """The ports where clients connect, each once: a pod has them at all of its addresses."""
    return tuple(dict.fromkeys(each.address.port for each in tier.listen))


def public_names(tier: Tier) -> dict[str, int]:
    """The same by the names that they have in pods and services."""
    ports = public_ports(tier)
    return {PUBLIC: ports[0]} if len(ports) == 1 else {f"{PUBLIC}-{port}": port for port in ports}


def problems(plan: ManifestPlan) -> list[str]:
    """Why the topology cannot be rendered, each with what to do."""
    groups = (_name_problems, _option_problems, _most_problems, _place_problems, _file_problems)
    return [*(problem for group in groups for problem in group(plan)), *port_problems(plan.topology)]


def _file_problems(plan: ManifestPlan) -> Iterator[str]:
    """Nodes have one directory for the files that they read, which is that of the topology file in the controllers."""
    for tier, names in files_of_tiers(plan.topology, plan.text).items():
        for name in names:
            if not below_topology(name):
                yield (
                    f"tiers.{tier}: {shown(name)} is outside of the directory of the topology file, and nodes have one "
                    "directory for such files: move it there, or below, and name it from there"
                )


def _name_problems(plan: ManifestPlan) -> Iterator[str]:
    if not LABEL.fullmatch(plan.prefix):
        yield (
            f"{shown(plan.prefix)} cannot begin names in Kubernetes, which want a letter, then a-z, 0-9 and - (not "
            "last): give another with --prefix"
        )
    if len(plan.name(CONTROLLER_NAME)) > MAX_STATEFUL_SET_CHARS:
        yield f"the prefix {plan.prefix} is too long: give a shorter one with --prefix"
    listening = [name for name, tier in plan.topology.tiers.items() if tier.listen]
    taken = {CONTROLLER_NAME, *(f"{name}-{PUBLIC}" for name in listening)}
    for key, names in (("tiers", plan.topology.tiers), ("pools", plan.topology.pools)):
        for name in names:
            longest = plan.name(name, PUBLIC) if name in listening else plan.name(name)
            if name.endswith("-"):
                yield f"{key}.{name}: no name in Kubernetes ends with -: give it another"
            if name in taken:
                yield f"{key}.{name}: {plan.name(name)} is the name of something else in Kubernetes: give it another"
            if len(longest) > MAX_NAME_CHARS:
                yield f"{key}.{name}: {longest} is longer than {MAX_NAME_CHARS} characters: give a shorter --prefix"


def _option_problems(plan: ManifestPlan) -> Iterator[str]:
    for option, name in (("--namespace", plan.options.namespace), ("--metrics-from", plan.options.scraper)):
        if name and not NAMESPACE.fullmatch(name):
            yield f"{option}: {shown(name)} is no namespace: write at most 63 of a-z, 0-9 and - (not first or last)"
    if not re.fullmatch(IMAGE_FORM, plan.options.image):
        yield f"--image: {shown(plan.options.image)} is not a container image: write one such as tierlb:1.2"


def _place_problems(plan: ManifestPlan) -> Iterator[str]:
    """Numbers and addresses in the file that pods cannot have."""
    admin = plan.topology.admin
    host = ipaddress.ip_address(admin.host)
    if not (host.is_loopback or host.is_unspecified):
        yield (
            f"admin.listen: no pod has the address {admin.host}: write 127.0.0.1:{admin.port}, for `kubectl "
            f"port-forward`, or 0.0.0.0:{admin.port}, for all pods of the namespace"
        )
    if admin.port in (0, CONTROL_PORT):
        yield f"admin.listen: port {admin.port} cannot be the API's in a pod: choose another, such as {ADMIN_PORT}"
    for tier in plan.topology.tiers.values():
        if tier.cpus is not None:
            yield (
                f"tiers.{tier.name}.cpus: pods run on machines with other CPUs each: leave this out, and where a node "
                "needs a CPU of its own give the machines the static CPU manager and the pods a limit in whole cores"
            )
        if tier.per_core:
            yield (
                f"tiers.{tier.name}.replicas: auto counts the cores of the machine that runs `tierlb up`, and pods run "
                "on any machine: write how many there are at least (l7 tiers grow with their load)"
            )
        elif plan.on_each_machine(tier) and tier.replicas > 1:
            yield (
                f"tiers.{tier.name}.replicas: as a DaemonSet it has a node on each machine, not {tier.replicas}: leave "
                "this out, or render with --edge load-balancer"
            )


def _most_problems(plan: ManifestPlan) -> Iterator[str]:
    for name, number in plan.options.most.items():
        tier = plan.topology.tiers.get(name)
        if tier is None:
            yield f"--max-replicas {name}={number}: there is no such tier{suggestion(name, list(plan.topology.tiers))}"
        elif number < tier.replicas:
            yield f"--max-replicas {name}={number}: the file asks for {tier.replicas} already"
        elif number > plan.most(tier):
            yield f"--max-replicas {name}={number}: only l7 tiers that are no DaemonSet and have no agent_check grow"
