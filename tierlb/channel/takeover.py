"""Whether a connection may take a name that may be held already: one rule for the controller and for every parent node.

A newer process of a name takes the place of an older one. Otherwise a process that restarted would be refused until
its old connection is known to be dead. Two connections are refused:

* the process that was replaced, for as long as the newer one counts. It is about to drain, and would announce that in
  the name of both;
* a connection from another address than the live one, unless the supervisor has just started that process. Several
  processes may share a credential, such as the token of a pool, and none may use another's name. A machine that was
  replaced by another one is found dead within six seconds.

Left out: how long a replaced process is remembered.
"""

REPLACED = "another connection or process of this node took over"
"""The reason with which the connection of a replaced process is closed."""


def takeover_problem(
    name: str, boot_id: str, host: str, *, live_host: str | None, replaced_boot_id: str = "", vouched: bool = False
) -> str:
    """Why the process `boot_id` that connects from the IP address `host` must not take the name; "" if it may.

    `live_host`: the IP address of the live connection that holds the name; None without one. `replaced_boot_id`: the
    process that a newer one has replaced; "" for none. `vouched`: the supervisor has just started this process.
    """
    if replaced_boot_id and replaced_boot_id == boot_id:
        return f"another process of {name} took over from this one"
    if live_host is None or live_host == host or vouched:
        return ""
    return f"{live_host} has this name and is connected: stop it there first, or give this one another --name"
