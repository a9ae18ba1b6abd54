"""The compose file: it agrees with the topology, and no service may do more than it needs."""

import shutil
import subprocess

import compose_spec
import pytest
import trustme

from tests.deploy.compose_files import EVERYTHING, EXAMPLES, IMAGE, ROOT, TOPOLOGIES, everything, option, rendered
from tests.deploy.test_container import command_named
from tierlb.balance.stop_times import stop_whole_s
from tierlb.deploy.compose import (
    CHANGEABLE,
    CONTROLLER_STOP_S,
    DEFINITION_LABEL,
    Rendering,
    TlsFiles,
    compose_warnings,
    faults,
    file_secret,
    text,
)
from tierlb.deploy.project import Project, lay_out
from tierlb.model.topology import Kind
from tierlb.topology.load import load_file, load_text

TLS = TlsFiles("pki/node.pem", "../node.key", "/etc/pki/ca.pem")
NODE_TOKENS = {f"node-token-{tier}" for tier in ("edge", "direct", "web", "far")}
TOKENS = {"join-token", "admin-token", "agent-token-joining", *NODE_TOKENS}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_service_is_hardened_and_pools_know_no_token(topology):
    file = rendered(topology)
    for name, service in file["services"].items():
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert service["restart"] == "unless-stopped"
        assert service["labels"]["tierlb.cluster"] == topology.cluster
        grace_s = CONTROLLER_STOP_S if name == "controller" else stop_whole_s(topology, name)
        assert (service["init"], service["stop_grace_period"]) == (True, f"{grace_s}s")
        assert ("privileged" in service, "environment" in service) == (False, False)
        if service["image"] == IMAGE:
            assert (service["user"], service["read_only"], service["tmpfs"]) == ("10001:10001", True, ["/tmp"])
            assert service["healthcheck"]["test"][0] == "CMD"
        nodes = {tier: [f"node-token-{tier}"] for tier in topology.tiers}
        known = {"controller": ["join-token", "admin-token"]} | nodes
        assert service.get("secrets", []) == known.get(name, [])
    kinds = {name: service["labels"]["tierlb.kind"] for name, service in file["services"].items()}
    run = [name for name, pool in topology.pools.items() if pool.run]
    assert kinds == {"controller": "controller", **dict.fromkeys(topology.tiers, "tier"), **dict.fromkeys(run, "pool")}


def test_the_secret_of_the_cluster_is_the_controllers_and_each_tier_has_a_token_of_its_own():
    file = rendered(everything())
    assert {*file["secrets"]} == TOKENS
    for tier in ("edge", "direct", "web", "far"):
        assert file["services"][tier]["secrets"] == [f"node-token-{tier}"]
        assert option(file["services"][tier], "--token-file") == f"/run/secrets/node-token-{tier}"
    assert option(file["services"]["controller"], "--token-file") == "/run/secrets/join-token"


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_what_is_published_and_how_many_there_are_is_as_the_file_says(topology):
    file = rendered(topology)
    for name, service in file["services"].items():
        counted = topology.tiers.get(name) or (topology.pools[name].run if name in topology.pools else None)
        assert service.get("scale", 1) == (counted.replicas if counted else 1)
        tier = topology.tiers.get(name)
        public = (
            [*((each.address, tier.protocol.value) for each in tier.listen), (tier.agent_check, "tcp")] if tier else []
        )
        expected = [f"{at}:{at.port}{'/udp' * (protocol == 'udp')}" for at, protocol in public if at]
        assert service.get("ports", []) == ([f"{topology.admin}:7900"] if name == "controller" else expected)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_all_start_after_the_controller_and_what_is_below_them(topology):
    file = rendered(topology)
    assert "depends_on" not in file["services"]["controller"]
    for name, tier in topology.tiers.items():
        started = [target for target in tier.targets if target in file["services"]]
        assert [*file["services"][name]["depends_on"]] == ["controller", *started]


def test_only_what_compose_itself_makes_ready_is_waited_for():
    services = rendered(everything())["services"]
    conditions = {
        name: {other: waits["condition"].removeprefix("service_") for other, waits in service["depends_on"].items()}
        for name, service in services.items()
        if "depends_on" in service
    }
    assert conditions == {
        "edge": {"controller": "healthy", "web": "healthy"},
        "direct": {"controller": "healthy"},
        "web": {"controller": "healthy", "api": "started", "far": "started", "app": "healthy"},
        "far": {"controller": "healthy"},
    }


