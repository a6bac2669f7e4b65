"""Guidelines and what reviewers are asked, as they stood before: reviewers were not told of a change.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Whoever has judged in a project has seen its present guidelines, and is told of the next ones."""
    op.add_column("projects", sa.Column("guidelines_number", sa.Integer(), server_default="1", nullable=False))
    op.create_table(
        "guidelines",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("reviewing", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_guidelines_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "number", name=op.f("pk_guidelines")),
    )
    op.create_table(
        "guidelines_read",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("reviewer_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_guidelines_read_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["users.id"], name=op.f("fk_guidelines_read_reviewer_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "reviewer_id", name=op.f("pk_guidelines_read")),
    )
    op.create_index(op.f("ix_guidelines_read_reviewer_id"), "guidelines_read", ["reviewer_id"], unique=False)
    op.execute(
        "INSERT INTO guidelines_read (project_id, reviewer_id, number) "
        "SELECT DISTINCT project_id, reviewer_id, 1 FROM votes WHERE source = 'web'"
    )


def downgrade() -> None:
    """The present guidelines stay, in their project; who has read them is not known any more."""
    op.drop_table("guidelines_read")
    op.drop_table("guidelines")
    op.drop_column("projects", "guidelines_number")
