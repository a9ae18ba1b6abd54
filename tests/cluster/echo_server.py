"""A server over UDP for tests, as `echo_server.py PORT [HOST]`: to each datagram it answers its port, how many have
come from that address so far, and the datagram itself; with a HOST its host in place of the port."""

import socket
import sys
from collections import Counter

port, *host = sys.argv[1:]
seen: Counter[object] = Counter()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((host[0] if host else "127.0.0.1", int(port)))
    name = (host[0] if host else port).encode()
    while True:
        data, source = sock.recvfrom(65536)
        seen[source] += 1
        sock.sendto(b"%b %d %b" % (name, seen[source], data), source)
