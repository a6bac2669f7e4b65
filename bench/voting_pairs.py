"""What ``bench/voting.py`` lays before its reviewers, and what it finds in the database afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from app.accounts.passwords import hash_password
from app.db.base import utcnow
from app.db.tables import Membership, Project, User
from tests.factories.rows import make_project, make_version

PASSWORD = "voting-bench-password"
_PROSE = "Give it light and warmth, and water it from below; **never** from above, or the leaves get spots. "
_CODE = """

```python
def water(plant, litres=0.2):
    return plant.soil + litres  # enough
```

- once a week
- twice in summer

"""

# Questions, two answers to each (about 170 and 280 words, a third of the first with code), comparisons and slots.
_LAY = text("""
    WITH numbers AS (
        SELECT n, uuidv7() AS prompt, uuidv7() AS a, uuidv7() AS b, uuidv7() AS comparison
        FROM generate_series(1, :pairs) n
    ), prompts AS (
        INSERT INTO prompts (id, project_id, digest, messages, held_out, source, sampled_count)
        SELECT prompt, :project, sha256(convert_to(:slug || n, 'UTF8')),
               jsonb_build_array(jsonb_build_object('role', 'user', 'content',
                   'Question ' || n || ': how do I keep basil alive on a window sill in winter?')), false, 'form', 1
        FROM numbers
    ), completions AS (
        INSERT INTO completions (id, project_id, prompt_id, version_id, text, prompt_ids, ids, "end", sampling)
        SELECT a, :project, prompt, CAST(:version AS uuid),
               n || '. ' || repeat(:prose, 6) || CASE WHEN n % 3 = 0 THEN :code ELSE '' END || repeat(:prose, 4),
               '{1,10}'::int[], '{11,12,2}'::int[], 'eos', '{}'::jsonb FROM numbers
        UNION ALL
        SELECT b, :project, prompt, CAST(:version AS uuid), n || '. ' || repeat(:prose, 16),
               '{1,10}'::int[], '{11,13,2}'::int[], 'eos', '{}'::jsonb FROM numbers
    ), comparisons AS (
        INSERT INTO comparisons (id, project_id, prompt_id, completion_a_id, completion_b_id, state, first_left,
                                 strategy)
        SELECT comparison, :project, prompt, a, b, 'open', CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, 'random'
        FROM numbers
    )
    INSERT INTO comparison_slots (comparison_id, slot, project_id, queue_key, state)
    SELECT comparison, slot, :project, n, 'free' FROM numbers, generate_series(0, :slots - 1) slot
""")

_STORED = text(
    "SELECT idempotency_key, count(*) AS votes FROM votes WHERE project_id = :project GROUP BY idempotency_key"
)

# More counted votes than were asked for; votes that no slot stands for; slots whose vote is not there.
_OVERRUN = text("""
    SELECT (SELECT count(*) FROM (
              SELECT comparison_id FROM assignments WHERE project_id = :project AND state = 'voted'
              GROUP BY comparison_id HAVING count(*) > :slots) more)
           + (SELECT count(*) FROM assignments a WHERE a.project_id = :project AND a.state = 'voted' AND NOT EXISTS (
                SELECT 1 FROM comparison_slots s WHERE s.assignment_id = a.id AND s.state = 'voted'))
           + (SELECT count(*) FROM comparison_slots s WHERE s.project_id = :project AND s.state = 'voted'
              AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.assignment_id = s.assignment_id))
""")


@dataclass(frozen=True, slots=True)
class Laid:
    """A project with pairs in its queue."""

    id: UUID
    slug: str
    slots: int


def make_people(db: Session, count: int) -> list[User]:
    """Reviewers who can sign in with ``PASSWORD``."""
    hashed = hash_password(PASSWORD)
    people = [User(email=f"bench{n}@example.org", name=f"Bench {n}", password_hash=hashed) for n in range(count)]
    db.add_all(people)
    db.flush()
    return people


def lay(db: Session, slug: str, people: Sequence[User], *, pairs: int, slots: int) -> Laid:
    """A project with these reviewers and ``pairs`` comparisons that ask for ``slots`` votes each."""
    project = make_project(db, slug=slug, votes_per_comparison=slots)
    version = make_version(db, project, number=1)
    db.add_all(Membership(project_id=project.id, user_id=person.id, role="reviewer") for person in people)
    db.flush()
    values = {"pairs": pairs, "slots": slots, "project": project.id, "slug": slug, "version": version.id}
    db.execute(_LAY, values | {"prose": _PROSE, "code": _CODE})
    return Laid(project.id, slug, slots)


def faults(db: Session, laid: Laid, keys: Sequence[str]) -> list[str]:
    """What is wrong with what was stored for the votes that were acknowledged; nothing, if all is as it should be."""
    stored = {row.idempotency_key: row.votes for row in db.execute(_STORED, {"project": laid.id})}
    found = [f"{count} rows for the vote {key}" for key, count in stored.items() if count != 1]
    found += [f"the acknowledged vote {key} is not stored" for key in set(keys) - set(stored)]
    found += [f"the vote {key} is stored and was never acknowledged" for key in set(stored) - set(keys)]
    if len(set(keys)) != len(keys):
        found.append(f"{len(keys) - len(set(keys))} keys were given out twice")
    overrun = db.execute(_OVERRUN, {"project": laid.id, "slots": laid.slots}).scalar_one()
    if overrun:
        found.append(f"{overrun} comparisons or slots do not agree with their votes")
    return found


def put_away(db: Session, laid: Laid) -> None:
    """Nobody has anything more to do with it: no worker fills its queue while others are measured."""
    db.execute(text("UPDATE prompts SET archived_at = now() WHERE project_id = :project"), {"project": laid.id})
    db.execute(update(Project).where(Project.id == laid.id).values(archived_at=utcnow()))
