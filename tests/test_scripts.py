"""The shell scripts: which Python they take, what they install and run."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from absl import flags

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = [*sorted((ROOT / "scripts").rglob("*.sh")), ROOT / ".ci" / "run"]
SOURCED = [p for p in SCRIPTS if p.read_text().startswith("# shell")]
# pip puts it beside Python, which need not be in the PATH.
SHELLCHECK = shutil.which(
    "shellcheck",
    path=os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
    ),
)


def bash(command, **environment):
    """Runs a command in the checkout and nothing of ours in its environment."""
    return subprocess.run(
        [shutil.which("bash"), "-c", command],
        cwd=ROOT,
        env={"HOME": "/nonexistent", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def fake_python(folder, name, version, status):
    """Puts a command into `folder` that claims to be a Python."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{shutil.which('sh')}\necho {version}; exit {status}\n")
    path.chmod(0o755)
    return str(path)


def only(folder):
    """Returns a PATH with the commands in `folder` and one all scripts need."""
    (folder / "dirname").symlink_to(shutil.which("dirname"))
    return str(folder)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(path):
    assert path.read_text().startswith(("#!/usr/bin/env bash\n", "# shell"))
    check = bash(f"bash -n '{path}'", PATH="/usr/bin:/bin")
    assert check.returncode == 0, check.stderr


