"""What `hone up` says about servers of one's own before it waits for them."""

import io
from pathlib import Path

from rich.console import Console

from app.local import net
from app.local.console import Report
from app.local.supervisor import Supervisor
from app.settings import Settings


def said_of(redis_url: str, data: Path) -> str:
    output = io.StringIO()
    settings = Settings(data=data, database_url="postgresql://mine/hone", redis_url=redis_url)
    Supervisor(settings, Report(Console(file=output, width=400)), with_demo=False)._start_servers()
    return output.getvalue()


def test_a_redis_of_ones_own_that_does_not_answer_is_told_with_the_reason(tmp_path: Path, redis_url: str) -> None:
    said = said_of(f"redis://:pa55word@127.0.0.1:{net.free_port()}/0", tmp_path)
    assert "the Redis of HONE_REDIS_URL does not answer (" in said
    assert "Connection refused" in said
    assert "pa55word" not in said
    assert "✓ Redis" in said_of(redis_url, tmp_path)
    assert "does not answer" not in said_of(redis_url, tmp_path)
