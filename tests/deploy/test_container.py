"""The commands of containers are such that the commands of tierlb take, and listen where a container is reached."""

import click
import pytest

from tierlb.cli.main import main
from tierlb.deploy.container import (
    NODE_CONTROL_PORT,
    NODE_DATA_PORT,
    controller_command,
    file_place,
    node_command,
    pool_command,
    port_problems,
    store_files,
    tls_options,
)
from tierlb.model.address import Address
from tierlb.model.listener import TierListener
from tierlb.model.tls import AdminTls
from tierlb.model.topology import Kind, Run, Tier, Topology

NODE = node_command("web", "ws://controller:7901", "web")


def command_named(name):
    """One of tierlb's commands."""
    return main.get_command(click.Context(main), name)


def parsed(words, tmp_path):
    """The options that tierlb's own command line finds in a command; the topology file is one that is there."""
    program, name, *arguments = words
    assert program == "tierlb"
    there = tmp_path / "topology.yaml"
    there.touch()
    arguments = [str(there) if word == "/etc/tierlb/topology.yaml" else word for word in arguments]
    return command_named(name).make_context(name, arguments).params


@pytest.mark.parametrize("command", [NODE, node_command("web", "ws://controller:7901", "web", state=None)])
def test_a_node_opens_known_ports_on_all_interfaces(command, tmp_path):
    params = parsed(command, tmp_path)
    assert (params["tier"], params["name"], params["join"]) == ("web", "", "ws://controller:7901")
    assert (params["host"], params["data_port"], params["control_listen"]) == ("0.0.0.0", 7945, "0.0.0.0:7946")
    assert params["control_name"] == "web:7946"


def test_a_node_keeps_its_state_where_it_is_told_to_or_nowhere(tmp_path):
    assert str(parsed(NODE, tmp_path)["state"]) == "/var/lib/tierlb"
    assert parsed(node_command("web", "ws://controller:7901", "web", state=None), tmp_path)["state"] is None


def test_a_node_with_certificates_names_all_three(tmp_path):
    params = parsed(NODE + tls_options("/tls"), tmp_path)
    assert [params[f"tls_{key}"] for key in ("certificate", "key", "ca")] == [
        "/tls/tls.crt",
        "/tls/tls.key",
        "/tls/ca.crt",
    ]


def test_a_controller_is_joined_from_everywhere_and_finds_pools_by_name(tmp_path):
    params = parsed(controller_command("shop-{pool}", admin_host="127.0.0.1", token_file="/join"), tmp_path)
    assert (params["listen"], params["admin_listen"]) == ("0.0.0.0:7901", "127.0.0.1:7900")
    assert (str(params["token_file"]), str(params["admin_token_file"])) == ("/join", "/run/secrets/tierlb/admin-token")
    assert params["run_dns"] == "shop-{pool}:9000"
    assert str(params["state"]) == "/var/lib/tierlb"
    with_store = parsed(controller_command("{pool}", state=None, admin_port=7911), tmp_path)
    assert (with_store["state"], with_store["admin_listen"]) == (None, "0.0.0.0:7911")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("serve --port {port}", ("serve", "--port", "9000")),
        ("serve --at {host}:{port} 'a b'", ("serve", "--at", "0.0.0.0:9000", "a b")),
    ],
)
def test_endpoints_are_told_where_to_listen(command, words):
    assert pool_command(Run(command)) == words


def test_listeners_that_become_one_in_a_container_have_the_same_settings():
    """By their order in `listen`: a plain one and one that redirects."""
    plain, other = Address("127.0.0.1", 8080), Address("192.0.2.7", 8080)
    for redirects, found in (((0, 443), 1), ((443, 0), 1), ((443, 443), 0), ((443, 8443), 1)):
        listen = tuple(
            TierListener(at, redirect_https=each) for at, each in zip((plain, other), redirects, strict=True)
        )
        problems = list(port_problems(Topology("shop", {"edge": Tier("edge", Kind.L7, (), listen=listen)}, {})))
        assert len(problems) == found
        assert all("127.0.0.1:8080 and 192.0.2.7:8080 are one port" in problem for problem in problems)
    apart = (TierListener(plain), TierListener(Address("192.0.2.7", 8081), redirect_https=443))
    assert list(port_problems(Topology("shop", {"edge": Tier("edge", Kind.L7, (), listen=apart)}, {}))) == []


@pytest.mark.parametrize(
    ("key", "port", "told"),
    [
        ("listen", NODE_CONTROL_PORT, "tiers.edge.listen: port 7946 is a node's own in a container"),
        ("agent_check", NODE_DATA_PORT, "tiers.edge.agent_check: port 7945 is a node's own in a container"),
        ("listen", 0, "tiers.edge.listen: a container needs the port named"),
        ("listen", 8080, ""),
    ],
)
def test_ports_that_a_container_cannot_give_are_refused(key, port, told):
    tier = Tier("edge", Kind.L4, (), **{key: Address("127.0.0.1", port)})
    assert [
        problem.partition(" that is")[0].partition(": choose")[0]
        for problem in port_problems(Topology("shop", {"edge": tier}, {}))
    ] == ([told] if told else [])


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("cluster: x\n", {}),
        ("store: etcd://a:1\n", {}),
        ("store: {etcd: 'etcds://a:1'}\n", {}),
        ("store: {etcd: 'etcd://a:1', user: ann, password_file: ../p}\n", {"password": "../p"}),
        (
            "store: {etcd: 'etcds://a:1', password_file: p, key: k, ca: a, certificate: c}\n",
            {"tls.crt": "c", "tls.key": "k", "ca.crt": "a", "password": "p"},
        ),
    ],
)
def test_the_files_of_a_store_are_found_as_they_are_written(text, files):
    assert store_files(text) == files


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("ca.pem", "/etc/tierlb/ca.pem"),
        ("pki/./ca.pem", "/etc/tierlb/pki/ca.pem"),
        ("../p", "/etc/p"),
        ("/run/p", "/run/p"),
    ],
)
def test_a_controller_looks_for_files_beside_the_topology_file(name, where):
    assert file_place(name) == where


def test_files_of_the_api_are_not_rendered_and_containers_say_so():
    topology = Topology("shop", {}, {}, admin_tls=AdminTls("api.pem", "api.key"))
    assert [problem.partition(":")[0] for problem in port_problems(topology)] == ["admin.tls"]
