"""The tables in code are those that the migrations make."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fleet.server.tables import METADATA
from tests.server.embedded import Client


def test_the_migrations_make_exactly_the_tables_of_the_code(client: Client) -> None:
    with client.server.database.read() as connection:
        tables = sa.inspect(connection).get_table_names()
        only_ours = {"include_object": lambda thing, name, kind, *_: kind != "table" or name != "server_version"}
        context = MigrationContext.configure(connection, opts=only_ours)
        assert compare_metadata(context, METADATA) == []
    assert all(name.startswith("server_") for name in tables)
