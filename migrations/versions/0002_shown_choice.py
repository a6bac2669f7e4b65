"""Votes keep what was seen beside what was meant; indexes for a reviewer's own leases and votes.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("votes", sa.Column("shown_choice", sa.Text(), nullable=True))
    op.execute(
        """
        UPDATE votes v SET shown_choice = CASE
            WHEN v.choice NOT IN ('a', 'b') THEN v.choice
            WHEN v.choice = a.left_side THEN 'left'
            ELSE 'right'
        END
        FROM assignments a WHERE a.id = v.assignment_id
        """
    )
    op.alter_column("votes", "shown_choice", nullable=False)
    op.create_check_constraint(
        "shown_choice_known",
        "votes",
        "shown_choice in ('left', 'right', 'tie', 'both_bad', 'skip', 'flag', 'undone')",
    )
    op.create_index("ix_votes_reviewer_id_project_id_created_at", "votes", ["reviewer_id", "project_id", "created_at"])
    op.create_index(
        "ix_assignments_leased",
        "assignments",
        ["reviewer_id", "project_id"],
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "ix_assignments_unread",
        "assignments",
        ["project_id", "comparison_id"],
        postgresql_where=sa.text("state = 'voted' and frozen_at is null"),
    )


def downgrade() -> None:
    op.drop_index("ix_assignments_unread", table_name="assignments")
    op.drop_index("ix_assignments_leased", table_name="assignments")
    op.drop_index("ix_votes_reviewer_id_project_id_created_at", table_name="votes")
    op.drop_constraint("shown_choice_known", "votes", type_="check")
    op.drop_column("votes", "shown_choice")
