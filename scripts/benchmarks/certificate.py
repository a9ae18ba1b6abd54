"""The certificate that every compared proxy shows: P-256, signed by itself, with its key in the same PEM file."""

import subprocess
from pathlib import Path


def make_certificate(directory: Path, name: str = "certificate.pem") -> Path:
    """Write a new one into the directory. Raises subprocess.CalledProcessError."""
    path, key = directory / name, directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(path), "-days", "30"]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    key.unlink()
    return path
