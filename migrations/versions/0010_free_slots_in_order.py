"""The index of free slots in the order in which they are handed out: the first one is found without sorting.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FREE = sa.text("state = 'free'")


def upgrade() -> None:
    """Slots of one comparison have the same key: their numbers are part of the order."""
    op.drop_index("ix_comparison_slots_free", table_name="comparison_slots", postgresql_where=_FREE)
    op.create_index(
        "ix_comparison_slots_free", "comparison_slots", ["project_id", "queue_key", "slot"], postgresql_where=_FREE
    )


def downgrade() -> None:
    """Back to the shorter one."""
    op.drop_index("ix_comparison_slots_free", table_name="comparison_slots", postgresql_where=_FREE)
    op.create_index("ix_comparison_slots_free", "comparison_slots", ["project_id", "queue_key"], postgresql_where=_FREE)
