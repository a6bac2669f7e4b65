"""What an API token may be allowed to do."""

from app.language import _

SCOPES: dict[str, str] = {
    "projects:read": _("See projects and their settings"),
    "projects:write": _("Create projects, change settings and members"),
    "prompts:read": _("See prompts"),
    "prompts:write": _("Add prompts"),
    "votes:write": _("Lease comparisons and vote"),
    "rounds:read": _("Follow rounds"),
    "rounds:write": _("Start, cancel and retry rounds"),
    "versions:read": _("See versions and their figures"),
    "versions:write": _("Promote, reject and roll back versions"),
    "export:read": _("Export prompts, votes and preferences"),
    "chat": _("Talk to the current version"),
}
"""Scope → what it allows, in words for the page where tokens are made."""

KEEPS: dict[str, str] = {
    "nothing": _("Nothing of its chats is kept"),
    "prompts": _("Conversations become prompts"),
    "answers": _("Conversations become prompts, answers can be compared and rated"),
}
"""What a project keeps of the chats that are held with a token → in words for the page where tokens are made."""

KEPT_FROM_NOW: dict[str, str] = {
    "nothing": _("From now on: nothing of its chats is kept."),
    "prompts": _("From now on: conversations become prompts."),
    "answers": _("From now on: conversations become prompts, answers can be compared and rated."),
}
"""The same, as it is told when it was changed."""
