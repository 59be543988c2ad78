"""What an organisation accepts: thresholds, severities, suppressions, baseline, exit gate."""
