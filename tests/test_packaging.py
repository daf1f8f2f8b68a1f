"""What setup.py installs, and that it fits together."""

import importlib
import importlib.metadata
import pathlib
import re
import runpy
import subprocess
import sys
from unittest import mock

import pytest
import setuptools
from packaging import requirements, specifiers

ROOT = pathlib.Path(__file__).parent.parent
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|", re.MULTILINE)


def setup_arguments():
    """Returns what setup.py tells setuptools."""
    with (
        pytest.MonkeyPatch.context() as patch,
        mock.patch.object(setuptools, "setup") as setup,
    ):
        patch.chdir(ROOT)
        runpy.run_path("setup.py")
    return setup.call_args.kwargs


SETUP = setup_arguments()


def required(*extras):
    """Returns the requirements of the core and of some extras."""
    texts = list(SETUP["install_requires"])
    for extra in extras:
        texts += SETUP["extras_require"][extra]
    return [requirements.Requirement(text) for text in texts]


def test_the_metadata_name_the_licence_and_the_pythons():
    assert SETUP["name"] == "noisy-student-training"
    assert SETUP["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    pythons = specifiers.SpecifierSet(SETUP["python_requires"])
    supported = [v for v in range(8, 16) if pythons.contains(f"3.{v}.1")]
    assert supported == [9, 10, 11, 12, 13]


def test_the_packages_are_found_with_their_subpackages_and_import():
    assert {name.split(".")[0] for name in SETUP["packages"]} == {
        "autoaugment",
        "data_prep",
        "efficientnet",
        "noisy_student",
    }
    for folder in sorted(ROOT.glob("noisy_student/*/__init__.py")):
        assert f"noisy_student.{folder.parent.name}" in SETUP["packages"]
    for name in SETUP["packages"]:
        assert importlib.import_module(name).__doc__


def test_every_data_file_of_the_packages_is_installed():
    patterns = SETUP["package_data"][""]
    for package in SETUP["packages"]:
        for path in (ROOT / package.replace(".", "/")).iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(path.match(pattern) for pattern in patterns), path


@pytest.mark.parametrize(
    ("python_version", "tensorflow", "addons"),
    [("3.9", "2.15.1", 1), ("3.11", "2.15.0", 1), ("3.12", "2.21.0", 0)],
)
def test_each_python_gets_one_tensorflow(python_version, tensorflow, addons):
    chosen = [
        requirement
        for requirement in required()
        if requirement.marker is None
        or requirement.marker.evaluate({"python_version": python_version})
    ]
    names = [requirement.name for requirement in chosen]
    assert len(names) == len(set(names))
    assert names.count("tensorflow-addons") == addons
    assert ("tf_keras" in names) == (not addons)
    (found,) = [r for r in chosen if r.name == "tensorflow"]
    assert found.specifier.contains(tensorflow)


def test_installed_versions_are_within_the_bounds():
    for requirement in required("dev"):
        if requirement.marker is None or requirement.marker.evaluate():
            version = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(version), (
                f"{requirement} but {version} is installed"
            )


def test_installed_packages_fit_together():
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout


def test_keras_2_is_of_the_minor_version_of_tensorflow():
    def minor(name):
        return importlib.metadata.version(name).split(".")[:2]

    name = "keras" if sys.version_info < (3, 12) else "tf_keras"
    assert minor(name) == minor("tensorflow")


def test_tensorflow_datasets_is_complete():
    # With an unsuitable tensorflow-metadata the import succeeds without it.
    import tensorflow_datasets as tfds

    assert callable(tfds.builder)


def test_tensorboard_summaries_can_be_written(tmp_path):
    # TensorFlow 2.21 installs without TensorBoard and fails here, when called.
    import tensorflow as tf

    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        tf.summary.scalar("loss", 0.5, step=1)
    (path,) = tmp_path.iterdir()
    assert b"loss" in path.read_bytes()


def test_every_dependency_has_its_row_in_the_documentation():
    text = (ROOT / "docs" / "dependencies.md").read_text()
    rows = {}
    for name, bounds in re.findall(
        r"^\| `([^`]+)` \| `([^`]+)` \|", text, re.M
    ):
        requirement = requirements.Requirement(name + bounds)
        rows.setdefault(requirement.name, set()).add(requirement.specifier)
    expected = {}
    for requirement in required(*SETUP["extras_require"]):
        expected.setdefault(requirement.name, set()).add(requirement.specifier)
    assert rows == expected
