"""What is rendered is what Kubernetes takes, and its parts fit together: selectors and labels, ports and names, the
commands and tierlb's own command line."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import (
    EVERYTHING,
    EXAMPLES,
    ON_EACH_MACHINE,
    ROOT,
    container,
    matches,
    of_kind,
    plan_of,
    pods,
    rendered,
)
from tests.deploy.test_container import parsed
from tierlb.deploy.container import AGENT_TOKEN_FILE
from tierlb.deploy.kubernetes import METRIC, OLDEST, certified, kubernetes_warnings, render
from tierlb.deploy.kubernetes_names import NetworkEdge
from tierlb.telemetry.exposition import GAUGES
from tierlb.topology.load import load_text
from tierlb.topology.tree import draw
from tierlb.wire.credentials import Principal, Role, proven, root_key

NEWEST = "1.37"
EXAMPLE = ROOT / "compose" / "kubernetes.yaml"
PLANS = {
    **{path.stem: plan_of(path.read_text(), path) for path in EXAMPLES},
    "everything": plan_of(),
    "everything-elsewhere": plan_of(
        ON_EACH_MACHINE, edge=NetworkEdge.DAEMON_SET, namespace="apart", prefix="mine", image="here/tierlb:2"
    ),
    "nothing-grows": plan_of(most={"web": 3, "far": 2}),
}
MAKERS = ("Deployment", "DaemonSet", "StatefulSet")
KUBECTL = """\
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("generic") + 1])
folder.mkdir()
for word in sys.argv:
    option, _, named = word.partition("=")
    key, _, value = named.partition("=")
    if option == "--from-literal":
        (folder / key).write_text(value)
    if option == "--from-file":
        (folder / key).write_text(pathlib.Path(value or key).read_text())
"""
"""Makes a Secret a directory."""


@pytest.fixture(params=PLANS)
def plan(request):
    return PLANS[request.param]


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once():
    """Otherwise they are read again for each object, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_all_of_it(plan, version):
    for each in rendered(plan):
        assert kubernetes_validate.validate(each, version, strict=True) == version


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("HorizontalPodAutoscaler", ("spec", "behavior", "scaleDown")),
        ("PodDisruptionBudget", ("spec",)),
        ("NetworkPolicy", ("spec", "ingress", 0)),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "lifecycle", "preStop")),
        ("StatefulSet", ("spec", "volumeClaimTemplates", 0, "spec")),
        ("Service", ("spec",)),
    ],
)
def test_a_wrong_key_would_be_found(kind, path):
    objects = rendered(PLANS["quickstart"])
    whole = [each for each in objects if each["kind"] == kind]
    target = next(each for each in whole if kind != "NetworkPolicy" or each["spec"]["ingress"])
    place = target
    for step in path:
        place = place[step]
    place["colour"] = "green"
    with pytest.raises(kubernetes_validate.ValidationError, match="colour"):
        kubernetes_validate.validate(target, NEWEST, strict=True)


def test_names_are_names_and_each_is_there_once(plan):
    named = [(each["kind"], each["metadata"]["name"]) for each in rendered(plan)]
    assert len(set(named)) == len(named)
    for kind, name in named:
        assert re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name), (kind, name)


def test_labels_are_labels(plan):
    for each in rendered(plan):
        for key, value in each["metadata"]["labels"].items():
            assert re.fullmatch(r"[a-z.]+/[a-z]+", key)
            assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value)


def test_all_objects_are_in_the_namespace_that_is_given_or_in_none():
    for name, namespace in (("everything", None), ("everything-elsewhere", "apart")):
        assert {each["metadata"].get("namespace") for each in rendered(PLANS[name])} == {namespace}


