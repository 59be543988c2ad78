"""Run from a checkout: ``python cli.py scan model.onnx`` is ``audit scan model.onnx``."""

from auditor.app import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
