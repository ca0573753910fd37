"""Reads SQLite: the file is opened read-only, an authorizer sees every statement, and time and memory are limited."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from consort.plugin import Call, PluginError
from sqlquery.settings import Settings, Sqlite
from sqlquery.table import Parameters, Rows, Table

# Steps of its machine between two looks at the clock: some tenths of a millisecond.
_STEPS = 10_000
_BATCH = 100
_MOST_SQL = 100_000
_MOST_VALUE = 16 * 1024 * 1024
_MOST_HEAP = 256 * 1024 * 1024
_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
# What full-text tables ask about their own.
_PRAGMAS |= {"data_version", "page_size"}
# They read or load files, or take pointers.
_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "fts5", "zipfile"}
_TABLES = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT GLOB 'sqlite_*'"


def query(call: Call, settings: Settings, place: Sqlite, sql: str, parameters: Parameters, most: int) -> Table:
    """Runs one statement."""
    with _opened(call, settings, place) as connection:
        cursor = connection.execute(sql, parameters)
        if cursor.description is None:
            raise PluginError("INVALID_ARGUMENT", "the statement yields no rows", field="sql")
        columns = [column[0] for column in cursor.description]
        rows = Rows(most, settings.max_bytes)
        while batch := cursor.fetchmany(_BATCH):
            if not rows.add(batch):
                break
        return rows.table(columns)


def tables(call: Call, settings: Settings, place: Sqlite) -> list[tuple[str, str, str, str, str, bool]]:
    """Schema, table, its kind, column, type and whether it may be null, in order."""
    found = []
    with _opened(call, settings, place) as connection:
        for name, kind in connection.execute(f"{_TABLES} ORDER BY name").fetchall():
            columns = connection.execute('SELECT name, type, "notnull" FROM pragma_table_info(?)', [name])
            found += [("main", name, kind, column, type_, not notnull) for column, type_, notnull in columns]
    return found


@contextlib.contextmanager
def _opened(call: Call, settings: Settings, place: Sqlite) -> Iterator[sqlite3.Connection]:
    path = Path(place.path)
    if not path.is_absolute():
        raise PluginError("FAILED_PRECONDITION", f"{place.path!r} is no absolute path; change the configuration")
    options = "mode=ro&immutable=1" if place.immutable else "mode=ro"
    seconds = min(settings.timeout_s, call.remaining)
    url = f"file:{quote(str(path))}?{options}"
    try:
        connection = sqlite3.connect(url, uri=True, timeout=seconds, isolation_level=None)
    except sqlite3.Error as error:
        raise PluginError("NOT_FOUND", f"{path} cannot be opened: {error}", reason="NO_DATABASE") from None
    try:
        for pragma in ("query_only=ON", "trusted_schema=OFF", "temp_store=MEMORY", f"hard_heap_limit={_MOST_HEAP}"):
            connection.execute(f"PRAGMA {pragma}")
        for limit, most in (
            (sqlite3.SQLITE_LIMIT_LENGTH, _MOST_VALUE),
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SQL),
            (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        ):
            connection.setlimit(limit, most)
        connection.set_authorizer(_allows)
        end = time.monotonic() + seconds
        connection.set_progress_handler(lambda: call.cancelled or time.monotonic() > end, _STEPS)
        yield connection
    except sqlite3.Error as error:
        raise _failure(call, path, error, seconds) from None
    finally:
        connection.close()


def _allows(action: int, first: str | None, second: str | None, _database: str | None, _inside: str | None) -> int:
    if action in _ACTIONS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in _FUNCTIONS else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in _PRAGMAS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        return sqlite3.SQLITE_OK  # A virtual table says what its columns are; for a query SQLite itself forbids it.
    return sqlite3.SQLITE_DENY


def _failure(call: Call, path: Path, error: sqlite3.Error, seconds: float) -> PluginError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        call.raise_if_cancelled()
        return PluginError("DEADLINE_EXCEEDED", f"the query took longer than {seconds:g} s", reason="QUERY_TIMEOUT")
    if code == sqlite3.SQLITE_AUTH:
        problem = f"only reading is permitted: {error}"
        return PluginError("PERMISSION_DENIED", problem, field="sql", reason="READ_ONLY")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return PluginError("UNAVAILABLE", f"{path} is locked by a writer: {error}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
        return PluginError("FAILED_PRECONDITION", f"{path} cannot be read: {error}", reason="NO_DATABASE")
    if code in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_NOMEM):
        return PluginError("RESOURCE_EXHAUSTED", f"the query takes too much memory: {error}")
    return PluginError("INVALID_ARGUMENT", str(error), field="sql", reason="BAD_QUERY")
