# A researcher's files: a directory below the hub's, which the first instance makes.
#
# Nothing is made or removed here: a home is removed by the hub alone.

locals {
  path = "${var.network_ref.group}/homes/${var.home_id}"
}
