"""ONNX Runtime, which reports its use to its makers unless told not to before it is loaded."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    onnxruntime.disable_telemetry_events()  # the best we can do if the program loaded it before

__all__ = ["onnxruntime"]
