import sqlalchemy as sa
from alembic import op

revision = "two"
down_revision = "one"

firms = sa.table("firms", sa.column("id", sa.BigInteger))
bills = sa.table("bills", *[sa.column(name, sa.BigInteger) for name in ("firm", "number", "total")], sa.column("state", sa.Text))


def upgrade():
    op.bulk_insert(firms, [{"id": n} for n in range(10)])
    op.bulk_insert(bills, [{"firm": n, "number": 1, "total": n} for n in range(10)])
    with op.batch_alter_table("bills") as batch:
        batch.add_column(sa.Column("state", sa.Text, nullable=False, server_default="new"))
        batch.alter_column("total", type_=sa.Numeric(10, 2))
        batch.create_check_constraint("bills_total", sa.text("total >= 0"))
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute(sa.update(bills).where(bills.c.total > 5).values(state="large"))
    assert op.get_bind().scalar(sa.select(sa.func.count()).where(bills.c.state == "large")) == 4
    with op.get_context().autocommit_block():
        op.create_index("bills_state", "bills", ["state"], postgresql_concurrently=True)


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("bills_state", "bills", postgresql_concurrently=True)
    with op.batch_alter_table("bills") as batch:
        batch.drop_constraint("bills_total")
        batch.drop_column("state")
        batch.alter_column("total", type_=sa.Numeric(8, 2))
    op.execute(sa.delete(bills))
    op.execute(sa.delete(firms))
