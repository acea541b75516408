"""What the documents show, held against the code."""
