"""Talking to a cluster's admin API: where it is, with which token, and what its refusals mean for a command.

The token is read from the file that `tierlb up` leaves in its state directory, which is .tierlb/CLUSTER where it was
started; whoever is elsewhere names the file. Which cluster it is, the API says itself.
"""

import http.client
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import click

from tierlb.cli.printable import printable
from tierlb.controlplane.invitation import ADMIN_TOKEN_FILE, NoInvitation, read_admin_token, usual_directory

Json = dict[str, Any]

TIMEOUT_S = 5.0
CHANGE_TIMEOUT_S = 30.0
"""The largest files take some seconds to be read."""
CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""As in topology/forms.py: it becomes part of a path here."""
WRONG_INPUT = frozenset({"topology", "edit", "request"})
"""Kinds of refusals that stand for a bad file or wrong usage."""


class Declined(click.ClickException):
    """The cluster refuses."""

    def __init__(self, refusal: Json, as_json: bool = False) -> None:
        super().__init__(printable(str(refusal["error"])))
        self.refusal, self.as_json = refusal, as_json

    def show(self, file: Any = None) -> None:
        """The problems with their places, then the sentence; for programs what the API said."""
        if self.as_json:
            click.echo(json.dumps(self.refusal, indent=2))
            return
        for problem in self.refusal.get("problems", ()):
            path = f"{problem['path']}: " if problem["path"] else ""
            place = f"{problem['file']}:{problem['line']}:{problem['column']}"
            click.echo(printable(f"{place}: {path}{problem['message']}"), err=True)
        super().show(file)


class BadInput(Declined):
    """It refuses a bad file or wrong usage."""

    exit_code = 2


@attrs.frozen
class Client:
    """One cluster's admin API. `token_file`: where its token is, if not in the usual place."""

    url: str
    token_file: Path | None = None
    as_json: bool = False

    def get(self, path: str) -> Json:
        """What is answered. Raises Declined, and a ClickException if nobody answers."""
        return self._read(*exchange(self.url, "GET", path))[1]

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        """The status, 200 or 202, and what is answered. Raises Declined and ClickException."""
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token()}"}
        content = json.dumps(body, ensure_ascii=False).encode()
        return self._read(*exchange(self.url, "POST", path, content, fields, CHANGE_TIMEOUT_S))

    def _token(self) -> str:
        try:
            return read_admin_token(self.token_file or self._usual_file())
        except NoInvitation as problem:
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
    url: str,
    method: str,
    path: str,
    content: bytes | None = None,
    fields: dict[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> tuple[int, bytes]:
    """One request, and the status and body of its answer; a ClickException says what to do when none comes."""
    connection = http.client.HTTPConnection(*admin_place(url), timeout=timeout_s)
    try:
        connection.request(method, path, content, fields or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"no cluster answers at {url} ({error}): start one with `tierlb up FILE`, "
            "or give the address it printed with --admin"
        ) from error
    finally:
        connection.close()


def admin_place(url: str) -> tuple[str, int]:
    """Host and port in the URL; a UsageError says how to write it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        raise click.UsageError(f"--admin {url}: write it as http://HOST:PORT")
    return host, port


def parsed(body: bytes) -> Json | None:
    """The JSON object in an answer, if it is one."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def no_cluster(url: str) -> click.ClickException:
    """Somebody else is there."""
    return click.ClickException(f"{url} answers, but not as a cluster does: give what `up` printed as admin")
