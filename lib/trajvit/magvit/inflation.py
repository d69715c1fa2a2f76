"""Central inflation: an image tokenizer's weights as the start of a video tokenizer's (arXiv:2212.05199, section 3.1).

A still clip, all of whose frames are alike, gives the tokens and the reconstruction that the image tokenizer gives of
that frame: only the tap that looks at the present begins with weights, all others are zero.
"""

import torch
from einops import repeat

from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.settings import InputError


def image_config(config: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer of single frames that inflates to `config`: the same in space, one frame and one tap in time."""

    def flat(stride: tuple[int, int, int]) -> tuple[int, int, int]:
        return (1, *stride[1:])

    return config.model_copy(
        update={
            "frames": 1,
            "patch": flat(config.patch),
            "downsample": tuple(flat(stride) for stride in config.downsample),
            "kernel": flat(config.kernel),
        }
    )


@torch.no_grad()
def inflate(image: Tokenizer, config: TokenizerConfig) -> Tokenizer:
    """A video tokenizer that does with each frame what `image` does with it. Raises `InputError` for one of another shape."""
    if image.config != image_config(config):
        raise InputError(f"an image tokenizer of {image.config} was given; {config} inflates one of {image_config(config)}")
    video = Tokenizer(config)
    weights, folded = image.state_dict(), {"c": config.channels, "f": config.patch[0]}
    present = config.kernel[0] - 1 if config.padding == "causal" else config.kernel[0] // 2
    head = f"decoder.layers.{len(video.decoder.layers) - 1}."
    for name, target in video.state_dict().items():
        source = weights[name]
        if name == "encoder.layers.0.weight":  # the mean of the frames that a patch folds
            source = repeat(source, "d (c k) t h w -> d (c f k) t h w", **folded) / config.patch[0]
        elif name.startswith(head):  # each frame of a patch alike
            source = repeat(source, "(c k) ... -> (c f k) ...", **folded)
        if source.shape == target.shape:
            target.copy_(source)
        else:
            target.zero_()
            target[:, :, present] = source[:, :, 0]
    return video
