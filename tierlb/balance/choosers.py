"""Which host gets the next item: the interface of all choosers, and the chooser of each policy.

Three things are separate, as in finagle: *membership* determines the hosts and passes them to `rebuild`; the *load* is
an attribute of each host, kept up to date elsewhere; the *chooser* only chooses. A chooser may store the state of its
round and whatever it can compute beforehand, so that `pick`, which runs once per item, is a short loop.
"""

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tierlb.balance.least import LeastLoaded, TwoChoices
from tierlb.balance.load_aware import Costed, LoadAware
from tierlb.balance.maglev import Maglev
from tierlb.balance.peak import Peaked, PeakEwmaChoices
from tierlb.balance.turns import RandomTurns, RoundRobin
from tierlb.balance.weighted import SmoothWeighted, Weighed
from tierlb.model.topology import Policy

ChosenHost = TypeVar("ChosenHost")


class ChoosableHost(Costed, Peaked, Weighed, Protocol):
    """What a policy may read of a host: plain attributes, read in the hot path, never written here."""


ChooserHost = TypeVar("ChooserHost", bound=ChoosableHost)


class Chooser(Protocol[ChosenHost]):
    """Chooses among the hosts of the last `rebuild`.

    `rebuild` is called after every change of membership, availability, weight, capacity, slope, offset or share, and
    about every 50 ms. `in_flight` and `peak` are read again by each pick. `pick` needs at least one host. `among`
    chooses from a non-empty subset, for items that were tried elsewhere before. `key` is the hash for policies with
    affinity; the others ignore it.
    """

    def rebuild(self, hosts: Sequence[ChosenHost]) -> None: ...

    def pick(self, key: int) -> ChosenHost: ...

    def among(self, hosts: Sequence[ChosenHost], key: int) -> ChosenHost: ...


def make_chooser(policy: Policy, rng: random.Random) -> Chooser[ChooserHost]:
    """The chooser for a policy. The same seed, calls and hosts give the same choices."""
    match policy:
        case Policy.LOAD_AWARE:
            return LoadAware(rng)
        case Policy.ROUND_ROBIN:
            return RoundRobin(rng)
        case Policy.RANDOM:
            return RandomTurns(rng)
        case Policy.LEAST_REQUESTS:
            return LeastLoaded(rng)
        case Policy.TWO_CHOICES:
            return TwoChoices(rng)
        case Policy.WEIGHTED:
            return SmoothWeighted(rng)
        case Policy.PEAK_EWMA:
            return PeakEwmaChoices(rng)
        case Policy.MAGLEV:
            return Maglev()
