"""Whom a node sends to: hosts, sets of them, how their state is found out, and when they come and go."""
