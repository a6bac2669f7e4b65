"""The door for API clients: OpenAI-shaped requests, answered by a project's version."""
