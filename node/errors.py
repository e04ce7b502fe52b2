"""The node's one error tree.

Every error a user can meet says what happened (`message`) and what to do next (`hint`). A room
adds its classes in its section; nothing outside this file subclasses `Exception`.
"""

from __future__ import annotations


class FreeholdError(Exception):
    """Something went wrong that the caller can act on.

    Args:
        message: what happened, with the name of the file, key, agent, tool or model.
        hint: what to do next, as a sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def diagnostics(self) -> str:
        """The message and, on a line of its own, the hint."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


# ── config, identity ────────────────────────────────────────────────────────────────────────


class ConfigError(FreeholdError):
    """A configuration file or environment variable is not what it must be."""


class IdentityError(FreeholdError):
    """A key or secret is missing, unreadable or not what it must be."""


# ── journal ─────────────────────────────────────────────────────────────────────────────────


class JournalError(FreeholdError):
    """The log cannot be written or read as it must be."""


class JournalBusyError(JournalError):
    """Another process holds the log."""


class JournalDamagedError(JournalError):
    """The log differs from what was signed; the message names the first bad index."""


class JournalErasedError(JournalError):
    """The content was erased, as somebody wanted; it is not coming back."""


class JournalReadError(JournalError):
    """The log could not be read just now (I/O error, no free file): what it holds is not known."""


class JournalRollbackError(JournalError):
    """The log is shorter than, or forks from, a head that was kept elsewhere."""


class JournalVersionError(JournalError):
    """It was written by another version of Freehold, in a way that this one does not read."""


class JournalWriteError(JournalError):
    """The log cannot be written (disk full, I/O error); the node stops rather than go on."""


# ── sandbox ─────────────────────────────────────────────────────────────────────────────────


class SandboxError(FreeholdError):
    """A tool could not be stored, compiled or run within its limits.

    `egress_bytes` is what a call had sent over the network until then, `origins` the hosts and
    files that its words may be from.
    """

    egress_bytes = 0
    origins: tuple[str, ...] = ()


class ToolError(SandboxError):
    """A tool is unknown, its files are not what its manifest says, or it has no such function."""


class ToolLimitError(SandboxError):
    """A call went over its time, fuel, memory or output limit and was stopped."""


class ToolTrapError(SandboxError):
    """The guest trapped; the call has no result."""


class CapabilityError(SandboxError):
    """A tool wants a capability that the agent's grant does not hold."""


# ── inference ───────────────────────────────────────────────────────────────────────────────


class InferenceError(FreeholdError):
    """A model could not be loaded or could not generate."""


class ModelError(InferenceError):
    """A model is unknown, its file changed since it was pinned, or it cannot be loaded."""


class ModelMemoryError(ModelError):
    """A model, with its context, does not fit in memory; says what it needs and what there is."""


class DownloadError(ModelError):
    """A model could not be fetched whole and as it must be; what came so far may be kept."""


class ContextOverflowError(InferenceError):
    """The prompt does not fit the model's context."""


class RunnerCrashedError(InferenceError):
    """The runner process died in the middle of a generation; trying again is safe."""


class EngineBusyError(InferenceError):
    """The model's queue is full; says how many generations wait."""


class RemoteError(InferenceError):
    """A model's server could not be reached, refused, or did not keep to its protocol."""


class RemoteRefusedError(RemoteError):
    """A model's server could not be reached, or refused the request: it made nothing for it.

    `setting` is the member of the request that it does not take, where it says so.
    """

    setting = ""


class TemplateError(InferenceError):
    """The model's chat template is missing, refuses these messages or goes over a limit."""


class GrammarError(InferenceError):
    """A tool's schema cannot be turned into a grammar."""


# ── runs ────────────────────────────────────────────────────────────────────────────────────


class RunError(FreeholdError):
    """A run could not go on."""


class ManifestError(RunError):
    """An agent's manifest is not what it must be; names file, key and what is allowed."""


class BudgetExceededError(RunError):
    """A step would go over a budget; says which dimension, whose, and what had been done.

    `limit` and `used` are in the dimension's own unit: counts, seconds, bytes or msat.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        dimension: str = "",
        owner: str = "",
        limit: float = 0,
        used: float = 0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.dimension = dimension
        self.owner = owner
        self.limit = limit
        self.used = used


class PolicyDeniedError(RunError):
    """Policy, or the person asked, refused an effect."""

    exit_code = 4


class WorkspaceError(RunError):
    """An agent's files, or their history, cannot be read or written as they must be."""


class GuardRefusedError(PolicyDeniedError):
    """A guard refused what a step was about to do."""


class StepFailedError(RunError):
    """An effect broke in a way it does not know; the node's log holds the kind of error only."""


class ApprovalError(RunError):
    """There is no such open question, or it cannot be answered that way."""


class UnknownRunError(RunError):
    """The log holds no run of that id."""


class DivergenceError(RunError):
    """A replayed run took another step than the one recorded; `path` is where."""

    def __init__(
        self, message: str, *, hint: str = "", path: str = "", recorded: str = "", taken: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.recorded = recorded
        self.taken = taken


class OutcomeUnknownError(RunError):
    """An effect may or may not have happened; a person must decide."""


class RunStoppedError(RunError):
    """The run was stopped at the door: cancelled, emergency stop, shutdown, no progress."""

    exit_code = 4


# ── money ───────────────────────────────────────────────────────────────────────────────────


class MoneyError(FreeholdError):
    """The wallet could not do what it was asked; nothing was paid."""


class PaymentError(MoneyError):
    """A payment was refused, or surely did not happen; says why."""


class WalletMissingError(MoneyError):
    """This node has no wallet yet, or no mint that could pay."""


class WalletLockedError(MoneyError):
    """The wallet's key is under a passphrase that was not given."""

    exit_code = 8


class WalletStateError(MoneyError):
    """The wallet's file or key cannot be used as it is, or must be reconciled first."""


class PaymentPendingError(OutcomeUnknownError):
    """A payment is under way and nobody knows yet how it ends; it is never made twice."""

    exit_code = 7


# ── control API, daemon, CLI ────────────────────────────────────────────────────────────────


class ControlError(FreeholdError):
    """The daemon could not be reached or refused a request."""


class DaemonNotRunningError(ControlError):
    """Nothing answers on the control socket."""

    exit_code = 3


class NoAnswerError(ControlError):
    """The daemon was asked and did not answer; whether it did what was asked nobody knows."""


class DaemonRunningError(ControlError):
    """Another process works on this home."""


class StoppingError(ControlError):
    """The daemon is shutting down and takes no new work."""


class NotFoundError(ControlError):
    """There is no run, agent, approval or route of that name."""


class RequestError(ControlError):
    """A request to the control API is not what it must be."""

    exit_code = 2


class BackupError(FreeholdError):
    """An archive could not be made, is not what it must be, or would roll the node back."""
