from tests.controller.joined import ENDPOINT, host_names, serve_all, settle
from tierlb.controller.status import EndpointStatus, State


async def test_an_endpoint_that_does_not_accept_is_no_member_and_is_missing(running, autojump_clock):
    await serve_all(running)
    running.endpoints.note("demo", EndpointStatus(ENDPOINT, State.GONE))
    await settle()
    assert host_names(running.registry.records["web-1"]) == []
    assert "pool demo: 127.0.0.1:20001 does not accept connections yet" in running.readiness.missing()
    assert not running.observer.status().serving


async def test_local_endpoints_that_do_not_accept_are_named(running, autojump_clock):
    running.endpoints.note("demo", EndpointStatus(ENDPOINT, State.STARTING, 9))
    assert running.endpoints.unready() == ("pool demo: 127.0.0.1:20001 does not accept connections yet",)
    running.endpoints.note("demo", EndpointStatus(ENDPOINT, State.SERVING, 9))
    assert running.endpoints.unready() == ()
