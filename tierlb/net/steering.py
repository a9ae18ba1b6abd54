"""Which sockets of one port the kernel gives new connections to.

Several sockets that listen on one address with SO_REUSEPORT form a group, each with a queue of its own. By itself the
kernel chooses among all of them by a hash of the addresses. A classic BPF program, which needs no privilege, restricts
the choice to some of them: the others keep their queues and get nothing new.

For connections the program chooses at random, which spreads a burst as a hash does. A counter, which would spread it
more evenly, needs eBPF and thus privileges; the client's port, which counts up in a burst, could be chosen to hit one
node.

Datagrams of one client have to come to one node, so for those it hashes the client's address and port with a seed that
clients do not know. The hash chooses among all sockets, and once more among those in use where the first choice is not
in use: so a node that leaves or comes back moves its own clients and no others.

A socket is known by its index in the group: its place in the order in which the sockets began to listen or, for
datagrams, were bound (net/core/sock_reuseport.c), as long as none is closed.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence

SO_ATTACH_REUSEPORT_CBPF = 51
"""include/uapi/asm-generic/socket.h; the socket module does not name it."""
LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)
"""`ld random`: BPF_LD | BPF_W | BPF_ABS at SKF_AD_OFF + SKF_AD_RANDOM."""
MODULO = 0x94
JUMP_UNLESS_EQUAL = 0x15
RETURN = 0x06
LOAD_NUMBER = 0x00
LOAD_WORD = 0x20
LOAD_HALF = 0x28
LOAD_STORED, LOAD_X_STORED, STORE = 0x60, 0x61, 0x02
XOR_X = 0xAC
MULTIPLY = 0x24
DIVIDE = 0x34
SHIFT_RIGHT = 0x74
NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: offsets count from the IP header."""
IPV4_WORDS = ((LOAD_WORD, 12), (LOAD_HALF, 20))
"""Source address and port, behind a header without options. One with options is hashed by something else of it, and
comes to one socket too."""
IPV6_WORDS = ((LOAD_WORD, 8), (LOAD_WORD, 12), (LOAD_WORD, 16), (LOAD_WORD, 20), (LOAD_HALF, 40))
MULTIPLIER = 0x9E3779B1
"""A prime close to 2**32 divided by the golden ratio (Knuth)."""
Instruction = tuple[int, int, int, int]


def steer(sock: socket.socket, indices: Sequence[int]) -> bool:
    """Give new connections of the socket's group to the sockets with these indices only. False where the system has no
    such programs: then all of the group get some."""
    return _attach(sock, steering_program(indices))


def steer_by_client(sock: socket.socket, count: int, indices: Sequence[int], seed: int) -> bool:
    """Give datagrams to the sockets with these indices of the `count` in the group, those of one client always to the
    same of them."""
    return _attach(sock, client_program(sock.family == socket.AF_INET6, count, indices, seed))


def _attach(sock: socket.socket, program: Sequence[Instruction]) -> bool:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    try:
        argument = struct.pack("HP", len(program), ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, argument)
    except OSError:
        return False
    return True


def steering_program(indices: Sequence[int]) -> list[Instruction]:
    """Instructions of `return indices[random % len(indices)]`: code, how many to skip if true and if not, operand."""
    return [LOAD_RANDOM, *_choice(indices)]


def client_program(is_ipv6: bool, count: int, indices: Sequence[int], seed: int) -> list[Instruction]:
    """Instructions that hash words of the client's address and its port: h = (h ^ word) * MULTIPLIER, from the seed."""
    words = IPV6_WORDS if is_ipv6 else IPV4_WORDS
    program: list[Instruction] = [(LOAD_NUMBER, 0, 0, seed), (STORE, 0, 0, 0)]
    for load, offset in words:
        program += [(load, 0, 0, NETWORK_HEADER + offset), (LOAD_X_STORED, 0, 0, 0), (XOR_X, 0, 0, 0)]
        program += [(MULTIPLY, 0, 0, MULTIPLIER), (STORE, 0, 0, 0), (SHIFT_RIGHT, 0, 0, 15), (LOAD_X_STORED, 0, 0, 0)]
        program += [(XOR_X, 0, 0, 0), (STORE, 0, 0, 0)]
    program.append((MODULO, 0, 0, count))
    for index in indices:
        program += [(JUMP_UNLESS_EQUAL, 0, 1, index), (RETURN, 0, 0, index)]
    return [*program, (LOAD_STORED, 0, 0, 0), (DIVIDE, 0, 0, count), *_choice(indices)]


def _choice(indices: Sequence[int]) -> list[Instruction]:
    """Return one of the indices by the number in the accumulator."""
    program: list[Instruction] = [(MODULO, 0, 0, len(indices))]
    for number, index in enumerate(indices[:-1]):
        program += [(JUMP_UNLESS_EQUAL, 0, 1, number), (RETURN, 0, 0, index)]
    return [*program, (RETURN, 0, 0, indices[-1])]
