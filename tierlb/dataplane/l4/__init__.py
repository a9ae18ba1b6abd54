"""Connections: each whole one is given to one member, unread."""
