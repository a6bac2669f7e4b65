"""Projects: what is being aligned, from which base model, with which settings, and who takes part."""
