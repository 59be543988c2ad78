"""A third party's checks and report format for model-auditor: copy it to start your own."""
