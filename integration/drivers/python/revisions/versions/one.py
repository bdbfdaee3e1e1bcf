import sqlalchemy as sa
from alembic import op

revision = "one"
down_revision = None


def upgrade():
    op.create_table(
        "firms",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Enum("new", "old", name="firm_kind"), nullable=False, server_default="new"),
        comment="ringway: key=id",
    )
    op.create_table(
        "bills",
        sa.Column("firm", sa.BigInteger, sa.ForeignKey("firms.id"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("total", sa.Numeric(8, 2), nullable=False),
        comment="ringway: key=firm",
    )


def downgrade():
    op.drop_table("bills")
    op.drop_table("firms")
    op.execute("DROP TYPE firm_kind")
