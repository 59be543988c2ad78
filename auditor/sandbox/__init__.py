"""Everything that touches a model runs in a child process with limits; see `host` and `worker`."""
