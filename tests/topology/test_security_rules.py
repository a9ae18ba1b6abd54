"""What does not go with `security.tls`."""

import pytest

from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError

SECURITY = "security: {tls: {certificate: c.pem, key: k.pem, ca: a.pem}}"
TEXT = """\
cluster: x
{security}
tiers:
  edge: {{kind: {kind}, listen: "127.0.0.1:8080", to: mid{edge}}}
  mid: {{kind: l4, to: web{mid}}}
  web: {{kind: l7, to: p}}
pools: {{p: {{agents: true}}}}
"""


def problems(security: str = SECURITY, kind: str = "l4", edge: str = "", mid: str = "", text: str = TEXT) -> list[str]:
    """Without those of files, which are not there."""
    try:
        load_text(text.format(security=security, kind=kind, edge=edge, mid=mid), "f")
    except TopologyError as error:
        return [str(problem) for problem in error.problems if "security.tls." not in str(problem)]
    return []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"edge": ", forward: nftables"}, "f:4:64: tiers.edge.forward: security.tls has the tiers speak TLS"),
        ({"mid": ", forward: handoff"}, "tiers.mid.forward: what tier 'edge' sends here"),
        ({"mid": ", forward: handoff", "edge": ", forward: relay"}, "tiers.mid.forward: what tier 'edge' sends here"),
        ({"mid": ", forward: handoff", "kind": "l7"}, "tiers.mid.forward: what tier 'edge' sends here is TLS"),
    ],
)
def test_a_way_between_tiers_that_cannot_be_encrypted_is_an_error(given: dict[str, str], fault: str) -> None:
    (found,) = problems(**given)
    assert fault in found
    assert "write forward: auto" in found
    assert problems(security="", **given) == []


def test_datagrams_go_to_pools_alone() -> None:
    text = """\
cluster: x
{security}
tiers:
  edge: {{kind: l4, listen: "127.0.0.1:8080", protocol: udp, to: mid}}
  mid: {{kind: l4, protocol: udp, to: p}}
pools: {{p: {{agents: true}}}}
"""
    (found,) = problems(text=text)
    assert "tiers.edge.protocol: security.tls" in found
    assert "send to pools from here" in found
    assert problems(text=text, security="") == []


@pytest.mark.parametrize(
    "given", [{}, {"mid": ", forward: handoff", "edge": ", forward: handoff"}, {"edge": ", forward: relay"}]
)
def test_what_nodes_can_encrypt_or_hand_over_is_right(given: dict[str, str]) -> None:
    assert problems(**given) == []


def test_the_kernel_may_forward_to_pools() -> None:
    text = TEXT.replace("to: mid{edge}", "to: p, forward: nftables").replace("mid: {{kind: l4, to: web{mid}}}", "")
    assert problems(text=text.replace("  web: {{kind: l7, to: p}}\n", "")) == []
