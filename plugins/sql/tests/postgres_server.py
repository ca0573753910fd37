"""A real PostgreSQL server in a scratch folder, if it is installed here."""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import psycopg
import trustme

# Debian keeps a server's programs off the PATH.
_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _PLACES)])


def is_installed() -> bool:
    """Whether a server can be made."""
    return shutil.which("initdb") is not None and shutil.which("pg_ctl") is not None


class PostgresServer:
    """Listens on 127.0.0.1 and on a socket in its folder, with TLS and passwords. `admin` is its superuser."""

    def __init__(self, authority: trustme.CA) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="consort-pg-"))
        self.password = secrets.token_hex(8)
        self.ca_file = str(self.folder / "ca.pem")
        self._data = self.folder / "data"
        self._authority = authority
        # The server refuses to run as root.
        self._as: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.port = 0

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection of the superuser."""
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            dbname=database,
            user="admin",
            password=self.password,
            autocommit=True,
        )

    def __enter__(self) -> Self:
        certificate = self._authority.issue_cert("127.0.0.1")
        (self.folder / "password").write_text(self.password, encoding="utf-8")
        self._authority.cert_pem.write_to_path(self.ca_file)
        certificate.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))
        for path in self.folder.iterdir():
            path.chmod(0o600)
        if self._as:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, "nobody")
        self._run("initdb", "-U", "admin", "-A", "scram-sha-256", f"--pwfile={self.folder}/password", "--no-sync")
        for _ in range(5):  # The port may be taken by somebody else in between.
            self.port = 20_000 + secrets.randbelow(10_000)
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": self.port,
                "unix_socket_directories": self.folder,
                "fsync": "off",
                "ssl": "on",
                "ssl_cert_file": self.folder / "cert.pem",
                "ssl_key_file": self.folder / "key.pem",
            }
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            if self._run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start", check=False):
                return self
        raise AssertionError((self.folder / "log").read_text(encoding="utf-8"))

    def __exit__(self, *_error: object) -> None:
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> bool:
        command = [program, "-D", str(self._data), *arguments]
        log = self.folder / "output"
        with log.open("ab") as output:  # A pipe would be held open by the server.
            done = subprocess.run(command, stdout=output, stderr=output, check=False, cwd=self.folder, **self._as)  # noqa: S603
        if check and done.returncode != 0:
            raise AssertionError(log.read_text(encoding="utf-8"))
        return done.returncode == 0
