"""Decisions about pairs on which reviewers contradict each other, and which of them a round read.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_TABLE = "adjudications"


def upgrade() -> None:
    """Rounds before have read votes alone."""
    op.create_table(
        _TABLE,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("left_side", sa.Text(), nullable=False),
        sa.Column("saw_votes", sa.Boolean(), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("withdrawn_by", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "outcome in ('a', 'b', 'tie', 'both_bad', 'leave')", name=op.f(f"ck_{_TABLE}_outcome_known")
        ),
        sa.CheckConstraint(
            "strength is null or (outcome in ('a', 'b') and strength between 1 and 3)",
            name=op.f(f"ck_{_TABLE}_strength_range"),
        ),
        sa.CheckConstraint("left_side in ('a', 'b')", name=op.f(f"ck_{_TABLE}_left_side_known")),
        sa.CheckConstraint(
            "(withdrawn_at is null) = (withdrawn_by is null)", name=op.f(f"ck_{_TABLE}_withdrawal_whole")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f(f"fk_{_TABLE}_project_id")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f(f"fk_{_TABLE}_comparison_id")),
        sa.ForeignKeyConstraint(["decided_by"], ["users.id"], name=op.f(f"fk_{_TABLE}_decided_by")),
        sa.ForeignKeyConstraint(["withdrawn_by"], ["users.id"], name=op.f(f"fk_{_TABLE}_withdrawn_by")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{_TABLE}")),
    )
    op.create_index(
        "uq_adjudications_standing",
        _TABLE,
        ["comparison_id"],
        unique=True,
        postgresql_where=sa.text("withdrawn_at is null"),
    )
    op.create_index("ix_adjudications_comparison_id", _TABLE, ["comparison_id"])
    op.create_index("ix_adjudications_project_id_id", _TABLE, ["project_id", "id"])
    op.add_column("round_examples", sa.Column("adjudication_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_round_examples_adjudication_id"), "round_examples", _TABLE, ["adjudication_id"], ["id"]
    )


def downgrade() -> None:
    """Snapshots stay as they were frozen; decisions are gone, and votes speak for themselves."""
    op.drop_constraint(op.f("fk_round_examples_adjudication_id"), "round_examples", type_="foreignkey")
    op.drop_column("round_examples", "adjudication_id")
    op.drop_table(_TABLE)
