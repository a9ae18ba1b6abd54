"""`tierlb node` before it runs; running nodes are in tests/node and tests/cluster."""

import gc

import pytest
import trio

from tests.cli.conftest import run
from tests.control_plane import KeptLog
from tierlb.cli import join
from tierlb.cli import node as cli_node
from tierlb.cli.tokens import exposure
from tierlb.model.address import Address
from tierlb.model.tls import Tls
from tierlb.wire.credentials import Principal, Role, issued, root_key


def test_a_node_without_a_token_says_how_to_give_it():
    arguments = ("node", "--name", "web-1", "--tier", "web", "--join", "ws://127.0.0.1:1")
    result = run(*arguments, env={"TIERLB_TOKEN": ""})
    assert result.exit_code == 2
    assert "set TIERLB_TOKEN" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "nowhere"), "--host: "),
        (("--advertise", "web.example"), "--advertise: "),
        (("--control-listen", "7946"), "--control-listen: "),
        (("--control-name", "web"), "--control-name: 'web' is no name and port"),
        (("--control-name", "10.0.0.1:7946"), "--control-name"),
        (("--data-port", "70000"), "--data-port"),
    ],
)
def test_what_is_no_place_is_wrong_usage(options, said):
    result = run("node", "--tier", "web", "--join", "ws://127.0.0.1:1", *options, env={"TIERLB_TOKEN": "secret"})
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.fixture
def started(monkeypatch):
    """The nodes that got as far as their first await, instead of running."""
    nodes = []
    monkeypatch.setattr(trio, "run", lambda main, node: nodes.append(node))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    return nodes


def test_each_option_reaches_what_it_is_for(started, monkeypatch, tmp_path):
    """A wrong place or a missing file would end it before."""
    monkeypatch.setattr(join, "ClusterTls", lambda files, log: ("the TLS of", files))
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "handoff").mkdir(mode=0o700)
    options = {
        "--tier": "web",
        "--name": "web-7",
        "--join": "ws://127.0.0.1:1,ws://127.0.0.1:2",
        "--token-file": str(tmp_path / "token"),
        "--host": "127.0.0.2",
        "--control-listen": "127.0.0.3:7946",
        "--data-port": "7945",
        "--advertise": "127.0.0.4",
        "--control-name": "web:7946",
        "--state": str(tmp_path / "state"),
        "--handoff": str(tmp_path / "handoff"),
        "--tls-certificate": "a.pem",
        "--tls-key": "a.key",
        "--tls-ca": "ca.pem",
    }
    result = run("node", *(part for pair in options.items() for part in pair))
    assert result.exit_code == 0, result.output
    (node,) = started
    identity, placement = node.identity, node.configuration.placement
    assert (identity.tier, identity.name, identity.controllers) == ("web", "web-7", options["--join"])
    assert identity.token == issued(root_key("secret"), Principal(Role.NODE, "web", "web-7")).text
    assert (placement.host, placement.data_port, placement.advertised) == ("127.0.0.2", 7945, "127.0.0.4")
    assert (placement.control, placement.control_name) == (Address("127.0.0.3", 7946), "web:7946")
    place = node.plane.listening.handoffs.place
    assert place.directory == tmp_path / "handoff"
    place.close()
    assert node.errors is node.plane.errors, "the page of metrics has those of the data plane"
    assert (node.state, node.tls) == (tmp_path / "state", ("the TLS of", Tls("a.pem", "a.key", "ca.pem")))


def test_a_directory_of_handoff_that_is_not_there_is_warned_of_with_what_to_do(tmp_path):
    log = KeptLog()
    place, why = cli_node.meeting_place(tmp_path / "missing", log)
    assert cli_node.meeting_place(None, log) == (None, "this node was started without --handoff DIR")
    ((event, fields),) = log.events
    assert (place, why) == (None, f"the directory that --handoff names cannot be used ({fields['reason']})")
    assert (event, fields["reason"]) == (
        "handoff_unavailable",
        f"there is no {tmp_path / 'missing'}: make it with mkdir -m 700",
    )
    assert fields["action"] == "connections are relayed; under 'forward: handoff' they are refused"


def test_a_token_file_that_others_can_read_is_warned_of(started, monkeypatch, tmp_path):
    token, log = tmp_path / "token", KeptLog()
    token.write_text("a secret of a cluster\n")
    token.chmod(0o644)
    log.warm = lambda: None
    monkeypatch.setattr(cli_node, "LazyLog", lambda fields: log)
    result = run("node", "--tier", "web", "--join", "ws://127.0.0.1:1", "--token-file", token)
    assert result.exit_code == 0, result.output
    assert len(started) == 1
    assert ("token_exposed", {"reason": exposure(token)}) in log.events