@pytest.mark.slow
@pytest.mark.skipif(not SHELLCHECK, reason="no shellcheck here")
def test_scripts_pass_shellcheck():
    check = subprocess.run(
        [SHELLCHECK, "-x", *map(str, SCRIPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout


def test_without_a_supported_python_one_line_says_what_was_found(tmp_path):
    fake_python(tmp_path, "python3", "3.8.10", 1)
    fake_python(tmp_path, "python3.11", "", 127)
    result = bash(
        "source scripts/environment.sh && use_environment dev",
        PATH=only(tmp_path),
        NOISY_STUDENT_VENV=str(tmp_path / "venv"),
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: Noisy Student needs Python 3.9 to 3.13 with its venv module; "
        "found: python3 (3.8.10).\n"
    )


def test_a_python_that_does_not_run_is_passed_over(tmp_path):
    fake_python(tmp_path, "python3.11", "", 127)
    fake_python(tmp_path, "python3.12", "3.12.1", 0)
    result = bash(
        "source scripts/environment.sh && default_python", PATH=only(tmp_path)
    )
    assert (result.stdout, result.stderr) == ("python3.12\n", "")


def test_pythons_of_pyenv_are_found(tmp_path):
    folder = tmp_path / "versions" / "3.10.13" / "bin"
    folder.mkdir(parents=True)
    path = fake_python(folder, "python3.10", "3.10.13", 0)
    result = bash(
        "source scripts/environment.sh && default_python",
        PATH=only(tmp_path),
        PYENV_ROOT=str(tmp_path),
    )
    assert (result.stdout, result.stderr) == (path + "\n", "")


@pytest.mark.parametrize("named_by", ["PYTHON", "VIRTUAL_ENV"])
def test_a_python_that_is_named_comes_first(tmp_path, named_by):
    fake_python(tmp_path, "python3.11", "3.11.7", 0)
    (tmp_path / "env").mkdir()
    path = fake_python(tmp_path / "env" / "bin", "python", "3.9.1", 0)
    value = path if named_by == "PYTHON" else str(tmp_path / "env")
    result = bash(
        "source scripts/environment.sh && default_python",
        PATH=only(tmp_path),
        **{named_by: value},
    )
    assert (result.stdout, result.stderr) == (path + "\n", "")


def test_a_python_that_is_named_wrongly_is_not_replaced_by_another(tmp_path):
    fake_python(tmp_path, "python3.11", "3.11.7", 0)
    result = bash(
        "source scripts/environment.sh && default_python",
        PATH=only(tmp_path),
        PYTHON="python7",
    )
    assert result.returncode == 1
    assert "found: none that runs as python7." in result.stderr


def test_the_python_at_hand_must_have_tensorflow(tmp_path):
    python = fake_python(tmp_path, "python3.11", "3.11.7", 0)
    pathlib.Path(python).write_text(
        f"#!{shutil.which('sh')}\n"
        'case "$2" in *tensorflow*) exit 1;; *) echo 3.11.7;; esac\n'
    )
    result = bash(
        "source scripts/environment.sh && use_environment dev",
        PATH=only(tmp_path),
        NOISY_STUDENT_VENV="none",
        VIRTUAL_ENV="/nonexistent",
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: python3.11 has no TensorFlow; set")


INSTALLED = r"""
source scripts/environment.sh
install() { echo "installs $2"; }
use_environment quickstart
[[ -d $NOISY_STUDENT_VENV ]] && stamp "$NOISY_STUDENT_VENV" quickstart \
  >"$NOISY_STUDENT_VENV/installed-quickstart"
use_environment quickstart
use_environment dev
PYTHON=$OTHER use_environment quickstart
touch "$NOISY_STUDENT_VENV.installing"
use_environment quickstart
"""


def test_an_extra_is_installed_only_where_something_changed(tmp_path):
    fake_python(tmp_path / "bin", "python", "3.11.7", 0)
    result = bash(
        INSTALLED,
        PATH="/usr/bin:/bin",
        NOISY_STUDENT_VENV=str(tmp_path),
        OTHER=fake_python(tmp_path, "other", "3.12.1", 0),
    )
    assert result.stdout.splitlines() == [
        "installs quickstart",  # Nothing is there yet.
        "installs dev",  # Each extra once; `quickstart` was there by then.
        "installs quickstart",  # Another Python was asked for.
        "installs quickstart",  # The last installation was interrupted.
    ], result.stderr


INTERRUPTED = r"""
source scripts/environment.sh
echo "$HOLDER" >"$NOISY_STUDENT_VENV.installing"
use_environment dev
"""


def test_a_second_installation_waits_for_the_first(tmp_path):
    venv = tmp_path / "venv"
    venv.mkdir()
    result = bash(
        INTERRUPTED.replace("$HOLDER", "$PPID"),
        PATH="/usr/bin:/bin",
        NOISY_STUDENT_VENV=str(venv),
    )
    assert result.returncode == 1
    assert f"is installing into {venv}; wait for it" in result.stderr


# A `python` that makes a venv of itself and whose pip fails while $FAILING
# exists; it logs what it was asked to do.
ACTING_PYTHON = r"""#!/bin/bash
case "$*" in
  -c*) echo 3.11.7 ;;
  *"venv --clear"*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"
    touch "$4/pyvenv.cfg"
    echo "new venv" ;;
  *-e*) [[ -e $FAILING ]] && exit 3; echo "pip ${*: -1}" ;;
esac
"""


def test_an_interrupted_installation_is_repaired(tmp_path):
    python = pathlib.Path(fake_python(tmp_path, "acting", "", 0))
    python.write_text(ACTING_PYTHON)
    failing = tmp_path / "failing"
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHON": str(python),
        "NOISY_STUDENT_VENV": str(tmp_path / "venv"),
        "FAILING": str(failing),
    }
    use = "source scripts/environment.sh && use_environment dev"
    installed = f"pip {ROOT}[dev]"

    failing.touch()
    result = bash(use, **environment)
    assert result.returncode == 3
    assert result.stdout == "new venv\n"

    failing.unlink()
    result = bash(use, **environment)  # pip had failed: the venv is kept.
    assert result.stdout.splitlines() == [installed]
    assert "about two minutes" in result.stderr

    result = bash(use, **environment)
    assert (result.stdout, result.stderr) == ("", "")

    (tmp_path / "venv.installing").write_text("999999999\n")
    result = bash(use, **environment)  # It had been killed: a new venv.
    assert result.stdout.splitlines() == ["new venv", installed]
    assert not (tmp_path / "venv.installing").exists()


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "bin/python"])
def test_a_folder_that_is_no_environment_is_left_alone(tmp_path, name):
    python = pathlib.Path(fake_python(tmp_path, "acting", "", 0))
    python.write_text(ACTING_PYTHON)
    folder = tmp_path / "mine"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("precious")
    result = bash(
        "source scripts/environment.sh && use_environment dev",
        PATH="/usr/bin:/bin",
        PYTHON=str(python),
        NOISY_STUDENT_VENV=str(folder),
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: NOISY_STUDENT_VENV={folder} is not empty and no virtual "
        "environment; name another folder.\n"
    )
    assert (folder / name).read_text() == "precious"
    assert not (tmp_path / "mine.installing").exists()


@pytest.mark.parametrize("before", ["absent", "empty", "environment"])
def test_an_environment_is_made_where_nothing_is_lost(tmp_path, before):
    python = pathlib.Path(fake_python(tmp_path, "acting", "", 0))
    python.write_text(ACTING_PYTHON)
    folder = tmp_path / "venv"
    if before != "absent":
        folder.mkdir()
    if before == "environment":
        (folder / "pyvenv.cfg").touch()
    result = bash(
        "source scripts/environment.sh && use_environment dev",
        PATH="/usr/bin:/bin",
        PYTHON=str(python),
        NOISY_STUDENT_VENV=str(folder),
    )
    assert result.stdout.splitlines() == ["new venv", f"pip {ROOT}[dev]"]


def test_an_environment_needs_no_extra(tmp_path):
    python = pathlib.Path(fake_python(tmp_path, "acting", "", 0))
    python.write_text(ACTING_PYTHON)
    use = "source scripts/environment.sh && set -u && use_environment ''"
    result = bash(
        f"{use} && {use}",
        PATH="/usr/bin:/bin",
        PYTHON=str(python),
        NOISY_STUDENT_VENV=str(tmp_path / "venv"),
    )
    assert result.stdout.splitlines() == ["new venv", f"pip {ROOT}"]
    assert "Installing TensorFlow for Python 3.11.7 into" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--foo", "Unknown argument '--foo'"),
        ("--seed", "--seed needs a value"),
        ("--seed=-1", "--seed must be a whole number, 0 or more. Received"),
        ("--work_dir", "--work_dir needs a value"),
    ],
)
def test_the_quickstart_refuses_wrong_arguments(arguments, message):
    result = bash(f"scripts/quickstart.sh {arguments}", PATH="/usr/bin:/bin")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


