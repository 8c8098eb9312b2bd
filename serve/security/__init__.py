"""Who is let in, and what is never handed out."""

from serve.security.access import Access, who_asks
from serve.security.audit import AuditError, AuditLog

__all__ = ["Access", "AuditError", "AuditLog", "who_asks"]
