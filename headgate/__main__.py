"""`python -m headgate`; the supervisor starts it by its path, so that no package of the user's folder interferes."""

import sys
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[1])
if _HOME not in sys.path:
    sys.path.append(_HOME)

from headgate.cli.main import main  # noqa: E402  the path comes first

if __name__ == "__main__":
    main()
