"""Docker's and compose's command lines, which say what a test wants of an engine and note what they are told to do."""

import json
from collections.abc import Iterable
from pathlib import Path

import attrs

from tierlb.deploy.compose import DEFINITION_LABEL, KIND_LABEL, Document

SCRIPT = """\
#!/bin/sh
here=$(dirname "$0")
case "$*" in
  "compose version") exit 0 ;;
  "compose ps"*) cat "$here/controllers" ;;
  "network ls"*) cat "$here/networks" ;;
  "network inspect"*) cat "$here/networks.json" ;;
  "ps "*) cat "$here/containers" ;;
  "container inspect"*) cat "$here/containers.json" ;;
  "exec "*) cat "$here/table" ;;
  *)
    echo "$*" >>"$here/told"
    [ ! -e "$here/failing" ] || { cat "$here/failing" >&2; exit 1; }
    ;;
esac
"""


@attrs.frozen
class FakeDocker:
    """In `directory`, which is to be first in PATH."""

    directory: Path

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir()
        program = self.directory / "docker"
        program.write_text(SCRIPT)
        program.chmod(0o755)
        self.table("")
        self.hold({"services": {}, "networks": {}})

    def hold(self, file: Document, project: str = "shop", unready: Iterable[str] = ()) -> None:
        """All that the compose file has is there; of these services the last container is not ready."""
        containers = [
            _container(project, name, number, spec, number == spec.get("scale", 1) and name in unready)
            for name, spec in file["services"].items()
            for number in range(1, spec.get("scale", 1) + 1)
        ]
        networks = [_network(project, name) for name in file["networks"]]
        ids = {each["Id"]: each["Config"]["Labels"]["com.docker.compose.service"] for each in containers}
        self._write("controllers", "\n".join(key for key, service in ids.items() if service == "controller"))
        self._write("containers", "\n".join(ids))
        self._write("containers.json", json.dumps(containers))
        self._write("networks", "\n".join(each["Name"] for each in networks))
        self._write("networks.json", json.dumps(networks))

    def table(self, text: str) -> None:
        """Of the connections in every container."""
        self._write("table", text)

    def fail(self, reason: str) -> None:
        """Whatever it is told to do from now on."""
        self._write("failing", reason)

    def told(self) -> list[str]:
        """What it was told to do, first things first."""
        told = self.directory / "told"
        return told.read_text().splitlines() if told.exists() else []

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)


def _container(project: str, service: str, number: int, spec: Document, is_unready: bool) -> Document:
    labels = {
        "com.docker.compose.project": project,
        "com.docker.compose.service": service,
        "com.docker.compose.container-number": str(number),
        **{label: spec["labels"][label] for label in (DEFINITION_LABEL, KIND_LABEL)},
    }
    ports = [port.rsplit(":", 1) for port in spec.get("ports", ())]
    bindings = {
        f"{inner}/tcp": [dict(zip(("HostIp", "HostPort"), outer.rsplit(":", 1), strict=True))] for outer, inner in ports
    }
    return {
        "Id": f"{service}-{number}",
        "Config": {"Labels": labels},
        "State": {"Running": True, "Health": {"Status": "starting" if is_unready else "healthy"}},
        "HostConfig": {"PortBindings": bindings},
        "NetworkSettings": {
            "Networks": {f"{project}_{name}": {"IPAddress": "172.18.0.2"} for name in spec["networks"]}
        },
    }


def _network(project: str, name: str) -> Document:
    return {"Name": f"{project}_{name}", "Labels": {"com.docker.compose.network": name}}
