"""When a worker last looked for what is due: nobody could see that beat had died.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty until the first tick."""
    op.create_table(
        "ticks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ticks_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticks")),
    )


def downgrade() -> None:
    """The next tick writes it again."""
    op.drop_table("ticks")
