"""HAProxy's agent-check: one line with a server's weight, its admin state and whether it is up.

Words in any order, between blanks or commas, up to the first line end: `75%` or `weight:75%` (of the configured
weight), `maxconn:30`, `ready` `drain` `maint` (admin state), `up` `down` `fail` `stopped` (health, with a reason after
`#`). Of two words of one kind the last counts, what is not mentioned stays as it was, and an unknown word does not
affect the others. Source: HAProxy's configuration manual (agent-check) and src/tcpcheck.c, tcpcheck_agent_expect_reply.

The replies of this node (`NodeReplies`) have its capacity in the weight, and not its queue. HAProxy counts its own
connections exactly and chooses by them; a weight made from headroom would follow its own effect by the length of a
check interval and oscillate (BALANCING.md §1). HAProxy scales the weight configured for the server, which compares
nodes with each other, so the reply is relative to the node's own usual capacity: 50 % when half of its endpoints are
gone. HAProxy truncates the product to a whole number, so servers need `weight 100`: with the default of 1 anything
below 100 % would be a weight of 0.
"""

import math

import attrs

from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Admin

MAX_REPLY_BYTES = 1024
AGENT_NOTICE_S = 2.2
"""From the reply `drain` to refusing connections: HAProxy asks every 2 s by default (agent-inter)."""
MAX_AGENT_WEIGHT = 256.0
"""HAProxy's own limit on a relative weight, 25,600 %."""
USUAL_TAU_S = 30.0
"""The time constant with which the usual capacity rises, so that one mistaken estimate of a second moves it by 3 %."""
FORGET_TAU_S = 3600.0
"""The time constant with which it falls: a subtree that was made smaller is not incomplete for good."""
REPLY_DEADBAND = 0.05
"""A smaller change of the weight is not reported: each change makes HAProxy rebuild its tree, and its hash map remaps.
"""

_ADMIN = {b"ready": Admin.READY, b"drain": Admin.DRAIN, b"maint": Admin.MAINTENANCE}
_ADMIN_WORDS = {state: word for word, state in _ADMIN.items()}
_HEALTH = {b"up": True, b"down": False, b"fail": False, b"stopped": False}
_SEPARATORS = bytes.maketrans(b"\t,", b"  ")


@attrs.frozen
class AgentReply:
    """One reply. None: not mentioned. `weight` is a factor on the configured one; `health` True for up.

    `reason` is the description after `#`, or the word itself where there is none and it is not up; `problem` the first
    word that is unknown.
    """

    weight: float | None = None
    maxconn: int | None = None
    admin: Admin | None = None
    health: bool | None = None
    reason: str = ""
    problem: str = ""


def parse_reply(line: bytes) -> AgentReply:
    """The reply in a line (or in what came before the connection ended). Never raises: an unknown word does not affect
    the others."""
    first, *_ = line[:MAX_REPLY_BYTES].splitlines() or [b""]
    words, _, description = first.partition(b"#")
    fields: dict[str, object] = {}
    problem = ""
    for word in words.translate(_SEPARATORS).split():
        meaning = _meaning(word.lower())
        fields.update(meaning)
        if not meaning:
            problem = problem or _printable_text(word)
    if fields.get("health") is not None:
        fields["reason"] = _printable_text(description.strip()) or fields.get("reason", "")
    return AgentReply(**fields, problem=problem)  # type: ignore[arg-type]


def _meaning(word: bytes) -> dict[str, object]:
    """The fields that one lower-case word sets; none if it is unknown."""
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


def encode_reply(reply: AgentReply) -> bytes:
    """The line for this reply, with its end."""
    words = [] if reply.admin is None else [_ADMIN_WORDS[reply.admin]]
    if reply.health is not None:
        words.append(b"up" if reply.health else b"down")
    if reply.weight is not None:
        words.append(b"%d%%" % round(100 * min(MAX_AGENT_WEIGHT, max(0.0, reply.weight))))
    if reply.maxconn is not None:
        words.append(b"maxconn:%d" % reply.maxconn)
    if reply.health is not None and reply.reason:
        words.append(b"#" + _printable_text(reply.reason.encode("utf-8", "replace")).encode())
    return b" ".join(words) + b"\n"


@attrs.define
class NodeReplies:
    """The replies of a node to HAProxy, from its subtree's load.

    Every reply is complete: HAProxy keeps what is not mentioned, and only the agent can revoke what it sent.
    """

    _usual: float = attrs.field(default=0.0, init=False)
    _noted_s: float = attrs.field(default=-math.inf, init=False)
    _weight: float = attrs.field(default=1.0, init=False)

    def reply(self, now: float, load: SubtreeLoad) -> AgentReply:
        """The current reply. Call it at least as often as HAProxy asks."""
        weight = self._weigh(now, load.capacity)
        if load.draining:
            return AgentReply(admin=Admin.DRAIN, weight=weight)
        if load.leaves and not load.ready_leaves:
            return AgentReply(admin=Admin.READY, health=False, weight=weight, reason="nothing below is ready")
        return AgentReply(admin=Admin.READY, health=True, weight=weight)

    def _weigh(self, now: float, capacity: float) -> float:
        if capacity <= 0:  # nothing is known yet, or there was no traffic lately
            return self._weight
        tau_s = USUAL_TAU_S if capacity > self._usual else FORGET_TAU_S
        self._usual += (capacity - self._usual) * -math.expm1((self._noted_s - now) / tau_s)
        self._noted_s = now
        weight = min(1.0, max(0.01, capacity / self._usual))  # 0 % would be drain
        if abs(weight - self._weight) >= REPLY_DEADBAND or (weight == 1.0 != self._weight):
            self._weight = weight
        return self._weight
