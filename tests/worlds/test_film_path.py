import numpy as np
import pytest
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import frame_times, path
from trajvit.worlds.film import film, film_path, whole_in_view
from trajvit.worlds.renderer import light_centres

CIRCLE = {"x": 0.0, "y": 0.0, "z": 3.2, "r": 0.7, "vz": 0.0, "phase": 0.0, "direction": -1.0, "turns": 1.0}


@pytest.mark.parametrize("size", ["perspective", "constant"])
def test_a_given_path_is_filmed_as_the_generator_films_it(size):
    config = WorldConfig(noise_m=0.004, roll_degrees=0, size=size)
    clips = film(config, 0, "train", 0, 40)
    assert whole_in_view(config, clips).all()
    for n in range(40):
        again = film_path(config, n % 4, clips.points[n], 0.0)
        assert again.label[0] == clips.label[n]
        np.testing.assert_allclose(again.pixels[0], clips.pixels[n], atol=1e-4)
        np.testing.assert_allclose(again.frames[0].astype(int), clips.frames[n], atol=1)


def test_the_camera_rolls_by_the_given_angle():
    config = WorldConfig()
    upright, rolled = (film_path(config, 1, path(1, CIRCLE, frame_times(config.frames)), degrees) for degrees in (0.0, 90.0))
    (u, v), (rolled_u, rolled_v) = (light_centres(clips.frames)[0, 0] - 15.5 for clips in (upright, rolled))
    np.testing.assert_allclose([rolled_u, rolled_v], [-v, u], atol=0.05)


def test_a_ball_that_leaves_the_frame_is_filmed_and_told():
    config = WorldConfig()
    far = path(1, CIRCLE | {"r": 2.0}, frame_times(config.frames))
    clips = film_path(config, 1, far, 0.0)
    assert not whole_in_view(config, clips)[0] and clips.frames.max(axis=(2, 3, 4))[0].min() == 0
