import pytest
import trio

from tests.controller.played import ANN, TEXT, texts
from tierlb.controller.restart import REPLACE_S


async def test_a_restart_replaces_one_process_after_the_other(site, autojump_clock):
    before = {name: record.hello.pid for name, record in site.changes.controller.registry.records.items()}
    progress = site.changes.restart("web", ANN)
    assert await site.over(progress) == "done"
    await trio.sleep(1)
    after = {name: record.hello.pid for name, record in site.changes.controller.registry.records.items()}
    assert {name for name in before if before[name] != after[name]} == {"web-1", "web-2"}
    assert texts(progress) == ["web-1 is a new process", "web-2 is a new process"]
    assert (progress.revision, progress.stages, progress.stage) == (0, 2, 2)
    assert await site.is_as(TEXT)


async def test_a_restart_is_done_when_the_old_processes_have_drained(site, autojump_clock):
    site.machines.drain_s = 100.0
    began = trio.current_time()
    assert await site.over(site.changes.restart("web", ANN)) == "done"
    assert 100.0 < trio.current_time() - began < 120.0, "both at once"


async def test_a_process_that_does_not_serve_ends_the_restart(site, autojump_clock):
    site.machines.habits["web-2"] = "crash"
    began = trio.current_time()
    progress = site.changes.restart("web", ANN)
    assert await site.over(progress) == "failed"
    assert trio.current_time() - began == pytest.approx(REPLACE_S, abs=2)
    assert progress.reason == "the new process of web-2 does not serve after 20 s: the old one stays"
