"""Quality of captions: metrics, calibration, pointing, dev photos in training."""
