"""How pairs are chosen and what the refill met; spare completions; the gate's blind comparisons.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FILLED = (
    ("projects", "refilling", postgresql.JSONB(), "'{}'"),
    ("projects", "gate", postgresql.JSONB(), "'{}'"),
    ("completions", "scores", postgresql.JSONB(), "'{}'"),
    ("completions", "spare", sa.Boolean(), "false"),
    ("comparisons", "kind", sa.Text(), "'current'"),
    ("comparisons", "importance", sa.Float(), "1"),
    ("comparisons", "selection", postgresql.JSONB(), "'{}'"),
)
"""Columns that are never null, with what rows that exist get."""

_NULLABLE = (
    ("projects", "refill_target", sa.Integer()),
    ("projects", "refill_last_error", sa.Text()),
    ("projects", "refill_last_error_at", sa.DateTime(timezone=True)),
    ("versions", "gate_state", sa.Text()),
)


def upgrade() -> None:
    """Add columns, counts and indexes."""
    for table, name, kind, filled in _FILLED:
        op.add_column(table, sa.Column(name, kind, nullable=False, server_default=sa.text(filled)))
    for table, name, kind in _NULLABLE:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    op.create_check_constraint(
        op.f("ck_comparisons_kind_known"), "comparisons", "kind in ('current', 'previous', 'candidate', 'gate')"
    )
    op.create_check_constraint(op.f("ck_comparisons_importance_range"), "comparisons", "importance > 0")
    op.create_check_constraint(
        op.f("ck_versions_gate_state_known"), "versions", "gate_state in ('open', 'passed', 'failed', 'ended')"
    )
    op.create_check_constraint(
        op.f("ck_versions_open_gate_has_candidate"),
        "versions",
        "gate_state is distinct from 'open' or state = 'candidate'",
    )
    op.create_index(
        "ix_completions_spare",
        "completions",
        ["project_id", "version_id", "prompt_id"],
        postgresql_where=sa.text("spare"),
    )
    op.create_index(
        "ix_comparisons_gate", "comparisons", ["project_id", "created_at"], postgresql_where=sa.text("kind = 'gate'")
    )
    op.create_table(
        "refill_counts",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.CheckConstraint("count > 0", name=op.f("ck_refill_counts_count_range")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_refill_counts_project_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_refill_counts_version_id")),
        sa.PrimaryKeyConstraint("project_id", "day", "version_id", "what", name=op.f("pk_refill_counts")),
    )


def downgrade() -> None:
    """Take them out again; comparisons between versions stay as plain ones."""
    op.drop_table("refill_counts")
    op.drop_index("ix_comparisons_gate", table_name="comparisons")
    op.drop_index("ix_completions_spare", table_name="completions")
    for name in ("ck_versions_open_gate_has_candidate", "ck_versions_gate_state_known"):
        op.drop_constraint(op.f(name), "versions", type_="check")
    for name in ("ck_comparisons_importance_range", "ck_comparisons_kind_known"):
        op.drop_constraint(op.f(name), "comparisons", type_="check")
    for table, name, _ in reversed(_NULLABLE):
        op.drop_column(table, name)
    for table, name, _, _ in reversed(_FILLED):
        op.drop_column(table, name)
