"""Training: the flat loop, optimisers, schedules, checkpoints and run folders.

The function `attar.train` has this package's name, and importing the package puts it in the function's place; so the
package can be called, and calling it is calling the function.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **values: Any) -> Any:
        return importlib.import_module("attar.api").train(*arguments, **values)


sys.modules[__name__].__class__ = _Callable