def test_one_node_per_core_is_a_container_for_each_of_this_machine_and_is_told():
    text = EVERYTHING.replace("replicas: 3", "replicas: auto", 1)
    assert text != EVERYTHING
    topology = load_text(text, "shop.yaml", lambda: 6)
    (warning,) = compose_warnings(topology)
    assert warning.startswith("tiers.web.replicas: auto is 6 here, one container per core of this machine")
    assert rendered(topology)["services"]["web"]["scale"] == 6


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("tls", [None, TLS])
def test_tierlb_s_own_command_line_takes_every_command(topology, tls, tmp_path):
    there = tmp_path / "topology.yaml"
    there.touch()
    for service in rendered(topology, tls=tls)["services"].values():
        if service["image"] == IMAGE and service.get("entrypoint") != ["sh"]:  # a pool may run a shell's command
            assert service.get("entrypoint", ["tierlb"]) == ["tierlb"]
            words = [str(there) if word == "/etc/tierlb/topology.yaml" else word for word in service["command"]]
            command_named(words[0]).make_context(words[0], words[1:])


def test_another_image_runs_the_whole_command_as_its_own_user():
    api = rendered(everything())["services"]["api"]
    assert (api["image"], api["entrypoint"]) == ("registry.example.com/team/api:1.2", ["serve"])
    assert api["command"] == ["--at", "0.0.0.0:9000", "--price", "5$$"]
    assert not {"user", "read_only", "healthcheck", "secrets"} & api.keys()


def test_limits_are_written_as_compose_has_them():
    assert "resources: {cpus: 0.5, memory: 128MiB}" in EVERYTHING
    services = rendered(everything())["services"]
    assert [services["edge"][key] for key in ("cpus", "mem_limit")] == [0.5, "128m"]
    assert [services["api"][key] for key in ("cpus", "mem_limit")] == [2.0, "1g"]
    assert not {"cpus", "mem_limit"} & services["web"].keys()


def test_containers_of_a_tier_share_its_cpus():
    services = rendered(load_text(EVERYTHING.replace("kind: l4,", "kind: l4, cpus: [0-2, 5],", 1), "f"))["services"]
    assert [name for name, service in services.items() if "cpuset" in service] == ["edge"]
    assert services["edge"]["cpuset"] == "0,1,2,5"


def test_with_tls_everybody_shows_a_certificate_and_the_controller_finds_it_where_the_file_says():
    file = rendered(everything(), tls=TLS)
    controller, web = file["services"]["controller"], file["services"]["web"]
    assert {each["source"]: each["target"] for each in controller["secrets"][2:]} == {
        "tls.crt": "/etc/tierlb/pki/node.pem",
        "tls.key": "/etc/node.key",
        "ca.crt": "/etc/pki/ca.pem",
    }
    assert controller["healthcheck"]["test"][-3:] == ["/etc/tierlb/pki/node.pem", "/etc/node.key", "/etc/pki/ca.pem"]
    assert web["secrets"] == ["node-token-web", "tls.crt", "tls.key", "ca.crt"]
    assert web["healthcheck"]["test"][-3:] == [f"/run/secrets/{name}" for name in web["secrets"][1:]]
    assert option(web, "--join") == "wss://controller-web:7901"
    assert option(web, "--tls-key") == "/run/secrets/tls.key"
    assert {*file["secrets"]} == {*TOKENS, "tls.crt", "tls.key", "ca.crt"}


STORE_FILES = {"tls.crt": "pki/etcd.pem", "tls.key": "../etcd.key", "ca.crt": "pki/etcd-ca.pem", "password": "/run/p$"}


def test_the_controller_alone_sees_the_files_of_the_store_and_where_the_file_says():
    file = rendered(everything(), store=STORE_FILES)
    controller = file["services"].pop("controller")
    assert {each["source"]: each["target"] for each in controller["secrets"][2:]} == {
        "store-tls.crt": "/etc/tierlb/pki/etcd.pem",
        "store-tls.key": "/etc/etcd.key",
        "store-ca.crt": "/etc/tierlb/pki/etcd-ca.pem",
        "store-password": "/run/p$$",
    }
    assert file["secrets"]["store-password"] == {"file": "./secrets/store-password"}
    assert {*file["secrets"]} == {*TOKENS, *(f"store-{name}" for name in STORE_FILES)}
    assert not any("store-" in str(service.get("secrets")) for service in file["services"].values())


