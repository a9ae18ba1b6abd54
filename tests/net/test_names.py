"""Names that are followed: what is said when an answer changes, fails, or comes again."""

import pytest
import trio

from tierlb.net.names import AGAIN_S, follow, one_family, resolve


async def said_of(answers, autojump_clock):
    """What is said while the resolver gives one of these answers after the other; the last one for ever."""
    said, left = [], list(answers)

    async def ask(host):
        assert host == "edge"
        await trio.lowlevel.checkpoint()
        return left.pop(0) if len(left) > 1 else left[0]

    with trio.move_on_after(AGAIN_S * (len(answers) + 3)):
        await follow("edge", said.append, lambda: said.append("silence"), ask)
    return said


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([("10.0.0.1",)], [("10.0.0.1",)]),
        (
            [("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), ("10.0.0.2",)],
            [("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), ("10.0.0.2",)],
        ),
        ([("10.0.0.1",), (), (), ("10.0.0.1",)], [("10.0.0.1",), "silence"]),
        ([(), ("10.0.0.1",), (), ()], ["silence", ("10.0.0.1",), "silence"]),
    ],
    ids=["steady", "comes and goes", "away for a while", "away, back and away"],
)
async def test_changes_are_said_once_and_silence_changes_nothing(answers, said, autojump_clock):
    assert await said_of(answers, autojump_clock) == said


async def test_a_name_is_asked_for_every_two_seconds(autojump_clock):
    asked = []

    async def ask(host):
        asked.append(trio.current_time())
        return ("10.0.0.1",)

    began = trio.current_time()
    with trio.move_on_after(AGAIN_S * 3.5):
        await follow("edge", lambda found: None, lambda: None, ask)
    assert [round(at - began, 3) for at in asked] == [0, AGAIN_S, 2 * AGAIN_S, 3 * AGAIN_S]


@pytest.mark.parametrize(
    ("host", "found"),
    [("127.0.0.7", ("127.0.0.7",)), ("::1", ("::1",)), ("nobody.invalid", ()), ("a" * 70 + ".invalid", ()), ("", ())],
)
async def test_an_address_is_its_own_and_what_is_not_known_has_none(host, found):
    with trio.fail_after(30):
        assert await resolve(host) == found


async def test_the_machine_itself_has_a_name():
    with trio.fail_after(30):
        assert "127.0.0.1" in await resolve("localhost")


@pytest.mark.parametrize(
    ("hosts", "kept"),
    [
        ((), ()),
        (("10.0.0.1", "10.0.0.2"), ("10.0.0.1", "10.0.0.2")),
        (("10.0.0.1", "fd00::1"), ("10.0.0.1",)),
        (("fd00::1", "fd00::2"), ("fd00::1", "fd00::2")),
    ],
)
def test_one_family_counts(hosts: tuple[str, ...], kept: tuple[str, ...]) -> None:
    assert one_family(hosts) == kept
