"""Browsers in which somebody has signed in before: their failed sign-ins are counted apart.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody's browser is known until they sign in again."""
    op.create_table(
        "devices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_devices_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("key_hash", "user_id", name=op.f("uq_devices_key_hash_user_id")),
    )
    op.create_index(op.f("ix_devices_user_id"), "devices", ["user_id"])
    op.add_column("login_failures", sa.Column("device_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_login_failures_device_id"),
        "login_failures",
        "devices",
        ["device_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_index(
        "ix_login_failures_device_id",
        "login_failures",
        ["device_id"],
        postgresql_where=sa.text("device_id is not null"),
    )


def downgrade() -> None:
    """Failures in known browsers count for the account and the address again."""
    op.drop_index("ix_login_failures_device_id", table_name="login_failures")
    op.drop_column("login_failures", "device_id")
    op.drop_table("devices")
