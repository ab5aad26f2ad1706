"""One module per family of checkpoint: from files on this disk to a Source that the pipeline can export."""
