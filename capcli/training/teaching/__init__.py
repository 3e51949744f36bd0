"""Teaching a checkpoint a few photos without forgetting others."""
