"""`python -m workhorse.cli`, for where the script is not on the path."""

import sys

from workhorse.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
