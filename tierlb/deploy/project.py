"""A directory from which compose runs a cluster: compose.yaml, the topology it was rendered from, and the secrets.

It is written as a whole, and again with each change of the topology. The join token, which is the cluster's secret, and
the admin token are generated once and then kept, because running processes use them. The tokens of tiers and of pools
with agents follow from the join token. So a tier that is added later has one at once. Secrets are mounted as files for
a user of the container that does not exist on the machine. So the files are readable for all, and only their owner may
enter their directory.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from tierlb.channel.join_credentials import NoJoinCredentials, line_of
from tierlb.channel.private import check_directory, make_private_directory, read_private
from tierlb.deploy.compose import (
    ADMIN_TOKEN,
    FILE_PREFIX,
    JOIN_TOKEN,
    TLS_SECRETS,
    Rendering,
    TlsFiles,
    file_secret,
    role_tokens,
    store_secrets,
    text,
)
from tierlb.deploy.container import STORE_FILES, store_files
from tierlb.deploy.named_files import files_of_tiers
from tierlb.model.topology import Topology
from tierlb.topology.files import resolved
from tierlb.topology.parts import UnreadableError
from tierlb.topology.source import Data, read_source
from tierlb.topology.typed import Scalar
from tierlb.wire.credentials import issued, root_key

COMPOSE_FILE = "compose.yaml"
TOPOLOGY_FILE = "topology.yaml"
SECRETS = "secrets"
PROJECT_TOKEN_BYTES = 32
PRIVATE, READABLE, WRITABLE = 0o700, 0o444, 0o644


class NotOurs(Exception):  # noqa: N818 (the text is the message for the user)
    """The directory holds no rendered cluster, or another one; the text says what to do."""


@attrs.frozen
class Project:
    """`source`: the topology file relative to the directory, because the files that it names are beside it."""

    directory: Path
    cluster: str
    image: str
    source: str = TOPOLOGY_FILE

    @property
    def topology_file(self) -> Path:
        """The path under which the topology is loaded."""
        return self.directory / self.source


def rendering(project: Project, topology: Topology, topology_text: str) -> Rendering:
    """The rendering of a topology and the text it was read from."""
    tls = _project_tls_files(topology_text) if topology.tls else None
    source = project.source if project.source != TOPOLOGY_FILE else ""
    files = files_of_tiers(topology, topology_text)
    return Rendering(topology, project.image, tls, source, store_files(topology_text), files)


def lay_out(project: Project, topology: Topology, topology_text: str) -> None:
    """Write the whole directory. Raises OSError, and NotOurs if something else is there."""
    directory = project.directory
    if (directory / COMPOSE_FILE).exists() and read_project(directory).cluster != project.cluster:
        raise NotOurs(f"{directory} holds the cluster {read_project(directory).cluster}: choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    check_directory(directory)
    wanted = rendering(project, topology, topology_text)
    _lay_out_secrets(directory / SECRETS, wanted)
    _lay_out_files(directory / SECRETS, wanted, str(project.topology_file.parent))
    _replace(directory / TOPOLOGY_FILE, topology_text.encode())
    _replace(directory / COMPOSE_FILE, text(wanted).encode())


def read_project(directory: Path) -> Project:
    """Read what `lay_out` wrote. Raises NotOurs."""
    file = directory / COMPOSE_FILE
    try:
        said = _project_path(read_source(file.read_text(encoding="utf-8")).data, "x-tierlb")
    except (OSError, ValueError, UnreadableError) as error:
        raise NotOurs(f"{file} cannot be read: {error}. `tierlb compose FILE --output {directory}` writes it") from None
    words = {key: value.text for key, value in said.items() if isinstance(value, Scalar)} if said else {}
    if not {"cluster", "image"} <= words.keys():
        raise NotOurs(f"{file} was not written by `tierlb compose`: choose another directory")
    return Project(directory, words["cluster"], words["image"], words.get("source", TOPOLOGY_FILE))


def _project_tls_files(topology_text: str) -> TlsFiles:
    """The file names as written in the file."""
    named = _project_path(read_source(topology_text).data, "security", "tls")
    return TlsFiles(*(named[key].text for key in ("certificate", "key", "ca")))


def _project_path(data: Data, *keys: str) -> dict[str, Any]:
    """The mapping at this path; an empty one if there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _lay_out_secrets(directory: Path, rendering: Rendering) -> None:
    files = {name: Path(file).read_bytes() for name, file in _named_files(rendering)}
    make_private_directory(directory)
    for name in (JOIN_TOKEN, ADMIN_TOKEN):
        if not _is_there(directory / name):
            _replace(directory / name, f"{secrets.token_urlsafe(PROJECT_TOKEN_BYTES)}\n".encode(), READABLE)
    root = root_key(_project_secret(directory / JOIN_TOKEN))
    for name, principal in role_tokens(rendering.topology).items():
        _replace(directory / name, f"{issued(root, principal).text}\n".encode(), READABLE)
    for name, content in files.items():
        _renew(directory / name, content)


def _lay_out_files(directory: Path, rendering: Rendering, folder: str) -> None:
    """What nodes read. What they read no longer is removed, keys among it."""
    wanted = {file_secret(name): name for name in rendering.all_files}
    for secret, name in wanted.items():
        _renew(directory / secret, Path(resolved(folder, name)).read_bytes())
    for file in directory.glob(f"{FILE_PREFIX}*"):
        if file.name not in wanted:
            file.unlink()


def _renew(file: Path, content: bytes) -> None:
    """In place, so that running containers see it, which have the file itself mounted. One that a process finds half
    written it reads again."""
    if not file.exists():
        _replace(file, content, READABLE)
    elif file.read_bytes() != content:
        file.chmod(WRITABLE)
        file.write_bytes(content)
        file.chmod(READABLE)


def _is_there(file: Path) -> bool:
    """Whether a token exists already. Raises OSError for one that another user may have put there."""
    try:
        return bool(read_private(file))
    except FileNotFoundError:
        return False


def _project_secret(file: Path) -> str:
    """The cluster's secret as its controller reads it. Raises OSError, and NotOurs if there is none in the file."""
    try:
        return line_of(file, read_private(file))
    except NoJoinCredentials:
        raise NotOurs(f"{file} holds no token in one line: remove it, and another one is made") from None


def _named_files(rendering: Rendering) -> Iterator[tuple[str, str]]:
    """The files that the topology names, each with the name of its secret."""
    topology = rendering.topology
    if topology.tls is not None:
        yield from zip(TLS_SECRETS, attrs.astuple(topology.tls), strict=True)
    for key, file in topology.store.files.items() if topology.store is not None else ():
        if secret := store_secrets(rendering).get(STORE_FILES[key]):
            yield secret, file


def _replace(file: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace the file atomically. Running containers have it mounted: they keep the old one."""
    new = file.with_name(f".{file.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
    new.replace(file)
