"""Sockets, readiness and time; no routing and no balancing."""
