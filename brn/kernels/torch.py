"""What only PyTorch can do."""

import torch


def replica_sum(total):
    """Returns `total`, summed over the processes of `torch.distributed`, differentiable."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return total
    return _AllReduce.apply(total)


class _AllReduce(torch.autograd.Function):
    """The sum over processes; the gradient of a sum over processes is one too."""

    @staticmethod
    def forward(ctx, total):
        total = total.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        torch.distributed.all_reduce(gradient)
        return gradient
