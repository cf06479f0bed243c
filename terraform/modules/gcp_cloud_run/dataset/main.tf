# A dataset: a share that many instances mount at once and none can write to.
#
# The export is read-only where the instances cannot change it, at the storage.

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

resource "google_netapp_volume" "dataset" {
  name               = local.name
  location           = var.zones[0]
  storage_pool       = var.network_ref.storage
  share_name         = local.name
  capacity_gib       = tostring(var.disk_gib)
  protocols          = ["NFSV3"]
  snapshot_directory = false
  labels             = local.labels

  export_policy {
    rules {
      allowed_clients = var.network_ref.cidr
      access_type     = "READ_ONLY"
      has_root_access = "false"
      nfsv3           = true
    }
  }

  restore_parameters {
    source_snapshot = var.snapshot
  }
}
