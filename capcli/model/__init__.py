"""The network: an encoder, attention, decoders, their words and their number format. Knows no file."""
