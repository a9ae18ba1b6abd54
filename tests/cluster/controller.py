"""`python -m tests.cluster.controller FILE PORT`: a controller and no supervisor, for nodes that are started by hand.

It prints the cluster's status, one line of JSON, for each line that it reads.
"""

import json
import sys
from pathlib import Path

import trio

from tierlb.channel.admission import Admission
from tierlb.cli.log import LazyLog
from tierlb.controller.controller import Controller
from tierlb.controller.reception import Reception
from tierlb.controller.status import as_json
from tierlb.model.address import Address
from tierlb.topology.load import load_file

TOKEN = "of the ladder"


async def main(file: Path, port: int) -> None:
    controller = Controller(load_file(file), LazyLog(), admission=Admission(TOKEN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(controller.run)
        reception = Reception(controller.log, controller.errors)
        reception.open(controller)
        await nursery.start(reception.serve, Address("127.0.0.1", port), controller.admission.admit)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(as_json(await controller.observer.observe())), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
