"""Queries of a real SQLite, which cannot change it however they are written."""

import asyncio
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from consort import RpcError
from consort.plugin import PluginError
from consort.plugin.testing import PluginProcess, invoke
from sqlquery.operations import plugin

FOLDER = Path(__file__).resolve().parent.parent
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a table and a view."""
    found = tmp_path / "shop's #1?.db"
    with sqlite3.connect(found) as connection:
        connection.executescript("""
            CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, picture BLOB);
            INSERT INTO item VALUES (1, 'lamp', 40.5, x'00ff'), (2, 'chair', NULL, NULL), (3, 'désk', 9e999, NULL);
            CREATE VIRTUAL TABLE words USING fts5(word);
            INSERT INTO words VALUES ('a lamp in red'), ('a chair');
            CREATE VIEW cheap AS SELECT name FROM item WHERE price < 100;
        """)
    connection.close()
    return found


def config(path: Path, **more: Any) -> dict[str, Any]:
    return {"databases": {"default": {"path": str(path)}}, **more}


def query(path: Path, sql: str, settings: dict[str, Any] | None = None, **given: Any) -> Any:
    return invoke(plugin, "query", {"sql": sql, **given}, config=config(path, **(settings or {}))).output


def refused(path: Path, sql: str, settings: dict[str, Any] | None = None, **given: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        query(path, sql, settings, **given)
    return caught.value


def test_rows_are_json(path: Path) -> None:
    assert query(path, "SELECT * FROM item ORDER BY id") == {
        "columns": ["id", "name", "price", "picture"],
        "rows": [
            [1, "lamp", 40.5, {"base64": "AP8="}],
            [2, "chair", None, None],
            [3, "désk", str(math.inf), None],
        ],
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("SELECT name FROM item WHERE id = ?", [2]), ("SELECT name FROM item WHERE id = :id", {"id": 2})],
)
def test_parameters_are_bound(path: Path, sql: str, parameters: Any) -> None:
    assert query(path, sql, parameters=parameters)["rows"] == [["chair"]]
    assert query(path, "SELECT ?", parameters=["'; DROP TABLE item; --"])["rows"] == [["'; DROP TABLE item; --"]]


def test_virtual_tables_are_read(path: Path) -> None:
    assert query(path, "SELECT word FROM words WHERE words MATCH 'lamp'")["rows"] == [["a lamp in red"]]
    assert query(path, "SELECT value FROM json_each('[1, 2]')")["rows"] == [[1], [2]]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM item",
        "INSERT INTO words(words) VALUES ('optimize')",
        "INSERT INTO item VALUES (4, 'x', 1, NULL)",
        "UPDATE item SET name = 'x' RETURNING id",
        "WITH x AS (SELECT 1) DELETE FROM item",
        "DROP TABLE item",
        "CREATE TABLE other (a)",
        "CREATE TEMP TABLE other (a)",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "BEGIN IMMEDIATE",
        "SAVEPOINT x",
        "REINDEX",
        "UPDATE sqlite_master SET sql = ''",
        "DELETE FROM sqlite_master",
        "ANALYZE",
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('x')",
        "SELECT 1; DELETE FROM item",
    ],
)
def test_nothing_that_writes_is_done(path: Path, sql: str) -> None:
    before = path.read_bytes()
    error = refused(path, sql)
    assert error.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT), error
    assert "sql" in error.violations
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_query_ends_with_its_time(path: Path) -> None:
    began = time.monotonic()
    error = refused(path, ENDLESS, {"timeout_s": 0.2})
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "QUERY_TIMEOUT")
    assert time.monotonic() - began < 2.0


def test_rows_and_bytes_are_limited(path: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    found = query(path, many, rows=3)
    assert (found["rows"], found["truncated"]) == ([[1], [2], [3]], True)
    assert len(query(path, many, {"max_rows": 5}, rows=1000)["rows"]) == 5
    found = query(path, "SELECT printf('%.*c', 600, 'x') FROM item", {"max_bytes": 1500})
    assert (len(found["rows"]), found["truncated"]) == (2, True)
    assert query(path, "SELECT id FROM item", rows=3)["truncated"] is False


@pytest.mark.parametrize("sql", ["SELECT zeroblob(1000000000)", "SELECT hex(zeroblob(16000000))"])
def test_memory_is_limited(path: Path, sql: str) -> None:
    assert refused(path, sql).code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("sql", "given", "field"),
    [
        ("SELEC 1", {}, "sql"),
        ("SELECT nothing FROM item", {}, "sql"),
        ("SELECT ?", {}, "sql"),
        ("", {}, "sql"),
        ("SELECT ?", {"parameters": [{"a": 1}]}, "parameters[0]"),
        ("SELECT 1", {"database": "other"}, "database"),
        ("SELECT 1", {"rows": 0}, "rows"),
    ],
)
def test_bad_queries_are_named(path: Path, sql: str, given: dict[str, Any], field: str) -> None:
    error = refused(path, sql, **given)
    assert list(error.violations) == [field]
    assert error.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def test_tables_and_databases_are_listed(path: Path) -> None:
    found = invoke(plugin, "tables", config=config(path)).output
    own = [each for each in found if not each["name"].startswith("words_")]
    assert [(each["schema"], each["name"], each["kind"]) for each in own] == [
        ("main", "cheap", "view"),
        ("main", "item", "table"),
        ("main", "words", "table"),
    ]
    assert found[1]["columns"][1:3] == [
        {"name": "name", "type": "TEXT", "nullable": False},
        {"name": "price", "type": "REAL", "nullable": True},
    ]
    assert invoke(plugin, "databases", config=config(path)).output == [{"name": "default", "kind": "sqlite"}]


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.db", "SELECT 1").reason == "NO_DATABASE"
    (tmp_path / "text.db").write_text("no database" * 100, encoding="utf-8")
    assert refused(tmp_path / "text.db", "SELECT * FROM sqlite_schema").reason == "NO_DATABASE"
    assert refused(Path("relative.db"), "SELECT 1").code is grpc.StatusCode.FAILED_PRECONDITION
    assert not (tmp_path / "none.db").exists()


def test_a_writer_may_go_on(path: Path) -> None:
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO item VALUES (4, 'bed', 1, NULL)")
        assert query(path, "SELECT count(*) FROM item")["rows"] == [[3]]
        writer.execute("COMMIT")
        assert query(path, "SELECT count(*) FROM item")["rows"] == [[4]]
    writer.close()


def test_a_cancelled_query_stops(path: Path) -> None:
    asyncio.run(_cancelled(path))


async def _cancelled(path: Path) -> None:
    async with PluginProcess(FOLDER, config=config(path)) as process:
        assert [each.name for each in process.hello.operations] == ["query", "tables", "databases"]
        assert (await process.invoke("query", {"sql": "SELECT 1 AS one"})).output["columns"] == ["one"]
        with pytest.raises(RpcError) as caught:
            await process.invoke("query", {"sql": ENDLESS}, timeout=0.3)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        call = process.call("query", {"sql": ENDLESS})
        await asyncio.sleep(0.1)
        call.cancel()
        # Its thread has ended, too: the process waits for it, and ends at once.
        began = time.monotonic()
        assert await process.terminate() == 0
        assert time.monotonic() - began < 3.0
