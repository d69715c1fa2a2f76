import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trajvit.settings import InputError
from trajvit.worlds.camera import Camera
from trajvit.worlds.config import FORMATS, WorldConfig
from trajvit.worlds.exact import natural_log, philox4x32, sin_cos
from trajvit.worlds.families import FAMILIES
from trajvit.worlds.film import film
from trajvit.worlds.renderer import light_centres
from trajvit.worlds.streams import SPLITS

ARRAYS = ("frames", "label", "points", "pixels", "radius")


def worlds():
    return st.builds(
        WorldConfig,
        frames=st.sampled_from([2, 5, 8]),
        height=st.sampled_from([32, 48]),
        width=st.sampled_from([32, 40]),
        channels=st.sampled_from([1, 3]),
        variety=st.sampled_from(["textbook", "varied"]),
        size=st.sampled_from(["perspective", "constant"]),
        noise_m=st.sampled_from([0.0, 0.004]),
        roll_degrees=st.sampled_from([0.0, 15.0]),
    )


@settings(max_examples=15, deadline=None)
@given(world=worlds(), seed=st.integers(0, 2**32 - 1), start=st.integers(0, 10**9), split=st.sampled_from(SPLITS))
def test_a_sample_depends_on_its_seed_split_and_number_alone(world, seed, start, split):
    together = film(world, seed, split, start, start + 9)
    alone = film(world, seed, split, start + 4, start + 6)
    for name in ARRAYS:
        assert np.array_equal(getattr(together, name)[4:6], getattr(alone, name)), name


@settings(max_examples=15, deadline=None)
@given(world=worlds(), seed=st.integers(0, 2**32 - 1))
def test_the_whole_ball_is_inside_every_frame_and_where_its_projection_says(world, seed):
    clips = film(world, seed, "train", 0, 40)
    light = clips.frames.astype(float).max(axis=-1)
    mass = light.sum(axis=(2, 3))
    u = (light.sum(axis=2) * np.arange(world.width)).sum(-1) / mass
    v = (light.sum(axis=3) * np.arange(world.height)).sum(-1) / mass
    assert np.allclose(light_centres(clips.frames), np.stack([u, v], axis=-1))
    assert np.hypot(u - clips.pixels[..., 0], v - clips.pixels[..., 1]).max() <= 0.05
    full = light.max(axis=(2, 3), keepdims=True)[..., 0, 0]
    area = mass / full
    assert np.allclose(area, np.pi * clips.radius**2, rtol=0.12)
    assert clips.points[..., 2].min() > Camera.NEAREST_M - 0.1
    assert clips.points[..., 2].max() < Camera.FARTHEST_M + 0.1


def test_pixels_are_the_pinhole_projection_of_points():
    world = WorldConfig(roll_degrees=0)
    clips = film(world, 0, "train", 0, 100)
    x, y, z = np.moveaxis(clips.points.astype(float), -1, 0)
    assert np.allclose(clips.pixels[..., 0], 32 * x / z + 15.5, atol=1e-4)
    assert np.allclose(clips.pixels[..., 1], 32 * y / z + 15.5, atol=1e-4)
    assert np.allclose(clips.radius, 32 * world.ball_radius_m / z, atol=1e-4)


def test_splits_and_seeds_share_no_clip_and_no_clip_comes_twice():
    world = WorldConfig()
    clips = [film(world, seed, split, 0, 500).frames for seed in (0, 1) for split in SPLITS]
    frames = np.concatenate(clips).reshape(3000, -1)
    assert len({row.tobytes() for row in frames}) == 3000


