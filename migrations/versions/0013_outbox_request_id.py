"""Which request asked for a wake-up: the worker's log names it.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What waits already was asked for by nobody known."""
    op.add_column("outbox", sa.Column("request_id", sa.Text(), nullable=True))


def downgrade() -> None:
    """Only lines of the log named it."""
    op.drop_column("outbox", "request_id")
