"""From features to sentences: options, beam search, and sampling."""