@given(stop=st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_classes_are_balanced_to_within_one_in_any_prefix(stop):
    counts = np.bincount(film(WorldConfig(frames=2), 0, "train", 0, stop).label, minlength=len(FAMILIES))
    assert counts.max() - counts.min() <= 1


def test_noise_free_paths_obey_their_equations():
    world = WorldConfig(frames=9, noise_m=0)
    clips = film(world, 3, "train", 0, 200)
    t = np.linspace(0, 1, 9)
    points = clips.points.astype(float)
    second = np.diff(points, n=2, axis=1)
    linear, circular, helical, parabolic = (points[clips.label == k] for k in range(4))
    assert np.abs(second[clips.label == 0]).max() < 1e-4
    assert np.ptp(circular[..., 2], axis=1).max() < 1e-4
    for turning, turns in ((circular, 1), (helical, 2)):
        centre = turning[:, :-1, :2].mean(axis=1, keepdims=True)
        offset = turning[..., :2] - centre
        assert np.allclose(np.hypot(*np.moveaxis(offset, -1, 0)), np.hypot(*offset[:, :1].T).T, atol=1e-3)
        angle = np.arctan2(offset[..., 1], offset[..., 0])
        assert np.abs(np.angle(np.exp(1j * (angle + 2 * np.pi * turns * t)))).max() < 1e-3
    fall = second[clips.label == 3]
    assert np.abs(fall[..., [0, 2]]).max() < 1e-4
    assert (fall[..., 1] > 0).all() and np.ptp(fall[..., 1], axis=1).max() < 1e-4
    assert (np.diff(parabolic[..., 0], axis=1) > 0).all()
    assert len(linear) == 50


def test_varied_launches_to_both_sides_and_turns_both_ways():
    clips = film(WorldConfig(variety="varied", noise_m=0), 0, "train", 0, 400)
    throws = clips.points[clips.label == 3]
    rightwards = (throws[:, -1, 0] > throws[:, 0, 0]).mean()
    assert 0.3 < rightwards < 0.7


@pytest.mark.parametrize("variety", ["textbook", "varied"])
def test_a_world_that_mirrors_knows_no_left_and_no_right(variety):
    """What a mirror turns round has to be zero on average, in every family: where balls are, which way they fly and turn."""
    world = WorldConfig(variety=variety)
    clips = film(world, 0, "train", 0, 8000)
    place = clips.pixels.astype(float) - (world.width - 1) / 2  # (N, T, 2)
    steps = np.diff(place, axis=1)
    turns = (steps[:, :-1, 0] * steps[:, 1:, 1] - steps[:, :-1, 1] * steps[:, 1:, 0]).sum(1)
    odd = np.stack([place[..., 0].mean(1), place[:, 0, 0], place[:, -1, 0] - place[:, 0, 0], turns], axis=1)
    for label in range(len(FAMILIES)):
        of = odd[clips.label == label]
        errors_off = np.abs(of.mean(0)) / (of.std(0) / len(of) ** 0.5)
        if world.mirrors or label == 0:
            assert errors_off.max() < 4
        else:
            assert errors_off.max() > 10


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_movable_just_where_a_moved_picture_is_still_on_its_path(family):
    world, t = WorldConfig(noise_m=0), np.linspace(0, 1, 8)
    clips = film(world, 0, "train", 0, 400)
    here = clips.label == FAMILIES.index(family)
    turns = family.textbook["turns"].low if "turns" in family.textbook else None
    basis = (
        np.stack([t**k for k in range({"linear": 2, "parabolic": 3}[family.name])], axis=1)
        if turns is None
        else np.stack([t**0, np.cos(2 * np.pi * turns * t), np.sin(2 * np.pi * turns * t)], axis=1)
    )  # (T, terms)
    for shift in (np.zeros(2), np.array([4, -3])):
        place = (clips.pixels[here] - 15.5 + shift) * clips.points[here][..., 2:] / world.camera.focal_px  # (n, T, 2) m
        off = place - basis @ (np.linalg.pinv(basis) @ place)
        assert (np.abs(off).max() < 1e-4) == (family.movable or not shift.any())


def test_philox_gives_the_published_answers():
    """Known-answer vectors of Random123 (Salmon et al.), philox4x32 with 10 rounds."""
    zeros = philox4x32(*[np.uint32(0)] * 6)
    assert [int(word) for word in zeros] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = philox4x32(*[np.uint32(0xFFFFFFFF)] * 6)
    assert [int(word) for word in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("name", FORMATS)
def test_every_named_format_can_be_filmed(name):
    world = WorldConfig.named(name)
    frames = film(world, 0, "val", 0, 4).frames
    assert frames.shape == (4, world.frames, world.height, world.width, world.channels)
    assert frames.max() == 255


def test_a_large_colour_format_keeps_one_bright_colour_a_clip():
    clips = film(WorldConfig.named("16x128x128x3"), 0, "train", 0, 2)
    assert clips.frames.shape == (2, 16, 128, 128, 3)
    peak = clips.frames.max(axis=(2, 3))
    assert (peak.max(axis=-1) == 255).all() and (np.ptp(peak.astype(int), axis=1) <= 2).all()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"ball_radius_m": 1.5}, "ball_radius_m"),
        ({"ball_radius_m": 0.01}, "ball_radius_m"),
        ({"frames": 1}, "frames"),
        ({"channels": 2}, "channels"),
        ({"variety": "wild"}, "variety"),
        ({"wobble": 1}, "'wobble' is not a parameter"),
        ({"noise_m": "much"}, "noise_m"),
    ],
)
def test_impossible_worlds_are_refused_in_one_line(parameters, says):
    with pytest.raises(InputError, match=says) as refused:
        WorldConfig(**parameters)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("format", ["huge", "8x32x32", "8x32x32x2", "1x32x32x1", ""])
def test_impossible_formats_are_refused(format):
    with pytest.raises(InputError):
        WorldConfig.named(format)


def test_sines_and_logarithms_are_right_to_a_few_last_bits():
    for turns in np.random.default_rng(0).uniform(-3, 3, 2000):
        sine, cosine = sin_cos(turns)
        assert abs(sine - np.sin(2 * np.pi * turns)) < 1e-14 and abs(cosine - np.cos(2 * np.pi * turns)) < 1e-14
    for x in np.random.default_rng(0).uniform(0, 1, 2000) ** 8 + 2.0**-33:
        assert abs(natural_log(x) - np.log(x)) <= 4e-16 * max(1, abs(np.log(x)))
    assert sin_cos(0.25) == (1, 0) and sin_cos(-0.5)[1] == -1 and natural_log(1.0) == 0


def test_every_family_names_its_parameters_as_its_path_takes_them():
    """`position` hands them over by place: a path must read as the priors are declared."""
    import inspect

    from trajvit.worlds import families

    for family, path in zip(FAMILIES, (families.linear, families.turning, families.turning, families.thrown), strict=True):
        assert list(inspect.signature(path.py_func).parameters)[1:] == list(family.textbook)
        assert set(family.varied) <= set(family.textbook)


def test_a_known_clip_never_changes():
    """Bytes of today: a change of any of them makes every dataset, and every figure, another one."""
    import hashlib

    clips = film(WorldConfig(variety="varied"), 7, "test", 10**9, 10**9 + 64)
    assert hashlib.sha256(clips.frames.tobytes() + clips.points.tobytes()).hexdigest()[:16] == "92470b9c7951991a"


def test_a_dark_frame_has_its_light_in_the_middle():
    assert (light_centres(np.zeros((2, 3, 32, 32, 3), np.uint8)) == 15.5).all()
