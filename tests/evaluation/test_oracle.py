import dataclasses
import itertools

import numpy as np
import pytest
import trajvit.evaluation.oracle
import trajvit.evaluation.posterior
import trajvit.evaluation.posterior_likelihood
import trajvit.worlds.film
from trajvit.datasets.progress import silent
from trajvit.evaluation.oracle import bayes_limit, oracle, oracle_by_frames
from trajvit.evaluation.posterior import set_scene, summarize
from trajvit.evaluation.posterior_likelihood import by_likelihood
from trajvit.evaluation.posterior_simulation import by_simulation
from trajvit.evaluation.sightings import SightingError, measure_sighting_error, sight
from trajvit.metrics.intervals import bootstrap_ci95
from trajvit.settings import InputError
from trajvit.worlds.config import WorldConfig
from trajvit.worlds.families import position, priors_as_arrays
from trajvit.worlds.film import Clips, film
from trajvit.worlds.likelihood import draw_seen
from trajvit.worlds.linear_posterior import fill_design, scans_roll, to_linear, to_parameters, unknowns

CLIPS, GIVEN = 200, 4


@pytest.fixture(scope="module", params=["textbook", "varied"])
def seen(request):
    """A world, clips of it, and what the oracle knows of them after four frames."""
    world = WorldConfig(variety=request.param)
    clips = film(world, 0, "test", 0, CLIPS)
    return world, clips, oracle(clips, world, GIVEN)


def errors(knowing, clips):
    """(N, A) distances in px between the predicted and the true centres."""
    return np.linalg.norm(knowing.median - clips.pixels[:, knowing.given :], axis=-1)


def some(clips: Clips, chosen) -> Clips:
    return Clips(*(getattr(clips, field.name)[chosen] for field in dataclasses.fields(clips)))


@pytest.mark.parametrize("options", [{}, {"size": "constant"}, {"channels": 3}, {"ball_radius_m": 0.15}])
def test_the_ball_is_read_off_a_frame_to_a_thousandth_of_a_pixel(options):
    world = WorldConfig(**options)
    error = measure_sighting_error(world, 0)
    assert error.centre_px < 1.5e-3 and error.radius_px < 1.5e-3


def test_a_frame_without_a_ball_is_refused_by_its_number():
    frames = film(WorldConfig(), 0, "test", 0, 5).frames
    frames[3, 2] = 0
    with pytest.raises(InputError, match="frame 2 of clip 3 shows no ball"):
        sight(frames)


@pytest.mark.parametrize("variety", ["textbook", "varied"])
@pytest.mark.parametrize("label", range(4))
def test_the_linear_form_of_a_path_is_the_path(variety, label):
    priors, times = priors_as_arrays(variety)[label], np.linspace(0, 1, 8)
    values, rolls = np.zeros((50, 8)), np.empty(50)
    optics = trajvit.worlds.film.optics(WorldConfig())
    draw_seen(label, priors, times, optics, 0.004, 15 / 360, 3, values, rolls, np.empty((50, 8, 2)))
    linear, design, back = np.empty(7), np.empty((3, 7)), np.empty(8)
    for one, roll in zip(values, rolls, strict=True):
        choice = {0: 1.0, 3: one[4]}.get(label, one[6])
        scan = roll if scans_roll(label, priors) else one[7]
        to_linear(label, priors, one, roll, linear)
        to_parameters(label, priors, linear, scan, choice, roll, back)
        assert np.allclose(back, one)
        count = unknowns(label, priors)
        cosine, sine = np.cos(2 * np.pi * roll), np.sin(2 * np.pi * roll)
        for t in times:
            fill_design(label, priors, scan, choice, t, design)
            x, y, z = position(label, one, t)
            assert np.allclose(design[:, :count] @ linear[:count], [cosine * x - sine * y, sine * x + cosine * y, z])


def test_the_future_of_a_noise_free_line_is_known_to_the_rendering_limit():
    world = WorldConfig(noise_m=0)
    clips = film(world, 0, "test", 0, 80)
    lines = some(clips, np.flatnonzero(clips.label == 0))
    knowing = oracle(lines, world, GIVEN)
    assert (knowing.class_probabilities[:, 0] > 0.999).all()
    # Going on twice as far as was seen multiplies the errors of reading a frame by a few.
    assert errors(knowing, lines).mean() < 5 * knowing.error.centre_px


@pytest.fixture
def changed_priors(monkeypatch):
    """A monkeypatch for what scenes are made of: none that is kept from before is used, and none is kept after."""
    set_scene.cache_clear()
    yield monkeypatch
    set_scene.cache_clear()


