"""An authority of its own for a test, and certificates that it signs: PEM files, good for two days."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.system import require_program

_DAYS = "2"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_OPENSSL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates that are trusted by whoever is given `ca_file`, and by nobody else."""

    def __init__(self, folder: Path, name: str = "Headgate tests") -> None:
        """Keep the authority's key, and what it signs, below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = folder / "ca.key"
        self.ca_file = folder / "ca.pem"
        subject = ["-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.ca_file)]
        _openssl("req", "-x509", *_KEY, "-nodes", "-days", _DAYS, *subject)

    def sign(self, name: str, *, addresses: str = "", password: str | None = None) -> Certificate:
        """A new key with a certificate for `name`; `addresses` are what a server is reached by, such as `IP:127.0.0.1`.

        With a password the key's file is encrypted by it.
        """
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={addresses}\n" if addresses else "basicConstraints=CA:FALSE\n")
        secret = ["-nodes"] if password is None else ["-passout", f"pass:{password}"]
        _openssl("req", "-new", *_KEY, *secret, "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(request))
        signed_by = ["-CA", str(self.ca_file), "-CAkey", str(self._key), "-CAcreateserial"]
        files = ["-in", str(request), "-extfile", str(extensions), "-out", str(made.certificate)]
        _openssl("x509", "-req", *signed_by, "-days", _DAYS, *files)
        return made


def _openssl(*arguments: str) -> None:
    command = [require_program("openssl"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_OPENSSL_SECONDS, check=False)
    assert run.returncode == 0, f"openssl {arguments[0]}: {run.stderr}"