def test_a_file_that_is_named_twice_is_mounted_once():
    named = {"tls.crt": "both.pem", "tls.key": "./both.pem", "ca.crt": TLS.ca}
    file = rendered(everything(), tls=TLS, store=named)
    targets = [each["target"] for each in file["services"]["controller"]["secrets"][2:]]
    assert sorted(targets) == ["/etc/node.key", TLS.ca, "/etc/tierlb/both.pem", "/etc/tierlb/pki/node.pem"]
    assert {*file["secrets"]} == {*TOKENS, "tls.crt", "tls.key", "ca.crt", "store-tls.crt"}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("replicas: 3", "replicas: 4"), []),
        (("to: web,", "to: [web, far],"), []),
        (("cpus: 0.5", "cpus: 0.75"), ["edge"]),
        (("team/api:1.2", "team/api:1.3"), ["api"]),
        (("demo-backend --host", "demo-backend --slots 4 --host"), ["app"]),
    ],
)
def test_a_definition_changes_with_what_a_container_is_made_from_and_with_nothing_else(change, differs):
    assert change[0] in EVERYTHING
    changed = EVERYTHING.replace(*change)
    before, after = (rendered(load_text(each, "shop.yaml"))["services"] for each in (EVERYTHING, changed))
    found = [name for name in before if definition(before[name]) != definition(after[name])]
    assert found == differs
    assert CHANGEABLE == ("scale", "depends_on", "networks")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kind: l4,", "kind: l4, replicas: 2,", "tiers.edge.replicas: one port cannot be published by 2 containers"),
        ("kind: l4,", "kind: l4, replicas: auto,", "tiers.edge.replicas: one port cannot be published by several cont"),
        ("kind: l4,", "kind: l4, cpus: auto,", "tiers.edge.cpus: auto gives each node of `tierlb up` a CPU"),
        ("kind: l4,", "kind: l4, forward: nftables,", "tiers.edge.forward: nftables is for nodes through which"),
        ("127.0.0.1:443", "127.0.0.1:7946", "tiers.edge.listen: port 7946 is a node's own"),
        ("127.0.0.1:443", "127.0.0.1:0", "tiers.edge.listen: a container needs the port named"),
        ("127.0.0.1:7911", "127.0.0.1:0", "admin.listen: a port that is published has to be named"),
        ("direct:", "controller:", "tiers.controller: the controller has this name"),
        ("direct:", "controller-web:", "tiers.controller-web: the controller has this name"),
        ("direct:", '"10":', "tiers.10: resolvers take this for an IP address"),
        ("direct:", '"0x1f":', "tiers.0x1f: resolvers take this for an IP address"),
    ],
)
def test_what_compose_cannot_have_is_refused_with_what_to_do(old, new, told):
    assert old in EVERYTHING
    (fault,) = faults(load_text(EVERYTHING.replace(old, new), "shop.yaml"))
    assert fault.startswith(told)


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ('{run: {command: "serve {port}"}}', "pools.app.run.command: it has no {host}"),
        ('{endpoints: ["127.0.0.1:9001"]}', "pools.app.endpoints: 127.0.0.1:9001 would be looked for inside"),
        ('{endpoints: ["[::1]:9001"]}', "pools.app.endpoints: [::1]:9001 would be looked for inside"),
    ],
)
def test_what_would_be_started_in_vain_is_warned_of(pool, told):
    topology = load_text(
        f"cluster: a\ntiers: {{web: {{kind: l7, listen: ':80', to: app}}}}\npools: {{app: {pool}}}", "a"
    )
    (warning,) = compose_warnings(topology)
    assert warning.startswith(told)
    assert compose_warnings(everything()) == ()


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("tls", [None, TLS])
def test_the_compose_specification_allows_every_word(topology, tls):
    file = compose_spec.PyCompose.from_yaml(text(Rendering(topology, IMAGE, tls, store=STORE_FILES if tls else {})))
    file.validate()
    assert {*file.service_names()} == {*rendered(topology, tls=tls)["services"]}


