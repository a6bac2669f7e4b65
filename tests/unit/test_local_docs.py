"""docs/operators.md is a contract: every setting and every command is in it, with the default the code has."""

import re

from pydantic import SecretStr
from typer.main import get_command

from app.cli.root import app
from app.db.migrations import ROOT
from app.settings import Settings

TEXT = (ROOT / "docs" / "operators.md").read_text()


def test_every_setting_is_documented_with_its_default() -> None:
    documented = dict(re.findall(r"^\| `HONE_(\w+)` \| (.*?) \|", TEXT, re.MULTILINE))
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        shown = str(plain).lower() if isinstance(plain, bool) else str(plain)
        expected[name.upper()] = f"`{shown}`" if shown else ""
    assert documented == expected


def test_every_command_is_documented() -> None:
    def names(group: object, prefix: str) -> list[str]:
        commands = getattr(group, "commands", None)
        if commands is None:
            return [prefix]
        return [path for name, command in commands.items() for path in names(command, f"{prefix} {name}")]

    for path in names(get_command(app), "hone"):
        assert f"`{path}" in TEXT, f"{path} is not in docs/operators.md"
