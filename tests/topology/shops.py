"""Topology files that the edits of their texts are tested with."""

from typing import Any

from tierlb.model.topology import Kind
from tierlb.topology.verbs import AddTier

SHOP = """\
# The shop.
cluster: shop

tiers:
  # The edge
  # is where clients call.
  edge:
    kind: l4
    # the public one
    listen: 127.0.0.1:8080  # for all
    to: web  # what else

  # ---- inside ----

  web:  # reads HTTP
    kind: l7
    replicas: 3
    routes:
      - match: {path: /healthz}
        respond: {body: "ok\\n"}
      # most
      - to: 'app'  # the shop
    # timeouts: {idle: 1m}

# ---- leaves ----
pools:
  app: {run: {command: "serve {port}"}}
"""

POOLS = """\
pools:
  a: {endpoints: [127.0.0.1:9001]}
  b: {endpoints: [127.0.0.1:9002]}
  c: {endpoints: [127.0.0.1:9003]}
"""


def tiers(text: str, pools: str = "abc") -> str:
    """A file with the tiers given, and pools by their letters."""
    listed = "".join(line + "\n" for line in POOLS.splitlines() if line[2:3] in pools or line == "pools:")
    return f"cluster: x\ntiers:\n{text}{listed}"


def l7(name: str, between: tuple[str, str] | None = None, **more: Any) -> AddTier:
    return AddTier(name, Kind.L7, between, **more)


BLOCK_TO = """\
  edge:
    kind: l7
    listen: 127.0.0.1:8080
    to:  # together
      - a
      - web  # new
  web:
    kind: l7
    to:
      # by share
      b: 90
      c: 10  # few
"""

FLOW = "cluster: x\ntiers: {edge: {kind: l7, listen: '127.0.0.1:8080', to: web}, web: {kind: l7, to: [a, b]}}\n" + (
    "pools: {a: {agents: true}, b: {agents: true}}\n"
)

UPPER = "  up: {{kind: l7, listen: ':0', to: {to}}}\n"

LOWER = "  low: {{kind: l7, to: {to}}}\n"

TWO_WAYS = tiers(
    """\
  edge: {kind: l7, listen: ':0', to: [front, c]}
  front:
    kind: l7
    routes:
      - match: {path: /healthz}
        respond: {status: 204}
      - match: {path_prefix: /a}
        to: a
      - to: b
  idle: {kind: l7, listen: ':0', routes: [{respond: {status: 204}}]}
"""
)

SHARES = tiers(UPPER.format(to="{low: 1, c: 1}") + LOWER.format(to="{a: 2, b: 1}"))

ANCHORS = tiers("  one: &x {kind: l7, listen: ':0', to: a}\n  two: *x\n", "a")
