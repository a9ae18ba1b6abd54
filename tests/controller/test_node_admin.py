from tests.controller.joined import WEB_1_OUT, hosts, serve_all, settle
from tierlb.controller.admin_states import AdminState
from tierlb.model.topology import Admin


async def test_what_an_operator_wants_of_a_node_reaches_it_and_its_parents(running, autojump_clock):
    edge, web1, _ = await serve_all(running)
    running.node_admin.want((WEB_1_OUT,))
    await settle()
    assert web1.assignment.wanted.admin is Admin.DRAIN
    states = {m.name: m.admin for m in hosts(edge)}
    assert states == {"web-1": Admin.DRAIN, "web-2": Admin.READY}
    running.node_admin.want(())
    await settle()
    assert web1.assignment.wanted.admin is Admin.READY


async def test_of_another_that_has_the_name_of_a_drained_one_nothing_is_wanted(running, autojump_clock):
    _, web1, _ = await serve_all(running)
    running.node_admin.want((AdminState("app", "web-1", Admin.DRAIN),))
    await settle()
    assert (web1.assignment.wanted.admin, running.node_admin.states) == (Admin.READY, {})
