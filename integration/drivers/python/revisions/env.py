import sqlalchemy as sa
from alembic import context

with sa.create_engine("postgresql+psycopg://").connect() as connection:
    metadata = context.config.attributes["metadata"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        include_name=lambda name, kind, _: kind != "table" or name in metadata.tables,
    )
    with context.begin_transaction():
        context.run_migrations()
