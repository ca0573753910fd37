"""What the operator sets: the databases by name, and the most that a query may take."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from consort.plugin import Limits


@dataclass
class Sqlite:
    """A file of SQLite. `immutable` is for a file that nobody writes, in a folder that nobody may write to."""

    path: str
    kind: Literal["sqlite"] = "sqlite"
    immutable: bool = False


@dataclass
class Postgresql:
    """A database of a PostgreSQL server. A host with a leading slash is a folder with its socket.

    The secret is the password. `ca_file` has the certificate that vouches for the server, in PEM; left out, the
    system's are trusted. A superuser, who may read files and run programs of the server, is refused unless
    `allow_superuser`.
    """

    host: str
    database: str
    user: str
    kind: Literal["postgresql"] = "postgresql"
    port: Annotated[int, Limits(minimum=1, maximum=65535)] = 5432
    secret: str = "sql-postgresql"  # noqa: S105 - a name.
    tls: Literal["disable", "require", "verify-ca", "verify-full"] = "verify-full"
    ca_file: str = ""
    allow_superuser: bool = False


@dataclass
class Settings:
    """Databases by name; the most rows, bytes of JSON and seconds that a query may take."""

    databases: dict[str, Sqlite | Postgresql] = field(default_factory=dict)
    max_rows: Annotated[int, Limits(minimum=1, maximum=1_000_000)] = 10_000
    max_bytes: Annotated[int, Limits(minimum=1024, maximum=1 << 30)] = 16 * 1024 * 1024
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=3600)] = 30.0
