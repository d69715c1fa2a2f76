import ast

import nbformat
import pytest
from trajvit.running.parameters import Parameters
from trajvit.running.places import NOTEBOOKS
from trajvit.running.planning import make_plan

START, *PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=[START, *PATHS], ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_four_in_order():
    assert [path.stem for path in PATHS] == ["01_generate_data", "02_validate_magvit", "03_scale_up", "04_evaluate"]


def test_the_page_to_start_on_leads_to_each_of_them_and_is_not_run_among_them():
    text = "\n".join(cell.source for cell in nbformat.read(START, as_version=4).cells)
    assert START.name == "00_start_here.ipynb" and all(f"]({path.name})" in text for path in PATHS)
    assert [station.path for station in make_plan(str(NOTEBOOKS / "params" / "smoke.yaml"), [], [], None).stations] == PATHS


def test_it_opens_with_a_question(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.splitlines()[0].endswith("?")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_its_parameters_are_literals_and_the_defaults_of_a_run(path):
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    defaults = Parameters().model_dump(mode="json")
    assert values == {name: defaults[name] for name in values}


def test_it_is_thin_and_committed_without_outputs(notebook):
    tree = ast.parse("\n".join(line for source in code(notebook) for line in source.splitlines()))
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in ast.walk(tree))
    assert sum(1 for source in code(notebook) for line in source.splitlines() if line.strip()) <= 100
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert any(
        source.lstrip().startswith("assert") or "\nassert" in source or "\n    assert" in source for source in code(notebook)
    )
