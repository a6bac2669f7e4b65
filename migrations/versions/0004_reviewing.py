"""What reviewers are asked, rankings of several answers, and what a vote may say beside the choice.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PAIR = [sa.text("LEAST(completion_a_id, completion_b_id)"), sa.text("GREATEST(completion_a_id, completion_b_id)")]
_CHOICES = "'a', 'b', 'tie', 'both_bad', 'skip', 'flag', 'undone'"
_SHOWN = "'left', 'right', 'tie', 'both_bad', 'skip', 'flag', 'undone'"


def upgrade() -> None:
    """Existing rows are pairs of projects with today's page; leases that run have been shown."""
    op.add_column(
        "projects", sa.Column("reviewing", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False)
    )

    op.add_column("comparisons", sa.Column("mode", sa.Text(), server_default="pair", nullable=False))
    op.add_column("comparisons", sa.Column("flags_cleared_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("comparisons", sa.Column("tells", sa.Text(), nullable=True))
    op.create_check_constraint("mode_known", "comparisons", "mode in ('pair', 'ranking')")
    op.drop_index("uq_comparisons_pair", table_name="comparisons")
    op.create_index("uq_comparisons_pair", "comparisons", _PAIR, unique=True, postgresql_where=sa.text("mode = 'pair'"))
    op.create_table(
        "comparison_items",
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("position between 0 and 7", name=op.f("ck_comparison_items_position_range")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_comparison_items_comparison_id")),
        sa.ForeignKeyConstraint(["completion_id"], ["completions.id"], name=op.f("fk_comparison_items_completion_id")),
        sa.PrimaryKeyConstraint("comparison_id", "position", name=op.f("pk_comparison_items")),
        sa.UniqueConstraint(
            "comparison_id", "completion_id", name=op.f("uq_comparison_items_comparison_id_completion_id")
        ),
    )

    op.add_column("assignments", sa.Column("shown_order", postgresql.ARRAY(sa.Integer()), nullable=True))
    op.add_column("assignments", sa.Column("shown_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE assignments SET shown_at = leased_at")

    op.add_column("votes", sa.Column("ranking", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("votes", sa.Column("tags", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False))
    _replace_checks(f"{_CHOICES}, 'ranked'", f"{_SHOWN}, 'ranked'")
    op.create_check_constraint("ranked_has_ranking", "votes", "(choice = 'ranked') = (ranking is not null)")


def downgrade() -> None:
    """Rankings have no place in the older schema: their votes and comparisons go."""
    op.execute("DELETE FROM votes WHERE choice = 'ranked'")
    op.execute(
        "UPDATE comparison_slots SET assignment_id = NULL, lease_expires_at = NULL, state = 'closed' "
        "WHERE comparison_id IN (SELECT id FROM comparisons WHERE mode = 'ranking')"
    )
    for table in ("votes", "round_examples", "assignments", "comparison_slots", "comparison_items"):
        op.execute(
            f"DELETE FROM {table} WHERE comparison_id IN (SELECT id FROM comparisons WHERE mode = 'ranking')"  # noqa: S608
        )
    op.execute("DELETE FROM comparisons WHERE mode = 'ranking'")
    op.drop_constraint("ranked_has_ranking", "votes", type_="check")
    _replace_checks(_CHOICES, _SHOWN)
    op.drop_column("votes", "tags")
    op.drop_column("votes", "ranking")
    op.drop_column("assignments", "shown_at")
    op.drop_column("assignments", "shown_order")
    op.drop_table("comparison_items")
    op.drop_index("uq_comparisons_pair", table_name="comparisons")
    op.create_index("uq_comparisons_pair", "comparisons", _PAIR, unique=True)
    op.drop_constraint("mode_known", "comparisons", type_="check")
    op.drop_column("comparisons", "tells")
    op.drop_column("comparisons", "flags_cleared_at")
    op.drop_column("comparisons", "mode")
    op.drop_column("projects", "reviewing")


def _replace_checks(choices: str, shown: str) -> None:
    for name, values in (("choice", choices), ("shown_choice", shown)):
        op.drop_constraint(f"{name}_known", "votes", type_="check")
        op.create_check_constraint(f"{name}_known", "votes", f"{name} in ({values})")
