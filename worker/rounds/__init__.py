"""The job of a round: claim, freeze, train in a subprocess, publish, register. Each step is safe to repeat.

Postgres says which worker holds a round (``app.rounds.leases``); what lies in the job directory only saves work.
"""

from worker.rounds.run import run_rounds

__all__ = ["run_rounds"]
