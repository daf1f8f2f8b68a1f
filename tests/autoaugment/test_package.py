"""The package's names and when they are imported."""

import subprocess
import sys

import pytest

import autoaugment

PUBLIC = ["OPS", "autoaugment", "cutout", "level_to_args", "randaugment"]


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_and_its_tables_imports_no_tensorflow():
    out = run(
        "import sys, autoaugment, autoaugment.policies\n"
        "print(autoaugment.level_to_args('Rotate', 9.0))\n"
        "print('tensorflow' in sys.modules)"
    )
    assert out == ["(27.0,)", "False"]


def test_public_names_are_functions_even_after_their_modules_are_imported():
    out = run(
        "import autoaugment.randaugment, autoaugment.autoaugment\n"
        "from autoaugment.randaugment import randaugment\n"
        "import autoaugment\n"
        "print(autoaugment.randaugment is randaugment,\n"
        "      callable(autoaugment.autoaugment))"
    )
    assert out == ["True", "True"]


def test_all_public_names_resolve_and_are_listed():
    assert sorted(autoaugment.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(autoaugment))
    for name in PUBLIC:
        assert getattr(autoaugment, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'rand_augment'"):
        _ = autoaugment.rand_augment
