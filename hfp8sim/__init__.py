"""hfp8sim."""
