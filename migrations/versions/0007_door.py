"""The door for API clients and the playground: what tokens keep and may use, chats, feedback, labels, turns.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SOURCES = "'api', 'file', 'form', 'chat', 'demo'"
_STATES = "'leased', 'voted', 'surplus', 'skipped', 'expired', 'set_aside'"


def upgrade() -> None:
    """Existing tokens keep nothing, and may use what the installation allows."""
    op.add_column("api_tokens", sa.Column("keeps", sa.Text(), server_default="nothing", nullable=False))
    op.add_column("api_tokens", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_tokens", sa.Column("tokens_per_day", sa.BigInteger(), nullable=True))
    op.create_check_constraint("keeps_known", "api_tokens", "keeps in ('nothing', 'prompts', 'answers')")
    for name in ("requests_per_minute", "tokens_per_day"):
        op.create_check_constraint(f"{name}_range", "api_tokens", f"{name} is null or {name} >= 1")
    op.add_column("projects", sa.Column("feedback", sa.Text(), server_default="train", nullable=False))
    op.create_check_constraint("feedback_known", "projects", "feedback in ('ignore', 'train', 'count')")
    _replace_check("prompts", "source", f"{_SOURCES}, 'playground'")
    _replace_check("assignments", "state", f"{_STATES}, 'feedback'")
    _create_usage_and_chats()
    _create_labels()
    _create_turns()


def downgrade() -> None:
    """What has no place in the older schema goes; feedback becomes surplus, as a vote without a place was."""
    for table in ("playground_turns", "completion_labels", "chat_answers", "chats", "api_usage"):
        op.drop_table(table)
    op.execute(
        "UPDATE votes SET surplus = true WHERE assignment_id IN (SELECT id FROM assignments WHERE state = 'feedback')"
    )
    op.execute("UPDATE assignments SET state = 'surplus' WHERE state = 'feedback'")
    op.execute("UPDATE prompts SET source = 'form' WHERE source = 'playground'")
    _replace_check("assignments", "state", _STATES)
    _replace_check("prompts", "source", _SOURCES)
    op.drop_column("projects", "feedback")
    for name in ("tokens_per_day", "requests_per_minute", "keeps"):
        op.drop_column("api_tokens", name)


def _replace_check(table: str, column: str, values: str) -> None:
    op.drop_constraint(f"{column}_known", table, type_="check")
    op.create_check_constraint(f"{column}_known", table, f"{column} in ({values})")


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), nullable=False)


def _ref(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid(), nullable=False)


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
    )


def _to(table: str, column: str, target: str, **options: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=op.f(f"fk_{table}_{column}"), **options)


def _create_usage_and_chats() -> None:
    op.create_table(
        "api_usage",
        sa.Column("caller_id", sa.Uuid(), nullable=False),
        sa.Column("allowed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("day_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller_id", name=op.f("pk_api_usage")),
    )
    op.create_table(
        "chats",
        _id(),
        *map(_ref, ("project_id", "user_id", "token_id", "prompt_id")),
        _created_at(),
        _to("chats", "project_id", "projects"),
        _to("chats", "user_id", "users"),
        _to("chats", "token_id", "api_tokens"),
        _to("chats", "prompt_id", "prompts"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chats")),
    )
    op.create_index("ix_chats_project_id_id", "chats", ["project_id", "id"])
    op.create_table(
        "chat_answers",
        _ref("chat_id"),
        sa.Column("index", sa.Integer(), nullable=False),
        _ref("completion_id"),
        _to("chat_answers", "chat_id", "chats"),
        _to("chat_answers", "completion_id", "completions"),
        sa.PrimaryKeyConstraint("chat_id", "index", name=op.f("pk_chat_answers")),
        sa.UniqueConstraint("completion_id", name=op.f("uq_chat_answers_completion_id")),
    )


def _create_labels() -> None:
    op.create_table(
        "completion_labels",
        _id(),
        *map(_ref, ("project_id", "completion_id", "user_id")),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("desirable", sa.Boolean(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        _created_at(),
        sa.CheckConstraint("source in ('feedback')", name=op.f("ck_completion_labels_source_known")),
        _to("completion_labels", "completion_id", "completions"),
        _to("completion_labels", "project_id", "projects"),
        _to("completion_labels", "user_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completion_labels")),
        sa.UniqueConstraint(
            "completion_id", "user_id", "revision", name=op.f("uq_completion_labels_completion_id_user_id_revision")
        ),
    )
    op.create_index("ix_completion_labels_project_id_created_at", "completion_labels", ["project_id", "created_at"])
    op.create_index(
        "uq_completion_labels_idempotency",
        "completion_labels",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key is not null"),
    )


def _create_turns() -> None:
    table = "playground_turns"
    op.create_table(
        table,
        _id(),
        _ref("project_id"),
        _ref("user_id"),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("messages", postgresql.JSONB(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(), nullable=False),
        _ref("left_version_id"),
        _ref("right_version_id"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("answers", postgresql.JSONB(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("comparison_id", sa.Uuid(), nullable=True),
        _created_at(),
        sa.CheckConstraint(
            "choice is null or choice in ('a', 'b', 'tie', 'both_bad')", name=op.f(f"ck_{table}_choice_known")
        ),
        sa.CheckConstraint(
            "state in ('new', 'streaming', 'done', 'failed', 'left')", name=op.f(f"ck_{table}_state_known")
        ),
        sa.CheckConstraint("(choice is null) = (chosen_at is null)", name=op.f(f"ck_{table}_choice_has_time")),
        _to(table, "comparison_id", "comparisons"),
        _to(table, "left_version_id", "versions"),
        _to(table, "right_version_id", "versions"),
        _to(table, "parent_id", table, ondelete="SET NULL"),
        _to(table, "project_id", "projects"),
        _to(table, "user_id", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_user_id_created_at", table, ["user_id", "created_at"])
