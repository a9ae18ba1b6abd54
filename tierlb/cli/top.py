"""`tierlb top`: the table of `tierlb status` in the whole terminal, refreshed until Ctrl-C or q.

It uses the terminal's alternate screen, which is overwritten in place: nothing flickers, and the former content is
restored afterwards. When the admin API does not answer, the last figures stay, dimmed, and requests go on, because
traffic does not depend on the controller.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import attrs
import click
from rich.console import Console, RenderableType
from rich.console import Group as Lines
from rich.live import Live
from rich.styled import Styled
from rich.text import Text

from tierlb.cli.client import Where, admin_place
from tierlb.cli.printable import printable
from tierlb.cli.status import fetch_status, show_status
from tierlb.cli.table import age_text, status_table
from tierlb.topology.units import parse_duration_s

TOP_ORDER = (
    *("node", "state", "rate", "in flight", "use", "share", "p99", "capacity"),
    *("p50", "age", "errors", "parked", "connections", "address", "pid", "way", "build"),
)
"""The columns, the most important first."""
REDRAW_S = 0.5
"""A terminal whose size changed is redrawn within this time, however long the interval is."""
KEYS_BYTES = 64


@attrs.frozen
class TopSettings:
    """The last answer and when it came; the problem, if there was none since."""

    status: dict[str, Any] | None = None
    taken_s: float = 0.0
    problem: str = ""


def show_top(admin_url: Where, interval: str, once: bool, as_json: bool) -> None:
    """Watch until Ctrl-C or q; print once on request, or where there is no terminal."""
    admin_place(admin_url)
    try:
        interval_s = parse_duration_s(interval)
    except ValueError as error:
        raise click.UsageError(f"--interval: {error}") from error
    console = Console()
    if once or as_json or not console.is_terminal or console.is_dumb_terminal:
        show_status(admin_url, as_json, TOP_ORDER)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        _watch(console, admin_url, interval_s)


def top_loop(admin_url: Where, last: TopSettings, now: float) -> TopSettings:
    """Ask once; without an answer, the former one and the reason."""
    try:
        return TopSettings(fetch_status(admin_url), now)
    except click.ClickException as problem:
        return attrs.evolve(last, problem=printable(problem.message))


def screen(seen: TopSettings, admin_url: Where, now: float, width: int, height: int) -> RenderableType:
    """The content of the screen in so many characters and lines."""
    if seen.status is None:
        return Text(f"{seen.problem}\n\nStill trying.", "red") if seen.problem else Text(f"asking {admin_url}")
    if not seen.problem:
        return status_table(seen.status, TOP_ORDER, width, height)
    warning = Text(f"no answer for {age_text(now - seen.taken_s)}, still trying: {seen.problem}", "red")
    lines = len(warning.wrap(Console(width=width), width))
    return Lines(warning, Styled(status_table(seen.status, TOP_ORDER, width, height - lines), "dim"))


def _watch(console: Console, admin_url: Where, interval_s: float) -> None:
    seen = TopSettings()

    def draw() -> None:
        live.update(screen(seen, admin_url, monotonic(), console.width, console.height), refresh=True)

    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        draw()
        while True:
            seen = top_loop(admin_url, seen, monotonic())
            until_s = monotonic() + interval_s
            while (left_s := until_s - monotonic()) > 0:
                draw()
                if _quits(keys, min(left_s, REDRAW_S)):
                    return


@contextmanager
def _keys() -> Iterator[int | None]:
    """The descriptor of the keyboard, if there is one, with keys unbuffered and not shown."""
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _quits(keys: int | None, wait_s: float) -> bool:
    """Wait so long, or until a key is pressed; whether it was q, or the terminal is gone."""
    ready, _, _ = select.select([] if keys is None else [keys], [], [], wait_s)
    if keys is None or not ready:
        return False
    pressed = os.read(keys, KEYS_BYTES)
    return not pressed or b"q" in pressed.lower()
