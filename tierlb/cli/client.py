"""The client of a cluster's admin API: its address, its token, and what its refusals mean for a command.

The token is read from the file that `tierlb up` writes to its state directory, which is .tierlb/CLUSTER where it was
started; elsewhere the file has to be given. The name of the cluster comes from the API.
"""

import contextlib
import http.client
import json
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import click

from tierlb.channel.join_credentials import ADMIN_TOKEN_FILE, NoJoinCredentials, read_admin_token, usual_directory
from tierlb.cli.printable import printable

Json = dict[str, Any]

TIMEOUT_S = 5.0
CHANGE_TIMEOUT_S = 30.0
"""Reading the largest files takes some seconds."""
CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""As in topology/forms.py; checked because it becomes part of a path here."""
WRONG_INPUT = frozenset({"topology", "edit", "request"})
"""Kinds of refusals that mean a bad file or wrong usage."""


class Declined(click.ClickException):
    """The cluster refused the request."""

    def __init__(self, refusal: Json, as_json: bool = False) -> None:
        super().__init__(printable(str(refusal["error"])))
        self.refusal, self.as_json = refusal, as_json

    def show(self, file: Any = None) -> None:
        """Print the problems with their places, then the sentence; for programs the API's own answer."""
        if self.as_json:
            click.echo(json.dumps(self.refusal, indent=2))
            return
        for problem in self.refusal.get("problems", ()):
            path = f"{problem['path']}: " if problem["path"] else ""
            place = f"{problem['file']}:{problem['line']}:{problem['column']}"
            click.echo(printable(f"{place}: {path}{problem['message']}"), err=True)
        super().show(file)


class BadInput(Declined):
    """The cluster refused a bad file or wrong usage."""

    exit_code = 2


@attrs.frozen
class AdminAccess:
    """The address of an admin API and how it is called. `ca`: the file of the authority that signed its certificate, if
    the machine does not trust it; `token_file`: the file of its token, if not in the usual place. As text it is the
    URL."""

    url: str
    token_file: Path | None = None
    ca: Path | None = None

    def __str__(self) -> str:
        return self.url


Where = str | AdminAccess


@attrs.frozen
class Client:
    """The admin API of one cluster. `token_file`: the file of its token, if not in the usual place."""

    url: str
    token_file: Path | None = None
    as_json: bool = False
    ca: Path | None = None

    @property
    def access(self) -> AdminAccess:
        """How it is called."""
        return AdminAccess(self.url, self.token_file, self.ca)

    def get(self, path: str) -> Json:
        """The answer. Raises Declined, and a ClickException if there is none."""
        return self._read(*exchange(self.access, "GET", path))[1]

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        """The status, 200 or 202, and the answer. Raises Declined and ClickException."""
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}"}
        content = json.dumps(body, ensure_ascii=False).encode()
        return self._read(*exchange(self.access, "POST", path, content, fields, CHANGE_TIMEOUT_S))

    def _token(self) -> str:
        try:
            return _given_token(self.token_file) if self.token_file else read_admin_token(self._usual_file())
        except NoJoinCredentials as problem:
            raise click.ClickException(
                f"{problem}. If it was started elsewhere, name its file with --token-file DIR/{ADMIN_TOKEN_FILE}"
            ) from problem

    def _usual_file(self) -> Path:
        cluster = str(self.get("/v1/topology").get("cluster", ""))
        if not CLUSTER_NAME.fullmatch(cluster):
            raise no_cluster(self.url)
        return usual_directory(cluster) / ADMIN_TOKEN_FILE

    def _read(self, status: int, body: bytes) -> tuple[int, Json]:
        answer = parsed(body)
        if status in (200, 202) and answer is not None:
            return status, answer
        if answer is None or not {"kind", "error"} <= answer.keys():
            raise no_cluster(self.url)
        raise (BadInput if answer["kind"] in WRONG_INPUT else Declined)(answer, self.as_json)


def exchange(
    where: Where,
    method: str,
    path: str,
    content: bytes | None = None,
    fields: dict[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[int, bytes]:
    """Send one request; returns the status and body of its answer. A ClickException says what to do when there is none.
    If a token is required and none was given, that of the cluster started from here is tried, on this machine."""
    access = where if isinstance(where, AdminAccess) else AdminAccess(where)
    sent = dict(fields or {})
    if access.token_file is not None:
        sent.setdefault("Authorization", f"Bearer {_given_token(access.token_file)}")
    status, body = _admin_request(access, method, path, content, sent, timeout_s)
    if status == http.client.UNAUTHORIZED and "Authorization" not in sent and (token := _token_from_here(access)):
        return _admin_request(access, method, path, content, {**sent, "Authorization": f"Bearer {token}"}, timeout_s)
    return status, body


def _admin_request(
    access: AdminAccess, method: str, path: str, content: bytes | None, fields: dict[str, str], timeout_s: float
) -> tuple[int, bytes]:
    connection = _open_connection(access, timeout_s)
    try:
        connection.request(method, path, content, fields)
        response = connection.getresponse()
        return response.status, response.read()
    except ssl.SSLCertVerificationError as error:
        raise click.ClickException(
            f"the certificate of {access.url} is not trusted ({error.verify_message}): name its CA with --ca"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"no cluster answers at {access.url} ({error}): start one with `tierlb up FILE`, "
            "or give the address it printed with --admin"
        ) from error
    finally:
        connection.close()


def _open_connection(access: AdminAccess, timeout_s: float) -> http.client.HTTPConnection:
    host, port = admin_place(access.url)
    if urlsplit(access.url).scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=access.ca)
    except (OSError, ssl.SSLError) as error:
        raise click.UsageError(f"--ca {access.ca}: it holds no certificates ({error})") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _given_token(file: Path) -> str:
    from tierlb.cli.tokens import tell_if_exposed, token_or_exit

    tell_if_exposed(file)
    return token_or_exit(file)


def _token_from_here(access: AdminAccess) -> str:
    """The token of the only cluster that was started from this directory; it is sent to this machine only."""
    if admin_place(access.url)[0] not in ("localhost", "127.0.0.1", "::1"):
        return ""
    tokens = []
    for file in usual_directory("x").parent.glob(f"*/{ADMIN_TOKEN_FILE}"):
        with contextlib.suppress(NoJoinCredentials):
            tokens.append(read_admin_token(file))
    return tokens[0] if len(tokens) == 1 else ""


def admin_place(where: Where) -> tuple[str, int]:
    """The host and port of the URL; a UsageError says how to write it."""
    url = str(where)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise click.UsageError(f"--admin {url}: write it as http://HOST:PORT or https://HOST:PORT")
    return host, port


def parsed(body: bytes) -> Json | None:
    """The JSON object in an answer, if it is one."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def no_cluster(url: str) -> click.ClickException:
    """Another program answers at this address."""
    return click.ClickException(f"{url} answers, but not as a cluster does: give what `up` printed as admin")
