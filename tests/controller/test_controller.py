import trio

from tests.controller.joined import hello, serve_all, settle
from tierlb.controller.node_record import Link
from tierlb.controller.publisher import ASK_REFUSERS_S, Publisher
from tierlb.wire.frames import Refuse


async def test_a_look_for_who_is_gone_that_fails_is_followed_by_others(running, monkeypatch, autojump_clock):
    def fail(self, now):
        monkeypatch.undo()
        raise ZeroDivisionError

    await serve_all(running)
    record = running.join(hello("web-1", "web", 22, "two"), Link())
    await settle()
    first = record.assignment.wanted
    running.receive(record, Refuse(first.revision, "no descriptor is free"))
    monkeypatch.setattr(Publisher, "ask_refusers", fail)
    await trio.sleep(ASK_REFUSERS_S + 4)
    assert record.assignment.wanted.revision > first.revision
    assert running.errors.counts == {"reaper": 1}
