import pytest
import trio

from tierlb.controller.waiting import log_slow_start, pools_awaited, tiers_awaited


@pytest.mark.parametrize(
    ("tiers", "phrases"),
    [
        ({"web": ["", ""], "edge": [""]}, ()),
        (
            {"edge": [""], "web": ["", "web-2 has not joined", "web-3 has not joined"]},
            ("web: 1 of 3 nodes serve; web-2 has not joined; web-3 has not joined",),
        ),
        ({"web": []}, ("web: no node has joined",)),
        ({"edge": ["edge-1 has not joined"]}, ("edge: 0 of 1 node serve; edge-1 has not joined",)),
        ({"web": ["a", "b", "c", "d", "e", ""]}, ("web: 1 of 6 nodes serve; a; b; c; 2 more",)),
    ],
)
def test_a_tier_is_waited_for_by_what_its_nodes_lack(tiers, phrases):
    assert tiers_awaited(tiers) == phrases


def test_a_pool_is_waited_for_until_all_its_endpoints_accept():
    assert pools_awaited({"a": [True, False, True], "b": [True]}) == ("a: 2 of 3 endpoints accept connections",)


class Starting:
    def __init__(self):
        self.left = ("web: 0 of 1 node serve; web-1 has not joined",)

    def waiting(self):
        return self.left


async def test_a_slow_start_is_logged_when_it_changes_and_no_more_once_all_is_up(log, nursery, autojump_clock):
    cluster = Starting()
    nursery.start_soon(log_slow_start, cluster, log)
    await trio.sleep(10)
    cluster.left = (*cluster.left, "app: 0 of 1 endpoint accept connections")
    await trio.sleep(10)
    cluster.left = ()
    await trio.sleep(10)
    cluster.left = ("later",)
    await trio.sleep(10)
    assert log.events == [
        ("start_delayed", {"waiting_for": "web: 0 of 1 node serve; web-1 has not joined"}),
        ("start_delayed", {"waiting_for": "app: 0 of 1 endpoint accept connections"}),
    ]


async def test_an_ordinary_start_is_not_logged(log, nursery, autojump_clock):
    cluster = Starting()
    nursery.start_soon(log_slow_start, cluster, log)
    await trio.sleep(1)
    cluster.left = ()
    await trio.sleep(10)
    assert log.events == []
