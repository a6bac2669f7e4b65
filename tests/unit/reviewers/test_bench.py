"""The bench of bad faith, in a short run: its figures are what the product promises."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_a_short_run_finds_nine_in_ten_without_false_alarms_in_twenty() -> None:
    command = [sys.executable, "bench/reviewers.py", "--seeds", "1", "--reviewers", "60", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=250)
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed["votes_each"] == 100
    assert printed["gold_percent"] <= 5
    assert set(printed["kinds"]) == {"random", "always_left", "colluding", "duplicate"}
    for kind in printed["kinds"].values():
        assert kind["detected"] >= 0.66  # three accounts of each kind in so small a crew
        assert kind["false_alarms"] <= 0.05
        assert 0.62 <= kind["honest_agreement"] <= 0.76
