"""Processes that run until they are asked to stop, and topologies that name them."""

import subprocess

import attrs
import trio

from tierlb.model.topology import Forward, Kind, Match, Pool, Route, Run, Share, Tier, Topology


class FakeLog:
    def info(self, event, **fields):
        pass

    warning = error = info


class Recorder:
    """A guard and a log that note what they are told."""

    def __init__(self):
        self.events, self.entered, self.crossed_off, self.exits = [], [], [], []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = error = info

    pipe = subprocess.DEVNULL

    def command(self, argv):
        return argv

    def enter(self, group):
        self.entered.append(group)

    def remove(self, group):
        self.crossed_off.append(group)


@attrs.define(eq=False)
class FakeChild:
    """A process that runs until it is asked to stop. `happened` is shared by all."""

    name: str
    program: object
    log: object
    watch: object = None
    on_exit: object = None
    errors: object = None
    pid: int | None = None
    problem: str = ""
    crashes: int = 0
    happened: list = attrs.field(factory=list)
    stopping: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    stop_s: float = 0.0
    drain_s: float = 0.0

    async def run(self):
        self.pid = 100 + sum(what == "start" for what, *_ in self.happened)
        self.happened.append(("start", self.name))
        await self.stopping.wait()
        if self.on_exit is not None:
            self.on_exit(self.pid)
        self.ended.set()

    async def wait_ended(self):
        await self.ended.wait()

    async def stop(self, deadline_s):
        self.happened.append(("stop", self.name, round(trio.current_time(), 3)))
        self.stop_s = deadline_s
        await trio.sleep(self.drain_s)
        self.stopping.set()
        await trio.lowlevel.checkpoint()


def tier(name, kind, *targets, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, targets),))),), **more)


def topology_of(*tiers, pools=(), **more):
    return Topology("shop", {each.name: each for each in tiers}, {each.name: each for each in pools}, **more)


APP = Pool("app", run=Run("app --port {port}", replicas=2))


WEB = tier("web", Kind.L7, "app", replicas=2)


SHOP = topology_of(WEB, pools=[APP])


def with_replicas(count):
    return topology_of(attrs.evolve(WEB, replicas=count), pools=[APP])


def with_app(command="app --port {port}", replicas=2):
    return topology_of(WEB, pools=[attrs.evolve(APP, run=Run(command, replicas))])


async def grown(manager, topology):
    manager.controller.registry.adopt(topology)
    manager.grow(topology)
    await trio.testing.wait_all_tasks_blocked()


def started(happened):
    """Names of nodes, and pools of endpoints, as they were started since the last time."""
    names = [name.partition("/")[0] for what, name, *_ in happened if what == "start"]
    happened.clear()
    return sorted(names)


def stopped(happened):
    return sorted(name.partition("/")[0] for what, name, *_ in happened if what == "stop")
