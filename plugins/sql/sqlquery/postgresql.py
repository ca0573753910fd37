"""Reads PostgreSQL: a cursor in a read-only transaction, which takes one query and no statement that writes."""

import asyncio
from typing import Any

from consort.plugin import Call, PluginError
from sqlquery.settings import Postgresql, Settings
from sqlquery.table import Parameters, Rows, Table

try:
    import psycopg
except ImportError:  # SQLite is read without it.
    psycopg = None  # type: ignore[assignment]

_BATCH = 100
_CONNECT_S = 10
# So that the server, which has words for it, is the first to say that time is up.
_MARGIN_S = 1.0
_TABLES = """
    SELECT n.nspname, c.relname,
           CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'f' THEN 'table' ELSE 'view' END,
           a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_' AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
    ORDER BY n.nspname, c.relname, a.attnum LIMIT 10000
"""


async def query(
    call: Call, settings: Settings, place: Postgresql, sql: str, parameters: Parameters | None, most: int
) -> Table:
    """Runs one query. A cursor is declared for it, which the server refuses for all that is no query."""
    try:
        # The server's own limit can be lifted by a query; this one cannot. Whoever is late here is cancelled there.
        async with (
            asyncio.timeout(_seconds(call, settings) + _MARGIN_S),
            await _connected(call, settings, place) as connection,
            connection.cursor(name="consort") as cursor,
        ):
            # One that is named sends its text with the extended protocol, which takes one statement only.
            await cursor.execute(sql, parameters)
            columns = [column.name for column in cursor.description or ()]
            rows = Rows(most, settings.max_bytes)
            while batch := await cursor.fetchmany(min(_BATCH, most + 1)):
                if not rows.add(batch):
                    break
            await connection.rollback()  # Older servers let large objects be made by those who only read.
            return rows.table(columns)
    except psycopg.Error as error:
        raise _failure(settings, place, error) from None
    except TimeoutError:
        raise _late(settings) from None


async def tables(call: Call, settings: Settings, place: Postgresql) -> list[tuple[str, str, str, str, str, bool]]:
    """Schema, table, its kind, column, type and whether it may be null, in order; the first 10,000 columns."""
    try:
        async with await _connected(call, settings, place) as connection:
            found: list[tuple[str, str, str, str, str, bool]] = await (await connection.execute(_TABLES)).fetchall()
            return found
    except psycopg.Error as error:
        raise _failure(settings, place, error) from None


async def _connected(call: Call, settings: Settings, place: Postgresql) -> Any:
    """A connection in a read-only transaction that has begun, with all limits set."""
    if psycopg is None:
        problem = "psycopg is not installed; install the plugin's requirements.txt"
        raise PluginError("FAILED_PRECONDITION", problem, reason="NO_DRIVER")
    milliseconds = max(1, int(_seconds(call, settings) * 1e3))
    limits = {
        "default_transaction_read_only": "on",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds + 1000,
        "max_parallel_workers_per_gather": 0,
    }
    trusted: dict[str, Any] = {"sslrootcert": place.ca_file or "system"} if place.tls.startswith("verify") else {}
    connection = await psycopg.AsyncConnection.connect(
        host=place.host,
        port=place.port,
        dbname=place.database,
        user=place.user,
        password=await call.host.get_secret(place.secret),
        sslmode=place.tls,
        **trusted,
        connect_timeout=_CONNECT_S,
        application_name="consort",
        options=" ".join(f"-c {name}={value}" for name, value in limits.items()),
    )
    try:
        await _begin(connection, place)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _begin(connection: Any, place: Postgresql) -> None:
    await connection.set_read_only(True)
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    # From its first query on a transaction that only reads cannot be told to write.
    row = await (await connection.execute("SELECT current_setting('is_superuser')")).fetchone()
    if row != ("off",) and not place.allow_superuser:
        problem = f"'{place.user}' is a superuser, who can do more than read; use another, or set allow_superuser"
        raise PluginError("FAILED_PRECONDITION", problem, reason="SUPERUSER")


def _seconds(call: Call, settings: Settings) -> float:
    return max(0.0, min(settings.timeout_s, call.remaining))


def _late(settings: Settings) -> PluginError:
    problem = f"the query took longer than {settings.timeout_s:g} s, or than its caller waits"
    return PluginError("DEADLINE_EXCEEDED", problem, reason="QUERY_TIMEOUT")


def _failure(settings: Settings, place: Postgresql, error: Any) -> PluginError:
    state = error.sqlstate or ""
    text = error.diag.message_primary or str(error).strip()
    if state == "57014":
        return _late(settings)
    if state in ("25006", "42501") or (state == "0A000" and "data-modifying" in text):
        reason = "READ_ONLY" if state != "42501" else "NOT_ALLOWED"
        return PluginError("PERMISSION_DENIED", text, field="sql", reason=reason, details={"sqlstate": state})
    if state[:2] in ("53", "54"):
        return PluginError("RESOURCE_EXHAUSTED", text, details={"sqlstate": state})
    if state and state[:2] not in ("08", "57", "58", "XX"):
        return PluginError("INVALID_ARGUMENT", text, field="sql", reason="BAD_QUERY", details={"sqlstate": state})
    if isinstance(error, psycopg.ProgrammingError):  # Of the driver: a placeholder without a parameter.
        return PluginError("INVALID_ARGUMENT", text, field="parameters", reason="BAD_QUERY")
    # The driver tells no state of a connection that failed; a server that is there says FATAL.
    code = "FAILED_PRECONDITION" if "FATAL" in text else "UNAVAILABLE"
    return PluginError(code, f"{place.host}:{place.port}: {text}", reason="NO_DATABASE")
