"""The version of the code that runs. It is read as the process starts, since an upgrade may
install another one under it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("freehold")