def test_docker_compose_reads_every_example(tmp_path):
    if shutil.which("docker-compose") is None:
        pytest.skip("NOT TESTED: docker-compose is not installed (apt-get install docker-compose)")
    for parameters in TOPOLOGIES:
        (topology,) = parameters.values
        directory = tmp_path / str(parameters.id)
        lay_out(Project(directory, topology.cluster, IMAGE), topology, "")
        done = subprocess.run(
            ["docker-compose", "config", "--quiet"], cwd=directory, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_example_is_what_the_quickstart_renders_to():
    topology = load_file(ROOT / "topology/quickstart.yaml")
    own = command_named("compose").make_context("compose", [str(ROOT / "topology/quickstart.yaml")]).params["image"]
    assert (ROOT / "compose/compose.yaml").read_text() == text(Rendering(topology, own)), (
        "tierlb compose topology/quickstart.yaml >compose/compose.yaml"
    )


def test_the_head_says_how_agents_join():
    lines = text(Rendering(everything(), IMAGE)).splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert "#   tierlb agent --pool joining --join ws://controller-joining:7901 --token-file FILE ..." in head
    assert "# with the token in secrets/agent-token-joining." in head
    assert all(line.startswith("#") or not line for line in lines[: len(head) + 1])


def definition(service):
    return service["labels"][DEFINITION_LABEL]


def test_l4_tiers_are_among_the_examples():
    assert any(tier.kind is Kind.L4 for path in EXAMPLES for tier in load_file(path).tiers.values())


OVER_UDP = """\
cluster: names
tiers:
  edge: {kind: l4, protocol: udp, listen: "127.0.0.1:53", to: mid}
  mid: {kind: l4, protocol: udp, to: [dns, both]}
  tcp: {kind: l4, listen: "127.0.0.1:53", to: both}
pools:
  dns: {run: {command: "serve {host} {port}"}}
  both: {run: {command: "serve {host} {port}"}}
"""


def test_a_tier_over_udp_publishes_a_port_for_datagrams():
    services = rendered(load_text(OVER_UDP, "f"))["services"]
    assert services["edge"]["ports"] == ["127.0.0.1:53:53/udp"]
    assert services["tcp"]["ports"] == ["127.0.0.1:53:53"]
    assert "ports" not in services["mid"]


def test_an_endpoint_is_healthy_when_it_takes_what_is_sent_to_it():
    services = rendered(load_text(OVER_UDP, "f"))["services"]
    assert services["dns"]["healthcheck"]["test"][-1] == "udp:9000"
    assert services["both"]["healthcheck"]["test"][-1] == "9000"


@pytest.mark.parametrize(("names", "lacking"), [(("edge", "web"), ""), (("web",), "add DNS:edge to")])
def test_a_certificate_that_nodes_would_refuse_is_told(tmp_path, names, lacking):
    issued = trustme.CA().issue_cert(*names)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    issued.private_key_pem.write_to_path(tmp_path / "c.key")
    text = """\
cluster: x
security: {tls: {certificate: c.pem, key: c.key, ca: c.pem}}
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, to: p}
  alone: {kind: l7, listen: "127.0.0.1:8081", to: p}
pools: {p: {agents: true}}
"""
    found = compose_warnings(load_text(text, str(tmp_path / "x.yaml")))
    assert [lacking in warning for warning in found] == [True] * bool(lacking)


FILES = {"web": ("shop.pem", "pki/shop$.key"), "far": ("./shop.pem",)}


def test_nodes_have_the_files_of_their_tier_where_the_controller_looks_for_them():
    file = rendered(everything(), files=FILES)
    pem, key = file_secret("shop.pem"), file_secret("pki/shop$.key")
    at = {pem: "/etc/tierlb/shop.pem", key: "/etc/tierlb/pki/shop$$.key"}
    found = {
        name: {each["source"]: each["target"] for each in service.get("secrets", ()) if isinstance(each, dict)}
        for name, service in file["services"].items()
    }
    wanted = {"controller": at, "web": at, "far": {pem: at[pem]}}
    assert {name: each for name, each in found.items() if each} == wanted
    assert file["secrets"][key] == {"file": f"./secrets/{key}"}
    assert {*file["secrets"]} == {*TOKENS, pem, key}


def test_a_file_of_the_control_channel_that_nodes_read_too_is_mounted_once_in_the_controller():
    file = rendered(everything(), tls=TLS, files={"web": (TLS.ca,)})
    targets = [each["target"] for each in file["services"]["controller"]["secrets"][2:]]
    assert len(targets) == len(set(targets)) == 3
    assert {"source": file_secret(TLS.ca), "target": TLS.ca} in file["services"]["web"]["secrets"]


@pytest.mark.parametrize(
    ("listen", "more", "ports"),
    [
        ('"*:443"', "", ["443:443"]),
        ('"*:53"', "protocol: udp, ", ["53:53/udp"]),
        ('["0.0.0.0:443", "[::]:443"]', "", ["0.0.0.0:443:443", "[::]:443:443"]),
    ],
)
def test_a_port_for_every_address_of_both_families_is_published_once(listen, more, ports):
    text = f"cluster: x\ntiers: {{edge: {{kind: l4, {more}listen: {listen}, to: p}}}}\npools: {{p: {{agents: true}}}}\n"
    assert rendered(load_text(text, "x.yaml"))["services"]["edge"]["ports"] == ports
