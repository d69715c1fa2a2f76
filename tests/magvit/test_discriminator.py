import math

import pytest
import torch
from torch import nn
from trajvit.magvit.discriminator import R1, Discriminator, LeCam, discriminator_loss, generator_loss


class Brightness(nn.Module):
    """A discriminator whose gradient is known: its logit is `slope` times the sum of a clip's pixels."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, video):
        return self.slope * video.flatten(1).sum(1)


def test_losses_of_undecided_logits_are_log_2():
    nothing = torch.zeros(5)
    assert generator_loss(nothing).item() == pytest.approx(math.log(2))
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))


def test_r1_is_half_the_squared_gradient_and_pulls_it_down():
    discriminator, video = Brightness(0.3), torch.rand(2, 1, 4, 8, 8)
    penalty = R1(weight=2.0)(discriminator, video, torch.zeros(2), torch.zeros(2))
    assert penalty.item() == pytest.approx(2 * 0.3**2 * 4 * 8 * 8 / 2, rel=1e-5)
    penalty.backward()
    assert discriminator.slope.grad.item() == pytest.approx(2 * 0.3 * 4 * 8 * 8, rel=1e-5)


def test_lecam_is_the_distance_of_each_to_where_the_other_has_been():
    video, real, fake = torch.rand(3, 1, 4, 8, 8), torch.full((3,), 1.0), torch.full((3,), 4.0)
    # with no memory the averages are this batch's, 1 and 4; with half, from zero, they are 0.5 and 2
    nobody = Brightness(0.0)
    assert LeCam(1.0, decay=0.0)(nobody, video, real, fake).item() == pytest.approx(9 + 9)
    assert LeCam(1.0, decay=0.5)(nobody, video, real, fake).item() == pytest.approx(1 + 3.5**2)


@pytest.mark.parametrize("shape", [(1, 8, 32, 32), (3, 16, 64, 64), (1, 3, 20, 28)])
def test_a_discriminator_takes_any_clip(shape):
    channels, *clip = shape
    assert Discriminator(channels, tuple(clip), R1(), width=8)(torch.rand(2, *shape)).shape == (2,)


def test_a_discriminator_learns_to_tell():
    torch.manual_seed(0)
    discriminator = Discriminator(1, (4, 16, 16), R1(), width=8)
    optimizer = torch.optim.Adam(discriminator.parameters(), 5e-4)
    real, fake = torch.rand(16, 1, 4, 16, 16), torch.rand(16, 1, 4, 16, 16) * 0.7
    for _ in range(60):
        loss = discriminator_loss(discriminator(real), discriminator(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (discriminator(real) > 0).all()
    assert (discriminator(fake) < 0).all()
