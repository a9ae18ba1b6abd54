"""Affinity: where keys go, how few of them move, that nobody is flooded. The table against the pseudocode."""

import collections
import random

import pytest

from tests.balance.fake_hosts import FakeHost, fake_hosts
from tierlb.balance.hashing import stable_hash
from tierlb.balance.maglev import TABLE, Maglev, filled, permutation, still_good

KEYS = [stable_hash(str(number).encode()) for number in range(4000)]


def built(hosts: list[FakeHost]) -> Maglev[FakeHost]:
    chooser: Maglev[FakeHost] = Maglev()
    chooser.rebuild(hosts)
    return chooser


def goes_to(chooser: Maglev[FakeHost]) -> list[str]:
    return [chooser.pick(key).name for key in KEYS]


def moved(before: list[str], after: list[str]) -> float:
    return sum(one != other for one, other in zip(before, after, strict=True)) / len(before)


def test_the_table_is_that_of_the_paper() -> None:
    """Pseudocode 1 of the paper, with every permutation written out; equal weights."""
    names = ["a", "b", "c"]
    permutations = [[(start + j * step) % TABLE for j in range(TABLE)] for start, step in map(permutation, names)]
    following = [0] * len(names)
    entry = [-1] * TABLE
    count = 0
    while count < TABLE:
        for index in range(len(names)):
            while entry[permutations[index][following[index]]] >= 0:
                following[index] += 1
            entry[permutations[index][following[index]]] = index
            count += 1
            if count == TABLE:
                break
    assert filled(dict.fromkeys(names, 1.0)) == entry


def test_every_permutation_visits_every_slot() -> None:
    for name in ("a", "web-1", "app/127.0.0.1:9001"):
        start, step = permutation(name)
        assert len({(start + j * step) % TABLE for j in range(TABLE)}) == TABLE


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5), (0.1, 0.1, 10)])
def test_slots_are_given_by_weight(weights: tuple[float, ...]) -> None:
    table = filled({f"m{index}": weight for index, weight in enumerate(weights)})
    counts = collections.Counter(table)
    for index, weight in enumerate(weights):
        assert counts[index] / TABLE == pytest.approx(weight / sum(weights), abs=0.001)


def test_all_nodes_agree_whatever_the_order_of_members() -> None:
    hosts = fake_hosts(6)
    shuffled = hosts[:]
    random.Random(3).shuffle(shuffled)
    assert goes_to(built(hosts)) == goes_to(built(shuffled))


def test_keys_of_a_missing_member_alone_move_and_come_back() -> None:
    hosts = fake_hosts(6)
    chooser = built(hosts)
    before = goes_to(chooser)
    chooser.rebuild(hosts[1:])
    during = goes_to(chooser)
    assert all(was == "m0" or was == is_ for was, is_ in zip(before, during, strict=True))
    assert set(during) == {f"m{index}" for index in range(1, 6)}
    assert max(collections.Counter(during).values()) < 1.3 * len(KEYS) / 5
    chooser.rebuild(hosts)
    assert goes_to(chooser) == before


def test_a_new_member_takes_little_more_than_its_share_of_keys() -> None:
    hosts = fake_hosts(6)
    chooser = built(hosts[:5])
    before = goes_to(chooser)
    chooser.rebuild(hosts)
    assert 1 / 6 - 0.02 < moved(before, goes_to(chooser)) < 1 / 6 + 0.06


def test_jitter_of_weights_moves_no_key() -> None:
    hosts = fake_hosts(6)
    chooser = built(hosts)
    before = goes_to(chooser)
    for index, host in enumerate(hosts):
        host.weight = 3 * (1.04 if index % 2 else 0.97)
    chooser.rebuild(hosts)
    assert goes_to(chooser) == before


def test_a_change_of_weight_moves_keys() -> None:
    hosts = fake_hosts(4)
    chooser = built(hosts)
    before = goes_to(chooser)
    hosts[0].weight = 3.0
    chooser.rebuild(hosts)
    assert 0.2 < moved(before, goes_to(chooser)) < 0.45


GOOD = [
    ({}, {"a": 1}, False),
    ({"a": 1}, {"a": 1}, True),
    ({"a": 1, "b": 1}, {"a": 1}, True),
    ({"a": 1, "b": 1, "c": 1}, {"a": 1}, False),
    ({"a": 1}, {"a": 1, "b": 1}, False),
    ({"a": 1, "b": 1}, {"a": 7, "b": 7}, True),
    ({"a": 1, "b": 1}, {"a": 1, "b": 1.08}, True),
    ({"a": 1, "b": 1}, {"a": 1, "b": 1.2}, False),
]


@pytest.mark.parametrize(("before", "now", "expected"), GOOD)
def test_a_table_is_kept_while_it_serves(before: dict[str, float], now: dict[str, float], expected: bool) -> None:
    assert still_good(before, now) is expected


def test_one_hot_key_does_not_flood_its_member() -> None:
    hosts = fake_hosts(5)
    chooser = built(hosts)
    for _ in range(500):
        chooser.pick(KEYS[0]).in_flight += 1
    most = max(host.in_flight for host in hosts)
    assert most <= 1.25 * 500 / 5 + 1


def test_a_key_stays_where_it_was_while_there_is_room() -> None:
    hosts = fake_hosts(5)
    chooser = built(hosts)
    home = chooser.pick(KEYS[0])
    for host in hosts:
        host.in_flight = 10
    assert chooser.pick(KEYS[0]) is home
    home.in_flight = 20
    assert chooser.pick(KEYS[0]) is not home


def test_heavier_members_have_more_room() -> None:
    hosts = fake_hosts(2)
    hosts[0].weight = 3.0
    chooser = built(hosts)
    for _ in range(400):
        chooser.pick(KEYS[0]).in_flight += 1
    assert hosts[0].in_flight <= 1.25 * 400 * 0.75 + 1
    assert hosts[1].in_flight <= 1.25 * 400 * 0.25 + 1


def test_what_is_tried_again_goes_to_one_that_is_left() -> None:
    hosts = fake_hosts(5)
    chooser = built(hosts)
    home = chooser.pick(KEYS[1])
    left = [host for host in hosts if host is not home]
    assert chooser.among(left, KEYS[1]) in left
    assert chooser.among(left, KEYS[1]) is chooser.among(left, KEYS[1])
    stranger = FakeHost("stranger")
    assert chooser.among([stranger], KEYS[1]) is stranger
