"""What an API token may be allowed to do."""

SCOPES: dict[str, str] = {
    "projects:read": "See projects and their settings",
    "projects:write": "Create projects, change settings and members",
    "prompts:read": "See prompts",
    "prompts:write": "Add prompts",
    "votes:write": "Lease comparisons and vote",
    "rounds:read": "Follow rounds",
    "rounds:write": "Start, cancel and retry rounds",
    "versions:read": "See versions and their figures",
    "versions:write": "Promote, reject and roll back versions",
    "export:read": "Export prompts, votes and preferences",
    "chat": "Talk to the current version",
}
"""Scope → what it allows, in words for the page where tokens are made."""

KEEPS: dict[str, str] = {
    "nothing": "Nothing of its chats is kept",
    "prompts": "Conversations become prompts",
    "answers": "Conversations become prompts, answers can be compared and rated",
}
"""What a project keeps of the chats that are held with a token → in words for the page where tokens are made."""
