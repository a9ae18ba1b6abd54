"""Clusters in virtual time: the same balance and telemetry code as in the nodes, with queues in place of sockets."""
