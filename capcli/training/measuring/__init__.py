"""How good captions are: metrics, calibration, pointing, dev photos while training."""
