"""What the trailers of a response say to this node: the status of a gRPC call, and the endpoint's report of its load.

Reports go no further, as in heads (`reply`).
"""

from typing import Final

from tierlb.dataplane.upstream.host import Host
from tierlb.wire.grpc_status import STATUS_FIELD, http_status
from tierlb.wire.http_fields import Header
from tierlb.wire.orca import BIN_FIELD, ORCA_RESPONSE_FIELD, OrcaBook

_REPORTS: Final = frozenset({ORCA_RESPONSE_FIELD, BIN_FIELD})


def rated_status(trailers: tuple[Header, ...]) -> int:
    """The status of HTTP by which the host is judged where these trailers have one of gRPC; else 0."""
    for name, value in trailers:
        if name.lower() == STATUS_FIELD:
            return http_status(value)
    return 0


def take_reports(trailers: tuple[Header, ...], host: Host, now: float, book: OrcaBook) -> tuple[Header, ...]:
    """Note the reports of load in these trailers; those that are passed on."""
    for name, value in trailers:
        lower = name.lower()
        if lower in _REPORTS:
            report = book.read_bin(value) if lower == BIN_FIELD else book.read(value)
            if report is not None:
                host.estimate.note_stated(now, report.rps, report.busy, report.slots)
    return tuple(field for field in trailers if field[0].lower() not in _REPORTS)