@pytest.mark.parametrize("infer", [by_likelihood, by_simulation])
def test_of_two_families_made_identical_one_in_two_is_named(changed_priors, infer):
    def priors(variety):
        table = priors_as_arrays(variety)
        table[2] = table[1]
        return table

    changed_priors.setattr(trajvit.worlds.film, "priors_as_arrays", priors)
    changed_priors.setattr(trajvit.evaluation.posterior, "priors_as_arrays", priors)
    world = WorldConfig(variety="varied")
    clips = film(world, 0, "test", 0, 120 if infer is by_likelihood else 8)
    twins = some(clips, np.flatnonzero((clips.label == 1) | (clips.label == 2)))
    probabilities = oracle(twins, world, GIVEN, infer=infer).class_probabilities
    assert np.abs(probabilities[:, 1:3] - 0.5).max() < 0.3 and np.abs(probabilities[:, 1:3].mean(axis=0) - 0.5).max() < 0.05
    low, high = bootstrap_ci95((probabilities.argmax(axis=1) == twins.label).astype(float))
    assert low <= 0.5 <= high


def test_both_implementations_agree_within_their_intervals(seen):
    world, clips, knowing = seen
    few = some(clips, np.arange(12))
    other = oracle(few, world, GIVEN, seed=1, infer=by_simulation)
    # In standard errors of two averages of so many effective samples each.
    rows = np.arange(len(few.label))
    error = knowing.draws[rows].std(axis=1) * np.sqrt(1 / knowing.effective[rows] + 1 / other.effective)[:, None, None]
    deviation = (knowing.mean[rows] - other.mean) / error
    assert 0.6 < np.sqrt((deviation**2).mean()) < 1.3 and np.abs(deviation).max() < 6
    low, high = bootstrap_ci95((errors(knowing, clips)[rows] - errors(other, few)).mean(axis=1))
    assert low - 0.002 <= 0 <= high + 0.002
    assert np.abs(knowing.class_probabilities[rows] - other.class_probabilities).max() < 0.1


def test_both_implementations_agree_where_the_family_is_in_doubt():
    world = WorldConfig(variety="varied")
    clips = film(world, 0, "test", 0, 12)
    one, other = (oracle(clips, world, 2, seed, infer=infer) for seed, infer in enumerate((by_likelihood, by_simulation)))
    assert ((one.class_probabilities > 0.02) & (one.class_probabilities < 0.98)).any()
    assert np.abs(one.class_probabilities - other.class_probabilities).max() < 0.12


def test_prediction_is_as_sharp_as_a_perceptron_on_true_centres_can_be(seen):
    world, clips, knowing = seen
    # A perceptron trained without end on true centres reaches 0.22 and 0.54 px.
    assert errors(knowing, clips).mean() < {"textbook": 0.22, "varied": 0.54}[world.variety]
    assert (knowing.class_probabilities.argmax(axis=1) == clips.label).mean() >= 0.98


def test_the_truth_lies_within_the_posterior_as_often_as_that_says(seen):
    _world, clips, knowing = seen
    # Half of the draws say where distances are measured from and in what units, the others how far draws are.
    half, draws = np.split(knowing.draws.astype(float), 2, axis=1)
    centre = half.mean(axis=1, keepdims=True)
    inverse = np.linalg.inv(np.einsum("nsai,nsaj->naij", half - centre, half - centre))
    distance = np.einsum("nsai,naij,nsaj->nsa", draws - centre, inverse, draws - centre)
    truth = clips.pixels[:, GIVEN:] - centre[:, 0]
    rank = (distance < np.einsum("nai,naij,naj->na", truth, inverse, truth)[:, None]).mean(axis=1)  # (N, A)
    for share in (0.5, 0.9):
        # Four standard errors of a share among so many clips, and a little as 32 draws have no finer ranks.
        assert np.abs((rank < share).mean(axis=0) - share).max() < 4 * np.sqrt(share * (1 - share) / CLIPS) + 0.03


def test_probabilities_are_as_often_right_as_they_say():
    world = WorldConfig(variety="varied")
    clips = film(world, 0, "test", 0, 120)
    knowing = oracle(clips, world, 2)
    surplus = (knowing.class_probabilities.argmax(axis=1) == clips.label) - knowing.class_probabilities.max(axis=1)
    assert abs(surplus.mean()) < 4 * surplus.std() / np.sqrt(len(surplus))
    assert np.allclose(knowing.class_probabilities.sum(axis=1), 1)


def test_more_frames_never_make_it_worse():
    world = WorldConfig(variety="varied")
    clips = film(world, 0, "test", 0, 32)
    last = []
    for given in (2, 3, 5):
        knowing = oracle(clips, world, given)
        last.append(errors(knowing, clips)[:, -1])
    for fewer, more in itertools.pairwise(last):
        assert bootstrap_ci95(more - fewer)[0] <= 0
    few = some(clips, np.arange(16))
    known = [call(silent) for call in oracle_by_frames(few, world).values()]
    accuracy = [metric.value for metric in bayes_limit(known, few.label).values()]
    assert len(accuracy) == 7 and (np.diff(accuracy) >= 0).all() and accuracy[-1] == 1


def test_a_ball_whose_size_tells_its_depth_is_better_predicted():
    clips = film(WorldConfig(), 0, "test", 0, 40), film(WorldConfig(size="constant"), 0, "test", 0, 40)
    sharp, blunt = (
        errors(oracle(some_clips, world, GIVEN), some_clips).mean()
        for some_clips, world in zip(clips, (WorldConfig(), WorldConfig(size="constant")), strict=True)
    )
    assert sharp < blunt


