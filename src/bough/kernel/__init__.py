"""The kernel: SQL that holds every rule, and the few calls that put it into a database.

`migrations/` holds the tables and the triggers that live with them, `code/` the functions that
programs call. The database does the rest; nothing here runs while agents do.
"""

from bough.kernel.migrate import (
    MigrationError,
    MigrationStatus,
    Violation,
    expected_version,
    fingerprint,
    migrate,
    rollback,
    status,
    verify,
)

__all__ = [
    "MigrationError",
    "MigrationStatus",
    "Violation",
    "expected_version",
    "fingerprint",
    "migrate",
    "rollback",
    "status",
    "verify",
]