def test_what_makes_pods_selects_its_own_and_no_others(plan):
    objects = rendered(plan)
    templates = pods(objects)
    for name, maker in of_kind(objects, *MAKERS).items():
        selector = maker["spec"]["selector"]
        assert [other for other, pod in templates.items() if matches(selector, pod["metadata"]["labels"])] == [name]


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_services_and_budgets_are_for_the_pods_whose_name_they_bear(plan, kind):
    objects = rendered(plan)
    templates = pods(objects)
    found = of_kind(objects, kind)
    assert found
    for name, each in found.items():
        selector = each["spec"]["selector"]
        labels = selector if kind == "PodDisruptionBudget" else {"matchLabels": selector}
        selected = [other for other, pod in templates.items() if matches(labels, pod["metadata"]["labels"])]
        assert selected == [name.removesuffix("-public")]


def test_services_lead_to_ports_that_the_pods_open(plan):
    objects = rendered(plan)
    templates = pods(objects)
    for name, service in of_kind(objects, "Service").items():
        opened = {
            port["name"]: port["containerPort"] for port in container(templates[name.removesuffix("-public")])["ports"]
        }
        for port in service["spec"]["ports"]:
            assert opened[port["targetPort"]] == port["port"]


def test_a_name_leads_to_all_nodes_ready_or_not_and_to_ready_endpoints():
    services = of_kind(rendered(plan_of()), "Service")
    headless = {name: each["spec"] for name, each in services.items() if each["spec"].get("clusterIP") == "None"}
    unready = {name for name, spec in headless.items() if spec["publishNotReadyAddresses"]}
    assert unready == {"shop-controller", "shop-edge", "shop-direct", "shop-web", "shop-far"}
    assert set(headless) - unready == {"shop-app", "shop-api"}


def test_tiers_that_listen_are_served_outside_and_see_their_clients():
    services = of_kind(rendered(plan_of()), "Service")
    public = {name: each["spec"] for name, each in services.items() if each["spec"].get("type") == "LoadBalancer"}
    ports = {name: [port["port"] for port in spec["ports"]] for name, spec in public.items()}
    assert ports == {"shop-edge-public": [443], "shop-direct-public": [8081, 9777]}
    assert all(spec["externalTrafficPolicy"] == "Local" for spec in public.values())
    assert not any("ipFamilyPolicy" in spec for spec in public.values())


@pytest.mark.parametrize("listen", ["*:443", "[::]:443"])
def test_a_tier_that_listens_for_ipv6_is_served_in_both_families_where_the_cluster_has_them(listen):
    plan = plan_of(EVERYTHING.replace('"127.0.0.1:443"', f'"{listen}"'))
    spec = of_kind(rendered(plan), "Service")["shop-edge-public"]["spec"]
    assert (spec["ipFamilyPolicy"], [port["port"] for port in spec["ports"]]) == ("PreferDualStack", [443])


def test_on_each_machine_they_have_a_port_of_the_machine_instead():
    objects = rendered(plan_of(ON_EACH_MACHINE, edge=NetworkEdge.DAEMON_SET))
    assert set(of_kind(objects, "DaemonSet")) == {"shop-edge", "shop-direct"}
    ports = {port["name"]: port.get("hostPort") for port in container(pods(objects)["shop-edge"])["ports"]}
    assert ports == {"control": None, "public": 443}
    assert not any(each["spec"].get("type") for each in of_kind(objects, "Service").values())
    assert not {"shop-edge", "shop-direct"} & set(of_kind(objects, "PodDisruptionBudget"))


def test_the_controller_reads_the_very_file(plan):
    objects = rendered(plan)
    (text,) = (each["data"]["topology.yaml"] for each in objects if each["kind"] == "ConfigMap")
    assert text == plan.text
    assert draw(load_text(text, "topology.yaml")) == draw(plan.topology)


def test_an_edited_file_starts_the_controller_anew_and_nobody_else():
    edited = plan_of(plan_of().text.replace("replicas: 4", "replicas: 5"))
    before, after = (pods(rendered(each)) for each in (plan_of(), edited))
    assert [name for name in before if before[name] != after[name]] == ["shop-controller"]


