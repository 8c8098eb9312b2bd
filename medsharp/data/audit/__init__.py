"""The audit of data sets: what is wrong with them, shown with thumbnails, and a manifest that takes it into account."""

from medsharp.data.audit.audit import Audit, audit_datasets
from medsharp.data.audit.finding import KINDS, Action, Finding, Kind, Policy, Severity
from medsharp.data.audit.report import write_audit

__all__ = ["KINDS", "Action", "Audit", "Finding", "Kind", "Policy", "Severity", "audit_datasets", "write_audit"]
