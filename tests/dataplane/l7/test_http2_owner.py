"""A session keeps what it promises to its streams."""

import inspect

from tierlb.dataplane.l7.http2_owner import StreamOwner
from tierlb.dataplane.l7.http2_session import Http2Session
from tierlb.wire.http2_reader import FrameTaker


def test_a_session_keeps_every_promise() -> None:
    for interface in (StreamOwner, FrameTaker):
        promised = [name for name, value in vars(interface).items() if inspect.isfunction(value)]
        assert [name for name in promised if getattr(Http2Session, name) is getattr(interface, name)] == []
