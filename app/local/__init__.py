"""The embedded default behind ``hone up``: Postgres, Redis, and the supervisor of every process of a stack.

Nothing outside this room knows whether a part is embedded: children get real addresses by environment.
"""
