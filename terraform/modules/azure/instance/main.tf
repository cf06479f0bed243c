# One instance, its owner's home attached to it, and a disk for each dataset.
#
# Whatever changes later, the instance stays the same one: only its type is changed, in place.

locals {
  tags = merge(var.tags, {
    "nightingale:hub"      = var.hub_id
    "nightingale:instance" = var.instance_id
    "nightingale:user"     = var.owner_hash
  })
  datasets = { for number, each in var.datasets : each.name => merge(each, { lun = 10 + number }) }
  # Azure wants a key to log in with. Nobody has the other half of this one: it was dropped when it
  # was made, the image runs no sshd, and the network lets nobody reach port 22.
  nobodys_key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCj2FnuyP/wuua4yVxNGinHgNINtinKTk3esizyQHV7+GZ8pwcRfIt+KNx05U2WNnujUxPJB4rLwqEfUSZMIGzV6hfZhsaQbafTXqagXzq7a/WYutHZj0l/5DYEp4ZfE6PkN+IMbASoMrnna+S416QEAWoNCgNVGY+0xo4Fte5hSyvAYHGAHXgIf/c0X4MBViNTjz7WxNuPOJG4+RkWg4TwCcdTRJ0eQ9Fao9uIUvNd2KQiujEircuQf3+T2UZoqtmoZ0zyRsruPqFG4+D+n9CXqXsUDptGZSEtokonFLZ4I6ItR3xEMe4sAnSSvXswasteMWYnRD1oOWt/OY6jVVltlmiylZFcGadn2sTspNraFpNHAQQi38RnoZRYbOVV/cfr2u7yT7Bki8YJgAgNR385MbvU/V+vEVuu5BZ4AMCFwVJbn5xdESBfv0eGww2ktsBkM19ftjV/dYCNrAWITEnV1URXaT/OdATz95VRsQ6n+Spkoj2GFpshwS3vUYwrrCM="
}

provider "azurerm" {
  # What the subscription may use is its owner's to say, not ours to switch on.
  resource_provider_registrations = "none"

  features {}
}

resource "azurerm_network_interface" "instance" {
  name                = "nightingale-${var.instance_id}"
  resource_group_name = var.network_ref.group
  location            = var.region
  tags                = local.tags

  ip_configuration {
    name                          = "private"
    subnet_id                     = var.network_ref.subnets[var.home_ref.zone]
    private_ip_address_allocation = "Dynamic"
  }
}

resource "azurerm_linux_virtual_machine" "instance" {
  name                            = var.instance_id
  resource_group_name             = var.network_ref.group
  location                        = var.region
  zone                            = var.home_ref.zone
  size                            = var.size.type
  source_image_id                 = var.image
  network_interface_ids           = [azurerm_network_interface.instance.id]
  admin_username                  = "nobody-logs-in"
  disable_password_authentication = true
  allow_extension_operations      = false
  encryption_at_host_enabled      = true
  secure_boot_enabled             = true
  vtpm_enabled                    = true
  priority                        = var.spot ? "Spot" : "Regular"
  eviction_policy                 = var.spot ? "Deallocate" : null
  max_bid_price                   = var.spot ? -1 : null
  custom_data = base64encode(jsonencode(merge(var.bootstrap, {
    datasets = jsonencode([for each in values(local.datasets) : { name = each.name, kind = "disk", device = "lun-${each.lun}" }])
  })))
  tags = local.tags

  admin_ssh_key {
    username   = "nobody-logs-in"
    public_key = local.nobodys_key
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "Premium_LRS"
    disk_size_gb         = 64
  }

  lifecycle {
    # What would replace it is over once it runs: a newer image, another disk, a nonce for the next.
    ignore_changes = [source_image_id, os_disk, custom_data, admin_ssh_key]
  }
}

resource "azurerm_virtual_machine_data_disk_attachment" "home" {
  managed_disk_id    = var.home_ref.id
  virtual_machine_id = azurerm_linux_virtual_machine.instance.id
  lun                = 0
  caching            = "None"
}

resource "azurerm_managed_disk" "dataset" {
  for_each = local.datasets

  name                          = "nightingale-${var.instance_id}-${each.key}"
  resource_group_name           = var.network_ref.group
  location                      = var.region
  zone                          = var.home_ref.zone
  create_option                 = "Copy"
  source_resource_id            = each.value.disks[var.home_ref.zone]
  storage_account_type          = "Premium_LRS"
  network_access_policy         = "DenyAll"
  public_network_access_enabled = false
  tags                          = local.tags
}

resource "azurerm_virtual_machine_data_disk_attachment" "dataset" {
  for_each = local.datasets

  managed_disk_id    = azurerm_managed_disk.dataset[each.key].id
  virtual_machine_id = azurerm_linux_virtual_machine.instance.id
  lun                = each.value.lun
  caching            = "ReadOnly"
}
