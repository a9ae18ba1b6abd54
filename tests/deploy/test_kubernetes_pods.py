"""Pods have no right that they do not need, and end and are watched as their processes can bear."""

import re

import pytest

from tests.certificates import Authority
from tests.deploy.manifests import EVERYTHING, ON_EACH_MACHINE, container, plan_of, pods, rendered, with_tls
from tierlb.balance.drain import STOP_MARGIN_S
from tierlb.deploy.kubernetes import render
from tierlb.deploy.kubernetes_names import NetworkEdge, problems
from tierlb.deploy.kubernetes_pods import ENDING_S, bytes_quantity, cpu_quantity, store_keys
from tierlb.deploy.named_files import file_key
from tierlb.net.names import AGAIN_S

VOLUMES = {"configMap", "emptyDir", "secret"}


def restricted(pod):
    """What of the profile `restricted` of Kubernetes' Pod Security Standards the pod does not keep to."""
    spec, only = pod["spec"], container(pod)
    mine, all_of = only["securityContext"], spec["securityContext"]
    kept = {
        "volumes": all(set(volume) - {"name"} <= VOLUMES for volume in spec.get("volumes", [])),
        "host": not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(),
        "ports": not any("hostPort" in port for port in only["ports"]),
        "escalation": mine["allowPrivilegeEscalation"] is False,
        "user": all_of.get("runAsNonRoot") is True and all_of.get("runAsUser", 0) != 0,
        "seccomp": all_of["seccompProfile"] == {"type": "RuntimeDefault"},
        "capabilities": mine.get("capabilities") == {"drop": ["ALL"]},
        "sysctls": {each["name"] for each in all_of.get("sysctls", [])} <= {"net.ipv4.ip_unprivileged_port_start"},
    }
    return {name for name, is_kept in kept.items() if not is_kept}


def edges(text=EVERYTHING, **options):
    return pods(rendered(plan_of(text, **options)))


def test_all_pods_but_those_of_images_that_the_file_names_are_restricted():
    found = {name: restricted(pod) for name, pod in edges().items()}
    assert found.pop("shop-api") == {"user", "capabilities"}
    assert len(found) == 6
    assert all(lacks == set() for lacks in found.values())


def test_a_port_of_each_machine_is_all_that_a_daemon_set_needs_more():
    found = {name: restricted(pod) for name, pod in edges(ON_EACH_MACHINE, edge=NetworkEdge.DAEMON_SET).items()}
    assert {name for name, lacks in found.items() if "ports" in lacks} == {"shop-edge", "shop-direct"}
    assert found["shop-edge"] == {"ports"}


def test_no_pod_is_given_a_key_to_kubernetes_or_a_file_system_to_write_to():
    for name, pod in edges().items():
        spec, mine = pod["spec"], container(pod)["securityContext"]
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        assert mine.get("readOnlyRootFilesystem", False) is (name != "shop-api")


def test_nodes_see_the_token_of_their_tier_and_controllers_alone_the_secret_of_the_cluster():
    for name, pod in edges().items():
        secrets = [volume["secret"] for volume in pod["spec"].get("volumes", []) if "secret" in volume]
        keys = {(secret["secretName"], item["key"]) for secret in secrets for item in secret["items"]}
        controller = {("shop-tokens", "join-token"), ("shop-tokens", "admin-token")}
        expected = {"shop-controller": controller, "shop-app": set(), "shop-api": set()}
        assert keys == expected.get(name, {(f"{name}-token", "node-token")})


def test_every_mount_has_its_volume_and_every_volume_is_mounted():
    for plan in (plan_of(), plan_of(ON_EACH_MACHINE, edge=NetworkEdge.DAEMON_SET)):
        for pod in pods(rendered(plan)).values():
            mounted = {mount["name"] for mount in container(pod).get("volumeMounts", [])}
            assert mounted == {volume["name"] for volume in pod["spec"].get("volumes", [])}


