"""Settings that a tier put in front of another one takes over, so that a request meets nothing new but one hop.

They decide whether a request passes, and in which form: the protocol, timeouts, limits, trusted peers, how paths are
forwarded, and the drain time. They are copied as they are written. Where one tier balances connections and the other
requests, the times are matched by their meaning. At l4 a connection is idle while its request is answered.
"""

from collections.abc import Iterator

from tierlb.model.topology import Kind, Tier, Topology
from tierlb.topology.build import L4_TIMEOUTS
from tierlb.topology.excerpts import flow_text
from tierlb.topology.parts import MappingPart, Part, meant
from tierlb.topology.rewrite import Sheet
from tierlb.topology.units import duration_text

L7_ONLY = ("trusted_peers", "forwarded", "paths", "client_abort")
L4_ONLY = ("protocol", "responses")
AS_WRITTEN = ("timeouts", "limits", "drain")
AT_BOTH = {"timeouts": ("connect",), "limits": ("connections",)}
"""Of these the keys that mean the same at l4 and l7."""
L7_TIMES = ("idle", "response", "stream")
"""During which, at l4, no byte passes."""


def model_for(topology: Topology, sender: str, targets: tuple[str, ...]) -> str:
    """The tier that a new one between `sender` and `targets` takes after. That is the one it stands before, or the
    sender where that is a pool or more than one."""
    return targets[0] if len(targets) == 1 and targets[0] in topology.tiers else sender


def moving_keys(*, ends_tls: bool) -> tuple[str, ...]:
    """Keys that move with the address where clients call. `ends_tls`: to a tier that ends the TLS of these clients from
    then on, as one does that no tier does it for."""
    return ("listen", "proxy_protocol", *(("tls",) if ends_tls else ()))


def inherited(sheet: Sheet, tier: Tier, kind: Kind) -> Iterator[tuple[str, str]]:
    """Keys and values, each on one line, for a new tier of this kind that takes after `tier`."""
    text, entries = sheet.text, sheet.mapping("tiers", tier.name).entries
    if kind is tier.kind:
        for key in (*L7_ONLY, *L4_ONLY, *AS_WRITTEN):
            if key in entries and (value := _copied(text, key, entries[key].value, kind)):
                yield key, value
        return
    for key, inner in AT_BOTH.items():
        given = meant(entries[key].value) if key in entries else None
        pairs = {}
        if isinstance(given, MappingPart):
            pairs = {name: flow_text(text, given.entries[name].value) for name in inner if name in given.entries}
        if key == "timeouts":
            pairs |= _times(tier)
        if pairs:
            yield key, "{" + ", ".join(f"{name}: {value}" for name, value in pairs.items()) + "}"
    if "drain" in entries:
        yield "drain", flow_text(text, entries["drain"].value)


def _copied(text: str, key: str, value: Part, kind: Kind) -> str:
    """The value on one line, empty if nothing of it is copied. A new l4 tier has no routes that wait for a head."""
    given = meant(value)
    if kind is Kind.L7 or key != "timeouts" or not isinstance(given, MappingPart) or "head" not in given.entries:
        return flow_text(text, value)
    kept = {name: flow_text(text, each.value) for name, each in given.entries.items() if name != "head"}
    return "{" + ", ".join(f"{name}: {each}" for name, each in kept.items()) + "}" if kept else ""


def _times(tier: Tier) -> dict[str, str]:
    """What a tier of the other kind has to wait, where that is more than it waits anyway."""
    times = tier.timeouts
    if tier.kind is Kind.L4:
        return dict.fromkeys(L7_TIMES, duration_text(times.idle))
    longest_s = max(getattr(times, name) for name in L7_TIMES)
    return {"idle": duration_text(longest_s)} if longest_s > L4_TIMEOUTS.idle else {}
