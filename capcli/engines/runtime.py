"""ONNX Runtime, which reports its use to its makers unless it is told not to before it is loaded."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    onnxruntime.disable_telemetry_events()  # all that can be done where the program had loaded it before

__all__ = ["onnxruntime"]
