"""Ids that reviewers see: those of checks, made one by one, are drawn as those of work, made in a row."""

import itertools
import time
from random import Random
from uuid import UUID

from app.db.ids import blurred_id

COUNT = 4000


def made() -> tuple[list[int], list[int]]:
    """Ids of work, and of checks made in its place, in the order in which they were made."""
    rng = Random(11)
    work = [blurred_id(rng=rng) for _ in range(COUNT)]
    return [id_.int for id_ in work], [blurred_id(id_, rng).int for id_ in work]


def test_every_bit_is_set_as_often_in_both() -> None:
    work, checks = made()
    for bit in range(94):
        shares = [sum(id_ >> bit & 1 for id_ in ids) / COUNT for ids in (work, checks)]
        fixed = bit in (62, 63, 75, 76, 77, 78, 79)
        if fixed:
            assert shares[0] == shares[1], f"bit {bit}"
            assert shares[0] in (0, 1), f"bit {bit}"
        else:
            assert all(abs(share - 0.5) < 0.04 for share in shares), f"bit {bit}: {shares}"  # 5 standard deviations


def test_neighbours_in_time_have_nothing_more_in_common() -> None:
    """Made in one loop, ids of work neither count up nor lie closer together than checks do."""
    for ids in made():
        up = sum(later > earlier for earlier, later in itertools.pairwise(ids))
        assert abs(up / COUNT - 0.5) < 0.04
        times = sorted((id_ >> 80) & 0x3FFF for id_ in ids)
        closest = sum(later == earlier for earlier, later in itertools.pairwise(times))
        expected = COUNT - 16384 * (1 - (1 - 1 / 16384) ** COUNT)  # balls that fall into a box that has one
        assert abs(closest - expected) < 5 * expected**0.5
        assert len({id_ >> 40 for id_ in ids}) == COUNT


def test_it_is_a_uuid_of_version_7_of_the_last_half_minute() -> None:
    before = time.time() * 1000
    id_ = blurred_id()
    assert (id_.version, id_.variant) == (7, "specified in RFC 4122")
    assert before - 2 * 16384 <= id_.int >> 80 <= before
    like = UUID("01a21750-5a9f-737e-8105-15e5dcd73905")
    assert blurred_id(like).int >> 94 == like.int >> 94