# Prints what it is asked to run, instead of running it.
ECHOING_PYTHON = r"""#!/bin/bash
case "$*" in
  -m*) shift; echo "$*" ;;
  *version_info*) echo 3.11.7 ;;
esac
"""


def echoing_python(folder):
    """Returns the environment in which scripts print what they would run."""
    path = pathlib.Path(fake_python(folder, "echoing", "", 0))
    path.write_text(ECHOING_PYTHON)
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHON": str(path),
        "NOISY_STUDENT_VENV": "none",
    }


def test_the_quickstart_passes_seed_and_work_dir_on(tmp_path):
    result = bash(
        f"cd '{tmp_path}' && "
        f"'{ROOT}/scripts/quickstart.sh' --seed=7 --work_dir d",
        **echoing_python(tmp_path),
    )
    data, training = result.stdout.splitlines()
    assert data == f"data_prep.digits --output_dir={tmp_path}/d/data --seed=7"
    words = training.split()
    assert words[0] == "noisy_student.self_training"
    assert {"--seed=7", f"--work_dir={tmp_path}/d"} < set(words)
    assert not any("train_steps" in word for word in words)


def test_the_long_recipe_has_its_own_presets_and_directory(tmp_path):
    result = bash("scripts/quickstart.sh --long", **echoing_python(tmp_path))
    assert {
        f"--work_dir={ROOT}/runs/quickstart/long_0",
        "--chain=digits_long",
    } < set(result.stdout.split())


def test_the_smoke_run_is_short_and_has_its_own_directory(tmp_path):
    result = bash("scripts/quickstart.sh --smoke", **echoing_python(tmp_path))
    words = result.stdout.split()
    assert f"--work_dir={ROOT}/runs/quickstart/smoke_0" in words
    assert "--rounds=1" in words
    assert "--train_steps=4" in words


