"""Write ``report-1.json`` from the model. A test fails while it is out of date."""

import json
from pathlib import Path

from auditor.report.model import report_schema

if __name__ == "__main__":
    target = Path(__file__).with_name("report-1.json")
    target.write_text(json.dumps(report_schema(), indent=2) + "\n", "utf-8")
