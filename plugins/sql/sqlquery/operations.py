"""The operations of the plugin."""

import asyncio
from itertools import groupby
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, Plugin, PluginError
from sqlquery import postgresql, sqlite
from sqlquery.settings import Postgresql, Settings, Sqlite
from sqlquery.table import Parameters, Table

plugin = Plugin(
    "sql",
    version="0.1.0",
    description="Reads SQLite and PostgreSQL: queries that can change nothing, with limits of rows and time.",
    config=Settings,
)


class Column(TypedDict):
    """A column, with the type its database gives it."""

    name: str
    type: str
    nullable: bool


class Relation(TypedDict):
    """A table or view."""

    schema: str
    name: str
    kind: str
    columns: list[Column]


class Database(TypedDict):
    """A database that can be read."""

    name: str
    kind: str


@plugin.operation(effect="read")
async def query(
    call: Call,
    sql: Annotated[str, Limits(minLength=1, maxLength=100_000)],
    parameters: list[Any] | dict[str, Any] | None = None,
    database: str = "default",
    rows: Annotated[int, Limits(minimum=1)] = 100,
) -> Table:
    """Runs one query that only reads, and yields its rows.

    Args:
        sql: One statement. SQLite marks parameters with ? or :name, PostgreSQL with %s or %(name)s.
        parameters: Values by position, or by name.
        database: Its name in the configuration.
        rows: At most so many; the operator's limit stands above it.

    """
    place = _database(call.config, database)
    most = min(rows, call.config.max_rows)
    if isinstance(place, Postgresql):
        return await postgresql.query(call, call.config, place, sql, _bound(parameters), most)
    return await asyncio.to_thread(sqlite.query, call, call.config, place, sql, _bound(parameters) or [], most)


@plugin.operation(effect="read")
async def tables(call: Call, database: str = "default") -> list[Relation]:
    """Lists the tables and views that can be read, with their columns.

    Args:
        database: Its name in the configuration.

    """
    place = _database(call.config, database)
    if isinstance(place, Postgresql):
        found = await postgresql.tables(call, call.config, place)
    else:
        found = await asyncio.to_thread(sqlite.tables, call, call.config, place)
    return [
        {
            "schema": schema,
            "name": name,
            "kind": kind,
            "columns": [{"name": each[3], "type": each[4], "nullable": bool(each[5])} for each in columns],
        }
        for (schema, name, kind), columns in groupby(found, key=lambda each: each[:3])
    ]


@plugin.operation(effect="read")
def databases(call: Call) -> list[Database]:
    """Lists the databases of the configuration."""
    return [{"name": name, "kind": place.kind} for name, place in call.config.databases.items()]


def _bound(parameters: Parameters | None) -> Parameters | None:
    """The parameters, of which each must be a plain value."""
    if parameters is None:
        return None
    named = parameters.items() if isinstance(parameters, dict) else enumerate(parameters)
    for key, value in named:
        if not (value is None or isinstance(value, str | int | float)):
            place = f"parameters.{key}" if isinstance(parameters, dict) else f"parameters[{key}]"
            raise PluginError("INVALID_ARGUMENT", "must be text, a number, true, false or null", field=place)
    return parameters


def _database(settings: Settings, name: str) -> Sqlite | Postgresql:
    if name in settings.databases:
        return settings.databases[name]
    known = ", ".join(settings.databases) or "none"
    problem = f"no database '{name}'; the configuration has: {known}"
    raise PluginError("NOT_FOUND", problem, field="database", reason="NO_DATABASE")
