# A dataset: a snapshot of the hub's own, from which each instance gets a disk.
#
# An instance's disk is its own copy, so nothing that it does to it reaches another; the pool on it
# is imported read-only.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"     = var.hub_id
    "nightingale:part"    = "dataset"
    "nightingale:dataset" = var.name
  })
}

provider "azurerm" {
  # What the subscription may use is its owner's to say, not ours to switch on.
  resource_provider_registrations = "none"

  features {}
}

resource "azurerm_snapshot" "dataset" {
  name                          = "nightingale-${var.hub_id}-${var.name}"
  resource_group_name           = var.network_ref.group
  location                      = var.region
  create_option                 = "Copy"
  source_resource_id            = var.snapshot
  disk_size_gb                  = var.disk_gib
  incremental_enabled           = true
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  tags                          = local.tags
}