@pytest.mark.parametrize(("drain", "given_s"), [("90s", 90 + STOP_MARGIN_S), ("500ms", 1 + STOP_MARGIN_S)])
def test_pods_have_time_to_linger_and_to_drain(drain, given_s):
    text = re.sub(r"kind: (l[47])", rf"kind: \1, drain: {drain}", EVERYTHING)
    text = text.replace(f", drain: {drain}\n", f"\n    drain: {drain}\n")
    for name, pod in edges(text=text).items():
        hook = container(pod).get("lifecycle", {})
        linger_s = hook["preStop"]["sleep"]["seconds"] if hook else 0
        found_s = pod["spec"]["terminationGracePeriodSeconds"] - linger_s
        assert found_s == (ENDING_S if name == "shop-controller" else given_s), name


@pytest.mark.parametrize(
    ("name", "least_s"),
    [("shop-edge", 10), ("shop-direct", 10), ("shop-app", 30 + AGAIN_S), ("shop-api", 30 + AGAIN_S), ("shop-web", 0)],
)
def test_whom_nobody_tells_that_it_leaves_serves_on_for_a_while(name, least_s):
    hook = container(edges()[name]).get("lifecycle")
    assert (hook is not None) == (least_s > 0)
    assert hook is None or hook["preStop"]["sleep"]["seconds"] >= least_s


def test_probes_ask_at_ports_that_the_container_opens():
    for pod in edges().values():
        only = container(pod)
        ports = {port["name"] for port in only["ports"]}
        probes = [only[key] for key in ("startupProbe", "readinessProbe", "livenessProbe") if key in only]
        asked = {(probe.get("httpGet") or probe["tcpSocket"])["port"] for probe in probes}
        assert len(probes) >= 2
        assert asked <= ports


@pytest.mark.parametrize(
    ("name", "ready", "lives"),
    [("shop-edge", "/readyz", "/livez"), ("shop-web", "/readyz", "/livez"), ("shop-controller", "/livez", "/livez")],
)
def test_who_drains_is_not_ready_and_is_not_killed_for_it(name, ready, lives):
    only = container(edges()[name])
    assert only["readinessProbe"]["httpGet"] == {"path": ready, "port": "control"}
    assert only["livenessProbe"]["httpGet"] == {"path": lives, "port": "control"}


def test_a_controller_alone_is_ready_when_nodes_may_join():
    text = 'cluster: small\ntiers: {web: {kind: l7, listen: ":8080", to: app}}\npools: {app: {agents: true}}\n'
    controller = container(pods(rendered(plan_of(text)))["small-controller"])
    assert controller["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_endpoints_are_not_killed_for_being_slow():
    assert "livenessProbe" not in container(edges()["shop-app"])


def test_limits_are_what_the_file_says():
    found = edges()
    assert container(found["shop-edge"])["resources"] == {
        "requests": {"cpu": "500m", "memory": "128Mi"},
        "limits": {"memory": "128Mi"},
    }
    assert container(found["shop-api"])["resources"]["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert "resources" not in container(found["shop-web"])


def test_the_controller_is_not_the_first_to_go_where_memory_is_short():
    assert set(container(edges()["shop-controller"])["resources"]) == {"requests"}


def test_only_who_listens_below_1024_is_allowed_to():
    found = {name: pod["spec"]["securityContext"].get("sysctls") for name, pod in edges().items()}
    assert found.pop("shop-edge") == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "443"}]
    assert set(found.values()) == {None}


def test_an_image_that_the_file_names_runs_the_command_as_it_is_written():
    api = container(edges()["shop-api"])
    assert api["image"] == "registry.example.com/team/api:1.2"
    # Kubernetes reads $$ as $, and $(HOME) as a variable of the container
    words = [word.replace("$$", "$") for word in api["command"]]
    assert words == ["serve", "--at", "0.0.0.0:9000", "--price", "5$", "--home", "$(HOME)"]
    assert "$$(HOME)" in api["command"]


