"""What every test starts from: no settings from the outside, one thread per process, real servers on demand."""

import os

for _name in [name for name in os.environ if name.startswith("HONE_")]:
    del os.environ[_name]
# Two cores are shared by all test processes; libraries read these when they are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = [
    "tests.fixtures.logged",
    "tests.fixtures.postgres",
    "tests.fixtures.redis",
    "tests.fixtures.portal",
    "tests.fixtures.talking",
]
