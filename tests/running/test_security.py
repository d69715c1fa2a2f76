"""Whatever is written in a parameter, a name or a key is text: it is never run, and leads nowhere."""

import json
import os

import pytest
from small_runs import states_of
from trajvit.datasets.folders import open_folder
from trajvit.running.cli import main
from trajvit.running.parameters import Parameters, read_parameters
from trajvit.running.places import ROOT, RUNS
from trajvit.running.planning import make_plan
from trajvit.running.sweeps import make_sweep
from trajvit.settings import InputError

HURT = "trajvit-hurt"  # what the hostile strings make, if they get anywhere
VISIBLE = [
    '"><script>fetch("http://evil")</script><img src=x onerror=alert(1)>',
    f"$(touch {HURT}) `touch {HURT}`; touch {HURT} && touch {HURT} | touch {HURT}",
    f'\\"; import os; os.system("touch {HURT}") #',
    f"'''; __import__('os').system('touch {HURT}') # \\",
    "=HYPERLINK(\"http://evil\")+cmd|' /C calc'!A0",
    "../../../../../../../../tmp/" + HURT,
    "{{ 7 * 7 }} {% raw %} ${HOME} %(x)s %n",
    "раypal ﷽ 🏀",
]
HIDDEN = ["safe\u202egnp.exe", "two\nlines", "null\x00byte", "\x1b[2J\x1b[1;31mred", "zero\u200bwidth"]
TAGS = [f'!!python/object/apply:os.system ["touch {HURT}"]', f"!!python/name:os.{HURT}"]


def _quoted(text: str) -> str:
    """Text as YAML."""
    return json.dumps(text, ensure_ascii=False)


@pytest.fixture(autouse=True)
def nothing_is_hurt(tmp_path, monkeypatch):
    """Nothing hostile was run in any folder that a command could have been in, and none was made outside the test's."""
    monkeypatch.chdir(tmp_path)
    before = {*os.listdir(ROOT), *os.listdir(ROOT / "notebooks"), *(os.listdir(RUNS) if RUNS.exists() else [])}
    yield
    after = {*os.listdir(ROOT), *os.listdir(ROOT / "notebooks"), *(os.listdir(RUNS) if RUNS.exists() else [])}
    assert after - before <= {".pytest_cache", "test-artefacts"}
    assert not [name for _, folders, names in os.walk(tmp_path) for name in (*folders, *names) if name == HURT]
    assert not os.path.exists(f"/tmp/{HURT}")


def test_a_run_that_is_hostile_in_name_and_parameters_is_just_a_run(notebooks, tmp_path, monkeypatch):
    """One folder name that holds all of them, so that papermill, the kernel, the pages and the manifest all meet it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-nobody's")
    every = "".join(text.replace("/", "∕")[:24] for text in VISIBLE) + f'"; import os; os.system("touch {HURT}") #\\'
    notebooks(**{"01_a": "print(data_dir)\nfrom IPython.display import HTML\nassert len(data_dir) > 100"})
    (tmp_path / "p.yaml").write_text(f"data_dir: {_quoted(str(tmp_path / 'd' / every))}")
    out = tmp_path / "runs" / every[:80]
    assert main(["run", "p.yaml", "--out", str(out)]) == 0 and states_of(out) == ["done"]
    assert main(["index", str(tmp_path / "runs")]) == 0
    for page in (out / "index.html", out / "01_a.html", tmp_path / "runs" / "index.html"):
        text = page.read_text()
        assert "<script>fetch" not in text and "<img src=x" not in text and "script-src 'sha256-" in text
        assert "&lt;script&gt;fetch" in text
    for folder, _, names in os.walk(out):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert b"a-secret-that-is" not in file.read(), name


@pytest.mark.parametrize("text", [*VISIBLE, *HIDDEN, *TAGS])
def test_each_parameter_refuses_what_is_hostile_or_takes_it_as_the_name_of_a_folder(tmp_path, text):
    (tmp_path / "p.yaml").write_text("{}")
    for name in Parameters.model_fields:
        for change in (f"{name}={_quoted(text)}", f"{name}={text}"):
            try:
                taken = read_parameters("p.yaml", [change])
            except InputError as error:
                assert len(str(error).splitlines()) == 1 and "\x1b" not in str(error) and "\u202e" not in str(error)
            else:
                assert name in ("data_dir", "checkpoint", "run_dir", "ladder"), f"{name} took {text!r}"
                assert taken
    assert main(["run", "p.yaml", "--set", f"{text}=1", "--dry-run"]) == 2
    (tmp_path / "p.yaml").write_text(f"data_dir: {text}")
    assert main(["run", "p.yaml", "--only", "none", "--dry-run"]) == 2


@pytest.mark.parametrize("text", HIDDEN)
def test_names_that_look_like_others_are_refused_in_one_plain_line(tmp_path, capsys, text):
    (tmp_path / "p.yaml").write_text("{}")
    for arguments in (
        ["--set", f"data_dir={_quoted(text)}"],
        ["--out", text],
        ["--sweep", f"checkpoint=a,{_quoted(text)}"],
    ):
        assert main(["run", "p.yaml", *arguments, "--dry-run"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.strip().isprintable(), said


def test_hostile_values_of_a_sweep_name_folders_inside_it(notebooks, tmp_path):
    notebooks(**{"01_a": "1"})
    (tmp_path / "p.yaml").write_text("{}")
    values = ",".join(_quoted(text) for text in VISIBLE)
    swept = make_sweep("p.yaml", [], [f"data_dir={values}"], [], str(tmp_path / "sweep"))
    for member in swept.members:
        assert member.plan.run_dir.parent == tmp_path / "sweep" and len(member.name) < 80
        assert member.name.isascii() and not {*member.name} & {*"/\\ <>'\"`$;&|(){}#%"} and member.name.startswith("data_dir")
    assert len({member.name for member in swept.members}) == len(VISIBLE)


@pytest.mark.parametrize("text", [*VISIBLE, *HIDDEN, "a//b", "a/../b", "a b", "-rf"])
def test_no_key_of_a_bucket_is_hostile(tmp_path, capsys, text):
    (tmp_path / "p.yaml").write_text("{}")
    assert main(["run", "p.yaml", "--out", f"s3://bucket/{text}"]) == 2
    said = capsys.readouterr().err
    assert "is not a place for runs" in said and said.count("\n") == 1 and said.strip().isprintable()


def test_what_a_bucket_or_another_gives_as_parameters_is_never_more_than_values(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("{}")
    out = tmp_path / "out"
    out.mkdir()
    for text in (*TAGS, "[1, 2]", "&a [*a"):
        (out / "params.yaml").write_text(text)
        assert main(["run", "p.yaml", "--out", str(out), "--dry-run"]) == 2
        assert "params.yaml is damaged" in capsys.readouterr().err


def test_a_run_folder_in_use_is_refused(notebooks, tmp_path, capsys):
    notebooks(**{"01_a": "1"})
    (tmp_path / "p.yaml").write_text("{}")
    folder = open_folder(tmp_path / "out")
    folder.prepare([])
    with folder.lock("run"):
        assert main(["run", "p.yaml", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"is being written by process {os.getpid()}" in said and said.count("\n") == 1
    assert make_plan("p.yaml", [], [], str(tmp_path / "out")).stations[0].state.state == "waiting"