def test_with_certificates_a_program_in_the_container_asks(tmp_path):
    (tmp_path / "pki").mkdir()
    (tmp_path / "etc").mkdir()
    folder = tmp_path / "shop"
    (folder / "pki").mkdir(parents=True)
    for path, content in (
        (folder / "pki" / "node.pem", "-----BEGIN CERTIFICATE-----"),
        (tmp_path / "ca.pem", "-----BEGIN CERTIFICATE-----"),
        (tmp_path / "etc" / "node.key", "-----BEGIN PRIVATE KEY-----"),
    ):
        path.write_text(content)
    found = pods(rendered(plan_of(with_tls(tmp_path), folder / "safe.yaml")))
    node, controller = container(found["safe-web"]), container(found["safe-controller"])
    for only, port in ((node, "7946"), (controller, "7901")):
        asked = only["readinessProbe"]["exec"]["command"]
        files = asked[-3:]
        assert asked[-4] == f"{port}/readyz"
        assert all(any(file.startswith(mount["mountPath"]) for mount in only["volumeMounts"]) for file in files)
    mounts = {mount["mountPath"]: mount.get("subPath") for mount in controller["volumeMounts"]}
    assert controller["workingDir"] == "/etc/tierlb"
    assert mounts["/etc/tierlb/pki/node.pem"] == "tls.crt"
    assert mounts[f"{tmp_path}/etc/node.key"] == "tls.key"
    assert mounts["/etc/ca.pem"] == "ca.crt"
    assert node["command"][-6:] == [
        *("--tls-certificate", "/run/secrets/tierlb-tls/tls.crt"),
        *("--tls-key", "/run/secrets/tierlb-tls/tls.key"),
        *("--tls-ca", "/run/secrets/tierlb-tls/ca.crt"),
    ]
    assert "wss://safe-controller-0.safe-controller:7901" in node["command"]


STORE = "store: {etcd: etcds://a:2, ca: pki/etcd.pem, certificate: c.pem, key: c.pem, user: ann, password_file: ../w}"


@pytest.mark.parametrize("shared", [False, True])
def test_the_controllers_alone_see_the_files_of_the_store_and_where_the_file_says(tmp_path, shared):
    """Where `security.tls` names one of them, too, that is mounted as it is without the store."""
    folder = tmp_path / "shop"
    (folder / "pki").mkdir(parents=True)
    certificate, key = "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"
    (folder / "pki" / "etcd.pem").write_text(certificate)
    (folder / "c.pem").write_text(certificate + key)
    (tmp_path / "w").write_text("secret")
    tls = "security: {tls: {certificate: c.pem, key: pki/../c.pem, ca: pki/etcd.pem}}" if shared else ""
    text = f"cluster: safe\n{STORE}\n{tls}\ntiers: {{web: {{kind: l7, listen: ':8080', to: app}}}}\n"
    plan = plan_of(f"{text}pools: {{app: {{agents: true}}}}\n", folder / "safe.yaml")
    found = pods(rendered(plan))
    controller = found.pop("safe-controller")
    secrets = {each["name"]: each["secret"] for each in controller["spec"]["volumes"] if "secret" in each}
    assert secrets["store"] == {"secretName": "safe-store"}
    paths = [(each["mountPath"], each["name"], each.get("subPath")) for each in container(controller)["volumeMounts"]]
    own = [("/etc/w", "store", "password")]
    if not shared:
        own += [("/etc/tierlb/c.pem", "store", "tls.key"), ("/etc/tierlb/pki/etcd.pem", "store", "ca.crt")]
    assert sorted(path for path in paths if path[1] == "store") == sorted(own)
    assert len({path for path, _, _ in paths}) == len(paths)
    assert "safe-store" not in str(found)
    assert sorted(store_keys(plan)) == sorted(key for _, _, key in own)


