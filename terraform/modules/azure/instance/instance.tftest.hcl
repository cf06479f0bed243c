variables {
  instance_id = "i-0123456789ab"
  hub_id      = "test"
  owner_hash  = "0123456789abcdef"
  region      = "westeurope"
  size        = { type = "Standard_NC4as_T4_v3", vcpus = 4, gpu = "S", disk_gib = 50 }
  image       = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/nightingale"
  home_ref    = { id = "home", zone = "1", address = "10.64.128.4", path = "/home" }
  datasets    = [{ name = "ecg", kind = "snapshot", address = "10.64.128.5", path = "/ecg", disks = { "1" = "source-a" } }]
  bootstrap   = { hub_url = "https://hub.example/", nonce = "n" }
  tags        = { "nightingale:server-hash" = "abc" }
  network_ref = {
    id       = "network"
    subnets  = { "1" = "subnet-a", "2" = "subnet-b" }
    cidr     = "10.64.0.0/16"
    firewall = "firewall"
    storage  = "storage"
    group    = "nightingale"
  }
}

run "the_instance_is_closed" {
  command = apply

  assert {
    condition     = alltrue([for each in azurerm_network_interface.instance.ip_configuration : each.public_ip_address_id == null])
    error_message = "It has no public address."
  }

  assert {
    condition     = azurerm_linux_virtual_machine.instance.encryption_at_host_enabled && azurerm_linux_virtual_machine.instance.secure_boot_enabled && azurerm_linux_virtual_machine.instance.vtpm_enabled
    error_message = "Disks are encrypted at the host, and it boots what is signed."
  }

  assert {
    condition     = azurerm_linux_virtual_machine.instance.disable_password_authentication && !azurerm_linux_virtual_machine.instance.allow_extension_operations
    error_message = "Nobody logs in, and nothing is put into it from outside."
  }

  assert {
    condition     = length(azurerm_linux_virtual_machine.instance.identity) == 0
    error_message = "It has no rights in the subscription."
  }

  assert {
    condition     = azurerm_virtual_machine_data_disk_attachment.dataset["ecg"].lun == 10 && azurerm_virtual_machine_data_disk_attachment.home.lun == 0
    error_message = "Home and datasets are where the image looks for them."
  }

  assert {
    condition     = keys(jsondecode(base64decode(azurerm_linux_virtual_machine.instance.custom_data))) == ["datasets", "hub_url", "nonce"]
    error_message = "It is told the hub, its nonce and its datasets."
  }
}

run "a_type_that_is_none_is_refused" {
  command = plan

  variables {
    size = { type = "; rm -rf /", vcpus = 1, gpu = "none", disk_gib = 1 }
  }

  expect_failures = [var.size]
}

run "an_image_that_is_none_is_refused" {
  command = plan

  variables {
    image = "latest"
  }

  expect_failures = [var.image]
}

run "a_dataset_of_another_kind_is_refused" {
  command = plan

  variables {
    datasets = [{ name = "ecg", kind = "bucket", address = "", path = "", disks = {} }]
  }

  expect_failures = [var.datasets]
}
