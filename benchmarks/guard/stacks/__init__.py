"""What is measured: apps, and the layers around them, each built by a function of this folder."""
