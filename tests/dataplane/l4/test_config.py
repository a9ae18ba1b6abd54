"""What an l4 front goes by, as a snapshot has it."""

import random

import attrs
import pytest

from tests.dataplane.conftest import l4
from tierlb.balance.hashing import stable_hash
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.l4.routes import ConnectionRoutes
from tierlb.dataplane.upstream.split import Split
from tierlb.model.topology import Admin, Match, Policy, Timeouts

ROUTES = ConnectionRoutes([Match()], [Split([], random.Random(1))])


@pytest.mark.parametrize("policy", Policy)
def test_only_consistent_hashing_goes_by_the_address(policy: Policy) -> None:
    config = L4Config(l4(balance=policy), ROUTES)
    assert config.key_of("192.0.2.7") == (stable_hash(b"192.0.2.7") if policy is Policy.MAGLEV else 0)
    assert (config.balance, config.routes) == (policy, ROUTES)


@pytest.mark.parametrize(("admin", "draining"), [(Admin.READY, False), (Admin.DRAIN, True), (Admin.MAINTENANCE, True)])
def test_a_node_that_is_not_to_be_ready_drains(admin: Admin, draining: bool) -> None:
    assert L4Config(attrs.evolve(l4(), admin=admin), ROUTES).draining is draining


def test_its_timeouts_are_those_of_the_tier() -> None:
    config = L4Config(l4(timeouts=Timeouts(head=3.0, connect=1.5, idle=90.0)), ROUTES)
    assert (config.head_s, config.connect_s, config.idle_s) == (3.0, 1.5, 90.0)
