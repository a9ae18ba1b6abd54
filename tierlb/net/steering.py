"""Which sockets of one port the kernel gives new connections to.

Several sockets that listen on one address with SO_REUSEPORT form a group, each with a queue of its own. By itself the
kernel chooses among all of them by a hash of the addresses. A classic BPF program, which needs no privilege, restricts
the choice to some of them: the others keep their queues and get nothing new.

The program chooses at random, which spreads a burst as a hash does. A counter, which would spread it more evenly, needs
eBPF and thus privileges; the client's port, which counts up in a burst, could be chosen to hit one node.

A socket is known by its index in the group: its place in the order in which the sockets began to listen
(net/core/sock_reuseport.c), as long as none is closed.
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
Instruction = tuple[int, int, int, int]


def steer(sock: socket.socket, indices: Sequence[int]) -> bool:
    """Give new connections of the socket's group to the sockets with these indices only. False where the system has no
    such programs: then all of the group get some."""
    program = steering_program(indices)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    try:
        argument = struct.pack("HP", len(program), ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, argument)
    except OSError:
        return False
    return True


def steering_program(indices: Sequence[int]) -> list[Instruction]:
    """Instructions of `return indices[random % len(indices)]`: code, how many to skip if true and if not, operand."""
    program = [LOAD_RANDOM, (MODULO, 0, 0, len(indices))]
    for number, index in enumerate(indices[:-1]):
        program += [(JUMP_UNLESS_EQUAL, 0, 1, number), (RETURN, 0, 0, index)]
    return [*program, (RETURN, 0, 0, indices[-1])]
