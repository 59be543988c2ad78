"""Places models come from, one kind a file; `registry` finds the kind for what the user wrote."""
