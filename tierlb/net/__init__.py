"""Sockets, readiness and time, with no opinion about who gets what."""
