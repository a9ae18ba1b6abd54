"""A file that is edited under the eyes of its cluster."""

import os

import attrs
import pytest
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.change_runner import ChangeUnderWay
from tierlb.controller.following import LOOK_AT_FILE_EVERY_S, WHAT, Following
from tierlb.controller.history import Conflict
from tierlb.controller.progress import Progress
from tierlb.controller.proposals import NotPossible
from tierlb.topology.load import load_text

TEXT = """\
cluster: shop
tiers:
  web: {kind: l7, listen: "127.0.0.1:8080", to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""
DEADLINE_S = 30.0
SCALED = TEXT.replace("kind: l7", "kind: l7, replicas: 2")


@attrs.define
class PaperChanges:
    """Takes what can be loaded, unless there is a `problem`."""

    text: str = TEXT
    problem: Exception | None = None
    applied: list = attrs.field(factory=list)
    progress: Progress = attrs.field(factory=lambda: Progress(WHAT, 2, "ann"))

    async def apply(self, text, request, what):
        if self.problem is not None:
            raise self.problem
        load_text(text, "shop.yaml")
        self.text = text
        self.applied.append((text, request.who, request.why, what))
        self.progress.add("web grows")
        return self.progress


@pytest.fixture
def changes():
    return PaperChanges()


@pytest.fixture
async def following(tmp_path, changes, log):
    file = tmp_path / "shop.yaml"
    file.write_text(TEXT)
    following = Following(file, changes, log, "ann", read=at_once)
    await look(following)
    return following


async def at_once(path):
    """Without a thread, for which virtual time does not wait."""
    await trio.lowlevel.checkpoint()
    return path.read_bytes()


async def look(following, times=4):
    for _ in range(times):
        await following.look()


def events(log):
    return [event for event, _ in log.events]


async def test_a_file_that_nobody_edits_changes_nothing(following, changes, log):
    await look(following)
    assert (changes.applied, log.events) == ([], [])


async def test_an_edit_is_applied_once(following, changes, log):
    following.file.write_text(SCALED)
    await look(following)
    assert changes.applied == [(SCALED, "ann", WHAT, WHAT)]
    assert [fields["what"] for _, fields in log.events] == ["web grows"]
    changes.progress.add("every node serves it")
    await look(following)
    assert [fields["what"] for _, fields in log.events] == ["web grows", "every node serves it"]


async def test_a_file_that_is_being_written_is_not_taken(following, changes):
    for end in range(10, len(SCALED), 10):
        following.file.write_text(SCALED[:end])
        await following.look()
    following.file.write_text("")
    await look(following)
    assert changes.applied == []
    following.file.write_text(SCALED)
    await look(following)
    assert len(changes.applied) == 1


async def test_every_problem_is_told_once_with_its_place_and_nothing_changes(following, changes, log):
    following.file.write_text(SCALED.replace("to: app", "to: ap").replace("replicas", "replikas"))
    await look(following)
    assert events(log) == ["topology_file_problem_found"] * 2 + ["topology_file_refused"]
    assert log.events[0][1]["problem"].startswith("shop.yaml:3:")
    assert changes.applied == []
    following.file.write_text(SCALED)
    await look(following)
    assert len(changes.applied) == 1


async def test_what_is_no_text_is_told_with_its_place(following, changes, log):
    following.file.write_bytes(b"cluster: \xff\n")
    await look(following)
    assert "1:10" in log.events[0][1]["problem"]
    assert changes.applied == []


async def test_marks_of_other_systems_are_read_as_at_the_start(following, changes):
    following.file.write_bytes(b"\xef\xbb\xbf" + SCALED.replace("\n", "\r\n").encode())
    await look(following)
    assert [text for text, *_ in changes.applied] == [SCALED]


async def test_an_edit_waits_for_the_change_under_way(following, changes, log):
    changes.problem = ChangeUnderWay("revision 2")
    following.file.write_text(SCALED)
    await look(following)
    assert (changes.applied, log.events) == ([], [])
    changes.problem = None
    await look(following)
    assert len(changes.applied) == 1


@pytest.mark.parametrize("problem", [NotPossible("cluster"), Conflict("2"), StoreError("full")])
async def test_what_cannot_be_applied_is_told_once(following, changes, log, problem):
    changes.problem = problem
    following.file.write_text(SCALED)
    await look(following)
    assert log.events == [("topology_file_apply_failed", {"reason": str(problem)})]


async def test_a_change_that_was_taken_back_is_not_tried_again(following, changes):
    following.file.write_text(SCALED)
    await look(following)
    changes.text = TEXT
    await look(following)
    following.file.write_text(TEXT)
    await look(following)
    assert len(changes.applied) == 1
    following.file.write_text(SCALED)
    await look(following)
    assert len(changes.applied) == 2, "but it is when somebody asks for it again"


async def test_a_file_that_goes_away_is_told_once_and_changes_nothing(following, changes, log):
    following.file.unlink()
    await look(following)
    assert events(log) == ["topology_file_read_failed"]
    following.file.write_text(TEXT)
    await look(following)
    assert changes.applied == []


async def test_it_looks_twice_a_second(following, changes, nursery, autojump_clock):
    nursery.start_soon(following.run)
    await trio.testing.wait_all_tasks_blocked()
    following.file.write_text(SCALED)
    await trio.sleep(2 * LOOK_AT_FILE_EVERY_S + 0.01)
    assert len(changes.applied) == 1


async def test_a_look_that_fails_is_followed_by_others(following, changes, monkeypatch, autojump_clock):
    changes.problem = ZeroDivisionError()
    following.file.write_text(SCALED)
    with trio.move_on_after(5 * LOOK_AT_FILE_EVERY_S):
        await following.run()
    changes.problem = None
    with trio.move_on_after(5 * LOOK_AT_FILE_EVERY_S):
        await following.run()
    assert following.errors.counts["topology file"] >= 2
    assert [text for text, *_ in changes.applied] == [SCALED]


@pytest.fixture
async def asked(following, nursery):
    """As SIGHUP does it: the file is read when that is asked for."""
    nursery.start_soon(following.run_on_request)
    return following


async def test_a_file_that_is_not_followed_is_read_only_when_that_is_asked_for(asked, changes, log, autojump_clock):
    asked.file.write_text(SCALED)
    await trio.sleep(10)
    assert changes.applied == []
    asked.ask()
    await trio.sleep(10)
    assert changes.applied == [(SCALED, "ann", WHAT, WHAT)]
    assert ("change_progressed", "web grows") in [(event, fields.get("what")) for event, fields in log.events]


async def test_each_time_it_is_said_what_is_wrong_and_nothing_is_lost(asked, changes, log, autojump_clock):
    asked.file.write_text(SCALED.replace("to: app", "to: ap"))
    for _ in range(2):
        asked.ask()
        await trio.sleep(5)
    assert events(log) == 2 * [
        "file_read_again",
        "topology_file_problem_found",
        "topology_file_refused",
    ]
    assert (changes.applied, changes.text) == ([], TEXT)
    asked.file.unlink()
    asked.ask()
    await trio.sleep(5)
    assert events(log)[-1] == "topology_file_read_failed"
    asked.file.write_text(SCALED)
    asked.ask()
    await trio.sleep(5)
    assert changes.text == SCALED


async def test_what_was_asked_for_waits_for_the_change_under_way(asked, changes, autojump_clock):
    changes.problem = ChangeUnderWay("revision 2")
    asked.file.write_text(SCALED)
    asked.ask()
    await trio.sleep(30)
    assert changes.applied == []
    changes.problem = None
    await trio.sleep(5)
    assert len(changes.applied) == 1


async def test_a_followed_file_is_read_at_once_when_that_is_asked_for(following, changes, log, nursery, autojump_clock):
    nursery.start_soon(following.run)
    following.file.write_text(SCALED.replace("to: app", "to: ap"))
    await trio.sleep(10)
    following.ask()
    await trio.sleep(10)
    assert events(log).count("topology_file_problem_found") == 2
    assert events(log).count("file_read_again") == 1


async def test_a_reading_on_request_that_fails_is_tried_again(asked, changes, autojump_clock):
    changes.problem = ZeroDivisionError()
    asked.file.write_text(SCALED)
    asked.ask()
    await trio.sleep(5)
    assert asked.errors.counts["topology file"] >= 2
    changes.problem = None
    await trio.sleep(5)
    assert [text for text, *_ in changes.applied] == [SCALED]


async def test_a_file_on_a_disk_that_stalls_holds_up_nothing_but_its_reader(tmp_path, changes, log, nursery):
    """A pipe without a writer is not read until there is one."""
    os.mkfifo(tmp_path / "shop.yaml")
    following = Following(tmp_path / "shop.yaml", changes, log, "ann")
    with trio.fail_after(DEADLINE_S):
        nursery.start_soon(following.run_on_request)
        following.ask()
        while "file_read_again" not in events(log):
            await trio.lowlevel.checkpoint()
        writer = await trio.to_thread.run_sync(os.open, following.file, os.O_WRONLY)
        os.write(writer, SCALED.encode())
        os.close(writer)
        while not changes.applied:
            await trio.lowlevel.checkpoint()
    assert [text for text, *_ in changes.applied] == [SCALED]


async def test_what_was_read_before_another_change_is_read_again(following, changes, nursery, autojump_clock):
    contents = [TEXT, SCALED]

    async def read(path):
        changes.text = contents[0]
        return contents.pop().encode()

    changes.text, following.read = "cluster: before\n", read
    nursery.start_soon(following.run_on_request)
    following.ask()
    await trio.sleep(10 * LOOK_AT_FILE_EVERY_S)
    assert [text for text, *_ in changes.applied] == []
    assert (contents, changes.text) == ([], TEXT)
