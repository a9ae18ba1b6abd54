"""What scanners find in the TLS of a tier with default settings: testssl.sh, and sslyze where it is installed.

`topology/tls/tls.yaml` is started with a new certificate, and both look at it. Judged is what tierlb decides: versions,
ciphers, forward secrecy, order, and known vulnerabilities. What is said of the certificate and of the application's
headers is not. testssl.sh may find nothing above OK and INFO; of sslyze versions that are too old and VULNERABLE count.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import trio

from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import need

TOPOLOGY = Path(__file__).parents[2] / "topology" / "tls" / "tls.yaml"
TESTSSL = (
    "--quiet",
    "--color",
    "0",
    "--warnings",
    "batch",
    "--protocols",
    "--std",
    "--pfs",
    "--server-preference",
    "-U",
)
SSLYZE = (
    *("--mozilla_config", "disable", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--heartbleed", "--openssl_ccs"),
    *("--compression", "--reneg", "--early_data", "--ems", "--robot"),
)
MOST_S = 900.0
"""For testssl.sh, which makes some thousand connections."""
GOOD = frozenset({"OK", "INFO"})
OF_THE_APPLICATION = frozenset({"BREACH"})
"""Whether what is compressed is secret is up to endpoints."""
TOO_OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
VULNERABLE: Mapping[str, tuple[str, object]] = {
    "heartbleed": ("is_vulnerable_to_heartbleed", False),
    "openssl_ccs_injection": ("is_vulnerable_to_ccs_injection", False),
    "tls_compression": ("supports_compression", False),
    "session_renegotiation": ("is_vulnerable_to_client_renegotiation_dos", False),
    "tls_1_3_early_data": ("supports_early_data", False),
    "tls_extended_master_secret": ("supports_ems_extension", True),
}


def findings_of_testssl(text: str) -> Iterator[str]:
    """What is above INFO in its file of JSON."""
    for each in json.loads(text):
        if each["severity"] not in GOOD and each["id"] not in OF_THE_APPLICATION:
            yield f"testssl.sh: {each['id']}: {each['severity']}: {each['finding']}"


def findings_of_sslyze(text: str) -> Iterator[str]:
    """What is not as it should be in its JSON; a scan that it did not complete is a finding too."""
    [server] = json.loads(text)["server_scan_results"]
    results: dict[str, Any] = server["scan_result"]
    for name in TOO_OLD:
        if _of(results, f"{name}_cipher_suites", "accepted_cipher_suites") != []:
            yield f"sslyze: {name} is spoken, or was not looked at"
    for name, (field, wanted) in VULNERABLE.items():
        if (found := _of(results, name, field)) != wanted:
            yield f"sslyze: {name}: {field} is {found}"
    if not str(_of(results, "robot", "robot_result")).startswith("NOT_VULNERABLE"):
        yield f"sslyze: robot: {_of(results, 'robot', 'robot_result')}"


def _of(results: Mapping[str, Any], name: str, field: str) -> Any:
    return ((results.get(name) or {}).get("result") or {}).get(field)


@click.command(help="What testssl.sh, and sslyze if it is there, find in the TLS of a tier with default settings.")
@click.option(
    "--sslyze", default="sslyze", show_default=True, help="Its command; an environment of its own may have it."
)
def main(sslyze: str) -> None:
    """Print the findings; exit code 1 if there is one."""
    testssl = shutil.which("testssl") or shutil.which("testssl.sh")
    if testssl is None:
        raise click.ClickException("not installed: testssl.sh; apt-get install testssl.sh")
    need("openssl")
    found = trio.run(_scan, testssl, shutil.which(sslyze))
    click.echo("\n".join(found) or "no finding")
    sys.exit(1 if found else 0)


async def _scan(testssl: str, sslyze: str | None) -> list[str]:
    listen, admin = free_addresses(2)
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-tls-") as directory:
        place = Path(directory)
        text = TOPOLOGY.read_text().replace("127.0.0.1:8080", listen)
        (place / "tls.yaml").write_text(
            text.replace("cluster: tls\n", f"cluster: tls\nadmin: {{listen: {admin}}}\n", 1)
        )
        tierlb = [sys.executable, "-m", "tierlb"]
        await _run([*tierlb, "dev-certificate", "--output", directory])
        up = [*tierlb, "up", str(place / "tls.yaml"), "--state", str(place / "state")]
        try:
            async with running(up, place / "log") as cluster:
                await cluster.serves(f"https://{listen}/")
                return await _look(testssl, sslyze, listen, place)
        except DidNotStartError as error:
            return [str(error)]


async def _look(testssl: str, sslyze: str | None, listen: str, place: Path) -> list[str]:
    found, target = place / "testssl.json", place / "sslyze.json"
    await _run([testssl, *TESTSSL, "--jsonfile", str(found), listen])
    findings = list(findings_of_testssl(found.read_text()))
    if sslyze is None:
        click.echo("sslyze is not installed and is left out; to have it: pip install sslyze, and --sslyze", err=True)
    else:
        await _run([sslyze, *SSLYZE, "--json_out", str(target), listen])
        findings += findings_of_sslyze(target.read_text())
    return findings


async def _run(command: Sequence[str]) -> None:
    """That of a scanner ends with a code that says how much was found."""
    with trio.fail_after(MOST_S):
        await trio.run_process(list(command), check=False, stdin=b"", capture_stdout=True, capture_stderr=True)


if __name__ == "__main__":
    main()
