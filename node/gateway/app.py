"""The control API as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from node.errors import FreeholdError
from node.gateway import archive, operate, runs, wallet, wallet_pay
from node.gateway.control import Control
from node.gateway.http import TokenGate, on_bug, on_error

ROUTES = [*operate.ROUTES, *runs.ROUTES, *archive.ROUTES, *wallet.ROUTES, *wallet_pay.ROUTES]


def create_app(control: Control) -> ASGIApp:
    """The application that serves one node, behind the check of who asks."""
    app = Starlette(
        routes=ROUTES,
        exception_handlers={
            FreeholdError: on_error,
            HTTPException: on_error,
            Exception: on_bug,
        },
    )
    app.router.redirect_slashes = False  # an answer is JSON, and sends nobody elsewhere
    app.state.control = control
    return TokenGate(app, control.config.control.token.get_secret_value())
