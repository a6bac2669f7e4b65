"""One thread: the cores are shared, and tiny tensors gain nothing from a second."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
