"""What only a CUDA device can tell; elsewhere there is nothing here to run (``make test-gpu``)."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
