"""Agents, the loop, and the one door every effect goes through.

runs = Runs(log=journal, program=AgentLoop(...), agents=registry, clock=clock, guards=guards)
await runs.recover()
run_id = await runs.start("clerk", "What is 2 + 2?", actor="uid:1000")
result = await runs.wait(run_id)
"""

from node.runs.agent import AgentManifest, ToolGrant
from node.runs.approvals import Approval
from node.runs.budget import NodeLimits
from node.runs.checks import Guards, NoGuards
from node.runs.effect import (
    Effect,
    Guard,
    GuardContext,
    GuardStage,
    GuardVerdict,
    Label,
    Needs,
    Outcome,
    StepKind,
    Usage,
)
from node.runs.grants import check_tools
from node.runs.guards import GuardSet
from node.runs.loop import AgentLoop
from node.runs.manifest import parse_manifest, read_manifest
from node.runs.owner import programs
from node.runs.policy import ManifestPolicy, Policy
from node.runs.program import Answer, Program, ProgramRun, RunEvent, RunResult
from node.runs.recover import needed_from
from node.runs.registry import AgentChange, AgentRegistry
from node.runs.replay import Divergence, Edit, ReplayReport
from node.runs.run import Run
from node.runs.service import Runs
from node.runs.settling import Settling
from node.runs.summary import RunSummary
from node.runs.toolset import Places, Toolset
from node.runs.workspace import Workspaces

__all__ = [
    "AgentChange",
    "AgentLoop",
    "AgentManifest",
    "AgentRegistry",
    "Answer",
    "Approval",
    "Divergence",
    "Edit",
    "Effect",
    "Guard",
    "GuardContext",
    "GuardSet",
    "GuardStage",
    "GuardVerdict",
    "Guards",
    "Label",
    "ManifestPolicy",
    "Needs",
    "NoGuards",
    "NodeLimits",
    "Outcome",
    "Places",
    "Policy",
    "Program",
    "ProgramRun",
    "ReplayReport",
    "Run",
    "RunEvent",
    "RunResult",
    "RunSummary",
    "Runs",
    "Settling",
    "StepKind",
    "ToolGrant",
    "Toolset",
    "Usage",
    "Workspaces",
    "check_tools",
    "needed_from",
    "parse_manifest",
    "programs",
    "read_manifest",
]
