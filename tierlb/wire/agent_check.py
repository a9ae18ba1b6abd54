"""HAProxy's agent-check: one line by which a server says its weight, its admin state and whether it is up.

Words in any order, between blanks or commas, up to the first line end: `75%` or `weight:75%` (of the configured
weight), `maxconn:30`, `ready` `drain` `maint` (admin state), `up` `down` `fail` `stopped` (health; what follows a `#`
says why). Of two words of one kind the last counts, what is not mentioned stays as it was, and a word that is not
understood spoils nothing.
Source: HAProxy's configuration manual (agent-check) and src/tcpcheck.c, tcpcheck_agent_expect_reply.

What this node says for itself (`NodeReplies`): its capacity is in the weight, its queue is not. HAProxy counts its own
connections exactly and picks by them; a weight made from headroom would chase its own effect by the length of a
check interval and oscillate (BALANCING.md §1). HAProxy scales the weight configured for the server, which says how
nodes compare with each other; so the node says how much of its own usual capacity it has now: 50 % when half of its
endpoints are gone. HAProxy cuts the product to a whole number, so servers need `weight 100`: with the default of 1
anything below 100 % would be a weight of 0.
"""

import math

import attrs

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Admin

MAX_REPLY_BYTES = 1024
AGENT_NOTICE_S = 2.2
"""From saying `drain` to refusing connections: HAProxy asks every 2 s unless told otherwise (agent-inter)."""
MAX_AGENT_WEIGHT = 256.0
"""HAProxy's own limit on a relative weight, 25,600 %."""
USUAL_TAU_S = 30.0
"""What is usual is learnt upwards over this long, so that one mistaken estimate of a second moves it by 3 %."""
FORGET_TAU_S = 3600.0
"""And downwards over this long: a subtree that was made smaller is whole again some day."""
REPLY_DEADBAND = 0.05
"""A weight that changes by less is not said: each change makes HAProxy rebuild its tree, and its hash map remaps."""

_ADMIN = {b"ready": Admin.READY, b"drain": Admin.DRAIN, b"maint": Admin.MAINTENANCE}
_ADMIN_WORDS = {state: word for word, state in _ADMIN.items()}
_HEALTH = {b"up": True, b"down": False, b"fail": False, b"stopped": False}
_SEPARATORS = bytes.maketrans(b"\t,", b"  ")


@attrs.frozen
class AgentReply:
    """One line. None: not mentioned. `weight` is a factor on the configured one; `health` True for up.

    `reason` is the description after `#`, or the word itself where there is none and it is not up; `problem` the
    first word that was not understood.
    """

    weight: float | None = None
    maxconn: int | None = None
    admin: Admin | None = None
    health: bool | None = None
    reason: str = ""
    problem: str = ""


def parse_reply(line: bytes) -> AgentReply:
    """What a line (or what came up to its end) says; never raises, as one odd word must not silence the others."""
    first, *_ = line[:MAX_REPLY_BYTES].splitlines() or [b""]
    words, _, description = first.partition(b"#")
    said: dict[str, object] = {}
    problem = ""
    for word in words.translate(_SEPARATORS).split():
        meaning = _meaning(word.lower())
        said.update(meaning)
        if not meaning:
            problem = problem or _printable_text(word)
    if said.get("health") is not None:
        said["reason"] = _printable_text(description.strip()) or said.get("reason", "")
    return AgentReply(**said, problem=problem)  # type: ignore[arg-type]


def _meaning(word: bytes) -> dict[str, object]:
    """What one lower-case word sets; nothing if it means nothing."""
    if word in _HEALTH:
        return {"health": _HEALTH[word], "reason": "" if _HEALTH[word] else word.decode()}
    if word in _ADMIN:
        return {"admin": _ADMIN[word]}
    percents = word.removeprefix(b"weight:").removesuffix(b"%")
    if word.endswith(b"%") and percents.isdigit():
        return {"weight": min(MAX_AGENT_WEIGHT, int(percents[:9]) / 100)}
    if word.startswith(b"maxconn:") and word[8:].isdigit() and len(word) < 18:
        return {"maxconn": int(word[8:])}
    return {}


def _printable_text(word: bytes) -> str:
    text = word.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def encode_reply(says: AgentReply) -> bytes:
    """The line that says this, with its end."""
    words = [] if says.admin is None else [_ADMIN_WORDS[says.admin]]
    if says.health is not None:
        words.append(b"up" if says.health else b"down")
    if says.weight is not None:
        words.append(b"%d%%" % round(100 * min(MAX_AGENT_WEIGHT, max(0.0, says.weight))))
    if says.maxconn is not None:
        words.append(b"maxconn:%d" % says.maxconn)
    if says.health is not None and says.reason:
        words.append(b"#" + _printable_text(says.reason.encode("utf-8", "replace")).encode())
    return b" ".join(words) + b"\n"


@attrs.define
class NodeReplies:
    """What a node tells HAProxy, from its subtree's load.

    Everything is said each time: HAProxy keeps what is not mentioned, and only the agent may take back what it said.
    """

    _usual: float = attrs.field(default=0.0, init=False)
    _noted_s: float = attrs.field(default=-math.inf, init=False)
    _weight: float = attrs.field(default=1.0, init=False)

    def say(self, now: float, load: SubtreeLoad) -> AgentReply:
        """What holds now. Call it at least as often as somebody asks."""
        weight = self._weigh(now, load.capacity)
        if load.draining:
            return AgentReply(admin=Admin.DRAIN, weight=weight)
        if load.leaves and not load.ready_leaves:
            return AgentReply(admin=Admin.READY, health=False, weight=weight, reason="nothing below is ready")
        return AgentReply(admin=Admin.READY, health=True, weight=weight)

    def _weigh(self, now: float, capacity: float) -> float:
        if capacity <= 0:  # nothing is known yet, or nobody asked for anything lately
            return self._weight
        tau_s = USUAL_TAU_S if capacity > self._usual else FORGET_TAU_S
        self._usual += (capacity - self._usual) * -math.expm1((self._noted_s - now) / tau_s)
        self._noted_s = now
        weight = min(1.0, max(0.01, capacity / self._usual))  # 0 % would be drain
        if abs(weight - self._weight) >= REPLY_DEADBAND or (weight == 1.0 != self._weight):
            self._weight = weight
        return self._weight
