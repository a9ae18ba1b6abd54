"""Connections: each whole one is given to one host, unread."""
