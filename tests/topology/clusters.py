"""Small clusters for tests of changes between them."""

from tierlb.model.topology import Topology
from tierlb.topology.load import load_text

APP = "app: {endpoints: [127.0.0.1:9001]}"
API = "api: {endpoints: [127.0.0.1:9002]}"
EDGE = "edge: {kind: l4, listen: 127.0.0.1:8080, to: %s}"
MID = "mid: {kind: l7, to: web}"
WEB = "web: {kind: l7, replicas: 2, to: app}"
RUN = "run: {command: '%s {port}', replicas: %d}"
ALONE = "web: {kind: l7, listen: 127.0.0.1:8080, replicas: 2, to: app}"


def shop(*tiers: str, pools: tuple[str, ...] = (APP,)) -> Topology:
    parts = ["cluster: shop\ntiers:", *tiers], ["\npools:", *pools] if pools else []
    return load_text("".join("\n  ".join(part) for part in parts), "f")
