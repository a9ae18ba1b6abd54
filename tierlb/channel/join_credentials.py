"""The files by which processes join a running cluster: the URL of its controller, and a token for agents.

`tierlb controller` writes another token for nodes; `tierlb up` starts all nodes itself. A third token is for changes by
the admin API, because a process that joins need not be allowed to change anything.

The files are written at every start and removed at its end. So a process that joins reads them when it starts, and
starts again with the cluster. Only the user that runs the cluster can read them.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from tierlb.channel.private import STATES, make_private_directory, read_private

URL_FILE = "control-url"
TOKEN_FILE = "join-token"  # noqa: S105 (the name of the file that holds it)
NODE_TOKEN_FILE = "node-token"  # noqa: S105 (the same)
ADMIN_TOKEN_FILE = "admin-token"  # noqa: S105 (the same)
MAX_TOKEN_BYTES = 1024


class NoJoinCredentials(Exception):  # noqa: N818 (the text is for the user)
    """The directory holds none that can be used; the text says what to do."""


@attrs.frozen
class JoinCredentials:
    """The controller's URL (ws:// or wss://) and a token. `exposed`: why other users may know the token, too."""

    url: str
    token: str = attrs.field(repr=False)
    exposed: str = attrs.field(default="", eq=False)


def usual_directory(cluster: str) -> Path:
    """The directory in which `tierlb up` writes the join credentials of a cluster, below its working directory."""
    return Path(STATES) / cluster


@contextlib.contextmanager
def posted(directory: Path, join_credentials: JoinCredentials, node_token: str = "") -> Iterator[None]:
    """Keep the files there for as long as the block runs, with the token for nodes if others start them. Raises OSError
    if they cannot be written.

    The URL is written last and removed first, so that a process that finds it finds its token. Files that another start
    has written meanwhile are left alone.
    """
    url, token = directory / URL_FILE, directory / TOKEN_FILE
    make_private_directory(directory)
    url.unlink(missing_ok=True)
    _write(token, join_credentials.token)
    (directory / NODE_TOKEN_FILE).unlink(missing_ok=True)
    if node_token:
        _write(directory / NODE_TOKEN_FILE, node_token)
    _write(url, join_credentials.url)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _holds(token, join_credentials.token):
                url.unlink()
                token.unlink()
                (directory / NODE_TOKEN_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def admin_token_posted(directory: Path, token: str) -> Iterator[None]:
    """Keep the token for changes there for as long as the block runs. Raises OSError if it cannot be written."""
    file = directory / ADMIN_TOKEN_FILE
    make_private_directory(directory)
    _write(file, token)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _holds(file, token):
                file.unlink()


def read(directory: Path, token_file: str = TOKEN_FILE) -> JoinCredentials:
    """The join credentials there. Raises NoJoinCredentials."""
    try:
        return JoinCredentials(*(_read(directory / name) for name in (URL_FILE, token_file)))
    except FileNotFoundError as missing:
        problem = f"there is no {missing.filename}: `tierlb up` writes it there and removes it when it stops"
        if Path(missing.filename).name == NODE_TOKEN_FILE:
            problem = f"there is no {missing.filename}: `tierlb up` starts all nodes itself, scale the tier instead"
        raise NoJoinCredentials(problem) from missing
    except OSError as error:
        raise NoJoinCredentials(f"{error.filename} cannot be read: {error.strerror}") from error


def read_admin_token(file: Path) -> str:
    """The token in the file. Raises NoJoinCredentials."""
    try:
        return _read(file)
    except FileNotFoundError as missing:
        problem = f"there is no {file}: `tierlb up` writes it there and removes it when it stops"
        raise NoJoinCredentials(problem) from missing
    except OSError as error:
        raise NoJoinCredentials(f"{file} cannot be read: {error.strerror}") from error


def read_token(file: Path) -> str:
    """A token that an operator put there. Raises NoJoinCredentials."""
    try:
        with file.open("rb") as stream:
            return line_of(file, stream.read(MAX_TOKEN_BYTES))
    except FileNotFoundError as missing:
        raise NoJoinCredentials(f"there is no {file}: put the token into it, in one line") from missing
    except OSError as error:
        raise NoJoinCredentials(f"{file} cannot be read: {error.strerror}") from error


def _holds(path: Path, text: str) -> bool:
    return read_private(path) == f"{text}\n".encode()


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:
        stream.write(f"{text}\n")


def _read(path: Path) -> str:
    """Of a file in a directory that another user may be able to write to."""
    return line_of(path, read_private(path, MAX_TOKEN_BYTES))


def line_of(path: Path, content: bytes) -> str:
    """The one line in a file. Raises NoJoinCredentials."""
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise NoJoinCredentials(f"{path} holds nothing that can be used: start the cluster again")
    return text
