"""Queries of a real PostgreSQL, which cannot change it however they are written."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trustme

from consort.plugin import PluginError
from consort.plugin.testing import invoke, invoke_async
from postgres_server import PostgresServer, is_installed
from sqlquery.operations import plugin

pytestmark = pytest.mark.skipif(not is_installed(), reason="initdb and pg_ctl of PostgreSQL are not on PATH")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server with a table, a function that writes, and a user who may write."""
    with PostgresServer(trustme.CA()) as found:
        with found.connect() as connection:
            for statement in (
                "CREATE DATABASE shop",
                f"CREATE USER reader PASSWORD '{found.password}x'",
                "ALTER DATABASE shop OWNER TO reader",
            ):
                connection.execute(statement)
        with found.connect("shop") as connection:
            connection.execute("CREATE TABLE item (id int, name text NOT NULL, price numeric(9,2), at timestamptz)")
            connection.execute("INSERT INTO item VALUES (1, 'lamp', 40.5, '2026-03-01Z'), (2, 'désk', NULL, NULL)")
            connection.execute("CREATE VIEW names AS SELECT name FROM item")
            connection.execute("CREATE TABLE secret (word text)")
            connection.execute("GRANT ALL ON item, names TO reader")
            connection.execute(
                "CREATE FUNCTION hit() RETURNS int LANGUAGE sql AS 'INSERT INTO item VALUES (9, $$x$$) RETURNING id'"
            )
        yield found


def config(server: PostgresServer, place: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    database = {
        "kind": "postgresql",
        "host": "127.0.0.1",
        "port": server.port,
        "database": "shop",
        "user": "reader",
        "ca_file": server.ca_file,
        **(place or {}),
    }
    return {"databases": {"default": database}, **more}


def query(server: PostgresServer, sql: str, place: dict[str, Any] | None = None, **given: Any) -> Any:
    settings = config(server, place, timeout_s=given.pop("timeout_s", 5))
    secrets = {"sql-postgresql": given.pop("password", f"{server.password}x")}
    return invoke(plugin, "query", {"sql": sql, **given}, config=settings, secrets=secrets).output


def refused(server: PostgresServer, sql: str, place: dict[str, Any] | None = None, **given: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        query(server, sql, place, **given)
    assert server.password not in str(caught.value)
    return caught.value


def content(server: PostgresServer) -> Any:
    with server.connect("shop") as connection:
        return connection.execute("SELECT * FROM item ORDER BY id").fetchall()


def test_rows_are_json(server: PostgresServer) -> None:
    assert query(server, "SELECT id, name, price, at AT TIME ZONE 'UTC' AS at FROM item ORDER BY id") == {
        "columns": ["id", "name", "price", "at"],
        "rows": [[1, "lamp", "40.50", "2026-03-01T00:00:00"], [2, "désk", None, None]],
        "truncated": False,
    }
    kinds = """SELECT '{"a":[1]}'::jsonb, ARRAY[1,2], '\\x00ff'::bytea, 'NaN'::float8, true,
        '0192f0c1-5a9b-7cc0-8000-000000000001'::uuid, interval '1 hour', inet '10.0.0.1'"""
    assert query(server, kinds)["rows"] == [
        [
            {"a": [1]},
            [1, 2],
            {"base64": "AP8="},
            "nan",
            True,
            "0192f0c1-5a9b-7cc0-8000-000000000001",
            "1:00:00",
            "10.0.0.1",
        ]
    ]


def test_parameters_are_bound(server: PostgresServer) -> None:
    assert query(server, "SELECT name FROM item WHERE id = %s", parameters=[2])["rows"] == [["désk"]]
    assert query(server, "SELECT name FROM item WHERE id = %(id)s", parameters={"id": 1})["rows"] == [["lamp"]]
    assert query(server, "SELECT name FROM item WHERE name LIKE 'l%'")["rows"] == [["lamp"]]
    word = "'; DROP TABLE item; --"
    assert query(server, "SELECT %s::text", parameters=[word])["rows"] == [[word]]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM item",
        "INSERT INTO item VALUES (4, 'x')",
        "WITH gone AS (DELETE FROM item RETURNING *) SELECT * FROM gone",
        "SELECT hit()",
        "SELECT * FROM item FOR UPDATE",
        "SELECT 1; DELETE FROM item",
        "SELECT 1; COMMIT; DELETE FROM item",
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM item; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM item; END $$",
        "CREATE TABLE other (a int)",
        "COPY item TO '/tmp/item'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CALL nothing()",
        "EXPLAIN ANALYZE DELETE FROM item",
        "SELECT set_config('transaction_read_only', 'off', true), hit()",
        "SELECT nextval('item')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM secret",
        "SELECT * INTO other FROM item",
    ],
)
def test_nothing_that_writes_is_done(server: PostgresServer, sql: str) -> None:
    before = content(server)
    error = refused(server, sql)
    assert error.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT), error
    assert content(server) == before


