# A dataset: a disk in each zone, which many instances attach at once and none can write to.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"     = var.hub_id
    "nightingale:part"    = "dataset"
    "nightingale:dataset" = var.name
  })
  # Labels of Google Cloud have no colon.
  labels = { for name, value in local.tags : replace(name, ":", "-") => value }
  name   = "nightingale-${substr(sha256("${var.hub_id}/${var.name}"), 0, 12)}"
}

provider "google" {
  project = var.network_ref.group
  region  = var.region
}

# Google Cloud encrypts every disk by itself.
resource "google_compute_disk" "dataset" {
  for_each = toset(var.zones)

  name     = "${local.name}-${each.key}"
  zone     = each.key
  type     = "pd-balanced"
  size     = var.disk_gib
  snapshot = var.snapshot
  labels   = local.labels
}
