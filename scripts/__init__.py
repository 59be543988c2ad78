"""Tools for working on Auditor; no part of the package."""
