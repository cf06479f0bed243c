# A researcher's files: a disk that outlives every instance that it is attached to.
# A resource named "home" is never deleted or replaced but when the home itself is to go.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"  = var.hub_id
    "nightingale:part" = "home"
    "nightingale:home" = var.home_id
    "nightingale:user" = var.owner_hash
  })
}

provider "azurerm" {
  # What the subscription may use is its owner's to say, not ours to switch on.
  resource_provider_registrations = "none"

  features {}
}

resource "azurerm_managed_disk" "home" {
  name                          = "nightingale-${var.hub_id}-${var.home_id}"
  resource_group_name           = var.network_ref.group
  location                      = var.region
  zone                          = var.zones[0]
  create_option                 = "Empty"
  storage_account_type          = "Premium_LRS"
  disk_size_gb                  = var.disk_gib
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  tags                          = local.tags

  lifecycle {
    # A disk can't change its zone; another list of zones must not ask for a new disk.
    ignore_changes = [zone]
  }
}
