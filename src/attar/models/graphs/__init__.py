"""A network as a graph for other runtimes: traced, in ONNX, in eight bits."""
