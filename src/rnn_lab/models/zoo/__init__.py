"""More cells, each one file here and one of conf/model, as a user would add a cell.

Every module of this folder is imported when a cell is looked up that is not RNN, LSTM or GRU.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
