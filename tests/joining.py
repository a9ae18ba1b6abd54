"""Credentials for tests: stand-ins where a test is not about them, and real ones for nodes in this process."""

from typing import Any

from tierlb.channel.admission import Admission
from tierlb.channel.uplink import Identity
from tierlb.wire.credentials import Principal, Role

NODE_TOKEN, AGENT_TOKEN = "secret", "secret of agents"


def admit(text: str) -> Principal | None:
    """Lets whoever has one of the two be any node, or any agent."""
    return {NODE_TOKEN: Principal(Role.NODE), AGENT_TOKEN: Principal(Role.AGENT)}.get(text)


def identity_of(admission: Admission, name: str, url: str, **more: Any) -> Identity:
    """Of a node such as web-1 of the tier web."""
    tier = name.rpartition("-")[0]
    known: dict[str, Any] = {"boot_id": "boot", "pid": 7, "receptions": (admission.reception(tier, name),)}
    known["token"] = admission.credential(Principal(Role.NODE, tier, name))
    return Identity(name, tier, url, **{**known, **more})
