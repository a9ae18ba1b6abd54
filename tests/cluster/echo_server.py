"""A server over UDP for tests, as `echo_server.py PORT`: to each datagram it answers its port, how many have come from
that address so far, and the datagram itself."""

import socket
import sys
from collections import Counter

seen: Counter[object] = Counter()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", int(sys.argv[1])))
    while True:
        data, source = sock.recvfrom(65536)
        seen[source] += 1
        sock.sendto(b"%b %d %b" % (sys.argv[1].encode(), seen[source], data), source)
