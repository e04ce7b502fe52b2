"""HTTP faces of the node. So far one: the control API."""

from node.gateway.app import create_app
from node.gateway.control import Control
from node.gateway.server import ControlServer, bind_tcp, bind_unix

__all__ = ["Control", "ControlServer", "bind_tcp", "bind_unix", "create_app"]
