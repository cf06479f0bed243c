# A researcher's files: a disk that outlives every instance that it is attached to.
# A resource named "home" is never deleted or replaced but when the home itself is to go.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "home"
    "nightingale:home" = var.home_id
    "nightingale:user" = var.owner_hash
  })
  # Labels of Google Cloud have no colon.
  labels = { for name, value in local.tags : replace(name, ":", "-") => value }
  name   = "nightingale-${substr(sha256("${var.hub_id}/${var.home_id}"), 0, 12)}"
}

provider "google" {
  project = var.network_ref.group
  region  = var.region
}

# Google Cloud encrypts every disk by itself.
resource "google_compute_disk" "home" {
  name   = local.name
  zone   = var.zones[0]
  type   = "pd-balanced"
  size   = var.disk_gib
  labels = local.labels

  lifecycle {
    # A disk can't change its zone; another list of zones must not ask for a new disk.
    ignore_changes = [zone]
  }
}
