"""Whoever writes a line waits for nobody."""

import contextlib
import os

import pytest

from tierlb.cli.line_writer import LONGEST_LINE_BYTES, MAX_BUFFER_BYTES, LineWriter
from tierlb.telemetry.log_quota import LogLosses

PATIENCE_S = 60.0


@pytest.fixture
def losses():
    return LogLosses()


@pytest.fixture
def pipe():
    """Both ends; whatever still writes when the test is over fails."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):  # the test closed it
            os.close(fd)


def make(fd, losses):
    return LineWriter(fd, losses, lambda lines: f"dropped {lines}")


def read_lines(fd, until):
    data = b""
    while not data.endswith(until):
        piece = os.read(fd, 1 << 20)
        assert piece
        data += piece
    return data.splitlines()


def test_lines_are_written_in_order(pipe, losses):
    reader, fd = pipe
    writer = make(fd, losses)
    for number in range(1000):
        writer.write(f"line {number}")
    assert writer.flush(PATIENCE_S)
    assert read_lines(reader, b"line 999\n") == [b"line %d" % number for number in range(1000)]
    assert losses.dropped == 0


def test_a_pipe_that_is_not_read_stops_nothing_and_what_is_lost_is_counted_and_said(pipe, losses):
    reader, fd = pipe
    writer = make(fd, losses)
    line = "x" * 999
    for _ in range(1000):
        writer.write(line)
    assert not writer.flush(0.01)
    dropped = losses.dropped
    assert 1000 - (MAX_BUFFER_BYTES + 65536 * 2) // 1000 - 10 <= dropped < 1000
    lines = read_lines(reader, b"dropped %d\n" % dropped)
    assert lines[:-1] == [line.encode()] * (1000 - dropped)
    assert writer.flush(PATIENCE_S)
    writer.write("again")
    assert read_lines(reader, b"again\n") == [b"again"]
    assert losses.dropped == dropped


def test_a_reader_that_is_gone_costs_lines_and_nothing_else(pipe, losses):
    reader, fd = pipe
    os.close(reader)
    writer = make(fd, losses)
    for _ in range(3):
        writer.write("x")
        assert writer.flush(PATIENCE_S)
    assert losses.dropped == 3


def test_a_full_disk_costs_lines_until_it_takes_some_again(losses, tmp_path):
    with open("/dev/full", "wb", buffering=0) as full, (tmp_path / "log").open("wb", buffering=0) as good:
        writer = make(full.fileno(), losses)
        writer.write("lost")
        assert writer.flush(PATIENCE_S)
        os.dup2(good.fileno(), full.fileno())
        writer.write("kept")
        assert writer.flush(PATIENCE_S)
    assert (tmp_path / "log").read_text() == "kept\ndropped 1\n"
    assert losses.dropped == 1


def test_a_non_blocking_descriptor_is_waited_for(pipe, losses):
    reader, fd = pipe
    os.set_blocking(fd, False)
    writer = make(fd, losses)
    for _ in range(150):
        writer.write("x" * 999)
    writer.write("end")
    assert len(read_lines(reader, b"end\n")) == 151


def test_a_line_is_bounded_and_any_text_can_be_one(pipe, losses):
    reader, fd = pipe
    writer = make(fd, losses)
    writer.write("y" * (LONGEST_LINE_BYTES + 1))
    writer.write("\udcff")
    assert read_lines(reader, b"udcff\n") == [b"y" * LONGEST_LINE_BYTES + b"...", b"\\udcff"]


def test_without_a_descriptor_lines_are_counted_only(losses):
    make(None, losses).write("x")
    assert losses.dropped == 1
