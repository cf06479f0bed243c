# A researcher's files: a share that outlives every instance that it is mounted in.
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

resource "google_netapp_volume" "home" {
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
      access_type     = "READ_WRITE"
      has_root_access = "true"
      nfsv3           = true
    }
  }

  lifecycle {
    # A share can't change its zone; another list of zones must not ask for a new share.
    ignore_changes = [location]
  }
}
