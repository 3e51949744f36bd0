"""The network: encoders, attention, decoders, their vocabulary and their number format. It knows of no files."""
