"""The engines that events are copied to, one a file."""