def test_other_shapes_are_understood():
    world = WorldConfig.named("6x48x40x3", variety="varied", roll_degrees=0)
    clips = film(world, 5, "val", 0, 20)
    knowing = oracle(clips, world, 3)
    assert knowing.median.shape == (20, 3, 2) and knowing.draws.shape == (20, 64, 3, 2)
    assert (knowing.class_probabilities.argmax(axis=1) == clips.label).mean() > 0.9


def test_with_all_frames_given_nothing_is_left_to_predict(seen):
    world, clips, _ = seen
    knowing = oracle(some(clips, np.arange(12)), world, world.frames)
    assert knowing.median.shape == (12, 0, 2) and (knowing.class_probabilities.argmax(axis=1) == np.arange(12) % 4).all()


def test_only_the_given_frames_are_looked_at(seen):
    world, clips, _knowing = seen
    blinded = dataclasses.replace(some(clips, np.arange(8)), frames=clips.frames[:8].copy())
    blinded.frames[:, GIVEN:] = 0
    again = oracle(dataclasses.replace(blinded, pixels=0 * blinded.pixels, label=0 * blinded.label), world, GIVEN)
    fresh = oracle(some(clips, np.arange(8)), world, GIVEN)
    assert (again.median == fresh.median).all()


def test_a_kept_result_is_the_result_and_a_damaged_one_is_made_again(tmp_path):
    world = WorldConfig()
    clips = film(world, 0, "test", 0, 8)
    first = oracle(clips, world, GIVEN, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    for damage in (lambda: None, lambda: kept.write_bytes(kept.read_bytes()[:500]), lambda: kept.write_bytes(b"")):
        damage()
        again = oracle(clips, world, GIVEN, cache=tmp_path)
        assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(first).items() if name != "error")
        assert again.error == first.error
    oracle(clips, world, GIVEN, seed=1, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": 0}, "given = 0 frames; clips of 8 frames allow 1 to 8"),
        ({"given": 9}, "given = 9 frames"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"world": WorldConfig(frames=16)}, "clips.frames is 4 x 8 x 32 x 32 x 1; it must be N x 16 x 32 x 32 x 1"),
        ({"world": WorldConfig(ball_radius_m=0.15)}, "shows what no path of this world does"),
        ({"given": 1, "infer": by_simulation}, "simulation needs to see the ball move"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(change, message):
    arguments = {"clips": film(WorldConfig(), 0, "test", 0, 4), "world": WorldConfig(), "given": 4} | change
    with pytest.raises(InputError, match=message) as refusal:
        oracle(**arguments)
    assert "\n" not in str(refusal.value)


def test_no_clips_are_refused():
    with pytest.raises(InputError, match="N >= 1"):
        oracle(film(WorldConfig(), 0, "test", 0, 0), WorldConfig(), 4)


@pytest.mark.parametrize("label", range(4))
def test_what_is_drawn_again_is_what_the_generator_draws_again(label):
    """The oracle's own draws from the prior, kept while in view, fly as the generator's do."""
    world = WorldConfig(variety="varied")
    filmed = film(world, 1, "train", 0, 8000)
    scene = set_scene(world, SightingError(1e-3, 1e-3), 0)
    values, rolls, drawn = np.zeros((2000, 8)), np.empty(2000), np.empty((2000, 8, 2))
    draw_seen(label, scene.priors[label], scene.times, scene.optics, scene.noise_m, scene.roll_turns, 7, values, rolls, drawn)
    ours, theirs = drawn.reshape(2000, -1), filmed.pixels[filmed.label == label].reshape(2000, -1)
    error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / 2000)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()
    assert (np.abs(np.log(ours.std(axis=0) / theirs.std(axis=0))) < 0.1).all()


def test_summaries_of_known_samples():
    """Three futures on a line, one twice as heavy as the others: the median is on it, the mean is not."""
    from trajvit.evaluation.posterior import Weighted

    futures = np.array([[[0.0, 0.0]], [[3.0, 0.0]], [[12.0, 0.0]]])
    known = Weighted(np.log([1.0, 2.0, 1.0]), np.array([0, 1, 1]), futures)
    posterior = summarize(iter([known]), 64, 0)
    assert np.allclose(posterior.class_probabilities, [[0.25, 0.75, 0, 0]])
    assert np.allclose(posterior.mean, [[[4.5, 0]]]) and np.allclose(posterior.median, [[[3, 0]]], atol=0.01)
    assert np.bincount(posterior.draws[0, :, 0, 0].astype(int), minlength=13)[[0, 3, 12]].tolist() == [16, 32, 16]


def test_a_family_whose_linear_form_is_unknown_is_refused(monkeypatch):
    monkeypatch.setattr(trajvit.evaluation.posterior_likelihood, "NAMES", ("linear", "circular", "helical", "parabolic", "wavy"))
    with pytest.raises(InputError, match=r"wavy.*by_simulation"):
        oracle(film(WorldConfig(), 0, "test", 0, 4), WorldConfig(), 4)
