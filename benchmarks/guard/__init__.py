"""What the guard costs a request, beside the stacks of middlewares that do the same."""