def test_replicas_are_said_by_the_file_or_by_the_scaler_and_never_by_both(plan):
    objects = rendered(plan)
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(objects, "HorizontalPodAutoscaler").values()}
    deployments = of_kind(objects, "Deployment")
    assert scaled <= set(deployments)
    assert {name for name, each in deployments.items() if "replicas" not in each["spec"]} == scaled


def test_a_tier_grows_from_what_the_file_says_by_a_figure_of_its_nodes_own():
    found = of_kind(rendered(plan_of(most={"web": 20})), "HorizontalPodAutoscaler")
    bounds = {name: (each["spec"]["minReplicas"], each["spec"]["maxReplicas"]) for name, each in found.items()}
    assert bounds == {"shop-web": (3, 20), "shop-far": (2, 8)}
    (metric,) = found["shop-web"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == METRIC
    assert METRIC in {f"tierlb_{name}" for name, _, _ in GAUGES}


def test_a_tier_shrinks_slowly_and_only_after_calm():
    behaviour = of_kind(rendered(plan_of()), "HorizontalPodAutoscaler")["shop-web"]["spec"]["behavior"]
    assert behaviour["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert all(policy["value"] <= 10 for policy in behaviour["scaleDown"]["policies"])


def test_no_update_leaves_fewer_pods_than_there_were():
    for deployment in of_kind(rendered(plan_of()), "Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_two_controllers_share_a_store_and_one_has_a_volume():
    alone = of_kind(rendered(PLANS["quickstart"]), "StatefulSet")["quickstart-controller"]["spec"]
    shared = of_kind(rendered(plan_of()), "StatefulSet")["shop-controller"]["spec"]
    assert (alone["replicas"], [each["metadata"]["name"] for each in alone["volumeClaimTemplates"]]) == (1, ["state"])
    assert (shared["replicas"], "volumeClaimTemplates" in shared) == (2, False)
    mounted = {mount["name"] for mount in container(alone["template"])["volumeMounts"]}
    assert mounted - {"state"} == {volume["name"] for volume in alone["template"]["spec"]["volumes"]}


def test_tierlb_takes_the_commands(plan, tmp_path):
    objects = rendered(plan)
    services = of_kind(objects, "Service")
    programs = set()
    for name, pod in pods(objects).items():
        command = [word.replace("$$", "$") for word in container(pod)["command"]]
        if command[0] != "tierlb":
            continue
        params = parsed(command, tmp_path)
        programs.add(command[1])
        if command[1] == "node":
            assert params["tier"] in plan.topology.tiers
            assert params["control_name"] == f"{name}:7946"
            hosts = [url.removeprefix("ws://").partition(":")[0] for url in params["join"].split(",")]
            controllers = of_kind(objects, "StatefulSet")[plan.name("controller")]["spec"]
            assert hosts == [
                f"{plan.name('controller', str(n))}.{controllers['serviceName']}" for n in range(len(hosts))
            ]
            assert len(hosts) == controllers["replicas"]
        if command[1] == "controller":
            names = [
                params["run_dns"].replace("{pool}", pool) for pool, each in plan.topology.pools.items() if each.run
            ]
            assert all(
                services[host]["spec"]["ports"][0]["port"] == int(port) for host, port in (n.split(":") for n in names)
            )
    assert {"node", "controller"} <= programs


def test_nothing_secret_is_rendered(plan):
    assert not of_kind(rendered(plan), "Secret")


def test_what_pods_wait_for_is_told_at_the_top(plan):
    notice = render(plan).partition("---\n")[0]
    assert all(line.startswith("#") for line in notice.splitlines())
    wanted = {
        volume["secret"]["secretName"]
        for pod in pods(rendered(plan)).values()
        for volume in pod["spec"].get("volumes", [])
        if "secret" in volume
    }
    namespace = f" -n {plan.options.namespace}" if plan.options.namespace else ""
    assert wanted
    assert all(f"kubectl{namespace} create secret generic {name} " in notice for name in wanted)


def test_the_commands_at_the_top_make_secrets_that_hold_what_pods_mount(tmp_path, monkeypatch):
    plan, kubectl = plan_of(), tmp_path / "kubectl"
    kubectl.write_text(f"#!{sys.executable}\n{KUBECTL}")
    kubectl.chmod(0o755)
    block = render(plan).partition("#\n")[2].partition("#\n")[0]
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    commands = "".join(line.removeprefix("#") for line in block.splitlines(keepends=True))
    done = subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    for name, pod in pods(rendered(plan)).items():
        for volume in pod["spec"].get("volumes", []):
            for item in volume.get("secret", {}).get("items", []):
                assert (tmp_path / volume["secret"]["secretName"] / item["key"]).read_text().strip(), name
    root = root_key((tmp_path / "join-token").read_text().strip())
    assert (tmp_path / "join-token").stat().st_mode & 0o777 == 0o600
    made = {path.parent.name: path.read_text().strip() for path in tmp_path.glob("shop-*-token/*")}
    assert {name: proven(root, token) for name, token in made.items()} == {
        **{f"shop-{tier}-token": Principal(Role.NODE, tier) for tier in plan.topology.tiers},
        "shop-joining-token": Principal(Role.AGENT, "joining"),
    }


def test_who_joins_by_an_agent_is_told_how():
    assert "tierlb agent --join ws://shop-controller-0" in render(plan_of())
    assert "tierlb agent" not in render(PLANS["quickstart"])


def test_a_certificate_is_for_whoever_is_reported_to():
    assert certified(plan_of()) == [
        *(f"shop-controller-{number}.shop-controller" for number in range(2)),
        *("shop-edge", "shop-direct", "shop-web"),
        *("edge", "web", "far"),
    ], "and tiers know each other by their names"


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ('endpoints: ["127.0.0.1:9001"]', ["pools.app.endpoints: 127.0.0.1:9001 is each pod itself"]),
        ('run: {command: "serve {port}"}', ["pools.app.run.command: must listen on all addresses"]),
        ('run: {command: "serve {host} {port}"}', []),
        ('endpoints: ["10.0.0.7:9001"]', []),
    ],
)
def test_what_is_probably_not_meant_is_told(pool, told):
    text = f'cluster: small\ntiers: {{web: {{kind: l7, listen: ":8080", to: app}}}}\npools: {{app: {{{pool}}}}}\n'
    found = kubernetes_warnings(plan_of(text))
    assert len(found) == len(told)
    assert all(warning.startswith(begin) for warning, begin in zip(found, told, strict=True))


def test_the_example_is_what_the_quickstart_renders_to():
    assert EXAMPLE.read_text() == render(PLANS["quickstart"])


def test_the_adapter_s_rule_of_the_guide_gives_the_metric_that_tiers_grow_by():
    (rule,) = guide_block("seriesQuery")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{METRIC}{{")
    assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}


def test_the_agent_of_the_guide_joins_a_cluster_named_shop(tmp_path):
    pod = guide_block("agent")
    text = 'cluster: shop\ntiers: {web: {kind: l7, listen: ":8080", to: app}}\npools: {app: {agents: true}}\n'
    plan = plan_of(text)
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, NEWEST, strict=True)
    params = parsed(container(pod)["command"], tmp_path)
    assert pod["metadata"]["labels"] == plan.pool_selector("app")
    assert (params["join"], params["pool"]) == (plan.join_urls, "app")
    (secret,) = (volume["secret"]["secretName"] for volume in pod["spec"]["volumes"])
    assert secret == plan.token_secret("app")
    assert str(params["token_file"]) == AGENT_TOKEN_FILE
    (mount,) = container(pod)["volumeMounts"]
    (item,) = pod["spec"]["volumes"][0]["secret"]["items"]
    assert f"{mount['mountPath']}/{item['path']}" == AGENT_TOKEN_FILE
    assert f"kubectl create secret generic {secret} --from-file={item['key']}=/dev/stdin" in render(plan)


def guide_block(word):
    """The block of YAML in the guide that has the word."""
    guide = (ROOT / "compose" / "KUBERNETES.md").read_text()
    (block,) = (block for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if word in block)
    return yaml.safe_load(block)


OVER_UDP = """\
cluster: names
tiers:
  edge: {kind: l4, protocol: udp, listen: "127.0.0.1:5353", agent_check: "127.0.0.1:9777", to: mid}
  mid: {kind: l4, protocol: udp, to: [dns, both, listed, other]}
  tcp: {kind: l4, listen: "127.0.0.1:5353", to: [both, listed]}
pools:
  dns: {run: {command: "serve {host} {port}"}, health: {path: /healthz}}
  both: {run: {command: "serve {host} {port}"}}
  other: {run: {command: "serve {host} {port}", image: "example.com/dns:1"}}
  listed: {endpoints: ["10.0.0.7:53"], health: tcp}
"""


def ports_of(items):
    """Number and protocol of each."""
    return sorted((each.get("port") or each["containerPort"], each["protocol"]) for each in items)


def test_services_and_pods_of_tiers_over_udp_have_ports_for_datagrams():
    objects = rendered(plan_of(OVER_UDP))
    services = of_kind(objects, "Service")
    assert ports_of(services["names-edge-public"]["spec"]["ports"]) == [(5353, "UDP"), (9777, "TCP")]
    assert ports_of(services["names-tcp-public"]["spec"]["ports"]) == [(5353, "TCP")]
    assert ports_of(services["names-mid"]["spec"]["ports"]) == [(7945, "UDP"), (7946, "TCP")]
    assert ports_of(services["names-dns"]["spec"]["ports"]) == [(9000, "UDP")]
    assert ports_of(services["names-both"]["spec"]["ports"]) == [(9000, "TCP"), (9000, "UDP")]
    templates = pods(objects)
    assert ports_of(container(templates["names-edge"])["ports"]) == [(5353, "UDP"), (7946, "TCP"), (9777, "TCP")]
    assert ports_of(container(templates["names-mid"])["ports"]) == [(7945, "UDP"), (7946, "TCP")]
    assert ports_of(container(templates["names-both"])["ports"]) == [(9000, "TCP"), (9000, "UDP")]


def test_endpoints_over_udp_are_probed_by_tierlbs_image_and_not_at_all_in_another():
    templates = pods(rendered(plan_of(OVER_UDP)))
    assert container(templates["names-dns"])["readinessProbe"]["exec"]["command"][-1] == "udp:9000"
    assert container(templates["names-both"])["readinessProbe"]["tcpSocket"] == {"port": "items"}
    assert "readinessProbe" not in container(templates["names-other"])
    assert any("pools.other.run: no probe is for UDP" in warning for warning in kubernetes_warnings(plan_of(OVER_UDP)))


def test_policies_let_datagrams_pass_and_health_checks_over_tcp():
    found = of_kind(rendered(plan_of(OVER_UDP)), "NetworkPolicy")

    def opened(name, way):
        rules = found[f"names-{name}"]["spec"][way]
        return {port for rule in rules for port in ports_of(rule.get("ports", []))}

    assert {(5353, "UDP"), (9777, "TCP")} < opened("edge", "ingress")
    assert (7945, "UDP") in opened("edge", "egress") & opened("mid", "ingress")
    assert (7945, "TCP") not in opened("mid", "ingress")
    assert {(9000, "UDP"), (53, "UDP"), (9000, "TCP")} < opened("mid", "egress")
    assert opened("dns", "ingress") == {(9000, "TCP"), (9000, "UDP")}
    assert opened("other", "ingress") == {(9000, "UDP")}
    assert opened("both", "ingress") == {(9000, "TCP"), (9000, "UDP")}
