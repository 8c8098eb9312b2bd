"""The audit of data sets: what is wrong with them, shown with thumbnails, and a manifest that takes it into account."""

from medsharp.data.audit.audit import Audit, audit_datasets, check_accepted
from medsharp.data.audit.finding import KINDS, Action, Finding, Kind, Policy, Severity, Suspension
from medsharp.data.audit.report import actions_of, write_audit

__all__ = [
    "KINDS",
    "Action",
    "Audit",
    "Finding",
    "Kind",
    "Policy",
    "Severity",
    "Suspension",
    "actions_of",
    "audit_datasets",
    "check_accepted",
    "write_audit",
]
