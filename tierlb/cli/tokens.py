"""Tokens that are given to a command, and whether other users may know them too.

A token comes from a file that only its owner can read, or from a descriptor. An environment is inherited by children,
and shown by tools that inspect containers; a file with other modes is readable for other users. Both work, with a
warning that says what to do. Container secrets are excepted: an engine mounts them for one container, readable for all
processes in it.
"""

import os
from pathlib import Path

import click

from tierlb.channel.join_credentials import MAX_TOKEN_BYTES, NoJoinCredentials, line_of, read_token
from tierlb.channel.log import Log
from tierlb.node.process import TOKEN_VARIABLE
from tierlb.wire.credentials import BadCredential, Credential, Principal, Role, issued, parse_credential, root_key

CONTAINER_SECRETS = Path("/run/secrets")
"""Where Docker, Podman and our own renderings mount secrets."""
OTHER_ROLES = 0o077
_exposed_logged: set[Path] = set()
FROM_ENVIRONMENT = f"it came in {TOKEN_VARIABLE}, which is inherited and shown: use --token-file or --token-fd"


def token_or_exit(file: Path) -> str:
    """A token from a file such as a container's secret; exits with 1 if there is none in it."""
    try:
        return read_token(file)
    except NoJoinCredentials as problem:
        raise click.ClickException(str(problem)) from problem


def token_from_descriptor(descriptor: int) -> str:
    """A token that the parent process wrote to a pipe or a file that this one has open."""
    try:
        with open(descriptor, "rb") as stream:
            return line_of(Path(f"descriptor {descriptor}"), stream.read(MAX_TOKEN_BYTES))
    except (OSError, NoJoinCredentials) as problem:
        raise click.ClickException(f"--token-fd {descriptor}: {problem}") from problem


def exposure(file: Path) -> str:
    """Why other users may know the content of a token file, and what to do; "" if they do not."""
    try:
        mode = file.stat().st_mode & 0o777
    except OSError:
        return ""
    if not mode & OTHER_ROLES or not file.is_file() or CONTAINER_SECRETS in file.absolute().parents:
        return ""
    return f"{file} can be read by others (mode {mode:04o}): chmod 600 {file}"


def warn_if_exposed(log: Log, *files: Path | None) -> None:
    """Log it for each of the files."""
    for file in files:
        if file is not None and (reason := exposure(file)):
            log.warning("token_exposed", reason=reason)


def tell_if_exposed(file: Path | None) -> None:
    """Print it for the user of a command, once for each file however many requests the command makes."""
    if file is not None and file not in _exposed_logged and (reason := exposure(file)):
        _exposed_logged.add(file)
        click.echo(f"warning: {reason}", err=True)


def credential_or_exit(token: str, principal: Principal) -> tuple[Credential, bool]:
    """The credential for this principal that follows from a token, and whether that token is the cluster's secret
    itself, from which all others follow. Exits with 2 if it is for another principal."""
    try:
        given = parse_credential(token)
        return (issued(root_key(token), principal), True) if given is None else (given.narrowed(principal), False)
    except BadCredential as problem:
        raise click.UsageError(f"{problem}: `tierlb token` makes one from the cluster's secret") from problem


def warn_of_root(log: Log, principal: Principal) -> None:
    """Warn that the cluster's secret was given: it works, but allows this process to join as anything."""
    options = " ".join(
        f"--{name} {value}"
        for name, value in (
            ("role", principal.role.value),
            ({"node": "tier", "agent": "pool"}[principal.role.value], principal.group),
        )
    )
    log.warning(
        "root_token_given",
        reason="the controller's own secret lets its holder join as anything",
        fix=f"give what this prints instead: tierlb token --token-file FILE {options}",
    )


def print_token(role: str, tier: str, pool: str, name: str, source: Path, output: Path | None) -> None:
    """`tierlb token`; exits with 2 for options that do not go together, and 1 if it cannot be written."""
    group, other, key = (tier, pool, "--pool") if role == Role.NODE.value else (pool, tier, "--tier")
    if other:
        raise click.UsageError(f"{key} does not go with --role {role}")
    if name and not group:
        raise click.UsageError(f"--name needs {'--tier' if role == Role.NODE.value else '--pool'}, where the name is")
    tell_if_exposed(source)
    credential, _ = credential_or_exit(token_or_exit(source), Principal(Role(role), group, name))
    _write_token(credential.text, output)


def _write_token(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise click.ClickException(f"{output} is there already: choose another file, or remove it") from error
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    with open(descriptor, "w") as stream:
        stream.write(f"{text}\n")
