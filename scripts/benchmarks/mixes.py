"""What `mixed` puts beside the short requests: a table of mixes, and the course of one run of each.

Short requests are an open-loop Poisson stream at a share of what the endpoints can do for them. From MIX_S on long
requests come too. With `slow` one host becomes FACTOR times slower for everything at SLOW_S.
"""

import heapq
import random
from collections.abc import Callable, Sequence

import attrs

from scripts.benchmarks.arrivals import Rate, Request, by_clients, poisson
from scripts.benchmarks.items import Guest, Item
from scripts.benchmarks.openloop import DEMAND, Lane
from scripts.benchmarks.play import Course
from scripts.benchmarks.station import Endpoint, Phase

GENTLE_S = 2.0
MIX_S, SLOW_S = 6.0, 11.0
SECONDS, SECONDS_SLOW = 15, 17
ARRIVE_S = 1.0
"""The long requests' clients arrive within so much of MIX_S."""
FACTOR = 10.0
HOSTS, SLOTS, MEAN_S = 8, 4, 0.010
NODES, EACH = 3, 3
"""Stacked: L7 nodes, and the endpoints of each."""
CONNECTIONS = 3000
CLIENTS = 150
"""Stacked: clients of short requests, which keep one connection each."""
DRAIN_S = 3.0
DRAIN_STACKED_S = 20.0
"""Clients that were held up have that much to ask afterwards."""
DRAWN = 32
"""A client's items are drawn once, so many, and then repeated."""
SHORT_PART = 0.2
"""Of the work, where two routes share the slots: with 2 ms instead of 10 the rate of short requests stays the same."""


@attrs.frozen
class Mix:
    """`count` clients that send such items to `path`. `held`: slots that the items occupy on average, which is
    subtracted from what there is for the short requests. `other_s`: a second open-loop route of that mean which shares
    the slots.
    """

    title: str
    count: int = 0
    item: Callable[[random.Random], Item] = attrs.field(default=lambda rng: Item())
    path: str = "/"
    method: str = "GET"
    held: int = 0
    slots: int = SLOTS
    mean_s: float = MEAN_S
    other_s: float = 0.0
    streams: bool = False


def _poll(seconds: float, slot: bool = False) -> Callable[[random.Random], Item]:
    return lambda rng: Item(first_s=seconds, slot=slot)


def _stuck(rng: random.Random) -> Item:
    return Item(first_s=8.0, elsewhere_s=rng.uniform(0.2, 0.5))


def _events(rng: random.Random) -> Item:
    return Item(pieces=rng.randint(40, 60), every_s=0.25)


def _download(rng: random.Random) -> Item:
    return Item(bulk_bytes=20_000_000, read_per_s=100_000)


def _upload(rng: random.Random) -> Item:
    return Item(send_bytes=rng.randint(200_000, 600_000), send_per_s=100_000)


def _chat(slot: bool) -> Callable[[random.Random], Item]:
    def drawn(rng: random.Random) -> Item:
        return Item(
            first_s=rng.uniform(0.05, 0.5),
            pieces=round(rng.uniform(2, 30) / 0.1),
            every_s=0.1,
            piece_bytes=24,
            slot=slot,
        )

    return drawn


def _stream(rng: random.Random) -> Item:
    return Item(messages=1000, message_s=rng.uniform(0.3, 0.7))


MIXES = {
    "none": Mix("short requests alone"),
    "polls-2": Mix("2 polls of 10 s", 2, _poll(10.0), "/poll"),
    "polls-6": Mix("6 polls of 5 s", 6, _poll(5.0), "/poll"),
    "polls-12": Mix("12 polls of 5 s", 12, _poll(5.0), "/poll"),
    "polls-40": Mix("40 polls of 5 s", 40, _poll(5.0), "/poll"),
    "polls-200": Mix("200 polls of 5 s", 200, _poll(5.0), "/poll"),
    "polls-skewed": Mix("40 polls, 8 s at two hosts, 0.2–0.5 s elsewhere", 40, _stuck, "/poll"),
    "polls-blocking": Mix("10 polls of 5 s that occupy a slot", 10, _poll(5.0, slot=True), "/poll", held=10),
    "one-worker": Mix(
        "2 polls of 5 s that occupy the only worker",
        2,
        _poll(5.0, slot=True),
        "/poll",
        held=2,
        slots=1,
        mean_s=MEAN_S / SLOTS,
    ),
    "sse": Mix("40 event streams of 10–15 s", 40, _events, "/events"),
    "downloads": Mix("6 downloads of 20 MB at 100 kB/s", 6, _download, "/download"),
    "uploads": Mix("24 uploads of 0.2–0.6 MB at 100 kB/s", 24, _upload, "/upload", "POST"),
    "two-routes": Mix("routes of 2 and 200 ms, both with slots", mean_s=0.002, other_s=0.200),
    "llm": Mix("60 chats, no slots", 60, _chat(slot=False), "/chat", "POST"),
    "llm-slots": Mix("12 chats that occupy a slot each", 12, _chat(slot=True), "/chat", "POST", held=12),
    "streams": Mix("24 kept streams in both directions", 24, _stream, "/stream", "POST", streams=True),
}


