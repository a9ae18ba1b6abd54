"""What `tierlb top` draws, and how it behaves on a real pseudo-terminal."""

import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from time import monotonic

import pytest
from rich.console import Console

from tests.cli.conftest import answer, run, shop, words
from tierlb.cli.top import TopSettings, screen, top_loop
from tierlb.controller.status import as_json

DEADLINE_S = 60.0
HOME, BOLD = "\x1b[H", "\x1b[1m"
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
NOWHERE = "http://127.0.0.1:1"


def drawn(seen, now=0.0, height=40):
    console = Console(width=100, file=io.StringIO())
    console.print(screen(seen, "http://x", now, 100, height))
    return console.file.getvalue()


def test_a_look_is_the_last_answer(serve):
    code, body = answer(shop())
    assert top_loop(serve((code, body)), TopSettings(problem="none yet"), 5.0) == TopSettings(json.loads(body), 5.0)


def test_without_an_answer_what_was_known_stays():
    before = TopSettings(as_json(shop()), 5.0)
    after = top_loop(NOWHERE, before, 8.0)
    assert (after.status, after.taken_s) == (before.status, 5.0)
    assert "no cluster answers at http://127.0.0.1:1" in after.problem


def test_stale_figures_say_for_how_long():
    text = drawn(TopSettings(as_json(shop()), 5.0, "no cluster answers"), now=8.0)
    assert text.startswith("no answer for 3.00 s, still trying: no cluster answers")
    assert ["shop", "serving", "revision", "7"] in words(text)


def test_the_warning_takes_its_lines_from_the_table():
    assert len(drawn(TopSettings(as_json(shop()), 5.0, "no cluster answers " * 12), 8.0, height=10).splitlines()) <= 10


def test_before_the_first_answer_it_says_what_it_does():
    assert drawn(TopSettings()).strip() == "asking http://x"
    assert words(drawn(TopSettings(problem="no cluster answers"))) == [
        ["no", "cluster", "answers"],
        ["Still", "trying."],
    ]


@pytest.mark.parametrize("options", [("--once",), ()])
def test_without_a_terminal_or_when_asked_it_prints_once(serve, options):
    result = run("top", "--admin", serve(answer(shop())), *options)
    assert result.exit_code == 0
    assert words(result.stdout)[0] == ["shop", "serving", "revision", "7"]
    assert "\x1b" not in result.stdout


def test_json_is_what_the_api_answered(serve):
    code, body = answer(shop())
    assert json.loads(run("top", "--admin", serve((code, body)), "--json").stdout) == json.loads(body)


@pytest.mark.parametrize("option", ["--once", "--json"])
def test_once_fails_if_no_cluster_answers(option):
    result = run("top", "--admin", NOWHERE, option)
    assert result.exit_code == 1
    assert "start one with `tierlb up FILE`" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--interval", "1"),
        ("--interval", "0s"),
        ("--admin", "7900"),
        ("--interval", "2s", "--once"),
        ("--interval", "2s", "--json"),
    ],
)
def test_wrong_usage_exits_with_2(options):
    assert run("top", *options).exit_code == 2


class Terminal:
    """`tierlb top` on a pseudo-terminal of 100 by 30."""

    def __init__(self, url, interval):
        self.keys, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        command = [sys.executable, "-m", "tierlb", "top", "--admin", url, "--interval", interval]
        env = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, env=env, preexec_fn=self._control(side)
        )
        self.side = side
        self.text = ""

    @staticmethod
    def _control(side):
        def take():
            os.setsid()
            fcntl.ioctl(side, termios.TIOCSCTTY, 0)

        return take

    def wait_for(self, text):
        until = monotonic() + DEADLINE_S
        while text not in self.text:
            assert select.select([self.keys], [], [], max(0, until - monotonic()))[0], self.text
            self.text += os.read(self.keys, 65536).decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def echoes(self):
        return bool(termios.tcgetattr(self.side)[3] & termios.ECHO)

    def press(self, keys):
        os.write(self.keys, keys)

    def ends(self):
        return self.process.wait(DEADLINE_S)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.keys)
        os.close(self.side)


@pytest.fixture
def watch():
    terminals = []

    def start(url, interval="100ms"):
        terminals.append(Terminal(url, interval))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.mark.parametrize("keys", [b"\x03", b"q"], ids=["ctrl-c", "q"])
def test_it_ends_quietly_and_leaves_the_terminal_as_it_was(serve, watch, keys):
    terminal = watch(serve(answer(shop())))
    terminal.wait_for(OTHER_SCREEN)
    terminal.wait_for("web-1")
    assert not terminal.echoes()
    terminal.press(keys)
    assert terminal.ends() == 0
    assert terminal.echoes()
    terminal.wait_for(FIRST_SCREEN)
    assert "Traceback" not in terminal.text
    assert "Aborted" not in terminal.text


def test_a_termination_ends_it_likewise(serve, watch):
    terminal = watch(serve(answer(shop())))
    terminal.wait_for("web-1")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ends() == 0
    terminal.wait_for(FIRST_SCREEN)


@pytest.mark.parametrize(("interval", "asks_again"), [("100ms", True), ("1h", False)])
def test_it_asks_as_often_as_it_is_told(serve, watch, interval, asks_again):
    terminal = watch(serve(answer(shop())), interval)
    for _ in range(5):
        terminal.wait_for("web-1")  # drawn anew, whatever was asked
    terminal.press(b"q")
    assert terminal.ends() == 0
    assert (len(serve.asked) > 1) is asks_again


def test_it_keeps_trying_until_the_cluster_is_there_again(serve, watch):
    away = [(503, b"away")] * 8
    terminal = watch(serve(answer(shop()), *away, answer(shop())))
    terminal.wait_for("web-1")
    terminal.wait_for("no answer for")
    terminal.wait_for(f"{HOME}{BOLD}shop")
    terminal.wait_for("web-1")
    terminal.press(b"x")  # means nothing
    terminal.wait_for("web-1")
    terminal.press(b"q")
    assert terminal.ends() == 0


def test_it_waits_for_a_cluster_that_is_not_there_yet(watch):
    terminal = watch(NOWHERE)
    terminal.wait_for("no cluster answers")
    terminal.wait_for("Still trying")
    terminal.press(b"q")
    assert terminal.ends() == 0
