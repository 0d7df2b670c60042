"""One command a file, named by Django's rule."""
