"""Requests: HTTP/1.1 from clients, each request split off its connection and sent to a host of its own."""
