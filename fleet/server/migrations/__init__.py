"""The server's tables through time: alembic scripts under versions/, run by `Database.migrate` at every start."""
