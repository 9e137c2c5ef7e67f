"""The package as it is installed: its requirements, its wheel, and what `import rnn_lab` costs."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rnn_lab
from rnn_lab.errors import ConfigError
from rnn_lab.paths import conf_dir, project_root
from rnn_lab.plugins import require_extra
from tests.cli.runner import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = PYPROJECT["optional-dependencies"]
Run = Callable[..., subprocess.CompletedProcess[str]]


LARGE = {"ray"}  # extras with a requirements file of their own


def test_every_pin_satisfies_its_range_and_both_files_list_the_same_packages():
    listed = [*PYPROJECT["dependencies"]]
    listed += [line for name in EXTRAS.keys() - {"all"} - LARGE for line in EXTRAS[name]]
    ranges = {canonicalize_name(r.name): r.specifier for r in map(Requirement, listed)}
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pins = {canonicalize_name(name): pinned for name, pinned in pins.items()}
    assert set(pins) == set(ranges)
    assert len(ranges) == len(listed)
    for name, pinned in pins.items():
        assert pinned in ranges[name], name
        assert ranges[name].contains("999") is False, f"{name} has no upper bound"
    assert lines[-1] == "-e ."


@pytest.mark.parametrize("extra", LARGE)
def test_the_pin_of_a_large_extra_satisfies_its_range(extra):
    """Its other packages are those of requirements.txt."""
    first, *others = map(Requirement, EXTRAS[extra])
    lines = (PROJECT / f"requirements-{extra}.txt").read_text().splitlines()
    included, line = (line for line in lines if not line.startswith("#"))
    pin = Requirement(line)
    assert included == "-r requirements.txt"
    assert (pin.name, pin.extras) == (first.name, first.extras)
    assert str(pin.specifier).removeprefix("==") in first.specifier
    assert "999" not in first.specifier
    assert {str(other) for other in others} <= {str(Requirement(x)) for x in EXTRAS["files"]}


def test_the_extra_all_is_all_but_the_large_ones():
    (line,) = EXTRAS["all"]
    assert Requirement(line).extras == set(EXTRAS) - {"all"} - LARGE


def test_ray_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray, .* pip install 'ray\[data\]>="):
        require_extra("ray", "engine=ray")


def test_a_clone_uses_its_own_conf():
    assert project_root() == PROJECT
    assert conf_dir() == PROJECT / "conf"


@pytest.mark.parametrize(
    ("missing", "extra"),
    [
        ("optuna", "search"),
        ("tensorboard", "tensorboard"),
        ("pyarrow", "files"),
        ("gensim", "vectors"),
        ("onnxruntime", "onnx"),
        ("wandb_workspaces", "dashboard"),
        ("fastapi", "serve"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(monkeypatch, missing, extra):
    require_extra(extra, "some=option")
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    with pytest.raises(ConfigError) as error:
        require_extra(extra, "some=option")
    assert str(error.value) == (
        f"some=option: needs the package {missing}, which is not installed; "
        f"{shlex.join(['pip', 'install', *EXTRAS[extra]])}"
    )


def test_no_command_installs_this_project_by_its_name():
    """It is on no registry, where anyone could take the name."""
    patterns = ("README.md", "docs/*.md", "docs/*.ipynb", "conf/**/*.yaml", "src/**/*.py")
    files = [path for pattern in patterns for path in PROJECT.glob(pattern)]
    by_name = re.compile(r"rnn-lab\[|pip install '?rnn-lab")
    assert [path for path in files if by_name.search(path.read_text())] == []


# Each help page is in a fork of one process: importing Hydra is most of the time of each.
HELP = """
import os, sys
def report(name):
    slow = {"torch", "lightning", "pandas", "wandb", "joblib", "submitit"}
    print("imported by", name + ":", *{*sys.modules} & slow, flush=True)
import rnn_lab
rnn_lab.__version__
report("rnn_lab")
import hydra, rnn_lab.commands
for arguments in sys.argv[1:]:
    if os.fork() == 0:
        sys.argv = ["rnn-lab", *arguments.split()]
        try:
            rnn_lab.commands.main()
        finally:
            report(arguments)
            os._exit(0)
    os.wait()
