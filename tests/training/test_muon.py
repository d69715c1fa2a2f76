import pytest
import torch
from torch import nn
from trajvit.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(3, 16, 200), (2, 200, 16), (1, 32, 32)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_steps_on_a_matrix_are_those_of_torchs_muon():
    torch.manual_seed(0)
    start, ours, theirs = torch.randn(24, 60), nn.Parameter(torch.empty(24, 60)), nn.Parameter(torch.empty(24, 60))
    ours.data.copy_(start), theirs.data.copy_(start)
    mine = Muon([ours], lr=0.02, weight_decay=0.1)
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(24, 60)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step(), torchs.step()
    moved = (ours - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # torch's iterates in bfloat16


def test_a_kernel_is_a_matrix_of_outputs_and_shares_its_turn_with_others():
    torch.manual_seed(0)
    kernels = [nn.Parameter(torch.randn(8, 4, 2, 3, 3)) for _ in range(2)]
    flat = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    for kernel, matrix in zip(kernels, flat, strict=True):
        kernel.grad = torch.randn_like(kernel)
        matrix.grad = kernel.grad.flatten(1)
    Muon(kernels, lr=0.01, weight_decay=0.0).step()
    for matrix in flat:
        Muon([matrix], lr=0.01, weight_decay=0.0).step()
    for kernel, matrix in zip(kernels, flat, strict=True):
        torch.testing.assert_close(kernel.flatten(1), matrix)
