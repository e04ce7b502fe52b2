"""HTTP faces of the node. So far one: the control API."""

from node.gateway.app import create_app
from node.gateway.control import Control
from node.gateway.replies import (
    AgentReply,
    ApprovalReply,
    ErrorReply,
    Event,
    ModelReply,
    RunReply,
    StatusReply,
    UsageReply,
)
from node.gateway.server import ControlServer, bind_tcp, bind_unix

__all__ = [
    "AgentReply",
    "ApprovalReply",
    "Control",
    "ControlServer",
    "ErrorReply",
    "Event",
    "ModelReply",
    "RunReply",
    "StatusReply",
    "UsageReply",
    "bind_tcp",
    "bind_unix",
    "create_app",
]
