"""The first schema: accounts, projects, prompts, versions, comparisons, votes, rounds, journal."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "login_failures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", postgresql.INET(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_failures")),
    )
    op.create_index("ix_login_failures_account_hash_at", "login_failures", ["account_hash", "at"], unique=False)
    op.create_index("ix_login_failures_address_at", "login_failures", ["address", "at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("args", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["due_at"], unique=False, postgresql_where=sa.text("sent_at is null"))
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("is_site_admin", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )
    op.create_index(op.f("ix_api_tokens_user_id"), "api_tokens", ["user_id"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("guidelines", sa.Text(), nullable=False),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("training", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("votes_per_comparison", sa.Integer(), nullable=False),
        sa.Column("buffer_size", sa.Integer(), nullable=False),
        sa.Column("lease_seconds", sa.Integer(), nullable=False),
        sa.Column("held_out_percent", sa.Integer(), nullable=False),
        sa.Column("min_round_votes", sa.Integer(), nullable=False),
        sa.Column("round_every_votes", sa.Integer(), nullable=True),
        sa.Column("round_schedule", sa.Text(), nullable=True),
        sa.Column("next_round_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("promotion", sa.Text(), nullable=False),
        sa.Column("refill_problem", sa.Text(), nullable=True),
        sa.Column("refill_failures", sa.Integer(), nullable=False),
        sa.Column("refill_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refill_lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("promotion in ('manual', 'after_round', 'gate')", name=op.f("ck_projects_promotion_known")),
        sa.CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name=op.f("ck_projects_slug_form")),
        sa.CheckConstraint("buffer_size between 1 and 10000", name=op.f("ck_projects_buffer_size_range")),
        sa.CheckConstraint("held_out_percent between 0 and 50", name=op.f("ck_projects_held_out_percent_range")),
        sa.CheckConstraint("lease_seconds between 10 and 86400", name=op.f("ck_projects_lease_seconds_range")),
        sa.CheckConstraint("min_round_votes >= 2", name=op.f("ck_projects_min_round_votes_range")),
        sa.CheckConstraint(
            "round_every_votes is null or round_every_votes >= 2", name=op.f("ck_projects_round_every_votes_range")
        ),
        sa.CheckConstraint(
            "votes_per_comparison between 1 and 50", name=op.f("ck_projects_votes_per_comparison_range")
        ),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_projects_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("slug", name=op.f("uq_projects_slug")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("csrf_token", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_sessions_key_hash")),
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_audit_log_actor_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_audit_log_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_actor_id_at", "audit_log", ["actor_id", "at"], unique=False)
    op.create_index("ix_audit_log_project_id_at", "audit_log", ["project_id", "at"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("role in ('admin', 'reviewer')", name=op.f("ck_memberships_role_known")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_memberships_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "user_id", name=op.f("pk_memberships")),
    )
    op.create_index(op.f("ix_memberships_user_id"), "memberships", ["user_id"], unique=False)
    op.create_table(
        "prompts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("messages", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("sampled_count", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("source in ('api', 'file', 'form', 'chat', 'demo')", name=op.f("ck_prompts_source_known")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_prompts_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_prompts_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("project_id", "digest", name=op.f("uq_prompts_project_id_digest")),
    )
    op.create_index("ix_prompts_project_id_sampled_count", "prompts", ["project_id", "sampled_count"], unique=False)
    op.create_table(
        "versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("base_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("context_length", sa.Integer(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('full', 'adapter')", name=op.f("ck_versions_kind_known")),
        sa.CheckConstraint(
            "state in ('candidate', 'current', 'retired', 'rejected')", name=op.f("ck_versions_state_known")
        ),
        sa.ForeignKeyConstraint(["base_id"], ["versions.id"], name=op.f("fk_versions_base_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_versions_parent_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_versions_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("project_id", "number", name=op.f("uq_versions_project_id_number")),
    )
    op.create_index(
        "uq_versions_current", "versions", ["project_id"], unique=True, postgresql_where=sa.text("state = 'current'")
    )
    op.create_table(
        "completions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("prompt_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("prompt_ids", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("ids", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("end", sa.Text(), nullable=False),
        sa.Column("sampling", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("\"end\" in ('eos', 'stop', 'length', 'human')", name=op.f("ck_completions_end_known")),
        sa.CheckConstraint(
            "(version_id is null) = (\"end\" = 'human')", name=op.f("ck_completions_human_has_no_version")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_completions_project_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_completions_prompt_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_completions_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completions")),
    )
    op.create_index("ix_completions_prompt_id", "completions", ["prompt_id"], unique=False)
    op.create_index("ix_completions_version_id", "completions", ["version_id"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("reference_id", sa.Uuid(), nullable=True),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("snapshot_hash", sa.Text(), nullable=True),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('import', 'dpo')", name=op.f("ck_rounds_kind_known")),
        sa.CheckConstraint(
            "state in ('queued', 'preparing', 'training', 'publishing', 'done', 'failed', 'cancelled')",
            name=op.f("ck_rounds_state_known"),
        ),
        sa.CheckConstraint(
            "trigger in ('button', 'api', 'votes', 'schedule', 'setup')", name=op.f("ck_rounds_trigger_known")
        ),
        sa.CheckConstraint("(lease_token is null) = (lease_expires_at is null)", name=op.f("ck_rounds_lease_whole")),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_rounds_parent_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_rounds_project_id")),
        sa.ForeignKeyConstraint(["reference_id"], ["versions.id"], name=op.f("fk_rounds_reference_id")),
        sa.ForeignKeyConstraint(["requested_by"], ["users.id"], name=op.f("fk_rounds_requested_by")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_rounds_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("project_id", "number", name=op.f("uq_rounds_project_id_number")),
    )
    op.create_index(
        "uq_rounds_active",
        "rounds",
        ["project_id"],
        unique=True,
        postgresql_where=sa.text("state in ('queued', 'preparing', 'training', 'publishing')"),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("prompt_id", sa.Uuid(), nullable=False),
        sa.Column("completion_a_id", sa.Uuid(), nullable=False),
        sa.Column("completion_b_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("first_left", sa.Text(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state in ('open', 'complete', 'withdrawn', 'flagged')", name=op.f("ck_comparisons_state_known")
        ),
        sa.CheckConstraint("completion_a_id <> completion_b_id", name=op.f("ck_comparisons_two_completions")),
        sa.ForeignKeyConstraint(["completion_a_id"], ["completions.id"], name=op.f("fk_comparisons_completion_a_id")),
        sa.ForeignKeyConstraint(["completion_b_id"], ["completions.id"], name=op.f("fk_comparisons_completion_b_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_comparisons_project_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_comparisons_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index("ix_comparisons_project_id_state", "comparisons", ["project_id", "state"], unique=False)
    op.create_index("ix_comparisons_prompt_id", "comparisons", ["prompt_id"], unique=False)
    op.create_index(
        "uq_comparisons_pair",
        "comparisons",
        [
            sa.literal_column("least(completion_a_id, completion_b_id)"),
            sa.literal_column("greatest(completion_a_id, completion_b_id)"),
        ],
        unique=True,
    )
    op.create_table(
        "round_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_round_events_round_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_round_events")),
    )
    op.create_index("ix_round_events_round_id_at", "round_events", ["round_id", "at"], unique=False)
    op.create_table(
        "assignments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("reviewer_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("left_side", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("leased_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("left_side in ('a', 'b')", name=op.f("ck_assignments_left_side_known")),
        sa.CheckConstraint(
            "state in ('leased', 'voted', 'surplus', 'skipped', 'expired')", name=op.f("ck_assignments_state_known")
        ),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_assignments_comparison_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_assignments_project_id")),
        sa.ForeignKeyConstraint(["reviewer_id"], ["users.id"], name=op.f("fk_assignments_reviewer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sa.UniqueConstraint("comparison_id", "reviewer_id", name=op.f("uq_assignments_comparison_id_reviewer_id")),
    )
    op.create_index("ix_assignments_project_id_state", "assignments", ["project_id", "state"], unique=False)
    op.create_index("ix_assignments_reviewer_id_created_at", "assignments", ["reviewer_id", "created_at"], unique=False)
    op.create_table(
        "round_examples",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("prompt_id", sa.Uuid(), nullable=False),
        sa.Column("completion_a_id", sa.Uuid(), nullable=False),
        sa.Column("completion_b_id", sa.Uuid(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("vote_ids", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.CheckConstraint("outcome in ('a', 'b', 'tie', 'both_bad')", name=op.f("ck_round_examples_outcome_known")),
        sa.CheckConstraint("split in ('train', 'eval')", name=op.f("ck_round_examples_split_known")),
        sa.CheckConstraint("weight >= 0", name=op.f("ck_round_examples_weight_range")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_round_examples_comparison_id")),
        sa.ForeignKeyConstraint(
            ["completion_a_id"], ["completions.id"], name=op.f("fk_round_examples_completion_a_id")
        ),
        sa.ForeignKeyConstraint(
            ["completion_b_id"], ["completions.id"], name=op.f("fk_round_examples_completion_b_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_round_examples_prompt_id")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_round_examples_round_id")),
        sa.PrimaryKeyConstraint("round_id", "ordinal", name=op.f("pk_round_examples")),
    )
    op.create_index("ix_round_examples_comparison_id", "round_examples", ["comparison_id"], unique=False)
    op.create_table(
        "comparison_slots",
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("queue_key", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'leased') = (lease_expires_at is not null)", name=op.f("ck_comparison_slots_leased_has_expiry")
        ),
        sa.CheckConstraint(
            "(state in ('leased', 'voted')) = (assignment_id is not null)",
            name=op.f("ck_comparison_slots_held_has_assignment"),
        ),
        sa.CheckConstraint(
            "state in ('free', 'leased', 'voted', 'closed')", name=op.f("ck_comparison_slots_state_known")
        ),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name=op.f("fk_comparison_slots_assignment_id")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_comparison_slots_comparison_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_comparison_slots_project_id")),
        sa.PrimaryKeyConstraint("comparison_id", "slot", name=op.f("pk_comparison_slots")),
    )
    op.create_index(
        "ix_comparison_slots_free",
        "comparison_slots",
        ["project_id", "queue_key"],
        unique=False,
        postgresql_where=sa.text("state = 'free'"),
    )
    op.create_index(
        "ix_comparison_slots_leased",
        "comparison_slots",
        ["project_id", "lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "uq_comparison_slots_assignment_id",
        "comparison_slots",
        ["assignment_id"],
        unique=True,
        postgresql_where=sa.text("assignment_id is not null"),
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=False),
        sa.Column("reviewer_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("criteria", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("corrected", sa.Text(), nullable=True),
        sa.Column("surplus", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "choice in ('a', 'b', 'tie', 'both_bad', 'skip', 'flag', 'undone')", name=op.f("ck_votes_choice_known")
        ),
        sa.CheckConstraint("source in ('web', 'api', 'feedback')", name=op.f("ck_votes_source_known")),
        sa.CheckConstraint("strength is null or strength between 1 and 3", name=op.f("ck_votes_strength_range")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name=op.f("fk_votes_assignment_id")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_votes_comparison_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_votes_project_id")),
        sa.ForeignKeyConstraint(["reviewer_id"], ["users.id"], name=op.f("fk_votes_reviewer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_votes")),
        sa.UniqueConstraint("assignment_id", "revision", name=op.f("uq_votes_assignment_id_revision")),
    )
    op.create_index("ix_votes_comparison_id", "votes", ["comparison_id"], unique=False)
    op.create_index("ix_votes_project_id_created_at", "votes", ["project_id", "created_at"], unique=False)
    op.create_index(
        "uq_votes_idempotency",
        "votes",
        ["reviewer_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key is not null"),
    )


def downgrade() -> None:
    op.drop_index("uq_votes_idempotency", table_name="votes", postgresql_where=sa.text("idempotency_key is not null"))
    op.drop_index("ix_votes_project_id_created_at", table_name="votes")
    op.drop_index("ix_votes_comparison_id", table_name="votes")
    op.drop_table("votes")
    op.drop_index(
        "uq_comparison_slots_assignment_id",
        table_name="comparison_slots",
        postgresql_where=sa.text("assignment_id is not null"),
    )
    op.drop_index(
        "ix_comparison_slots_leased", table_name="comparison_slots", postgresql_where=sa.text("state = 'leased'")
    )
    op.drop_index("ix_comparison_slots_free", table_name="comparison_slots", postgresql_where=sa.text("state = 'free'"))
    op.drop_table("comparison_slots")
    op.drop_index("ix_round_examples_comparison_id", table_name="round_examples")
    op.drop_table("round_examples")
    op.drop_index("ix_assignments_reviewer_id_created_at", table_name="assignments")
    op.drop_index("ix_assignments_project_id_state", table_name="assignments")
    op.drop_table("assignments")
    op.drop_index("ix_round_events_round_id_at", table_name="round_events")
    op.drop_table("round_events")
    op.drop_index("uq_comparisons_pair", table_name="comparisons")
    op.drop_index("ix_comparisons_prompt_id", table_name="comparisons")
    op.drop_index("ix_comparisons_project_id_state", table_name="comparisons")
    op.drop_table("comparisons")
    op.drop_index(
        "uq_rounds_active",
        table_name="rounds",
        postgresql_where=sa.text("state in ('queued', 'preparing', 'training', 'publishing')"),
    )
    op.drop_table("rounds")
    op.drop_index("ix_completions_version_id", table_name="completions")
    op.drop_index("ix_completions_prompt_id", table_name="completions")
    op.drop_table("completions")
    op.drop_index("uq_versions_current", table_name="versions", postgresql_where=sa.text("state = 'current'"))
    op.drop_table("versions")
    op.drop_index("ix_prompts_project_id_sampled_count", table_name="prompts")
    op.drop_table("prompts")
    op.drop_index(op.f("ix_memberships_user_id"), table_name="memberships")
    op.drop_table("memberships")
    op.drop_index("ix_audit_log_project_id_at", table_name="audit_log")
    op.drop_index("ix_audit_log_actor_id_at", table_name="audit_log")
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_sessions_user_id"), table_name="sessions")
    op.drop_index(op.f("ix_sessions_expires_at"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_table("projects")
    op.drop_index(op.f("ix_api_tokens_user_id"), table_name="api_tokens")
    op.drop_table("api_tokens")
    op.drop_table("users")
    op.drop_index("ix_outbox_unsent", table_name="outbox", postgresql_where=sa.text("sent_at is null"))
    op.drop_table("outbox")
    op.drop_index("ix_login_failures_address_at", table_name="login_failures")
    op.drop_index("ix_login_failures_account_hash_at", table_name="login_failures")
    op.drop_table("login_failures")
