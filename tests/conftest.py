"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Let SIGINT mean Ctrl-C, here and in processes that tests start: a shell's background jobs are born deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
