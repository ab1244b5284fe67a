"""What only PyTorch can do."""

import torch
from torch.distributed.nn.functional import all_reduce


def replica_sum(total):
    """Returns `total`, summed over the processes of `torch.distributed`, differentiable."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return total
    return all_reduce(total)
