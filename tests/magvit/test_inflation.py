import pytest
import torch
from trajvit.magvit.inflation import image_config, inflate
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.settings import InputError

CONFIGS = {
    "causal": TokenizerConfig.named("nano"),
    "same": TokenizerConfig.named("nano", padding="same"),
    "colour": TokenizerConfig.named("nano", channels=3),
    "pools time": TokenizerConfig(
        patch=(1, 4, 4), base_channels=16, multipliers=(1, 2), downsample=((2, 2, 2),), kernel=(3, 3, 3), frames=4
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_inflated_tokenizer_does_with_a_still_clip_what_the_image_tokenizer_does_with_its_frame(config):
    torch.manual_seed(0)
    image = Tokenizer(image_config(config)).eval()
    frame = torch.rand(2, config.channels, 1, config.height, config.width)
    still = frame.expand(-1, -1, config.frames, -1, -1)
    video = inflate(image, config).eval()
    assert torch.equal(video.encode(still), image.encode(frame).expand(-1, config.grid[0], -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(video(still)[0], image(frame)[0].expand_as(still), atol=1e-5, rtol=1e-4)


def test_an_image_tokenizer_of_another_shape_is_refused():
    image = Tokenizer(image_config(TokenizerConfig.named("nano", height=16, width=16)))
    with pytest.raises(InputError, match="image tokenizer"):
        inflate(image, TokenizerConfig.named("nano"))
