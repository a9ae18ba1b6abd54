"""How `node` and `agent` are told where to join: by a directory that `tierlb up` fills, or by a URL and the token in
the environment, which no child of theirs is to inherit."""

import os
from pathlib import Path

import click

from tierlb.controlplane.invitation import Invitation, NoInvitation, read
from tierlb.controlplane.node import TOKEN_VARIABLE


def invitation_or_exit(url: str, directory: Path | None) -> Invitation:
    """Exits with 2 where the options do not go together, and with 1 where nobody invites."""
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if directory is not None:
        if url:
            raise click.UsageError("give --join or --join-file, not both")
        try:
            return read(directory)
        except NoInvitation as problem:
            raise click.ClickException(str(problem)) from problem
    if not url:
        raise click.UsageError(f"say where to join: --join-file DIR, or --join URL and the token in {TOKEN_VARIABLE}")
    if not token:
        raise click.UsageError(f"set {TOKEN_VARIABLE} to the join token of the cluster, or give --join-file")
    return Invitation(url, token)
