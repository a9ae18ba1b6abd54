from collections.abc import Callable

import attrs
import pytest

from scripts.benchmarks.bodies import body_of, chunk
from scripts.benchmarks.items import Guest, Item, request_head
from scripts.benchmarks.parked import BULK, OK, PIECEMEAL, Parked


@attrs.define
class FakeHost:
    """Its time is that of the last timer which was called; a slot is free at `slot_s`."""

    room: int = 1 << 30
    slot_s: float = 0.0
    now_s: float = 0.0
    sent: list[tuple[float, bytes]] = attrs.field(factory=list)
    occupied: list[float] = attrs.field(factory=list)
    done_s: float | None = None
    pump: Callable[[], None] | None = None
    _timers: list[tuple[float, Callable[[], None]]] = attrs.field(factory=list)

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        self._timers.append((self.now_s + seconds, then))

    def occupy(self, seconds: float, then: Callable[[], None]) -> None:
        self.occupied.append(seconds)
        self._timers.append((self.slot_s, then))

    def send(self, data: bytes) -> int:
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent.append((self.now_s, taken))
        return len(taken)

    def await_room(self, then: Callable[[], None] | None) -> None:
        self.pump = then

    def done(self) -> None:
        self.done_s = self.now_s

    def run(self) -> None:
        while self._timers:
            self._timers.sort(key=lambda timer: timer[0])
            self.now_s, then = self._timers.pop(0)
            then()

    @property
    def bytes_sent(self) -> bytes:
        return b"".join(data for _, data in self.sent)


def parked(host: FakeHost, item: Item, number: int = 0) -> Parked:
    method = "POST" if item.has_body else "GET"
    one = Parked(host, item, number, body_of(request_head(Guest(0.0, (item,), method=method), item)))
    one.begin()
    host.run()
    return one


@pytest.mark.parametrize(("number", "at_s"), [(1, 5.0), (2, 0.5)])
def test_a_poll_is_answered_after_its_time(number: int, at_s: float) -> None:
    host = FakeHost()
    parked(host, Item(first_s=5.0, elsewhere_s=0.5), number)
    assert (host.sent, host.done_s, host.occupied) == ([(at_s, OK)], at_s, [])


def test_a_poll_that_occupies_a_slot_waits_for_it() -> None:
    host = FakeHost(slot_s=3.0)
    parked(host, Item(first_s=5.0, slot=True))
    assert (host.occupied, host.done_s) == ([5.0], 8.0)


def test_an_answer_in_pieces_begins_with_its_head_and_ends_with_the_last_chunk() -> None:
    host, piece = FakeHost(), chunk(b"...")
    parked(host, Item(first_s=0.5, pieces=3, every_s=0.25, piece_bytes=3))
    assert host.sent == [(0.5, PIECEMEAL), (0.75, piece), (1.0, piece), (1.25, piece), (1.25, chunk(b""))]
    assert host.done_s == 1.25


def test_bulk_goes_on_when_there_is_room_and_ends_after_all_of_it() -> None:
    head = BULK % 200_000
    host = FakeHost(room=len(head) + 150_000)
    parked(host, Item(bulk_bytes=200_000))
    assert host.pump is not None
    host.pump()
    assert (len(host.bytes_sent), host.done_s) == (len(head) + 150_000, None)
    host.room = 1 << 30
    host.pump()
    assert host.bytes_sent == head + bytes(200_000)
    assert host.done_s is not None


def test_an_upload_is_answered_when_all_of_it_has_come() -> None:
    host = FakeHost()
    one = parked(host, Item(send_bytes=10, send_per_s=10))
    one.receive(b"12345678")
    host.run()
    assert host.sent == []
    one.receive(b"90" + b"GET")
    host.run()
    assert (host.sent, one.rest) == ([(0.0, OK)], b"GET")


def test_messages_come_back_one_by_one_and_the_end_of_the_body_ends_the_answer() -> None:
    host = FakeHost()
    one = parked(host, Item(messages=2, message_bytes=3))
    one.receive(chunk(b"one"))
    one.receive(chunk(b"two"))
    assert (host.bytes_sent, host.done_s) == (PIECEMEAL + chunk(b"one") + chunk(b"two"), None)
    one.receive(chunk(b""))
    assert host.bytes_sent.endswith(chunk(b""))
    assert host.done_s == 0.0


def test_messages_before_the_answers_head_go_out_after_it() -> None:
    host = FakeHost()
    item = Item(messages=1, message_bytes=3, first_s=1.0)
    one = Parked(host, item, 0, body_of(request_head(Guest(0.0, (item,), method="POST"), item)))
    one.begin()
    one.receive(chunk(b"one") + chunk(b""))
    assert host.sent == []
    host.run()
    assert host.bytes_sent == PIECEMEAL + chunk(b"one") + chunk(b"")
    assert host.done_s == 1.0
