"""Records in, records out: sources, filtering and balancing. No models."""
