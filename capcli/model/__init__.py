"""The network: encoders, attention, decoders, vocabulary and number format. It knows no files."""
