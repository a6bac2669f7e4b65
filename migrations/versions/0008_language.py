"""The language in which a person reads pages, and on which side of the page answer A stood for a vote.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Everybody goes on in the language of their browser; every page so far read from left to right."""
    op.add_column("users", sa.Column("language", sa.Text(), nullable=True))
    op.create_check_constraint("language_known", "users", "language in ('en', 'de', 'ar')")
    op.add_column("votes", sa.Column("mirrored", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Choices of a language are lost, and where answer A stood."""
    op.drop_column("votes", "mirrored")
    op.drop_column("users", "language")
