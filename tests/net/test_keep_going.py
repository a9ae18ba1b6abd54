import pytest
import trio
import trio.testing

from tierlb.net.keep_going import RESTART_PAUSE_S, alone, keep_going
from tierlb.telemetry.internal_errors import InternalErrors


class Quiet:
    def error(self, event, **fields):
        pass


async def test_a_loop_begins_anew_a_moment_after_each_error_until_it_returns(autojump_clock):
    begun, errors = [], InternalErrors(Quiet())

    async def run():
        begun.append(trio.current_time())
        if len(begun) < 4:
            raise ValueError

    start_s = trio.current_time()
    await keep_going(errors, "loop", run)
    assert [round(at - start_s, 3) for at in begun] == [number * RESTART_PAUSE_S for number in range(4)]
    assert errors.counts == {"loop": 3}


async def test_a_task_that_fails_ends_alone(nursery):
    errors = InternalErrors(Quiet())

    async def run():
        await trio.lowlevel.checkpoint()
        raise ValueError

    nursery.start_soon(alone, errors, "task", run)
    await trio.testing.wait_all_tasks_blocked()
    assert errors.counts == {"task": 1}


async def test_it_ends_when_it_is_cancelled(autojump_clock):
    errors = InternalErrors(Quiet())
    with trio.move_on_after(5) as scope:
        await keep_going(errors, "loop", trio.sleep_forever)
    assert scope.cancelled_caught
    assert errors.counts == {}


async def test_what_is_no_error_ends_it():
    async def run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await keep_going(InternalErrors(Quiet()), "loop", run)
