"""The tables, a file per aggregate. Importing this package registers all of them."""

from app.db.tables.accounts import ApiToken, ApiUsage, Device, LoginFailure, User, UserSession
from app.db.tables.adjudications import Adjudication
from app.db.tables.chats import Chat, ChatAnswer, CompletionLabel
from app.db.tables.comparisons import Assignment, Comparison, ComparisonItem, ComparisonSlot, Look, Vote
from app.db.tables.journal import AuditEntry, OutboxMessage, Tick
from app.db.tables.playground import PlaygroundTurn
from app.db.tables.projects import Guidelines, GuidelinesRead, Membership, Project
from app.db.tables.prompts import Completion, Prompt, PromptUpload
from app.db.tables.refilling import RefillCount
from app.db.tables.reviewers import Control, Correction, Standing
from app.db.tables.rounds import Round, RoundEvent, RoundExample
from app.db.tables.versions import Version

__all__ = [
    "Adjudication",
    "ApiToken",
    "ApiUsage",
    "Assignment",
    "AuditEntry",
    "Chat",
    "ChatAnswer",
    "Comparison",
    "ComparisonItem",
    "ComparisonSlot",
    "Completion",
    "CompletionLabel",
    "Control",
    "Correction",
    "Device",
    "Guidelines",
    "GuidelinesRead",
    "LoginFailure",
    "Look",
    "Membership",
    "OutboxMessage",
    "PlaygroundTurn",
    "Project",
    "Prompt",
    "PromptUpload",
    "RefillCount",
    "Round",
    "RoundEvent",
    "RoundExample",
    "Standing",
    "Tick",
    "User",
    "UserSession",
    "Version",
    "Vote",
]
