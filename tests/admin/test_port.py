"""One port, whichever controller is active."""

import socket

import httpx
import trio

from tests.admin.conftest import TOKEN, KeptLog
from tierlb.admin.port import AdminPort
from tierlb.telemetry.internal_errors import InternalErrors


async def test_a_port_stays_open_over_turns(shop):
    with socket.create_server(("127.0.0.1", 0)) as listening, trio.fail_after(60):
        port = AdminPort(listening, TOKEN, InternalErrors(KeptLog()))
        for _ in range(2):
            async with trio.open_nursery() as turn, httpx.AsyncClient(base_url=f"http://{port.address}") as http:
                await turn.start(port.stand_by, lambda: "another one is active")
                answer = await http.get("/v1/history")
                assert (answer.status_code, answer.json()["error"]) == (503, "another one is active")
                turn.cancel_scope.cancel()
            async with trio.open_nursery() as turn, httpx.AsyncClient(base_url=f"http://{port.address}") as http:
                await turn.start(port.serve, shop.changes.controller.observer, shop.changes)
                assert (await http.get("/v1/history")).json()["active"] == 1
                turn.cancel_scope.cancel()
