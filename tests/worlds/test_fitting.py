import numpy as np
import pytest
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, NAMES, frame_times, path
from trajvit.worlds.fitting import draw_paths, fit_law, law_of

CENTRES_ALONE, ALL_SEEN = (1.0, 0.0), (1.0, 1.0)


@pytest.fixture(scope="module", params=range(len(NAMES)), ids=NAMES)
def law(request):
    return law_of(WorldConfig(variety="varied"), request.param)


def test_paths_are_seen_as_the_camera_sees_them(law):
    config, values = WorldConfig(variety="varied"), law.drawn[0]
    named = dict(zip(FAMILIES[law.label].textbook, values, strict=False))
    points, angle = path(law.label, named, frame_times(8)), 2 * np.pi * values[-1]
    pixels = config.camera.project(points[None], np.array([[np.cos(angle), np.sin(angle)]]))
    image = draw_paths(law.label, values[None], frame_times(8), law.optics)
    assert np.allclose(image[..., :2], pixels) and np.allclose(image[0, :, 2], 32 * 0.23 / points[:, 2])


def test_what_is_drawn_from_the_priors_is_found_again(law):
    seen = draw_paths(law.label, law.drawn[:200], frame_times(8), law.optics)
    # Without the drawn paths themselves among the starts.
    fit = fit_law(law_of_other_starts(law), seen, CENTRES_ALONE)
    error = np.abs(fit.image(frame_times(8)) - seen)[..., :2].max(axis=(1, 2))
    assert (error < 0.01).mean() > 0.97 and np.median(error) < 1e-3


def test_with_its_size_seen_the_depth_is_found_too(law):
    seen = draw_paths(law.label, law.drawn[:200], frame_times(8), law.optics)
    fit = fit_law(law_of_other_starts(law), seen, ALL_SEEN)
    close = fit.cost < 1e-6
    assert close.mean() > 0.97 and np.allclose(fit.parameters[close, 2], law.drawn[:200][close, 2], atol=0.01)


def test_parameters_stay_within_their_priors(law):
    walks = np.random.default_rng(0).normal(15, 6, size=(50, 8, 3))
    parameters = fit_law(law, walks, CENTRES_ALONE).parameters
    bounded = ~law.cyclic
    low, high = law.low[bounded], (law.low + law.span)[bounded]
    assert (parameters[:, bounded] >= low - 1e-12).all() and (parameters[:, bounded] <= high + 1e-12).all()


def test_angles_over_a_whole_turn_are_known_as_such():
    names = [
        {
            *np.array([*family.textbook, *("",) * (8 - len(family.textbook)), "roll"])[
                law_of(WorldConfig(variety="varied"), label).cyclic
            ]
        }
        for label, family in enumerate(FAMILIES)
    ]
    assert names == [{"heading"}, {"phase"}, {"phase"}, set()]


def law_of_other_starts(law):
    return type(law)(**{**vars(law), "drawn": law.drawn[200:]})
