"""Run in a network namespace of its own: what clients of a cluster see on a machine with few local ports.

`few_ports.py ports` holds many connections to two endpoints until no local port is left; `few_ports.py itself` connects
to an edge whose endpoint is not there, on a port in the range of local ports. Prints JSON.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

FIRST, LAST = 40000, 40039
EDGE, ADMIN, ENDPOINTS, DEAD = 39001, 39003, (39011, 39012), 40020
PATIENCE_S = 60.0
CONNECTS = 300
IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h. Without it a port that the client's bind takes is one that no connect of anybody gets."""
WAIT = threading.Event()


def endpoint(port: int) -> None:
    """Upgrades every connection and holds it; answers what is no upgrade."""
    server = socket.create_server(("127.0.0.1", port))

    def serve(conn: socket.socket) -> None:
        head = conn.recv(65536)
        if b"pgrade" in head:
            conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            conn.recv(1)
        else:
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        conn.close()

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def ask(number: int, fields: bytes) -> tuple[socket.socket, bytes]:
    """From one of several loopback addresses, so that it is not the client that runs out of ports."""
    sock = socket.socket()
    sock.settimeout(PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((f"127.0.0.{2 + number % 5}", 0))
    sock.connect(("127.0.0.1", EDGE))
    sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
    return sock, sock.recv(4096)


def use_up_ports() -> dict[str, object]:
    held = []
    while True:
        sock, answer = ask(len(held), b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
        if b" 101 " not in answer.split(b"\r\n")[0]:
            break
        held.append(sock)
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/v1/status") as response:
        status = json.load(response)
    full = answer.split(b"\r\n")[0].decode()
    (node,) = status["tiers"]["web"]["nodes"]
    availability = sorted(host["availability"] for host in node["load"]["members"])
    for sock in held:
        sock.close()
    deadline = time.monotonic() + PATIENCE_S
    while b" 200 " not in (again := ask(0, b"Connection: close\r\n")[1]) and time.monotonic() < deadline:
        WAIT.wait(0.1)
    return {
        "held": len(held),
        "full": full,
        "again": again.split(b"\r\n")[0].decode(),
        "availability": availability,
        "shortages": node["load"]["shortages"],
        "short_connects": node["load"]["short_connects"],
    }


def look_for_itself() -> dict[str, object]:
    echoed = 0
    for _ in range(CONNECTS):
        with socket.create_connection(("127.0.0.1", EDGE), PATIENCE_S) as sock:
            sock.settimeout(PATIENCE_S)
            try:
                sock.sendall(b"hello?\n")
                echoed += bool(sock.recv(100))
            except OSError:
                continue
    rows = [line.split()[1:3] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {"echoed": echoed, "left": sum(local == remote for local, remote in rows)}


def main(what: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{FIRST} {LAST}")
    listed = ", ".join(f"127.0.0.1:{port}" for port in (ENDPOINTS if what == "ports" else (DEAD,)))
    tier = "web: {kind: l7" if what == "ports" else "edge: {kind: l4"
    text = (
        f"cluster: few\nadmin: {{listen: 127.0.0.1:{ADMIN}}}\n"
        f"tiers:\n  {tier}, listen: 127.0.0.1:{EDGE}, to: app}}\npools:\n  app: {{endpoints: [{listed}]}}\n"
    )
    for port in ENDPOINTS:
        endpoint(port)
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder, "few.yaml"), Path(folder, "log")
        file.write_text(text)
        with log.open("wb") as output:
            command = [sys.executable, "-m", "tierlb", "up", str(file), "--state", folder]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while "is ready" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                WAIT.wait(0.05)
            seen = use_up_ports() if what == "ports" else look_for_itself()
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
        events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    print(json.dumps({**seen, "events": events}))


if __name__ == "__main__":
    main(sys.argv[1])
