"""What is filmed and how: the parameters of a world."""

import re
from typing import Literal

from pydantic import Field, model_validator

from trajvit.settings import InputError, Settings
from trajvit.worlds.camera import Camera

FORMATS = {
    "compact": {"frames": 8, "height": 32, "width": 32, "channels": 1},
    "classic": {"frames": 16, "height": 64, "width": 64, "channels": 3},
}


class ClipShape(Settings):
    """The shape of a clip."""

    frames: int = Field(8, ge=2, le=64, description="frames T in a clip of one second")
    height: int = Field(32, ge=8, le=512, description="pixels H")
    width: int = Field(32, ge=8, le=512, description="pixels W")
    channels: Literal[1, 3] = Field(1, description="1 gray, 3 RGB")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, self.height, self.width, self.channels

    @property
    def bytes(self) -> int:
        """Bytes of a clip's frames."""
        return self.frames * self.height * self.width * self.channels


class WorldConfig(ClipShape):
    """The parameters of a world; together with (seed, split, i) they determine sample i to the byte."""

    variety: Literal["textbook", "varied"] = Field("textbook", description="how much the families vary")
    size: Literal["perspective", "constant"] = Field("perspective", description="does the ball shrink with depth")
    ball_radius_m: float = Field(0.23, gt=0, le=2, description="radius R of the ball, metres")
    noise_m: float = Field(0.004, ge=0, le=0.1, description="standard deviation of the noise on the path, metres")
    roll_degrees: float = Field(15.0, ge=0, le=180, description="the camera rolls by up to this much either way")

    @classmethod
    def named(cls, format: str, **options) -> "WorldConfig":
        """The world of a format: `compact`, `classic` or TxHxWxC such as `16x128x128x3`; else raises `InputError`, as for a size in
        the `options`, which the format says."""
        if twice := sorted(ClipShape.model_fields.keys() & options.keys()):
            raise InputError(f"{', '.join(twice)} was given beside format = {format!r}: say it in the format, as 16x128x128x3")
        if format in FORMATS:
            return cls(**FORMATS[format], **options)
        sizes = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)", format)
        if not sizes:
            raise InputError(f"format {format!r} is unknown; there are {', '.join(FORMATS)}, or sizes such as 16x128x128x3")
        return cls(**dict(zip(("frames", "height", "width", "channels"), map(int, sizes.groups()), strict=True)), **options)

    @property
    def camera(self) -> Camera:
        return Camera(self.height, self.width)

    @property
    def mirrors(self) -> bool:
        """Whether clips with left and right exchanged are clips of this world and of the same family, just as likely."""
        return self.variety == "varied"

    @model_validator(mode="after")
    def _ball_fits_the_frame(self):
        near, far = (self.camera.radius(self.ball_radius_m, z) for z in (Camera.NEAREST_M, Camera.FARTHEST_M))
        if 2 * near > 0.5 * min(self.height, self.width) or far < 1:
            raise ValueError(
                f"ball_radius_m = {self.ball_radius_m:g} shows as {2 * far:.1f} to {2 * near:.1f} px across in a "
                f"{self.height}x{self.width} frame; it must stay between 2 px and half the frame: change ball_radius_m"
            )
        return self
