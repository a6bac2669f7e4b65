"""When an admin had somebody's qualification decided again: gold pairs judged before count no more.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Null: never."""
    op.add_column("standings", sa.Column("qualification_reset_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    """What was judged before counts again."""
    op.drop_column("standings", "qualification_reset_at")
