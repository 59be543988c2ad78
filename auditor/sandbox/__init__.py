"""The child process: an artifact is opened and run only in here.

`host.Worker` starts it, `limits.Limits` bounds it, `transport` carries JSON and plain arrays,
`worker` is what runs on the other side and `protect` is what the system lets us take away.
"""
