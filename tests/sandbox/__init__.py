"""Tests of the child process: what crosses the pipe, what a death means, what is refused."""
