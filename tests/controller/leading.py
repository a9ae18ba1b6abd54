"""A controller's process without an admin API."""

from pathlib import Path

import trio

from tests.control_plane import KeptLog
from tierlb.channel.admission import Admission
from tierlb.controller.active import ControllerParts
from tierlb.controller.engine import ProcessEngine
from tierlb.model.address import Address
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.load import load_text

RUNS = 'cluster: a\ntiers: {web: {kind: l7, listen: ":1", to: p}}\npools: {p: {run: {command: "x {port}"}}}\n'


class StillAdmin:
    """Keeps what it is to answer, and answers nothing."""

    address = Address("127.0.0.1", 7900)

    def __init__(self):
        self.served = []
        self.reasons = []

    async def serve(self, observer, changes, *, task_status):
        self.served.append(changes)
        task_status.started()
        await trio.sleep_forever()

    async def stand_by(self, reason, *, task_status):
        self.reasons.append(reason())
        task_status.started()
        await trio.sleep_forever()


def parts_of(file, text=RUNS, log=None):
    """Of a process that runs the file, whose text may be another one by now."""
    log = log or KeptLog()
    topology, engine = load_text(text, "f"), ProcessEngine("{pool}:9000")
    return ControllerParts(
        topology, Path(file), text, engine, "ann", log, InternalErrors(log), Admission(), StillAdmin()
    )
