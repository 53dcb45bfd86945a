"""``python -m edge.addresses``: the name that installed units call. See `edge.service.ip_allowlist`."""

import sys

from edge.service.ip_allowlist import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
