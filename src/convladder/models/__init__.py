"""Models: the ladder, with a function per rung; blocks; the pretrained backbone; summaries by layer."""
