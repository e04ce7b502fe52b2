"""pygit2, imported where no certificates can keep it from that.

On import it hands libgit2 the certificates that the environment or the system names, and fails
where there are none, or no such files. Histories here are of this disk, and nothing uses TLS: so it
is shown a folder that is always there.
"""

from __future__ import annotations

import os

_SHOWN = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": os.sep}
_before = {key: os.environ[key] for key in _SHOWN if key in os.environ}
os.environ.update(_SHOWN)
try:
    import pygit2
    from pygit2.enums import ConfigLevel, SortMode
finally:
    for _key in _SHOWN:
        del os.environ[_key]
    os.environ.update(_before)

__all__ = ["ConfigLevel", "SortMode", "pygit2"]
