"""More cells, each one file here and one of conf/model, as a user would add a cell.

Every module of this folder is imported when a cell is looked up that is not RNN, LSTM or GRU.
"""

from importlib import import_module
from pkgutil import iter_modules

__all__ = sorted(module.name for module in iter_modules(__path__))

for _name in __all__:
    import_module(f"{__name__}.{_name}")