def test_the_whole_chain_says_which_folders_it_needs(tmp_path):
    (tmp_path / "train").mkdir()
    result = bash(
        f"scripts/cifar10/whole_chain.sh --image_dir='{tmp_path}'",
        PATH="/usr/bin:/bin",
    )
    assert result.returncode == 1
    assert "must have the folders train and test" in result.stderr


def test_the_reproduction_says_which_folders_it_needs(tmp_path):
    result = bash(
        f"scripts/cifar10/reproduce.sh --data_dir='{tmp_path}'",
        PATH="/usr/bin:/bin",
    )
    assert result.returncode == 1
    assert "must have the folders train and test" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "-m not long -n 2 --dist loadfile"),
        ("--fast -x", "-m not slow and not long -n 2 --dist loadfile -x"),
        # pytest takes the last.
        ("-m long", "-m not long -n 2 --dist loadfile -m long"),
    ],
)
def test_the_test_script_passes_arguments_on(tmp_path, arguments, expected):
    result = bash(f"scripts/test.sh {arguments}", **echoing_python(tmp_path))
    assert result.stdout.strip() == f"pytest {expected}"


DATAFLOW = {"PROJECT": "mine", "BUCKET": "gs://mine/beam"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "PROJECT must be set"),
        (
            {"PROJECT": "mine", "BUCKET": "/tmp"},
            "BUCKET must be a folder on gs",
        ),
        ({**DATAFLOW, "ACCELERATOR": "nvidia-tesla-t4"}, "ACCELERATOR needs"),
    ],
)
def test_dataflow_needs_to_know_where(environment, message):
    result = bash(
        "scripts/beam/dataflow.sh", PATH="/usr/bin:/bin", **environment
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "extra", [{}, {"IMAGE": "image", "ACCELERATOR": "nvidia-tesla-t4"}]
)
def test_dataflow_gets_flags_of_ours_and_options_that_beam_knows(
    tmp_path, extra
):
    pytest.importorskip("apache_beam")
    from apache_beam.options import pipeline_options

    from noisy_student import beam_pipeline

    result = bash(
        "scripts/beam/dataflow.sh --input_dir=gs://in --num_image=5",
        **{**echoing_python(tmp_path), **DATAFLOW, **extra},
    )
    module, *words = result.stdout.split()
    assert module == "noisy_student.beam_pipeline", result.stderr
    flag_values = flags.FlagValues()
    beam_pipeline.define_flags(flag_values)
    _, *options = flag_values([module, *words])
    assert (flag_values.num_image, flag_values.min_threshold) == (5, 0.3)
    parsed = pipeline_options.PipelineOptions(options)
    known = parsed.get_all_options(drop_default=True)
    assert known["runner"] == "DataflowRunner"
    assert known == parsed.get_all_options(
        drop_default=True, retain_unknown_options=True
    )
    assert len(known) >= len(options) - 1  # Two are both experiments.


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_run_by_their_bare_names(tmp_path, path):
    script = path.read_text()
    assert "BASH_SOURCE" in script
    end = script.index("\n", script.index("BASH_SOURCE"))
    for needed in (path, *SOURCED):
        place = tmp_path / "checkout" / needed.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(needed, place)
    copy = tmp_path / "checkout" / path.relative_to(ROOT)
    copy.write_text(script[:end] + '\necho "$checkout"\n')
    result = bash(
        f"cd '{copy.parent}' && bash '{copy.name}'", PATH="/usr/bin:/bin"
    )
    assert (result.stdout, result.stderr) == (f"{tmp_path}/checkout\n", "")


def test_continuous_integration_needs_a_python_of_each_stack(tmp_path):
    fake_python(tmp_path, "python3.11", "3.11.7", 0)
    result = bash(f"exec {shutil.which('bash')} .ci/run", PATH=only(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: Noisy Student needs Python 3.12 or 3.13 for its tests; "
        "found: none.\n"
    )
