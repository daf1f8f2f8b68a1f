"""RandAugment and AutoAugment on one uint8 image, and their operations.

Names are resolved on first use: importing the package imports no TensorFlow.
"""

import importlib
import sys
import types

_HOME = {
    "OPS": "dispatch",
    "autoaugment": "autoaugment",
    "level_to_args": "magnitudes",
    "randaugment": "randaugment",
}

__all__ = list(_HOME)


class _Package(types.ModuleType):
    """Keeps the functions that are called as their modules.

    Importing a submodule binds its name in the package, which would put the
    module `autoaugment.randaugment` in the place of the function.
    """

    def __setattr__(self, name, value):
        if name in _HOME and isinstance(value, types.ModuleType):
            return
        super().__setattr__(name, value)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOME[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__():
    return sorted({*globals(), *_HOME})


sys.modules[__name__].__class__ = _Package
