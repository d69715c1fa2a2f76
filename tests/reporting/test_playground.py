import base64
import io
import re
import time

import numpy as np
import pytest
from PIL import Image
from trajvit.reporting import live, playground
from trajvit.reporting.playground import Playground
from trajvit.reporting.scenes import drawn_scene, film_scene
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import FAMILIES, NAMES, Either, Uniform

REDRAW_S = 0.2


def images(html: str) -> list[str]:
    return re.findall(r'<img src="data:image/(?:png|gif);base64,([^"]+)"', html)


@pytest.mark.parametrize("variety", ["textbook", "varied"])
def test_scenes_are_drawn_from_the_priors_and_stay_in_view(variety):
    config = WorldConfig(variety=variety)
    for label, family in enumerate(FAMILIES):
        for draw in range(10):
            scene = drawn_scene(config, label, draw)
            assert film_scene(config, scene)[1]
            for name, prior in family.priors(variety).items():
                ends = (prior.low, prior.high)
                assert (
                    scene.parameters[name] in ends if isinstance(prior, Either) else ends[0] <= scene.parameters[name] <= ends[1]
                )


def test_there_is_a_control_over_the_range_of_whatever_varies():
    play = Playground(WorldConfig())
    for variety in ("textbook", "varied"):
        play.variety.value = variety
        for label, family in enumerate(FAMILIES):
            play.family.value = label
            priors = family.priors(variety)
            assert set(play.varying) == {name for name, prior in priors.items() if isinstance(prior, Uniform | Either)}
            assert set(play.scene().parameters) == set(priors)
            for name, control in play.varying.items():
                if isinstance(priors[name], Uniform):
                    assert (control.min, control.max) == (priors[name].low, priors[name].high)


@pytest.mark.parametrize("format", ["compact", "classic"])
def test_each_control_redraws_path_clip_and_strip_at_once(format):
    play = Playground(WorldConfig.named(format, variety="varied"))
    controls = [*play.varying.values(), play.camera, play.noise, play.noise_seed]
    seconds = []
    for control in controls:
        before = images(play.shown.value)
        started = time.perf_counter()
        control.value = control.options[0][1] if hasattr(control, "options") and control.index else control.max
        seconds.append(time.perf_counter() - started)
        after = images(play.shown.value)
        assert len(after) == 3 and after[1:] != before[1:], control.description
    assert np.median(seconds) < REDRAW_S, seconds


def test_a_new_seed_changes_only_the_noise():
    play = Playground(WorldConfig())
    still = play.shown.value
    play.noise_seed.value = 3
    assert play.shown.value == still
    play.noise.value = 0.05
    noisy = play.shown.value
    play.noise_seed.value = 4
    assert noisy != still and play.shown.value not in (still, noisy)


def test_the_clip_moves_and_another_can_be_drawn():
    play = Playground(WorldConfig())
    gif = Image.open(io.BytesIO(base64.b64decode(images(play.shown.value)[1])))
    assert gif.n_frames == WorldConfig().frames
    before = play.scene()
    play.another.click()
    assert play.scene().parameters != before.parameters


def test_it_says_when_the_ball_leaves_the_frame():
    play = Playground(WorldConfig())
    assert "stays in view" in play.shown.value
    play.family.value = NAMES.index("linear")
    play.varying["x"].value, play.varying["speed"].value, play.varying["heading"].value = 1.2, 2.2, 0.0
    assert "leaves the frame" in play.shown.value


def test_where_nobody_looks_there_is_a_still_picture_in_its_place(monkeypatch):
    shown = []
    monkeypatch.setenv(live.HEADLESS, "1")
    monkeypatch.setattr(playground, "display", shown.append)
    playground.playground(WorldConfig())
    assert len(images(shown[0].data)) == 3
