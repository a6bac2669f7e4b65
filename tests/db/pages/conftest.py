"""What the tests of the pages start from."""

import pytest

from tests.fixtures.portal import Caller, Portal


@pytest.fixture
def ann(portal: Portal) -> Caller:
    """A site admin with a browser, and a project ``tone`` of hers."""
    user = portal.user("ann@example.org", is_site_admin=True)
    portal.project("Tone", user, guidelines="Be *kind*.", min_round_votes=2)
    return portal.browser(user)
