"""Alembic: revisions there and back, and what autogenerate finds."""

import pathlib

import alembic
import sqlalchemy as sa
from alembic import command, config
from check import expect, run

metadata = sa.MetaData()
sa.Table(
    "firms",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Enum("new", "old", name="firm_kind"), nullable=False, server_default="new"),
    comment="ringway: key=id",
)
sa.Table(
    "bills",
    metadata,
    sa.Column("firm", sa.BigInteger, sa.ForeignKey("firms.id"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("total", sa.Numeric(10, 2), nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="new"),
    sa.Index("bills_state", "state"),
    comment="ringway: key=firm",
)


def migrations():
    settings = config.Config(attributes={"metadata": metadata})
    settings.set_main_option("script_location", str(pathlib.Path(__file__).parent / "revisions"))
    command.upgrade(settings, "head")
    command.check(settings)
    command.downgrade(settings, "-1")
    command.upgrade(settings, "head")
    command.downgrade(settings, "base")
    engine = sa.create_engine("postgresql+psycopg://")
    with engine.begin() as db:
        expect(db.execute(sa.text("SELECT version_num FROM alembic_version")).all(), [])
        db.execute(sa.text("DROP TABLE alembic_version"))
        expect(sa.inspect(db).has_table("bills"), False)


run(f"Alembic {alembic.__version__} with SQLAlchemy {sa.__version__}", {"migrations": migrations})
