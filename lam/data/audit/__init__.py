"""Look for what goes wrong silently in labelled data. Used by `lam data check` and at the end of every conversion.

Each check is a module with one class: it sees the structures one by one and judges at the end
(:class:`~lam.data.audit.check.Check`). What they find is described in ``docs/audit.md``.
"""

from lam.data.audit.auditor import Audited, Auditor, audit, cross_check, examine
from lam.data.audit.finding import Finding, Repair

__all__ = ["Audited", "Auditor", "Finding", "Repair", "audit", "cross_check", "examine"]