@pytest.mark.parametrize(
    ("count", "text"),
    [(1 << 30, "1Gi"), (256 << 20, "256Mi"), (3 << 29, "1536Mi"), (20_000_000, "20000000"), (500 << 10, "500Ki")],
)
def test_sizes_are_said_exactly(count, text):
    assert bytes_quantity(count) == text


@pytest.mark.parametrize(
    ("cores", "text"), [(0.5, "500m"), (1.0, "1"), (2.25, "2250m"), (0.1, "100m"), (0.0001, "1m"), (1024.0, "1024")]
)
def test_cores_are_said_in_thousandths(cores, text):
    assert cpu_quantity(cores) == text


@pytest.mark.parametrize("listen", ["127.0.0.1:7911", "0.0.0.0:7912"])
def test_the_api_listens_where_the_file_says(listen):
    controller = container(edges(f'admin: {{listen: "{listen}"}}\n' + EVERYTHING)["shop-controller"])
    command, port = controller["command"], int(listen.rpartition(":")[2])
    assert command[command.index("--admin-listen") + 1] == listen
    assert {"name": "admin", "containerPort": port} in [
        {key: each[key] for key in ("name", "containerPort")} for each in controller["ports"]
    ]


def test_a_controller_with_a_store_has_no_directory_for_its_history():
    assert "--state" not in container(edges()["shop-controller"])["command"]
    alone = EVERYTHING.replace("store: etcd://10.0.0.5:2379,10.0.0.6:2380/shop\n", "")
    assert "--state" in container(edges(alone)["shop-controller"])["command"]


SECURED = """\
cluster: safe
tiers:
  edge: {kind: l4, listen: "127.0.0.1:443", to: web}
  web: {kind: l7, replicas: 2, tls: {certificates: [{certificate: pki/shop.pem, key: pki/shop.key}]}, to: app}
pools: {app: {agents: true}}
"""


@pytest.fixture
def secured(tmp_path):
    (tmp_path / "pki").mkdir()
    Authority(tmp_path / "pki").issue()
    return plan_of(SECURED, tmp_path / "safe.yaml")


def test_nodes_have_a_directory_with_the_files_of_their_tier(secured):
    """Of which kubelet renews the content, as it does not for single files."""
    found = pods(rendered(secured))
    web, edge = found["safe-web"], found["safe-edge"]
    (volume,) = [each for each in web["spec"]["volumes"] if each["name"] == "files"]
    assert volume["secret"] == {
        "secretName": "safe-files",
        "items": [{"key": file_key(name), "path": name} for name in ("pki/shop.pem", "pki/shop.key")],
    }
    (mount,) = [each for each in container(web)["volumeMounts"] if each["name"] == "files"]
    assert mount == {"name": "files", "mountPath": "/etc/tierlb", "readOnly": True}
    assert "safe-files" not in str(edge)


def test_the_controllers_find_the_files_of_nodes_where_the_file_says(secured):
    controller = container(pods(rendered(secured))["safe-controller"])
    mounts = {each["mountPath"]: each["subPath"] for each in controller["volumeMounts"] if each["name"] == "files"}
    assert mounts == {f"/etc/tierlb/{name}": file_key(name) for name in ("pki/shop.pem", "pki/shop.key")}
    said = f"create secret generic safe-files --from-file={file_key('pki/shop.pem')}=pki/shop.pem --from-file="
    assert said in render(secured)


def test_files_elsewhere_than_below_the_topology_file_are_refused(tmp_path):
    Authority(tmp_path).issue()
    (tmp_path / "shop").mkdir()
    plan = plan_of(SECURED.replace("pki/", "../"), tmp_path / "shop" / "safe.yaml")
    found = problems(plan)
    assert len(found) == 2
    assert "tiers.web: '../shop.pem' is outside of the directory of the topology file" in found[0]
