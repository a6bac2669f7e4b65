"""Until when a reviewer's time is taken by the shortest looks at what they judged: looks do not overlap.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was judged before takes no time."""
    op.create_table(
        "looks",
        sa.Column("reviewer_id", sa.Uuid(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["reviewer_id"], ["users.id"], name=op.f("fk_looks_reviewer_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("reviewer_id", name=op.f("pk_looks")),
    )


def downgrade() -> None:
    """Each look counts by itself again."""
    op.drop_table("looks")
