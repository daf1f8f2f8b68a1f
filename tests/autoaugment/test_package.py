"""The package's names and when they are imported."""

import importlib
import subprocess
import sys

import pytest

import autoaugment

PUBLIC = ["OPS", "autoaugment", "level_to_args", "randaugment"]


def test_importing_the_package_and_its_tables_imports_no_tensorflow():
    code = (
        "import sys, autoaugment, autoaugment.policies\n"
        "print(autoaugment.level_to_args('Rotate', 9.0))\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["(27.0,)", "False"]


@pytest.mark.parametrize("name", ["randaugment", "autoaugment"])
def test_a_function_is_not_shadowed_by_the_module_it_is_called_as(name):
    module = importlib.import_module(f"autoaugment.{name}")
    # What the import system does whenever a submodule is imported first.
    setattr(autoaugment, name, module)
    assert getattr(autoaugment, name) is getattr(module, name)


def test_all_public_names_resolve_and_are_listed():
    assert sorted(autoaugment.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(autoaugment))
    for name in PUBLIC:
        assert getattr(autoaugment, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'rand_augment'"):
        _ = autoaugment.rand_augment
