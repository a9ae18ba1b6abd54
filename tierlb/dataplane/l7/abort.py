"""What it means that a client ends its sending side while it waits for an answer.

A client that closed its socket and one that only shut down its sending side (as `nc -N` and some HTTP/1.0 clients do)
look alike to TCP: both send a FIN. nginx and HAProxy (`abortonclose`) take every FIN for a client that left. Time is
the better sign. A client that half-closes does so right behind the request; a client that gives up (a timeout, a closed
tab, Ctrl-C) does so after having waited. So an end that comes with the request means nothing, and a later one means
that the client left. With `client_abort: cancel` its request is cancelled at the endpoint, with `finish` it is
finished. In neither case is it ever sent again.

A client that left at once, or after its answer began, is found when something is written to it: its kernel resets the
connection.
"""

from typing import Final

HALF_CLOSE_S: Final = 0.4
"""More than a FIN lags behind the request on any network (it travels with it or right behind it), and less than
anything waits before giving up."""


def has_left(now: float, sent_last: float) -> bool:
    """Whether a client that ends its side at `now`, and `sent_last` something, is taken for one that left."""
    return now - sent_last > HALF_CLOSE_S
