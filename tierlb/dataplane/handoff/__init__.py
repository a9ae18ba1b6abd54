"""Connections that an l4 parent on the same machine hands to this node as sockets, so that no byte passes the parent.

The parent's end is dataplane/l4/handoff.py and dataplane/l4/giver.py.
"""
