"""Where `node` and `agent` find how to join: in a directory that `tierlb up` or `tierlb controller` fills, or by a URL
and a token from a file, a descriptor or the environment. Their own children do not inherit the token."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import click

from tierlb.channel.join_credentials import NODE_TOKEN_FILE, TOKEN_FILE, JoinCredentials, NoJoinCredentials, read
from tierlb.channel.log import Log
from tierlb.cli.tokens import FROM_ENVIRONMENT, exposure, token_from_descriptor, token_or_exit
from tierlb.model.tls import Tls
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.tls import TlsProblem
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.wire.credentials import Role


def join_credentials_or_exit(
    url: str,
    directory: Path | None,
    token_file: Path | None = None,
    token_fd: int | None = None,
    role: Role = Role.AGENT,
) -> JoinCredentials:
    """Exits with 2 where the options do not go together, and with 1 where no join credentials are found."""
    token, exposed = os.environ.pop(TOKEN_VARIABLE, ""), FROM_ENVIRONMENT
    if token_file is not None and token_fd is not None:
        raise click.UsageError("give --token-file or --token-fd, not both")
    if directory is not None:
        if url or token_file is not None or token_fd is not None:
            raise click.UsageError("give --join, with --token-file if there is one, or --join-file, not both")
        try:
            return read(directory, NODE_TOKEN_FILE if role is Role.NODE else TOKEN_FILE)
        except NoJoinCredentials as problem:
            raise click.ClickException(str(problem)) from problem
    if not url:
        raise click.UsageError(
            f"name the controller: --join-file DIR, or --join URL and --token-file (or {TOKEN_VARIABLE})"
        )
    for each in url.split(","):
        if urlsplit(each).scheme not in ("ws", "wss") or not urlsplit(each).hostname:
            raise click.UsageError(f"--join: {each!r} is no controller: write ws://HOST:PORT, or several, with commas")
    if token_file is not None:
        token, exposed = token_or_exit(token_file), exposure(token_file)
    elif token_fd is not None:
        token, exposed = token_from_descriptor(token_fd), ""
    if not token:
        raise click.UsageError(f"give --token-file, or set {TOKEN_VARIABLE} to the join token of the cluster")
    return JoinCredentials(url, token, exposed)


def own_name(group: str, host_name: str) -> str:
    """The default name of a node or agent of this tier or pool: from the host name, which is unique in a container or
    pod."""
    host = re.sub("[^a-z0-9-]", "-", host_name.lower())
    return host if host.startswith(f"{group}-") else f"{group}-{host}"


def cluster_tls(files: tuple[str, str, str], log: Log) -> ClusterTls | None:
    """That of the files that were given; None without any."""
    if not any(files):
        return None
    if not all(files):
        raise click.UsageError("give --tls-certificate, --tls-key and --tls-ca together")
    try:
        return ClusterTls(Tls(*files), log)
    except TlsProblem as problem:
        raise click.UsageError(str(problem)) from problem
