"""Pairs with a known answer, repeats, where reviewers stand, and preferences of more than two completions.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NOW = sa.text("clock_timestamp()")
EMPTY = sa.text("'{}'")


def upgrade() -> None:
    op.add_column("projects", sa.Column("queue", postgresql.JSONB(), nullable=False, server_default=EMPTY))
    op.add_column("projects", sa.Column("queue_order", sa.Text(), nullable=False, server_default="oldest"))
    op.add_column("projects", sa.Column("aggregation", postgresql.JSONB(), nullable=False, server_default=EMPTY))
    op.add_column("projects", sa.Column("reviewers_looked_at", sa.DateTime(timezone=True)))
    _controls()
    _standings()
    _checks()
    op.create_table(
        "corrections",
        sa.Column("vote_id", sa.Uuid(), sa.ForeignKey("votes.id"), primary_key=True),
        sa.Column("completion_id", sa.Uuid(), sa.ForeignKey("completions.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
    )
    op.drop_constraint("state_known", "assignments", type_="check")
    op.create_check_constraint(
        "state_known",
        "assignments",
        "state in ('leased', 'voted', 'surplus', 'skipped', 'expired', 'set_aside')",
    )
    _examples()


def _controls() -> None:
    op.create_table(
        "controls",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project_id", sa.Uuid(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Uuid(), sa.ForeignKey("prompts.id"), nullable=False),
        sa.Column("completion_a_id", sa.Uuid(), sa.ForeignKey("completions.id"), nullable=False),
        sa.Column("completion_b_id", sa.Uuid(), sa.ForeignKey("completions.id"), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Uuid(), sa.ForeignKey("comparisons.id")),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), sa.ForeignKey("users.id")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind in ('gold', 'attention')", name="kind_known"),
        sa.CheckConstraint("answer in ('a', 'b')", name="answer_known"),
        sa.CheckConstraint("origin in ('admin', 'unanimous', 'made')", name="origin_known"),
        sa.CheckConstraint("completion_a_id <> completion_b_id", name="two_completions"),
    )
    op.create_index(
        "uq_controls_pair",
        "controls",
        [sa.text("least(completion_a_id, completion_b_id)"), sa.text("greatest(completion_a_id, completion_b_id)")],
        unique=True,
    )
    op.create_index("ix_controls_project_id_kind", "controls", ["project_id", "kind"])


def _standings() -> None:
    op.create_table(
        "standings",
        sa.Column("project_id", sa.Uuid(), sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("reviewer_id", sa.Uuid(), sa.ForeignKey("users.id"), primary_key=True),
        sa.Column("handed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("schedule", postgresql.JSONB(), nullable=False, server_default=EMPTY),
        sa.Column("qualification", sa.Text(), nullable=False, server_default="open"),
        sa.Column("daily_goal", sa.Integer()),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("paused_reason", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.CheckConstraint("qualification in ('open', 'passed', 'failed', 'waived')", name="qualification_known"),
        sa.CheckConstraint("handed >= 0", name="handed_range"),
        sa.CheckConstraint("daily_goal is null or daily_goal between 1 and 10000", name="daily_goal_range"),
        sa.CheckConstraint("(paused_at is null) = (paused_reason is null)", name="pause_whole"),
    )
    op.create_index("ix_standings_reviewer_id", "standings", ["reviewer_id"])


def _checks() -> None:
    op.add_column("comparisons", sa.Column("purpose", sa.Text(), nullable=False, server_default="work"))
    op.add_column("comparisons", sa.Column("for_reviewer_id", sa.Uuid(), sa.ForeignKey("users.id")))
    op.add_column("comparisons", sa.Column("source_id", sa.Uuid(), sa.ForeignKey("comparisons.id")))
    op.add_column("comparisons", sa.Column("control_id", sa.Uuid(), sa.ForeignKey("controls.id")))
    for name, rule in (
        ("purpose_known", "purpose in ('work', 'gold', 'attention', 'repeat')"),
        ("check_has_reviewer", "(purpose = 'work') = (for_reviewer_id is null)"),
        ("control_named", "(purpose in ('gold', 'attention')) = (control_id is not null)"),
    ):
        op.create_check_constraint(name, "comparisons", rule)
    op.drop_index("uq_comparisons_pair", table_name="comparisons")
    _pair_index("mode = 'pair' and purpose = 'work'")
    for name, column in (("uq_comparisons_control_once", "control_id"), ("uq_comparisons_copy_once", "source_id")):
        op.create_index(
            name,
            "comparisons",
            ["for_reviewer_id", column],
            unique=True,
            postgresql_where=sa.text(f"{column} is not null"),
        )


def _pair_index(where: str) -> None:
    op.create_index(
        "uq_comparisons_pair",
        "comparisons",
        [sa.text("least(completion_a_id, completion_b_id)"), sa.text("greatest(completion_a_id, completion_b_id)")],
        unique=True,
        postgresql_where=sa.text(where),
    )


def _examples() -> None:
    op.add_column("round_examples", sa.Column("kind", sa.Text(), nullable=False, server_default="pair"))
    op.add_column("round_examples", sa.Column("tiers", postgresql.JSONB()))
    op.add_column("round_examples", sa.Column("desirable", sa.Boolean()))
    for column in ("comparison_id", "completion_b_id", "outcome"):
        op.alter_column("round_examples", column, nullable=True)
    for name, rule in (
        ("kind_known", "kind in ('pair', 'ranking', 'label')"),
        ("pair_whole", "(kind = 'pair') = (completion_b_id is not null and outcome is not null)"),
        ("ranking_whole", "(kind = 'ranking') = (tiers is not null)"),
        ("label_whole", "(kind = 'label') = (desirable is not null)"),
    ):
        op.create_check_constraint(name, "round_examples", rule)


def downgrade() -> None:
    op.execute("DELETE FROM round_examples WHERE kind <> 'pair' OR comparison_id IS NULL")
    for name in ("label_whole", "ranking_whole", "pair_whole", "kind_known"):
        op.drop_constraint(name, "round_examples", type_="check")
    for column in ("outcome", "completion_b_id", "comparison_id"):
        op.alter_column("round_examples", column, nullable=False)
    for column in ("desirable", "tiers", "kind"):
        op.drop_column("round_examples", column)
    op.drop_constraint("state_known", "assignments", type_="check")
    op.execute("UPDATE assignments SET state = 'surplus' WHERE state = 'set_aside'")
    op.create_check_constraint(
        "state_known", "assignments", "state in ('leased', 'voted', 'surplus', 'skipped', 'expired')"
    )
    op.drop_table("corrections")
    _forget_checks()
    op.drop_index("uq_comparisons_copy_once", table_name="comparisons")
    op.drop_index("uq_comparisons_control_once", table_name="comparisons")
    op.drop_index("uq_comparisons_pair", table_name="comparisons")
    _pair_index("mode = 'pair'")
    for name in ("control_named", "check_has_reviewer", "purpose_known"):
        op.drop_constraint(name, "comparisons", type_="check")
    for column in ("control_id", "source_id", "for_reviewer_id", "purpose"):
        op.drop_column("comparisons", column)
    op.drop_table("standings")
    op.drop_table("controls")
    for column in ("reviewers_looked_at", "aggregation", "queue_order", "queue"):
        op.drop_column("projects", column)


def _forget_checks() -> None:
    """Checks have no place in the schema before: they and what was said of them go."""
    for table in ("comparison_slots", "comparison_items", "votes", "assignments"):
        op.execute(
            f"DELETE FROM {table} WHERE comparison_id IN (SELECT id FROM comparisons WHERE purpose <> 'work')"  # noqa: S608
        )
    op.execute("DELETE FROM comparisons WHERE purpose <> 'work'")
