"""One thread per test process: faster for tiny networks, and the same bytes everywhere."""

import torch

torch.set_num_threads(1)
