"""What a network is: the ladder, a function per rung; blocks; the pretrained backbone; a summary by layer."""