@attrs.frozen
class Setting:
    """One cell: the mix of that name at a load (a part of 1), and where. `fresh`: short requests have a connection
    each."""

    name: str
    load: float
    slow: bool = False
    stacked: bool = False
    one_path: bool = False
    fresh: bool = False

    def __str__(self) -> str:
        more = [name for name in ("slow", "stacked", "one_path", "fresh") if getattr(self, name)]
        return " ".join([self.name, f"at {100 * self.load:g} %", *more]).replace("_", " ")

    @property
    def mix(self) -> Mix:
        """What comes beside the short requests."""
        return MIXES[self.name]

    @property
    def seconds(self) -> int:
        """How long short requests come."""
        return SECONDS_SLOW if self.slow else SECONDS

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Which endpoints each L7 node has."""
        if not self.stacked:
            return (tuple(range(HOSTS)),)
        return tuple(tuple(range(EACH * node, EACH * (node + 1))) for node in range(NODES))

    @property
    def hosts(self) -> tuple[tuple[int, ...], ...]:
        """The endpoints behind each of the equal hosts between which is chosen first, the nodes if stacked. It is the
        last host that becomes slow."""
        return self.groups if self.stacked else tuple((number,) for number in self.groups[0])

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """By number."""
        slow = self.hosts[-1] if self.slow else ()
        phases = (Phase(SLOW_S, FACTOR),)
        return tuple(
            Endpoint(self.mix.mean_s, self.mix.slots, phases if number in slow else ())
            for group in self.groups
            for number in group
        )

    @property
    def per_second(self) -> float:
        """Short requests."""
        slots = len(self.endpoints) * self.mix.slots
        part = SHORT_PART if self.mix.other_s else 1.0
        return self.load * part * (slots - self.mix.held) / self.mix.mean_s

    @property
    def others_per_second(self) -> float:
        """Requests of the other route, which gets the rest of the work."""
        if not self.mix.other_s:
            return 0.0
        return self.per_second * self.mix.mean_s * (1 / SHORT_PART - 1) / self.mix.other_s

    @property
    def short_lanes(self) -> int:
        """Sets of connections; a client's own one if stacked and kept."""
        return CLIENTS if self.stacked and not self.fresh else 1


def course(setting: Setting, rng: random.Random) -> Course:
    """One round's."""
    short = _short(setting, rng)
    others = _others(setting, rng)
    requests = heapq.merge(short, others, key=lambda request: request.at_s)
    return Course(
        endpoints=setting.endpoints,
        groups=setting.groups,
        requests=tuple(requests),
        lanes=lambda listens: _lanes(setting, listens),
        edge=setting.stacked,
        drain_s=DRAIN_STACKED_S if setting.stacked else DRAIN_S,
        guests=_guests(setting, rng),
        background=frozenset({setting.short_lanes}),
        streams=setting.mix.streams,
    )


def _short(setting: Setting, rng: random.Random) -> list[Request]:
    rates = (Rate(GENTLE_S, setting.per_second / 3), Rate(setting.seconds, setting.per_second))
    if setting.short_lanes > 1:
        return by_clients(rng, [1 / CLIENTS] * CLIENTS, rates[1])
    return poisson(rng, rates)


def _others(setting: Setting, rng: random.Random) -> list[Request]:
    """From MIX_S on; their demand is in terms of the short ones' mean."""
    if not setting.mix.other_s:
        return []
    times = poisson(rng, [Rate(setting.seconds - MIX_S, setting.others_per_second)])
    longer = setting.mix.other_s / setting.mix.mean_s
    return [Request(MIX_S + each.at_s, setting.short_lanes, longer * each.demand) for each in times]


def _method(setting: Setting) -> str:
    """Of the short ones: that of the long ones where there is only one path."""
    return setting.mix.method if setting.one_path else "GET"


def _lanes(setting: Setting, listens: Sequence[str]) -> tuple[Lane, ...]:
    method = _method(setting)
    length = "" if method == "GET" else "Content-Length: 0\r\n"
    most = 1 if setting.short_lanes > 1 else CONNECTIONS
    ends = "Connection: close\r\n" if setting.fresh else ""
    other = "/" if setting.one_path else "/slow"
    return (
        *[Lane(listens[0], most, f"{method} /", f"{length}{ends}work: d={DEMAND}\r\n")] * setting.short_lanes,
        Lane(listens[0], CONNECTIONS // 4, f"{method} {other}", f"{length}work: other d={DEMAND}\r\n"),
    )


def _guests(setting: Setting, rng: random.Random) -> tuple[Guest, ...]:
    mix = setting.mix
    path = "/" if setting.one_path else mix.path
    return tuple(
        Guest(
            at_s=MIX_S + rng.uniform(0, ARRIVE_S),
            items=tuple(mix.item(rng) for _ in range(DRAWN)),
            path=path,
            method=mix.method,
        )
        for _ in range(mix.count)
    )
