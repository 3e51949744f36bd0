"""Decoding: from an image's features to sentences, by beam search or sampling."""
