"""Which engine serves a version, where engines that are not Hone's own serve different ones.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is known until the worker looks for the first time."""
    op.add_column("versions", sa.Column("served_by", sa.Text(), nullable=True))


def downgrade() -> None:
    """It is found out again."""
    op.drop_column("versions", "served_by")
