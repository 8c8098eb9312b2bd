"""The Open Inference Protocol, version 2, as Triton's clients speak it over HTTP, with its binary tensors."""

from serve.api.inference_protocol.routes import add_inference_protocol_routes

__all__ = ["add_inference_protocol_routes"]
