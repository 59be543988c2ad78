"""The published JSON Schema of `report.json`; ``python -m auditor.report.schema`` renews it."""
