"""ONNX operators in torch, grouped by topic; importing a module registers its operators."""