def test_what_a_query_did_is_undone(server: PostgresServer) -> None:
    """PostgreSQL before 16 lets a transaction that only reads make large objects."""
    with contextlib.suppress(PluginError):
        query(server, "SELECT lo_create(0)")
    with server.connect("shop") as connection:
        assert connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)


def test_a_query_ends_with_its_time_and_when_nobody_waits(server: PostgresServer) -> None:
    began = time.monotonic()
    error = refused(server, "SELECT pg_sleep(60)", timeout_s=0.2)
    assert (error.code, error.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "QUERY_TIMEOUT")
    assert time.monotonic() - began < 3.0
    # The first hundred rows are quick, and lift the server's limit.
    lifted = "SELECT set_config('statement_timeout', '0', false), pg_sleep(CASE WHEN n > 100 THEN 60 ELSE 0 END)"
    error = refused(server, f"{lifted} FROM generate_series(1, 300) AS n", timeout_s=0.5, rows=300)
    assert error.reason == "QUERY_TIMEOUT"
    assert time.monotonic() - began < 6.0
    asyncio.run(_left(server))


async def _left(server: PostgresServer) -> None:
    secrets = {"sql-postgresql": f"{server.password}x"}
    given = {"sql": "SELECT pg_sleep(61)"}
    work = asyncio.create_task(invoke_async(plugin, "query", given, config=config(server), secrets=secrets, timeout=60))

    async def running(wanted: int) -> None:
        with server.connect() as connection:
            statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'consort' AND state = 'active'"
            for _ in range(200):
                if connection.execute(statement).fetchone() == (wanted,):
                    return
                await asyncio.sleep(0.02)
        raise AssertionError(f"not {wanted}")

    await running(1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await running(0)


def test_rows_are_limited(server: PostgresServer) -> None:
    found = query(server, "SELECT a AS n FROM generate_series(1, 10000) AS a, generate_series(1, 10000) AS b", rows=250)
    assert (found["columns"], len(found["rows"]), found["truncated"]) == (["n"], 250, True)


def test_tables_are_listed(server: PostgresServer) -> None:
    secrets = {"sql-postgresql": f"{server.password}x"}
    found = invoke(plugin, "tables", config=config(server), secrets=secrets).output
    assert [(each["schema"], each["name"], each["kind"]) for each in found] == [
        ("public", "item", "table"),
        ("public", "names", "view"),
    ]
    assert found[0]["columns"][1:3] == [
        {"name": "name", "type": "text", "nullable": False},
        {"name": "price", "type": "numeric(9,2)", "nullable": True},
    ]


def test_who_may_do_more_than_read_is_refused(server: PostgresServer) -> None:
    admin = {"user": "admin"}
    error = refused(server, "SELECT 1", admin, password=server.password)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SUPERUSER")
    granted = query(server, "SELECT 1 AS n", {**admin, "allow_superuser": True}, password=server.password)
    assert granted["rows"] == [[1]]


@pytest.mark.parametrize(
    ("place", "password", "code"),
    [
        ({}, "wrong", grpc.StatusCode.FAILED_PRECONDITION),
        ({"database": "none"}, None, grpc.StatusCode.FAILED_PRECONDITION),
        ({"port": 1}, None, grpc.StatusCode.UNAVAILABLE),
        ({"ca_file": ""}, None, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_a_database_that_is_not_to_be_had_is_named(
    server: PostgresServer, place: dict[str, Any], password: str | None, code: grpc.StatusCode
) -> None:
    error = refused(server, "SELECT 1", place, password=password or f"{server.password}x")
    assert error.code is code, error


@pytest.mark.parametrize(
    ("sql", "parameters"), [("SELEC 1", None), ("SELECT none", None), ("SELECT %s", None), ("SELECT %s", [1, 2])]
)
def test_bad_queries_are_named(server: PostgresServer, sql: str, parameters: Any) -> None:
    error = refused(server, sql, parameters=parameters)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_QUERY")