"""


def test_the_package_and_help_pages_do_not_import_torch(tmp_path):
    """Nor a launcher, though Hydra loads every plugin before it prints a line."""
    pages = ["--help", "train --help", "export --help", "dashboard -h", "serve --help"]
    command = [sys.executable, "-c", HELP, *pages]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.startswith("imported by ")]
    assert lines == [f"imported by {name}:" for name in ("rnn_lab", *pages)], done.stderr
    for name in ("train", "export", "dashboard", "serve"):
        assert f"rnn-lab {name}" in done.stdout


def test_the_python_interface_is_what_all_lists():
    assert set(dir(rnn_lab)) == {"Model", "Prediction", "__version__", "load", "train"}
    for name in rnn_lab.__all__:
        assert getattr(rnn_lab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        rnn_lab.laod  # noqa: B018


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the wheel in an environment away from the clone; return what runs commands there.

    The environment sees the packages of this one, and is inside a git repository of its own.
    """
    away = tmp_path_factory.mktemp("away")
    python = away / "env" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "HOME": str(away), "COLUMNS": "100"}

    def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=away, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    run("git", "init", "-q", ".")
    run("git", *author, "commit", "-qm", "a", "--allow-empty")
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    wheels = away / "wheels"
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, PROJECT)
    run(sys.executable, "-m", "venv", "--without-pip", away / "env")
    (wheel,) = wheels.glob("rnn_lab-*.whl")
    run(*pip, "--python", python, "install", "--no-deps", wheel)
    (site,) = (away / "env").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )
    return lambda *command, **expected: run(python.parent / command[0], *command[1:], **expected)


# minGRU has no compiled steps, whose compilation is kept beside the code: another one in a wheel.
SMALL = (
    *("model=mingru", "data=demo", "data.num_train=200", "data.num_test=60", "model.hidden_size=8"),
    *("trainer=cpu", "trainer.max_epochs=1", "logger=none", "plots=false"),
)
PYTHON = """
import json, rnn_lab
assert "site-packages" in rnn_lab.__file__, rnn_lab.__file__
model = rnn_lab.load("model.safetensors")
predictions = model.predict(text for text in ["a lovely film", "an awful film"])
page = model.explain("a lovely film").save("page")
print(json.dumps([model.class_names, [p.label for p in predictions], page.name]))
"""
REQUIREMENTS = "from rnn_lab.plugins import extra_requirements as of; print(*of('onnx'), sep='\\n')"


@pytest.mark.slow
def test_a_wheel_trains_predicts_exports_and_has_the_python_interface(installed: Run):
    assert installed("rnn-lab", "--version").stdout == f"rnn-lab {rnn_lab.__version__}\n"
    error = installed("rnn-lab", "prdict", code=1).stderr
    assert error.startswith("error: prdict: no such command. Did you mean predict? Choose from: ")
    *_, described, _, _, _ = installed("rnn-lab", "train", "--help").stdout.strip().splitlines()
    (file,) = re.findall(r"\S+/conf/train\.yaml", described)
    assert Path(file).is_file() and not Path(file).is_relative_to(PROJECT)
    installed("rnn-lab", "train", *SMALL, "hydra.run.dir=run")
    away = Path(installed("python", "-c", "import os; print(os.getcwd())").stdout.strip())
    result = json.loads((away / "run" / "result.json").read_text())
    assert result["git_commit"] is None  # and not that of the repository around the environment
    predicted = installed("rnn-lab", "predict", "run=run", "text=a lovely film").stdout
    exported = installed("rnn-lab", "export", "run=run").stdout
    assert exported == "exported to model.safetensors\nmodel card: model.safetensors.md\n"
    packages = installed("python", "-c", REQUIREMENTS).stdout.splitlines()
    assert set(map(Requirement, packages)) == set(map(Requirement, EXTRAS["onnx"]))
    class_names, labels, page = json.loads(installed("python", "-c", PYTHON).stdout)
    assert class_names == ["negative", "positive"]
    assert labels[0] == predicted.splitlines()[0]
    assert page == "explanation.html"


@pytest.mark.slow
def test_a_wheel_runs_a_sweep_in_processes_of_its_own(installed: Run):
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.n_jobs=1", "sweep=mine")
    done = installed("rnn-lab", "train", "-m", "seed=1", *SMALL, *launcher)
    assert re.search(r"sweep\.html", done.stdout)
    report = installed("rnn-lab", "report", "sweep=mine").stdout
    assert "mingru_seed1_" in report


def test_the_version_is_the_installed_one_if_any():
    try:
        installed_version = version("rnn-lab")
    except ModuleNotFoundError:
        return  # a clone without an installation
    assert installed_version == rnn_lab.__version__
